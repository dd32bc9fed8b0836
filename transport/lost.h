/* Who is lost, and how an end says so; private to transport/. */
#pragma once

#include "transport/transport.h"

/* A worker waits so much longer than rank 0 before it calls rank 0 lost: rank 0 waits for all
 * workers and so can tell which of them is stuck, while a worker only sees that rank 0 is silent.
 */
enum { DEFERENCE_NS = 2000000000 };

/* How long a rank waits for others that show no progress. */
static inline int64_t wait_limit_ns(const struct transport *t)
{
    return t->timeout_ns + (t->rank ? DEFERENCE_NS : 0);
}

/* What another rank last showed of itself. */
struct sign {
    uint64_t count; // its pulse
    bool resting;
    int64_t heard_ns; // when
};

struct watch {
    struct sign *signs; // [size] kept up to date by the transport
    int64_t since_ns;   // the wait began, or something awaited has come
    int64_t looked_ns;  // 0: not in this wait
    uint64_t *counts;   // [size] the pulses that were seen
    int64_t *moved_ns;  // [size] and since when each stands still
    bool *lost;         // [size] once reported
    bool reported;      // the first error
};

void watch_open(struct watch *w, int size);
void watch_close(struct watch *w);

/* A wait begins, or goes on because something came. */
static inline void watch_begin(struct watch *w, int64_t now)
{
    w->since_ns = now;
    w->looked_ns = 0;
}

/* When to look next: a small part of the timeout; -1: never. */
int64_t watch_next(const struct transport *t, const struct watch *w);

/* Look: 0, or STATUS_LOST_RANK once somebody is lost. The signs are those of `now`. awaited [size]:
 * NULL: anyone's message will do; what: "rows awaited". */
int watch_look(struct transport *t, struct watch *w, const bool *awaited, const char *what,
               int64_t now);

/* Each calls fail() unless an error was reported already, and returns the code either way. */
int report_gone(struct transport *t, struct watch *w, int rank, const char *awaited);
int report_too_large(struct watch *w, int from, const char *what, size_t bytes, size_t capacity);
