/* Which ranks are lost, and how a transport reports them. Private to transport/. */
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

/* What this rank last heard of another one's pulse (base/pulse.h). */
struct sign {
    uint64_t count;
    bool resting;
    int64_t heard_ns; // when this rank heard it
};

struct watch {
    struct sign *signs; // [size] kept up to date by the transport
    int64_t since_ns;   // when the wait began, or an awaited message last came
    int64_t looked_ns;  // the last look of this wait; 0: there was none
    uint64_t *counts;   // [size] the pulse's count at the last look
    int64_t *moved_ns;  // [size] when that count last changed
    bool *lost;         // [size] the ranks that were reported lost
    bool reported;      // an error was reported
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

/* Check whether a rank is lost: 0, or STATUS_LOST_RANK. w->signs must be up to date. awaited [size]
 * says which ranks this rank waits for; NULL: it waits for a message from any rank. what: what it
 * waits for, in words ("rows awaited"). */
int watch_look(struct transport *t, struct watch *w, const bool *awaited, const char *what,
               int64_t now);

/* The same while this rank awaits no message (transport_look): a rank that rests is not stuck, but
 * must give signs of life. WATCH_IDLE says what this rank does, in the error. */
#define WATCH_IDLE "idle"
int watch_look_idle(struct transport *t, struct watch *w, int64_t now);

/* Report that a rank has ended, or has sent too large a message. Both call fail() unless an error
 * was reported before, and return the status in any case. */
int report_gone(struct transport *t, struct watch *w, int rank, const char *awaited);
int report_too_large(struct watch *w, int from, const char *what, size_t bytes, size_t capacity);
