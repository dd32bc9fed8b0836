#include "launch/batch.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/sink.h"
#include "launch/lines.h"
#include "launch/stdout.h"

static const char beginning[] = "{\"id\": \"";

/* Can this be what a crash left of a line that was being written: its beginning, or zeros? */
static bool is_torn(const char *line, size_t bytes)
{
    size_t known = bytes < sizeof beginning - 1 ? bytes : sizeof beginning - 1, zeros = 0;
    while (zeros < bytes && line[zeros] == 0)
        zeros++;
    return zeros == bytes || memcmp(line, beginning, known) == 0;
}

/* True if a batch wrote this line; then its id is marked as done. */
static bool mark_done(struct names *names, const char *line, size_t bytes)
{
    error_capture(true);
    struct js *v = js_parse(line, bytes, "");
    error_capture(false);
    size_t n;
    const char *id = js_string(js_member(v, "id"), &n);
    bool result = js_is_string(js_member(v, "text")) && js_is_array(js_member(v, "token_ids"));
    bool good = id && (result || js_is_string(js_member(v, "error")));
    if (good)
        *names_at(names, id, n) |= OUTPUT_DONE;
    js_free(v);
    return good;
}

/* Read the lines of an existing output, and mark their ids as done. o->bytes := the bytes of whole
 * lines. */
static int read_done(struct batch_output *o, uint64_t file_bytes, struct names *names)
{
    struct line_reader r;
    char *line;
    size_t n, number = 0;
    int status = 0;
    lines_open(&r, o->fd, SIZE_MAX / 4);
    for (bool torn = false; !status && !torn; o->bytes += torn || status ? 0 : n + 1) {
        enum line_result got = lines_next(&r, true, &line, &n);
        if (got == LINE_END)
            break;
        number++;
        if (got == LINE_FAILED) {
            status = fail(STATUS_BAD_FILE, "%s: cannot be read: %s", o->path, strerror(errno));
            continue;
        }
        torn = o->bytes + n + 1 > file_bytes; // the line has no newline
        if (torn ? !is_torn(line, n) : n > 0 && !mark_done(names, line, n))
            status = fail(STATUS_BAD_FILE,
                          "%s: line %zu: expected a line that epmoe batch wrote, found \"%.*s\"",
                          o->path, number, (int)(n < 40 ? n : 40), line);
    }
    lines_close(&r);
    return status;
}

static int refuse(const struct batch_output *o, const char *why)
{
    return fail(STATUS_FAILED, "%s: cannot be written: %s", o->path, why);
}

/* Lock the open file against other runs, and read what is in it. */
static int look_into(struct batch_output *o, bool resume, struct names *names)
{
    struct stat st;
    if (fstat(o->fd, &st) != 0)
        return refuse(o, strerror(errno));
    o->plain = S_ISREG(st.st_mode);
    if (!o->plain)
        return resume ? fail(STATUS_USAGE, "%s: --resume takes a plain file", o->path) : 0;
    if (flock(o->fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        return refuse(o, "another run writes to it");
    if (st.st_size == 0)
        return 0;
    if (!resume)
        return fail(STATUS_USAGE,
                    "%s: expected a new or empty file, found %lld bytes; --resume goes on with it",
                    o->path, (long long)st.st_size);
    int status = read_done(o, (uint64_t)st.st_size, names);
    if (!status && o->bytes < (uint64_t)st.st_size && ftruncate(o->fd, (off_t)o->bytes) != 0)
        status = refuse(o, strerror(errno));
    return status;
}

int output_open(struct batch_output *o, const char *path, bool resume, struct names *names)
{
    *o = (struct batch_output){.path = path, .fd = -1, .to_stdout = strcmp(path, "-") == 0};
    if (o->to_stdout)
        return resume ? fail(STATUS_USAGE, "-o -: --resume takes a plain file") : 0;
    o->created = access(path, F_OK) != 0;
    o->fd = open(path, (resume ? O_RDWR : O_WRONLY) | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (o->fd < 0)
        return refuse(o, strerror(errno));
    int status = look_into(o, resume, names);
    if (!status && o->plain && o->created && directory_sync(path) != 0)
        status = refuse(o, strerror(errno));
    if (status)
        output_close(o, status);
    return status;
}

int output_write(struct batch_output *o, const char *line, size_t bytes)
{
    size_t done;
    if (o->to_stdout) {
        fwrite(line, 1, bytes, stdout);
        fflush(stdout);
        return stdout_status();
    }
    if (write_fully(o->fd, line, bytes, &done) != 0) {
        int why = errno;
        if (o->plain && done && ftruncate(o->fd, (off_t)o->bytes) != 0)
            warn("%s: the last line is torn; --resume will cut it", o->path);
        return refuse(o, strerror(why));
    }
    o->bytes += bytes;
    o->unsynced = true;
    return 0;
}

int output_sync(struct batch_output *o)
{
    if (!o->plain || !o->unsynced)
        return 0;
    o->unsynced = false;
    return fdatasync(o->fd) == 0 ? 0 : refuse(o, strerror(errno));
}

void output_close(struct batch_output *o, int status)
{
    if (o->fd >= 0)
        close(o->fd);
    if (status && o->created && o->plain && o->bytes == 0)
        unlink(o->path);
    o->fd = -1;
}
