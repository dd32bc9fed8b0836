#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"

char *file_read(const char *path, size_t max_bytes, size_t *bytes)
{
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); // opening a pipe may wait for a writer
    FILE *f = fd < 0 ? NULL : fdopen(fd, "rb");
    struct stat st;
    if (!f || fstat(fileno(f), &st) != 0) {
        fail(STATUS_BAD_FILE, "%s: cannot be read: %s", path, strerror(errno));
        goto close_file;
    }
    if (!S_ISREG(st.st_mode)) {
        fail(STATUS_BAD_FILE, "%s: expected a plain file", path);
        goto close_file;
    }
    if ((size_t)st.st_size > max_bytes) {
        fail(STATUS_BAD_FILE, "%s: expected at most %zu bytes, found %lld", path, max_bytes,
             (long long)st.st_size);
        goto close_file;
    }
    char *text = malloc((size_t)st.st_size + 1);
    CHECK_MEMORY(text, "no memory for %lld bytes", (long long)st.st_size);
    size_t n = fread(text, 1, (size_t)st.st_size, f);
    text[n] = 0;
    if (ferror(f)) {
        fail(STATUS_BAD_FILE, "%s: cannot be read: %s", path, strerror(errno));
        free(text);
        goto close_file;
    }
    fclose(f);
    *bytes = n;
    return text;

close_file:
    if (f)
        fclose(f);
    return NULL;
}

bool file_exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

bool name_ends_in(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n > m && strcmp(name + n - m, end) == 0;
}

char *path_join(const char *dir, const char *name)
{
    size_t size = strlen(dir) + strlen(name) + 2;
    char *path = malloc(size);
    CHECK_MEMORY(path, "no memory for a path");
    snprintf(path, size, "%s/%s", dir, name);
    return path;
}

bool file_exists_in(const char *dir, const char *name)
{
    char *path = path_join(dir, name);
    bool there = file_exists(path);
    free(path);
    return there;
}

/* What must go if the process ends now: the temporary file of the outfile that is open (one is open
 * at a time), and the files and the directory of a set that is not complete. */
static pthread_mutex_t unfinished_mutex = PTHREAD_MUTEX_INITIALIZER;
static char *unfinished;
static struct {
    bool open;
    char *made_dir; // NULL: the directory was there before
    char **paths;   // [n]
    int n;
} set;

static void note_unfinished(char *temporary)
{
    pthread_mutex_lock(&unfinished_mutex);
    unfinished = temporary;
    pthread_mutex_unlock(&unfinished_mutex);
}

/* A file is complete: it now belongs to the open set, if there is one. */
static void note_finished(const char *path)
{
    pthread_mutex_lock(&unfinished_mutex);
    unfinished = NULL;
    if (set.open) {
        set.paths = realloc(set.paths, (size_t)(set.n + 1) * sizeof *set.paths);
        char *copy = strdup(path);
        CHECK_MEMORY(set.paths && copy, "no memory for a path");
        set.paths[set.n++] = copy;
    }
    pthread_mutex_unlock(&unfinished_mutex);
}

static void remove_set(void)
{
    for (int i = 0; i < set.n; i++)
        unlink(set.paths[i]);
    if (set.made_dir)
        rmdir(set.made_dir);
}

void outfiles_begin(const char *made_dir)
{
    pthread_mutex_lock(&unfinished_mutex);
    CHECK(!set.open, "a set of files is open already");
    set.open = true;
    set.made_dir = made_dir ? strdup(made_dir) : NULL;
    pthread_mutex_unlock(&unfinished_mutex);
}

int outfiles_end(bool keep)
{
    pthread_mutex_lock(&unfinished_mutex);
    int removed = keep ? 0 : set.n;
    if (!keep)
        remove_set();
    for (int i = 0; i < set.n; i++)
        free(set.paths[i]);
    free(set.paths);
    free(set.made_dir);
    memset(&set, 0, sizeof set);
    pthread_mutex_unlock(&unfinished_mutex);
    return removed;
}

static void discard(void)
{
    if (unfinished)
        unlink(unfinished);
    remove_set();
}

void outfile_discard(void)
{
    pthread_mutex_lock(&unfinished_mutex); // never unlocked, so that no other outfile opens
    discard();
}

void end_without_memory(void)
{
    if (pthread_mutex_trylock(&unfinished_mutex) == 0) // memory may run out where it is locked
        discard();
    _exit(STATUS_FAILED);
}

int directory_sync(const char *path_of_file)
{
    char *copy = strdup(path_of_file);
    CHECK_MEMORY(copy, "no memory for a path");
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(copy);
    if (fd < 0)
        return -1;
    int result = fsync(fd);
    close(fd);
    return result == 0 || errno == EINVAL ? 0 : -1; // EINVAL: not on this file system
}

