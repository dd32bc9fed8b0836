#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"

char *file_read(const char *path, size_t max_bytes, size_t *bytes)
{
    FILE *f = fopen(path, "rb");
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
    CHECK(text, "no memory for %lld bytes", (long long)st.st_size);
    size_t n = fread(text, 1, (size_t)st.st_size, f);
    text[n] = 0;
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
    return access(path, F_OK) == 0;
}

char *path_join(const char *dir, const char *name)
{
    size_t size = strlen(dir) + strlen(name) + 2;
    char *path = malloc(size);
    CHECK(path, "no memory for a path");
    snprintf(path, size, "%s/%s", dir, name);
    return path;
}

/* The temporary file of the outfile that is open. One outfile is open at a time. */
static pthread_mutex_t unfinished_mutex = PTHREAD_MUTEX_INITIALIZER;
static char *unfinished;

static void note_unfinished(char *temporary)
{
    pthread_mutex_lock(&unfinished_mutex);
    unfinished = temporary;
    pthread_mutex_unlock(&unfinished_mutex);
}

void outfile_discard(void)
{
    pthread_mutex_lock(&unfinished_mutex); // never unlocked, so that no other outfile opens
    if (unfinished)
        unlink(unfinished);
}

int directory_sync(const char *path_of_file)
{
    char *copy = strdup(path_of_file);
    CHECK(copy, "no memory for a path");
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(copy);
    if (fd < 0)
        return -1;
    int result = fsync(fd);
    close(fd);
    return result == 0 || errno == EINVAL ? 0 : -1; // EINVAL: not on this file system
}

static bool is_special(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && !S_ISREG(st.st_mode);
}

int outfile_open(struct outfile *f, const char *path)
{
    memset(f, 0, sizeof *f);
    f->path = strdup(path);
    if (!is_special(path)) {
        size_t size = strlen(path) + 32;
        f->temporary = malloc(size);
        snprintf(f->temporary, size, "%s.part-%ld", path, (long)getpid());
    }
    note_unfinished(f->temporary);
    f->stream = fopen(f->temporary ? f->temporary : path, "wb");
    if (f->stream)
        return 0;
    int code = fail(STATUS_FAILED, "%s: cannot be written: %s", path, strerror(errno));
    note_unfinished(NULL);
    free(f->temporary);
    f->temporary = NULL; // outfile_abort has no file to remove
    outfile_abort(f);
    return code;
}

int outfile_commit(struct outfile *f)
{
    bool good = !ferror(f->stream) && fflush(f->stream) == 0;
    if (good && f->temporary)
        good = fsync(fileno(f->stream)) == 0;
    good = fclose(f->stream) == 0 && good;
    f->stream = NULL;
    if (good && f->temporary)
        good = rename(f->temporary, f->path) == 0;
    int code =
        good ? 0 : fail(STATUS_FAILED, "%s: cannot be written: %s", f->path, strerror(errno));
    if (good) {
        note_unfinished(NULL);
        free(f->temporary);
        f->temporary = NULL;
    }
    outfile_abort(f);
    return code;
}

void outfile_abort(struct outfile *f)
{
    if (f->stream)
        fclose(f->stream);
    if (f->temporary) {
        note_unfinished(NULL);
        unlink(f->temporary);
    }
    free(f->temporary);
    free(f->path);
    memset(f, 0, sizeof *f);
}
