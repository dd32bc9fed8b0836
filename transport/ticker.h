/* A thread beside a rank's own that does something at intervals until it is told to end. Private to
 * transport/. */
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

/* Start run(argument) on a new thread. run must return when ticker_sleep() is true. */
void ticker_open(struct ticker *t, void *(*run)(void *argument), void *argument);
/* Called on the thread: sleep for ns. True: the thread is to end; it may have slept less. */
bool ticker_sleep(struct ticker *t, int64_t ns);
/* End the thread and wait for it. */
void ticker_close(struct ticker *t);

/* Make a condition whose deadlines are times of clock_ns(). */
void cond_open_monotonic(pthread_cond_t *cond);
