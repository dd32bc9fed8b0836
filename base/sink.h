/* Streams that write all of their bytes, or know why they could not. A plain stdio stream drops
 * what a non-blocking reader does not take at once, and by the time a program looks, errno may be
 * that of another call. */
#pragma once

#include <stddef.h>
#include <stdio.h>

struct sink {
    int fd;    // owned by the caller: closing the stream leaves it open
    int error; // errno of the first write that failed; 0: none has
};

/* Open a stream that writes to s->fd. Nothing is written after the first error. NULL if there is no
 * memory. s must outlive the stream. */
FILE *sink_open(struct sink *s, int fd);

/* Write n bytes; where the descriptor is non-blocking, wait until it takes them. *done := the bytes
 * that were written. 0, or -1 with errno. */
int write_fully(int fd, const void *bytes, size_t n, size_t *done);
