/* Where a rank's time goes: a log of marks. A mark says which phase begins; it ends where the next
 * begins, so no time is left out. The log is one array, sized at open: a mark reads the clock and
 * stores 16 bytes. Without a log (NULL) it is one comparison.
 *
 * A device that runs behind its host is told of each mark, and between steps sets when it got there
 * itself: then the phases are the device's (struct trace_timer).
 *
 * The log belongs to its rank's own thread. Rank 0 collects all logs between steps (see
 * coordinator/profile.h). docs/profile.md defines every phase. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"

/* The numbers travel (proto/control.proto): new ones go before PHASE_COUNT. */
enum phase {
    // outside the layers
    PHASE_OUTSIDE, // between steps
    PHASE_CONTROL, // begins a step: agree with the workers that it follows; detail: its rows
    PHASE_EMBED,
    PHASE_LOGITS,  // final norm and output matrix
    PHASE_SAMPLE,  // pick tokens and hand them on
    PHASE_PROFILE, // collect the logs
    // a layer on the coordinator
    PHASE_ATTENTION, // with its norm, projections and the KV cache
    PHASE_ROUTER,    // norm, scores, the k best
    PHASE_PLAN,      // sort, and who needs which row
    PHASE_PACK,      // narrow and gather rows into messages; a worker: its sums and narrowing
    PHASE_WIRE_OUT,  // hand a message to the transport; detail: to which rank (rank 0's to 0: all)
    PHASE_SHARED,    // shared expert, or a dense layer's FFN
    PHASE_HOME,      // experts at home
    PHASE_WAIT,      // for workers
    PHASE_COMBINE,   // place, widen and add up what came back
    // a layer on a worker
    PHASE_AWAIT,   // for rows
    PHASE_UNPACK,  // check, widen and gather them
    PHASE_COMPUTE, // experts; detail: rows
    PHASE_COUNT
};

const char *phase_name(enum phase phase); // "attention"

struct trace_event {
    int64_t ns;     // clock_ns() when the phase began
    int32_t detail; // see enum phase
    int16_t layer;  // -1: outside
    uint8_t phase;
    uint8_t part; // which half of the step's rows, when it is run as two; of PHASE_CONTROL: 1 when
                  // the step only decodes
};

struct trace_timer {
    void *of;
    size_t room; // marks it can take before they are settled
    void (*mark)(void *of, enum phase phase);
    /* events [n], all that it has been told of: ns := when the device got there. 0 or its error. */
    int (*settle)(void *of, struct trace_event *events, size_t n);
};

struct trace {
    struct trace_event *events; // [capacity]
    size_t n, capacity;
    uint64_t dropped; // marks that found the log full
    int16_t layer;    // of the marks that come
    uint8_t part;
    const struct trace_timer *timer; // NULL: the host's clock is right
    size_t settled;                  // marks whose ns is the timer's
};

/* Marks of the largest step that is foreseen, at least; every rank of a run asks for the same. */
size_t trace_step_most(int layers, int ranks);
/* Room for two such steps, and for many small ones. */
void trace_open(struct trace *t, int layers, int ranks);
/* The marks that come are timed by `timer` (NULL: the host); those so far keep the host's time. */
void trace_time_by(struct trace *t, const struct trace_timer *timer);
/* Between steps: have the marks' times set by the timer, if there is one. Waits for the device. */
int trace_settle(struct trace *t);
/* Might the timer have no room for another step? */
bool trace_is_due(const struct trace *t);
/* Forget all but the last mark: its phase goes on. */
void trace_restart(struct trace *t);
void trace_close(struct trace *t);

static inline void trace_mark_detail(struct trace *t, enum phase phase, int detail)
{
    if (!t)
        return;
    if (t->n == t->capacity || (t->timer && t->n - t->settled == t->timer->room)) {
        t->dropped++;
        return;
    }
    if (t->timer)
        t->timer->mark(t->timer->of, phase);
    const struct trace_event e = {clock_ns(), detail, t->layer, (uint8_t)phase, t->part};
    t->events[t->n++] = e;
}

static inline void trace_mark(struct trace *t, enum phase phase)
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
