#include "transport/watchdog.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "transport/lost.h"

static const int64_t look_ns = 20000000;

struct watchdog_thread {
    struct watchdog *watchdog;
    struct transport *transport;
    void (*end)(void *what);
    void *what;
    pthread_t thread;
    pthread_mutex_t mutex; // of stop
    pthread_cond_t wake;
    bool stop;
};

/* True: the thread is to end. */
static bool sleep_until(struct watchdog_thread *w, int64_t when_ns)
{
    struct timespec when = {when_ns / 1000000000, when_ns % 1000000000};
    pthread_mutex_lock(&w->mutex);
    while (!w->stop && clock_ns() < when_ns)
        pthread_cond_timedwait(&w->wake, &w->mutex, &when);
    bool stop = w->stop;
    pthread_mutex_unlock(&w->mutex);
    return stop;
}

/* A call has been inside for so long: 0, or why it must end. */
static int judge(struct transport *t, int64_t inside_ns)
{
    if (transport_is_called_off(t))
        return TRANSPORT_INTERRUPTED;
    return t->timeout_ns != NO_DEADLINE && inside_ns > wait_limit_ns(t) ? STATUS_LOST_RANK : 0;
}

static void *watch(void *argument)
{
    struct watchdog_thread *w = argument;
    unsigned seen = 0;
    int64_t since_ns = clock_ns();
    int verdict = 0;
    while (!verdict && !sleep_until(w, clock_ns() + look_ns)) {
        unsigned calls = atomic_load_explicit(&w->watchdog->calls, memory_order_relaxed);
        if (calls == seen && calls % 2)
            verdict = judge(w->transport, clock_ns() - since_ns);
        else if (calls != seen)
            since_ns = clock_ns();
        seen = calls;
    }
    if (verdict) {
        w->watchdog->ended = verdict;
        w->end(w->what);
    }
    return NULL;
}

void watchdog_open(struct watchdog *w, struct transport *t, void (*end)(void *what), void *what)
{
    pthread_condattr_t monotonic;
    struct watchdog_thread *thread = calloc(1, sizeof *thread);
    CHECK(thread, "no memory for a watchdog");
    thread->watchdog = w;
    thread->transport = t;
    thread->end = end;
    thread->what = what;
    pthread_mutex_init(&thread->mutex, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&thread->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    w->thread = thread;
    CHECK(pthread_create(&thread->thread, NULL, watch, thread) == 0, "no thread for a watchdog");
}

void watchdog_close(struct watchdog *w)
{
    struct watchdog_thread *thread = w->thread;
    if (!thread)
        return;
    pthread_mutex_lock(&thread->mutex);
    thread->stop = true;
    pthread_cond_signal(&thread->wake);
    pthread_mutex_unlock(&thread->mutex);
    pthread_join(thread->thread, NULL);
    pthread_cond_destroy(&thread->wake);
    pthread_mutex_destroy(&thread->mutex);
    free(thread);
    w->thread = NULL;
}
