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

void trace_open(struct trace *t, size_t capacity)
{
    *t = (struct trace){.capacity = capacity, .layer = -1};
    t->events = malloc(capacity * sizeof *t->events);
    CHECK(t->events, "no memory for %zu marks", capacity);
    memset(t->events, 0xff, capacity * sizeof *t->events); // no page fault in a step
}

void trace_close(struct trace *t)
{
    free(t->events);
    *t = (struct trace){0};
}
