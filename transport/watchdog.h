/* A thread beside a rank's own that ends a call which does not come back: for calls that wait
 * inside a library, and that only another thread can end. Private to transport/.
 *
 * The rank's thread pays two stores for a call. The watchdog looks every 20 ms. A call that is
 * still inside then and has been for as long as transports wait (`timeout_ns`; on a worker two
 * seconds more), or while the run is called off, is ended: `ended` says why, then end(what) runs on
 * the watchdog's thread, once. */
#pragma once

#include <stdatomic.h>

#include "transport/transport.h"

struct watchdog {
    atomic_uint calls; // odd: one is inside
    atomic_int ended;  // 0, STATUS_LOST_RANK or TRANSPORT_INTERRUPTED
    struct watchdog_thread *thread;
};

void watchdog_open(struct watchdog *w, struct transport *t, void (*end)(void *what), void *what);
/* The thread is gone afterwards, and `ended` does not change any more. Waits while end() runs. */
void watchdog_close(struct watchdog *w);

static inline void watchdog_enter(struct watchdog *w)
{
    atomic_store_explicit(&w->calls, w->calls + 1, memory_order_relaxed);
}

static inline void watchdog_leave(struct watchdog *w)
{
    watchdog_enter(w); // even again
}
