#include "profile/profile.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "profile/fold.h"
#include "proto/control.h"

static void *array(size_t n, size_t bytes)
{
    void *a = calloc(n ? n : 1, bytes);
    CHECK_MEMORY(a, "no memory for a profile");
    return a;
}

static void sums_open(struct step_sums *s, size_t ranks, size_t layers)
{
    s->times = array(ranks * (layers + 1), sizeof *s->times);
    s->exchange = array(layers, sizeof *s->exchange);
    s->loads = array(ranks * layers, sizeof *s->loads);
    s->layers = array(layers, sizeof *s->layers);
    s->with = array(ranks, sizeof *s->with);
}

static void sums_close(struct step_sums *s)
{
    free(s->times);
    free(s->exchange);
    free(s->loads);
    free(s->layers);
    free(s->with);
}

int profile_open(struct profile **profile, struct transport *t, int n_layers,
                 const struct profile_options *o)
{
    size_t ranks = t ? (size_t)t->size : 1, layers = (size_t)n_layers;
    *profile = NULL;
    if (!o->on)
        return 0;
    struct profile *p = array(1, sizeof *p);
    *p = (struct profile){.transport = t, .n_ranks = (int)ranks, .n_layers = n_layers};
    p->keep = p->kept_all = o->keep;
    p->clocks = array(ranks, sizeof *p->clocks);
    p->logs = array(ranks, sizeof *p->logs);
    p->kept = array(ranks, sizeof *p->kept);
    p->counted_with = array(ranks, sizeof *p->counted_with);
    p->worker_spans = array(ranks * layers * PROFILE_HALVES, sizeof *p->worker_spans);
    p->wait_spans = array(layers * PROFILE_HALVES, sizeof *p->wait_spans);
    for (int kind = 0; kind < STEP_KINDS; kind++)
        sums_open(&p->steps[kind], ranks, layers);
    trace_open(&p->log, phase_names, phase_step_most(n_layers, (int)ranks));
    int status = t ? clocks_measure(t, p->clocks) : 0;
    if (status) {
        profile_close(p);
        return status;
    }
    trace_mark(&p->log, PHASE_OUTSIDE);
    *profile = p;
    return 0;
}

void profile_close(struct profile *p)
{
    if (!p)
        return;
    for (int rank = 0; rank < p->n_ranks; rank++) {
        free(p->logs[rank].events);
        free(p->kept[rank].events);
    }
    for (int kind = 0; kind < STEP_KINDS; kind++)
        sums_close(&p->steps[kind]);
    trace_close(&p->log);
    free(p->clocks);
    free(p->logs);
    free(p->kept);
    free(p->counted_with);
    free(p->worker_spans);
    free(p->wait_spans);
    free(p);
}

/* Append the logs to those kept for a trace file, unless there is no room for one of them: the file
 * shows arrows between ranks, so it needs the logs of all. The mark that ends a log is the first of
 * the next one, so it is kept once. */
static void keep(struct profile *p)
{
    for (int rank = 0; rank < p->n_ranks; rank++)
        if (p->kept[rank].n + p->logs[rank].n > PROFILE_KEPT)
            p->kept_all = false;
    for (int rank = 0; rank < p->n_ranks && p->kept_all; rank++) {
        struct rank_log *kept = &p->kept[rank];
        kept->n -= kept->n > 0;
        log_append(kept, p->logs[rank].events, p->logs[rank].n);
    }
}

static int collect(struct profile *p)
{
    struct arena memory = {0};
    trace_at(&p->log, -1, 0);
    trace_mark(&p->log, PHASE_PROFILE);
    for (int rank = 0; rank < p->n_ranks; rank++)
        p->logs[rank].n = p->logs[rank].at = 0;
    int status = trace_settle(&p->log);
    log_append(&p->logs[0], p->log.events, p->log.n);
    p->dropped += p->log.dropped;
    trace_restart(&p->log);
    if (!status && p->transport)
        status = clocks_measure(p->transport, p->clocks);
    for (int rank = 1; rank < p->n_ranks && !status; rank++)
        status = log_collect(&p->logs[rank], p->transport, rank, &p->dropped, &memory);
    arena_free(&memory);
    if (!status)
        status = profile_fold(p);
    if (!status && p->keep)
        keep(p);
    return status;
}

/* Called before a step: collect the logs if the next step's marks may not fit. */
static int begin_due_work(struct profile *p)
{
    if (p->log.n > p->log.capacity / 2)
        return collect(p);
    if (!trace_is_due(&p->log))
        return 0;
    trace_at(&p->log, -1, 0);
    trace_mark(&p->log, PHASE_PROFILE);
    return trace_settle(&p->log);
}

void profile_time_by(struct profile *p, struct dev *d)
{
    if (p)
        trace_time_by(&p->log, dev_time_marks(d, 2 * phase_step_most(p->n_layers, p->n_ranks)));
}

static void count_bytes(struct profile *p, const struct exchange_counters *now)
{
    struct exchange_counters *sum = &p->steps[p->kind].bytes, *last = &p->counted;
    sum->sent += now->sent - last->sent;
    sum->received += now->received - last->received;
    sum->messages += now->messages - last->messages;
    sum->logical += now->logical - last->logical;
    sum->local += now->local - last->local;
    for (int rank = 0; rank < p->n_ranks; rank++) {
        struct pair_bytes *with = &p->steps[p->kind].with[rank], *before = &p->counted_with[rank];
        with->sent += now->with[rank].sent - before->sent;
        with->received += now->with[rank].received - before->received;
        *before = now->with[rank];
    }
    p->counted = *now;
}

int profile_begin_step(struct profile *p, enum step_kind kind, int n,
                       const struct exchange_counters *bytes)
{
    if (!p)
        return 0;
    count_bytes(p, bytes);
    int status = begin_due_work(p);
    p->kind = kind;
    trace_at(&p->log, -1, kind == STEP_DECODE);
    trace_mark_detail(&p->log, PHASE_CONTROL, n);
    trace_at(&p->log, -1, 0);
    return status;
}

void profile_count_rows(struct profile *p, int layer, const struct routing *r)
{
    if (!p)
        return;
    struct step_sums *s = &p->steps[p->kind];
    struct layer_load *all = &s->layers[layer];
    uint64_t rows_most = 0, experts_most = 0;
    all->holders = 0;
    for (int rank = 0; rank < p->n_ranks; rank++) {
        struct rank_load *load = &s->loads[rank * p->n_layers + layer], now = {0};
        int first = r->layer.rank_first[rank], end = r->layer.rank_first[rank + 1];
        for (int group = first; group < end; group++) {
            now.rows += (uint64_t)r->count[group];
            now.experts += r->count[group] > 0;
        }
        all->holders += end > first;
        load->rows += now.rows;
        load->experts += now.experts;
        rows_most = now.rows > rows_most ? now.rows : rows_most;
        experts_most = now.experts > experts_most ? now.experts : experts_most;
    }
    all->rows_most += rows_most;
    all->experts_most += experts_most;
}

int profile_finish(struct profile *p, const struct exchange_counters *bytes)
{
    if (!p || p->finished)
        return 0;
    p->finished = true;
    count_bytes(p, bytes);
    return collect(p);
}
