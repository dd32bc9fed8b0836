/* CHECK(condition, reason...) is for what cannot happen, a broken invariant. When the condition is
 * false it prints file, line, expression and reason, and aborts; a launcher such as mpirun then
 * ends the other ranks. Errors that a user, a file or a peer can cause go to fail() (log.h)
 * instead.
 *
 * CHECK_MEMORY(condition, reason...) is for an allocation: when it has failed, there is nothing to
 * go on with. It prints "epmoe: <reason>" as one line and ends the process with exit code 1. */
#pragma once

#include <stdio.h>
#include <stdlib.h>

#ifdef __cplusplus
extern "C" {
#endif
void end_without_memory(void) __attribute__((noreturn)); // base/file.c
#ifdef __cplusplus
}
#endif

#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "epmoe: %s:%d: broken: %s: ", __FILE__, __LINE__, #condition);         \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fputc('\n', stderr);                                                                   \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

#define CHECK_MEMORY(condition, format, ...)                                                       \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "epmoe: " format "\n", ##__VA_ARGS__);                                 \
            end_without_memory();                                                                  \
        }                                                                                          \
    } while (0)
