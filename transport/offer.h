/* How a rank that waits offers its core to other threads, and notes whether another job wants it.
 */
#pragma once

#include <sched.h>
#include <stdint.h>

#include "base/clock.h"

enum {
    TAKEN_NS = 500000, // an offered core that comes back later than this was taken by another job
    SHARED_NS = 100000000, // for how long the core then counts as shared
};

/* Offer the core; `now` is the time before, and the time after is returned. If another job took it,
 * *shared_until_ns becomes the time until which waits are to sleep instead: a thread that wakes up
 * gets its core back at once, one that offers it only when the other's turn is over. */
static inline int64_t offer_core(int64_t now, int64_t *shared_until_ns)
{
    sched_yield();
    int64_t back = clock_ns();
    if (back - now > TAKEN_NS)
        *shared_until_ns = back + SHARED_NS;
    return back;
}
