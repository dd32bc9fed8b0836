/* Where a rank's time goes: a log of marks. A mark says which phase begins; it ends where the next
 * begins, so no time is left out. The log is one array, sized at open: a mark reads the clock and
 * stores 16 bytes. Without a log (NULL) it is one comparison.
 *
 * A device that runs behind its host is told of each mark, and between steps sets when it got there
 * itself: then the phases are the device's (struct trace_timer).
 *
 * The log belongs to its rank's own thread. Rank 0 collects all logs between steps (profile/). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"

struct trace_event {
    int64_t ns;     // clock_ns() when the phase began
    int32_t detail; // what it means depends on the phase
    int16_t layer;  // -1: outside
    uint8_t phase;  // the program's own numbers (proto/phase.h)
    uint8_t part; // which half of the step's rows, when it is run as two; of the phase that begins
                  // a step: 1 when the step only decodes
};

struct trace_timer {
    void *of;
    size_t room;                               // marks it can take before they are settled
    void (*mark)(void *of, const char *phase); // its name
    /* events [n], all that it has been told of: ns := when the device got there. 0 or its error. */
    int (*settle)(void *of, struct trace_event *events, size_t n);
};

struct trace {
    const char *const *names;   // of the phases
    struct trace_event *events; // [capacity]
    size_t n, capacity;
    uint64_t dropped; // marks that found the log full
    int16_t layer;    // of the marks that come
    uint8_t part;
    const struct trace_timer *timer; // NULL: the host's clock is right
    size_t settled;                  // marks whose ns is the timer's
};

/* Room for two steps of step_most marks each, and for many small ones. names: of all phases, for as
 * long as the log. */
void trace_open(struct trace *t, const char *const *names, size_t step_most);
/* The marks that come are timed by `timer` (NULL: the host); those so far keep the host's time. */
void trace_time_by(struct trace *t, const struct trace_timer *timer);
/* Between steps: have the marks' times set by the timer, if there is one. Waits for the device. */
int trace_settle(struct trace *t);
/* Might the timer have no room for another step? */
bool trace_is_due(const struct trace *t);
/* Forget all but the last mark: its phase goes on. */
void trace_restart(struct trace *t);
void trace_close(struct trace *t);

static inline void trace_mark_detail(struct trace *t, int phase, int detail)
{
    if (!t)
        return;
    if (t->n == t->capacity || (t->timer && t->n - t->settled == t->timer->room)) {
        t->dropped++;
        return;
    }
    if (t->timer)
        t->timer->mark(t->timer->of, t->names[phase]);
    const struct trace_event e = {clock_ns(), detail, t->layer, (uint8_t)phase, t->part};
    t->events[t->n++] = e;
}

static inline void trace_mark(struct trace *t, int phase)
{
    trace_mark_detail(t, phase, 0);
}

/* The marks that come belong to this layer (-1: to none) and half. */
static inline void trace_at(struct trace *t, int layer, int part)
{
    if (!t)
        return;
    t->layer = (int16_t)layer;
    t->part = (uint8_t)part;
}
