/* Where a rank's time goes: a log of marks. A mark says which phase begins. The phase ends where
 * the next one begins, so the log covers all the time. The log is one array, sized at open: a mark
 * reads the clock and stores 16 bytes. Without a log (NULL) a mark costs one comparison.
 *
 * A GPU runs behind its host. With a timer (struct trace_timer) the GPU is told of each mark, and
 * between steps the timer replaces the host's times by those at which the GPU came to the marks.
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
    int16_t layer;  // -1: outside the layers
    uint8_t phase;  // one of proto/phase.h
    uint8_t part;   // which half of the step's rows, when a step runs as two halves; of the phase
                    // that begins a step: 1 when the step only decodes
};

struct trace_timer {
    void *of;                                  // the first argument of both functions
    size_t room;                               // how many marks it can take before a settle
    void (*mark)(void *of, const char *phase); // a phase of this name begins
    /* events [n] are those marked since the last settle. Set ns of each to when the device came to
     * it. 0 or a status of the device. */
    int (*settle)(void *of, struct trace_event *events, size_t n);
};

struct trace {
    const char *const *names;   // of the phases
    struct trace_event *events; // [capacity]
    size_t n, capacity;
    uint64_t dropped;                // marks for which the log had no room
    int16_t layer;                   // given to the next marks
    uint8_t part;                    // likewise
    const struct trace_timer *timer; // NULL: the host's clock times the marks
    size_t settled;                  // how many marks have their final time
};

/* The log gets room for two steps of step_most marks each, and at least for 2^18 marks. `names`
 * holds the name of every phase, and must live as long as the log. */
void trace_open(struct trace *t, const char *const *names, size_t step_most);
/* From now on `timer` times the marks (NULL: the host does); earlier marks keep their times. */
void trace_time_by(struct trace *t, const struct trace_timer *timer);
/* Have the timer, if there is one, set the times of the marks. It waits for the device, so it is
 * called between steps. 0 or the timer's error. */
int trace_settle(struct trace *t);
/* Should the caller settle now, as the timer may lack room for another step? */
bool trace_is_due(const struct trace *t);
/* Forget all marks but the last, whose phase goes on. */
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

/* The next marks belong to this layer (-1: to none) and this half of the step's rows. */
static inline void trace_at(struct trace *t, int layer, int part)
{
    if (!t)
        return;
    t->layer = (int16_t)layer;
    t->part = (uint8_t)part;
}
