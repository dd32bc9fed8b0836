/* A thread beside a rank's own that ends a call which does not return: a call that waits inside a
 * library, where only another thread can end it. Private to transport/.
 *
 * The rank's thread does two stores for a call. The watchdog looks every 20 ms. It ends a call that
 * has lasted longer than transports wait (`timeout_ns`; on a worker two seconds more), or that is
 * still running when the run is called off: it sets `ended` to the reason and calls end(what),
 * once, on its own thread. */
#pragma once

#include <stdatomic.h>

#include "transport/transport.h"

struct watchdog {
    atomic_uint calls; // odd while the rank's thread is in a call
    atomic_int ended;  // 0, STATUS_LOST_RANK or TRANSPORT_INTERRUPTED
    struct watchdog_thread *thread;
};

void watchdog_open(struct watchdog *w, struct transport *t, void (*end)(void *what), void *what);
/* End the thread and wait for it, also while end() runs. `ended` does not change after this. */
void watchdog_close(struct watchdog *w);

static inline void watchdog_enter(struct watchdog *w)
{
    atomic_store_explicit(&w->calls, w->calls + 1, memory_order_relaxed);
}

static inline void watchdog_leave(struct watchdog *w)
{
    watchdog_enter(w); // makes `calls` even again
}