/* path [PATH_MAX] := where this link leads. */
static bool follow_link(char *path)
{
    char link[PATH_MAX], *copy = strdup(path);
    CHECK_MEMORY(copy, "no memory for a path");
    ssize_t n = readlink(path, link, sizeof link - 1);
    link[n > 0 ? n : 0] = 0;
    int length = link[0] == '/' ? snprintf(path, PATH_MAX, "%s", link)
                                : snprintf(path, PATH_MAX, "%s/%s", dirname(copy), link);
    free(copy);
    return n > 0 && length < PATH_MAX;
}

/* Links in /proc stand for files that a process has open; /dev/stdout leads to one. */
static bool is_of_proc(const struct stat *link)
{
    struct stat proc;
    return stat("/proc/self/", &proc) == 0 && link->st_dev == proc.st_dev;
}

/* Is a plain file to be replaced by a complete one, or made? target [PATH_MAX] := which, behind all
 * links. */
static bool is_replaced(const char *path, char *target)
{
    enum { MOST_LINKS = 40 };
    struct stat st;
    if (snprintf(target, PATH_MAX, "%s", path) >= PATH_MAX)
        return false;
    for (int i = 0; i < MOST_LINKS; i++) {
        if (lstat(target, &st) != 0)
            return true;
        if (!S_ISLNK(st.st_mode) || is_of_proc(&st))
            return S_ISREG(st.st_mode);
        if (!follow_link(target))
            return false;
    }
    return false;
}

/* The temporary file, with the permissions of what it is to replace; or what is written as it
 * stands: at its end, as something may have been written to /dev/stdout before. */
static int open_to_write(const struct outfile *f)
{
    struct stat st;
    if (!f->temporary)
        return open(f->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    int fd = open(f->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd >= 0 && stat(f->path, &st) == 0)
        fchmod(fd, st.st_mode & 0777);
    return fd;
}

int outfile_open(struct outfile *f, const char *path)
{
    char target[PATH_MAX];
    memset(f, 0, sizeof *f);
    if (strcmp(path, "-") == 0)
        return fail(STATUS_USAGE, "-: expected the name of a file to write; /dev/stdout is one");
    bool replaced = is_replaced(path, target);
    f->path = strdup(replaced ? target : path);
    if (replaced) {
        size_t size = strlen(target) + 32;
        f->temporary = malloc(size);
        snprintf(f->temporary, size, "%s.part-%ld", target, (long)getpid());
    }
    note_unfinished(f->temporary);
    int fd = open_to_write(f), why = errno;
    f->stream = sink_open(&f->sink, fd);
    CHECK_MEMORY(f->stream, "no memory for a stream");
    if (fd >= 0)
        return 0;
    int code = fail(STATUS_FAILED, "%s: cannot be written: %s", path, strerror(why));
    note_unfinished(NULL);
    free(f->temporary);
    f->temporary = NULL; // outfile_abort has no file to remove
    outfile_abort(f);
    return code;
}

/* Flush, sync and close; 0, or the errno of what failed first. */
static int finish(struct outfile *f)
{
    fflush(f->stream);
    int error = f->sink.error;
    if (!error && f->temporary && fsync(f->sink.fd) != 0)
        error = errno;
    fclose(f->stream);
    f->stream = NULL;
    if (close(f->sink.fd) != 0 && !error)
        error = errno;
    return error;
}

int outfile_check(const char *path)
{
    struct outfile f;
    char target[PATH_MAX];
    if (!path || (file_exists(path) && !is_replaced(path, target)))
        return 0;
    int status = outfile_open(&f, path);
    if (!status)
        outfile_abort(&f);
    return status;
}

static bool is_same_file(const char *a, const char *b)
{
    struct stat x, y;
    if (stat(a, &x) != 0 || stat(b, &y) != 0)
        return strcmp(a, b) == 0;
    return x.st_dev == y.st_dev && x.st_ino == y.st_ino && S_ISREG(x.st_mode);
}

int outfile_check_apart(const char *path, const char *other)
{
    if (!path || !other || strcmp(path, "-") == 0 || !is_same_file(path, other))
        return 0;
    return fail(STATUS_USAGE, "%s: expected a file of its own to write, found the same as %s", path,
                other);
}

int outfile_commit(struct outfile *f)
{
    int error = finish(f);
    if (!error && f->temporary && rename(f->temporary, f->path) != 0)
        error = errno;
    int code =
        error ? fail(STATUS_FAILED, "%s: cannot be written: %s", f->path, strerror(error)) : 0;
    if (!error && f->temporary) {
        note_finished(f->path);
        free(f->temporary);
        f->temporary = NULL;
    }
    outfile_abort(f);
    return code;
}

void outfile_abort(struct outfile *f)
{
    if (f->stream) {
        fclose(f->stream);
        if (f->sink.fd >= 0)
            close(f->sink.fd);
    }
    if (f->temporary) {
        note_unfinished(NULL);
        unlink(f->temporary);
    }
    free(f->temporary);
    free(f->path);
    memset(f, 0, sizeof *f);
}
