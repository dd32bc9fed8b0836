#include "base/trace.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

const char *phase_name(enum phase phase)
{
    static const char *const names[PHASE_COUNT] = {
        [PHASE_OUTSIDE] = "between steps",
        [PHASE_CONTROL] = "control",
        [PHASE_EMBED] = "embed",
        [PHASE_LOGITS] = "logits",
        [PHASE_SAMPLE] = "sampling",
        [PHASE_PROFILE] = "profiling",
        [PHASE_ATTENTION] = "attention",
        [PHASE_ROUTER] = "router",
        [PHASE_PLAN] = "plan",
        [PHASE_PACK] = "pack",
        [PHASE_WIRE_OUT] = "wire out",
        [PHASE_SHARED] = "shared expert",
        [PHASE_HOME] = "home experts",
        [PHASE_WAIT] = "wait for workers",
        [PHASE_COMBINE] = "combine",
        [PHASE_AWAIT] = "wait for rows",
        [PHASE_UNPACK] = "unpack",
        [PHASE_COMPUTE] = "compute",
    };
    return phase < PHASE_COUNT ? names[phase] : "unknown";
}

/* Both halves of every layer: 16 phases, and for each worker a message packed and sent, twice where
 * `padded` needs a second round. */
size_t trace_step_most(int layers, int ranks)
{
    return 2 * (size_t)layers * (16 + 4 * (size_t)ranks) + 1024;
}

void trace_open(struct trace *t, int layers, int ranks)
{
    enum { LEAST = 1 << 18 };
    size_t capacity = 2 * trace_step_most(layers, ranks);
    capacity = capacity > LEAST ? capacity : LEAST;
    *t = (struct trace){.capacity = capacity, .layer = -1};
    t->events = malloc(capacity * sizeof *t->events);
    CHECK(t->events, "no memory for %zu marks", capacity);
    memset(t->events, 0xff, capacity * sizeof *t->events); // no page fault in a step
}

void trace_time_by(struct trace *t, const struct trace_timer *timer)
{
    t->timer = timer;
    t->settled = t->n;
}

bool trace_is_due(const struct trace *t)
{
    return t->timer && t->n - t->settled > t->timer->room / 2;
}

/* The device's clock against the host's is known to some microseconds: no mark goes back. */
int trace_settle(struct trace *t)
{
    if (!t->timer || t->settled == t->n)
        return 0;
    int status = t->timer->settle(t->timer->of, t->events + t->settled, t->n - t->settled);
    for (size_t i = t->settled ? t->settled : 1; i < t->n; i++)
        if (t->events[i].ns < t->events[i - 1].ns)
            t->events[i].ns = t->events[i - 1].ns;
    t->settled = t->n;
    return status;
}

void trace_restart(struct trace *t)
{
    if (t->n)
        t->events[0] = t->events[t->n - 1];
    t->n = t->n > 0;
    t->settled = t->n;
    t->dropped = 0;
}

void trace_close(struct trace *t)
{
    free(t->events);
    *t = (struct trace){0};
}
