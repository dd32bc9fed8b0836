#include "base/trace.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

void trace_open(struct trace *t, const char *const *names, size_t step_most)
{
    enum { LEAST = 1 << 18 };
    size_t capacity = 2 * step_most;
    capacity = capacity > LEAST ? capacity : LEAST;
    *t = (struct trace){.names = names, .capacity = capacity, .layer = -1};
    t->events = malloc(capacity * sizeof *t->events);
    CHECK_MEMORY(t->events, "no memory for %zu marks", capacity);
    memset(t->events, 0xff, capacity * sizeof *t->events); // so that no step takes page faults here
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

/* The difference between the device's clock and the host's is known to some microseconds only. A
 * mark that would come before the mark it follows is moved to that mark's time. */
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
