/* Lines of a file or a pipe, one at a time, however large it is. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct line_reader {
    int fd; // the caller's
    size_t most;
    char *buffer;
    size_t start, end, room; // unread bytes are buffer[start .. end)
    bool ended;
};

enum line_result { LINE_READ, LINE_TOO_LONG, LINE_NOT_YET, LINE_END, LINE_FAILED };

/* Lines of at most max_bytes; of a longer one the beginning remains, as LINE_TOO_LONG. */
void lines_open(struct line_reader *r, int fd, size_t max_bytes);
void lines_close(struct line_reader *r);

/* The next line, without its newline, in *line until the next call; the last one may lack it. With
 * `wait` false, a line that has not arrived yet is LINE_NOT_YET. LINE_FAILED: errno says why. */
enum line_result lines_next(struct line_reader *r, bool wait, char **line, size_t *bytes);
