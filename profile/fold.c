#include "profile/fold.h"

#include <string.h>

#include "base/log.h"

static size_t span_index(const struct trace_event *e)
{
    return (size_t)e->layer * PROFILE_HALVES + e->part;
}

static struct worker_span *worker_span_of(const struct profile *p, int rank, size_t index)
{
    return &p->worker_spans[(size_t)rank * (size_t)p->n_layers * PROFILE_HALVES + index];
}

/* Add the duration of the phase that begins at e[0] and ends at e[1] to the sums; returns it, in
 * ns. */
static int64_t add_time(struct profile *p, int rank, const struct trace_event *e)
{
    int layer = e->layer < 0 ? p->n_layers : e->layer;
    int64_t ns = e[1].ns - e->ns;
    profile_times(p, p->kind, rank, layer)->ns[e->phase] += ns;
    return ns;
}

static bool is_between_steps(const struct trace_event *e)
{
    return e->phase == PHASE_OUTSIDE || e->phase == PHASE_PROFILE;
}

/* Fold the next step of a worker's log. */
static void fold_worker_step(struct profile *p, int rank)
{
    struct rank_log *log = &p->logs[rank];
    size_t i = log->at;
    while (i + 1 < log->n && log->events[i].phase != PHASE_CONTROL)
        i++;
    for (; i + 1 < log->n && !is_between_steps(&log->events[i]); i++) {
        const struct trace_event *e = &log->events[i];
        add_time(p, rank, e);
        if (e->layer < 0)
            continue;
        struct worker_span *span = worker_span_of(p, rank, span_index(e));
        if (e->phase == PHASE_COMPUTE)
            *span = (struct worker_span){e->ns, e[1].ns, e[1].ns};
        else if (e->phase == PHASE_WIRE_OUT)
            span->replied = e->ns;
    }
    log->at = i;
}

static int64_t overlap(int64_t a, int64_t b, int64_t c, int64_t d)
{
    int64_t from = a > c ? a : c, to = b < d ? b : d;
    return to > from ? to - from : 0;
}

/* The span of the worker that replied last, or NULL; *mean := how long the workers computed on
 * average. */
static const struct worker_span *last_reply(const struct profile *p, size_t index, int64_t *mean)
{
    const struct worker_span *last = NULL;
    int64_t sum = 0;
    for (int rank = 1; rank < p->n_ranks; rank++) {
        const struct worker_span *x = worker_span_of(p, rank, index);
        sum += x->end - x->begin;
        if (x->end && (!last || x->replied > last->replied))
            last = x;
    }
    *mean = p->n_ranks > 1 ? sum / (p->n_ranks - 1) : 0;
    return last;
}

/* For how much of the time that rows were away rank 0 had work. Rows are away from rank 0's last
 * message until the last worker replies. Rank 0 works until it begins to wait, at `from`, except
 * while it waits for the other half's rows (d->elsewhere). */
static int64_t hidden(const struct wait_span *d, const struct worker_span *last, int64_t from)
{
    int64_t ns = overlap(d->left, from, d->left, last->replied) - d->elsewhere;
    return ns > 0 ? ns : 0;
}

/* Rank 0 does no work while it waits for the rows of one half. So for that long it does not hide
 * the time that the other half's rows are away. */
static void note_elsewhere(struct profile *p, const struct trace_event *e)
{
    struct wait_span *other = p->away[1 - e->part];
    int64_t mean;
    if (!other || other->waited)
        return;
    const struct worker_span *last = last_reply(p, (size_t)(other - p->wait_spans), &mean);
    if (last)
        other->elsewhere += overlap(e->ns, e[1].ns, other->left, last->replied);
}

/* Rank 0 waits for the worker that replies last. Its wait is divided by what that worker did
 * meanwhile: computed, up to the workers' average time (compute); computed for longer than the
 * average (skew); or neither, while rows were on their way (transfer). */
static void split_wait(struct profile *p, const struct trace_event *e)
{
    struct exchange_times *x = &p->steps[p->kind].exchange[e->layer];
    struct wait_span *wait = &p->wait_spans[span_index(e)];
    int64_t mean, from = e->ns, to = e[1].ns;
    const struct worker_span *last = last_reply(p, span_index(e), &mean);
    if (last && !wait->waited)
        x->hidden += hidden(wait, last, from);
    wait->waited = true;
    note_elsewhere(p, e);
    int64_t even = last && last->end - last->begin > mean ? last->begin + mean
                   : last                                 ? last->end
                                                          : 0;
    int64_t compute = last ? overlap(from, to, last->begin, even) : 0;
    int64_t skew = last ? overlap(from, to, even, last->end) : 0;
    x->compute += compute;
    x->skew += skew;
    x->transfer += to - from - compute - skew;
}

static void rows_left(struct profile *p, const struct trace_event *e)
{
    struct wait_span *d = &p->wait_spans[span_index(e)];
    d->left = e[1].ns;
    p->away[e->part] = d;
}

static void begin_step(struct profile *p, const struct trace_event *e)
{
    size_t spans = (size_t)p->n_layers * PROFILE_HALVES;
    p->kind = e->part ? STEP_DECODE : STEP_PREFILL;
    p->steps[p->kind].steps++;
    p->steps[p->kind].rows += (uint64_t)e->detail;
    memset(p->worker_spans, 0, (size_t)p->n_ranks * spans * sizeof *p->worker_spans);
    memset(p->wait_spans, 0, spans * sizeof *p->wait_spans);
    p->away[0] = p->away[1] = NULL;
    for (int rank = 1; rank < p->n_ranks; rank++)
        fold_worker_step(p, rank);
}

static void fold_own(struct profile *p, const struct trace_event *e)
{
    if (e->phase == PHASE_OUTSIDE) {
        p->outside_ns += e[1].ns - e->ns;
        return;
    }
    if (e->phase == PHASE_PROFILE) {
        p->profiling_ns += e[1].ns - e->ns;
        return;
    }
    if (e->phase == PHASE_CONTROL)
        begin_step(p, e);
    add_time(p, 0, e);
    if (e->phase == PHASE_WIRE_OUT)
        rows_left(p, e);
    else if (e->phase == PHASE_WAIT)
        split_wait(p, e);
}

/* Check the layers in a worker's log: unpacking the message could not, as it does not know how many
 * layers the model has. */
static int check_log(const struct profile *p, int rank)
{
    const struct rank_log *log = &p->logs[rank];
    for (size_t i = 0; i < log->n; i++)
        if (log->events[i].layer >= p->n_layers)
            return fail(STATUS_FAILED, "rank %d: Records: expected layers below %d, found %d", rank,
                        p->n_layers, log->events[i].layer);
    return 0;
}

/* Convert a log's times to this rank's clock. If the estimated drift of the clocks would reverse
 * two events, both get the same time. */
static void align(struct profile *p, int rank)
{
    struct rank_log *log = &p->logs[rank];
    for (size_t i = 0; i < log->n; i++) {
        struct trace_event *e = &log->events[i];
        e->ns -= clock_offset(&p->clocks[rank], e->ns);
        if (i && e->ns < e[-1].ns)
            e->ns = e[-1].ns;
    }
}

int profile_fold(struct profile *p)
{
    for (int rank = 1; rank < p->n_ranks; rank++) {
        int status = check_log(p, rank);
        if (status)
            return status;
        align(p, rank);
    }
    for (size_t i = 0; i + 1 < p->logs[0].n; i++)
        fold_own(p, &p->logs[0].events[i]);
    return 0;
}
