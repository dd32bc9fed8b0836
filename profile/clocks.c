#include "profile/clocks.h"

#include "base/clock.h"
#include "proto/control.h"

enum { QUESTIONS = 16 }; // to each worker; clocks.h says what one of them tells

static int ask(struct transport *t, int rank, struct clock_bounds *bounds, struct arena *memory)
{
    struct control question = {.kind = CONTROL_CLOCK}, answer;
    int64_t asked = clock_ns();
    int status = control_send(t, rank, &question);
    if (!status)
        status = control_expect(t, rank, CONTROL_CLOCK, &answer, memory);
    if (status)
        return status;
    int64_t low = (int64_t)answer.clock.said_ns - clock_ns();
    int64_t high = (int64_t)answer.clock.heard_ns - asked;
    bounds->at_ns = (int64_t)answer.clock.said_ns;
    bounds->low = low > bounds->low ? low : bounds->low;
    bounds->high = high < bounds->high ? high : bounds->high;
    return 0;
}

int clocks_measure(struct transport *t, struct rank_clock *clocks)
{
    struct arena memory = {0};
    int status = 0;
    for (int rank = 1; rank < t->size && !status; rank++) {
        struct rank_clock *c = &clocks[rank];
        struct clock_bounds now = {0, INT64_MIN, INT64_MAX};
        for (int i = 0; i < QUESTIONS && !status; i++)
            status = ask(t, rank, &now, &memory);
        if (c->first.at_ns == 0)
            c->first = now;
        c->before = c->last.at_ns ? c->last : now;
        c->last = now;
    }
    arena_free(&memory);
    return status;
}

static bool may_be_ours(const struct clock_bounds *b)
{
    return b->low <= 0 && b->high >= 0;
}

static double middle(const struct clock_bounds *b)
{
    return ((double)b->low + (double)b->high) / 2;
}

static double drift(const struct clock_bounds *from, const struct clock_bounds *to)
{
    double elapsed = (double)(to->at_ns - from->at_ns);
    if (elapsed <= 0 || (may_be_ours(from) && may_be_ours(to)))
        return 0;
    return (middle(to) - middle(from)) / elapsed;
}

int64_t clock_offset(const struct rank_clock *c, int64_t at_ns)
{
    if (may_be_ours(&c->before) && may_be_ours(&c->last))
        return 0;
    double since = (double)(at_ns - c->before.at_ns);
    return (int64_t)(middle(&c->before) + since * drift(&c->before, &c->last));
}

int64_t clock_uncertainty(const struct rank_clock *c)
{
    return (c->last.high - c->last.low) / 2;
}

double clock_drift_ppm(const struct rank_clock *c)
{
    return drift(&c->first, &c->last) * 1e6;
}
