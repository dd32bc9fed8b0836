#include "transport/watchdog.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "transport/lost.h"
#include "transport/ticker.h"

static const int64_t look_ns = 20000000;

struct watchdog_thread {
    struct watchdog *watchdog;
    struct transport *transport;
    void (*end)(void *what);
    void *what;
    struct ticker ticker;
};

/* Must a call that has taken inside_ns so far be ended? 0, or the reason as a status. */
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
    while (!verdict && !ticker_sleep(&w->ticker, look_ns)) {
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
    struct watchdog_thread *thread = calloc(1, sizeof *thread);
    CHECK_MEMORY(thread, "no memory for a watchdog");
    thread->watchdog = w;
    thread->transport = t;
    thread->end = end;
    thread->what = what;
    w->thread = thread;
    ticker_open(&thread->ticker, watch, thread);
}

void watchdog_close(struct watchdog *w)
{
    struct watchdog_thread *thread = w->thread;
    if (!thread)
        return;
    ticker_close(&thread->ticker);
    free(thread);
    w->thread = NULL;
}
