/* A thread beside a rank's own that does something from time to time until it is told to end.
 * Private to transport/. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct ticker {
    pthread_t thread;
    pthread_mutex_t mutex; // of stop
    pthread_cond_t wake;
    bool stop;
};

/* Start run(argument) on the thread; it returns once ticker_sleep() is true. */
void ticker_open(struct ticker *t, void *(*run)(void *argument), void *argument);
/* On the thread: rest for ns. True: the thread is to end, at once. */
bool ticker_sleep(struct ticker *t, int64_t ns);
/* The thread is gone afterwards. */
void ticker_close(struct ticker *t);

/* A condition whose deadlines are clock_ns()'s. */
void cond_open_monotonic(pthread_cond_t *cond);
