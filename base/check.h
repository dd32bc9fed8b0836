/* CHECK(condition, reason...): for what cannot happen (a broken invariant, no memory left). It
 * prints file, line, expression and reason, and aborts; a launcher then ends the other ranks.
 * What a user, a file or a peer can cause is not a CHECK: see fail() in log.h. */
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
