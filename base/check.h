/* CHECK(condition, reason...) is for what cannot happen (a broken invariant, no memory left). When
 * the condition is false it prints file, line, expression and reason, and aborts; a launcher such
 * as mpirun then ends the other ranks. Errors that a user, a file or a peer can cause go to fail()
 * (log.h) instead. */
#pragma once

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "epmoe: %s:%d: broken: %s: ", __FILE__, __LINE__, #condition);         \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fputc('\n', stderr);                                                                   \
            abort();                                                                               \
        }                                                                                          \
    } while (0)
