#include "launch/lines.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"

enum { READ_BYTES = 1 << 16 };

void lines_open(struct line_reader *r, int fd, size_t max_bytes)
{
    *r = (struct line_reader){.fd = fd, .most = max_bytes};
}

void lines_close(struct line_reader *r)
{
    free(r->buffer);
    r->buffer = NULL;
}

static bool has_arrived(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) != 0; // on an error, too: read() will report it
}

/* Read more bytes to buffer[end ..]; false: the file could not be read. */
static bool read_more(struct line_reader *r)
{
    if (r->start > 0) {
        memmove(r->buffer, r->buffer + r->start, r->end - r->start);
        r->end -= r->start;
        r->start = 0;
    }
    if (r->room - r->end < READ_BYTES) {
        r->room = r->room * 2 + READ_BYTES;
        r->buffer = realloc(r->buffer, r->room);
        CHECK_MEMORY(r->buffer, "no memory for a line of %zu bytes", r->room);
    }
    ssize_t n;
    do
        n = read(r->fd, r->buffer + r->end, READ_BYTES);
    while (n < 0 && errno == EINTR);
    r->ended = n == 0;
    r->end += n > 0 ? (size_t)n : 0;
    return n >= 0;
}

static enum line_result give(struct line_reader *r, size_t bytes, char **line, size_t *count)
{
    *line = r->buffer + r->start;
    *count = bytes;
    r->start += bytes + (r->start + bytes < r->end); // past the line and its newline
    return bytes > r->most ? LINE_TOO_LONG : LINE_READ;
}

/* While a line that is too long is being read, only its beginning is kept, so that the buffer does
 * not grow with the line. */
static void cut_long(struct line_reader *r)
{
    if (r->end - r->start > r->most + 1)
        r->end = r->start + r->most + 1;
}

enum line_result lines_next(struct line_reader *r, bool wait, char **line, size_t *bytes)
{
    for (size_t seen = 0;;) {
        size_t held = r->end - r->start, from = r->start + seen;
        const char *newline = held > seen ? memchr(r->buffer + from, '\n', held - seen) : NULL;
        if (newline)
            return give(r, (size_t)(newline - r->buffer) - r->start, line, bytes);
        if (r->ended)
            return held ? give(r, held, line, bytes) : LINE_END;
        cut_long(r);
        seen = r->end - r->start;
        if (!wait && !has_arrived(r->fd))
            return LINE_NOT_YET;
        if (!read_more(r))
            return LINE_FAILED;
    }
}
