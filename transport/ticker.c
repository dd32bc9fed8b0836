#include "transport/ticker.h"

#include "base/check.h"
#include "base/clock.h"

void cond_open_monotonic(pthread_cond_t *cond)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

void ticker_open(struct ticker *t, void *(*run)(void *argument), void *argument)
{
    t->stop = false;
    pthread_mutex_init(&t->mutex, NULL);
    cond_open_monotonic(&t->wake);
    CHECK(pthread_create(&t->thread, NULL, run, argument) == 0, "no thread beside a rank's own");
}

bool ticker_sleep(struct ticker *t, int64_t ns)
{
    int64_t when_ns = clock_ns() + ns;
    struct timespec when = {when_ns / 1000000000, when_ns % 1000000000};
    pthread_mutex_lock(&t->mutex);
    while (!t->stop && clock_ns() < when_ns)
        pthread_cond_timedwait(&t->wake, &t->mutex, &when);
    bool stop = t->stop;
    pthread_mutex_unlock(&t->mutex);
    return stop;
}

void ticker_close(struct ticker *t)
{
    pthread_mutex_lock(&t->mutex);
    t->stop = true;
    pthread_cond_signal(&t->wake);
    pthread_mutex_unlock(&t->mutex);
    pthread_join(t->thread, NULL);
    pthread_cond_destroy(&t->wake);
    pthread_mutex_destroy(&t->mutex);
}
