/* Reads a file or a pipe of any size line by line. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct line_reader {
    int fd;      // owned by the caller
    size_t most; // max_bytes of lines_open()
    char *buffer;
    size_t start, end, room; // unread bytes are buffer[start .. end)
    bool ended;
};

enum line_result { LINE_READ, LINE_TOO_LONG, LINE_NOT_YET, LINE_END, LINE_FAILED };

/* Lines may have max_bytes at most. Of a longer line lines_next() gives the beginning, with
 * LINE_TOO_LONG. */
void lines_open(struct line_reader *r, int fd, size_t max_bytes);
void lines_close(struct line_reader *r);

/* *line := the next line, *bytes long, without its newline; valid until the next call. The last
 * line need not end in a newline. Unless `wait`, the result is LINE_NOT_YET when the line has not
 * arrived. LINE_FAILED: errno says why. */
enum line_result lines_next(struct line_reader *r, bool wait, char **line, size_t *bytes);
