/* Rank 0 of the benchmark. */
#include "study/alltoall.h"

#include <string.h>

#include "base/log.h"
#include "base/pulse.h"
#include "coordinator/cluster.h"
#include "study/alltoall_state.h"
#include "study/quantile.h"
#include "study/rally.h"
#include "transport/nccl.h"

struct bench {
    struct transport *transport; // NULL: alone
    const struct alltoall_options *o;
    struct alltoall_report *report;
    struct lap lap;
    char nccl_id[NCCL_ID_BYTES];
    struct rally_marks marks;
    int64_t *left, *back; // [iterations] when a lap's rows began to leave; when all were back
    int64_t *away;        // [iterations] alone: when the rows had left
    double *values;       // [iterations] scratch
    int *last;            // [ranks] how often a rank was the last to have its rows
};

/* ---- beginning ---- */

static int set_up(struct bench *b)
{
    const struct config one = alltoall_layer(b->o);
    struct cluster_terms terms = {.precision = precision_of(b->o->type),
                                  .max_rows = alltoall_limits(b->o).rows,
                                  .exchange = b->o->exchange,
                                  .nccl_ids = b->nccl_id,
                                  .n_nccl_ids = b->o->nccl};
    uint64_t bytes;
    if (!b->transport)
        return 0;
    int status = b->o->nccl ? nccl_new_id(b->nccl_id) : 0;
    if (!status)
        status = cluster_set_up(b->transport, &terms, b->report->isa, &one, b->o->placement);
    return status ? status : cluster_await(b->transport, &bytes);
}

/* ---- laps ---- */

/* Wait until every worker has its rows, then let all give back. */
static int meet(struct bench *b)
{
    return lap_travels(&b->lap) ? rally_meet(b->transport) : 0;
}

/* Lap i of its kind; i < 0: its times are not kept. */
static int run_lap(struct bench *b, int i, bool apart)
{
    struct row_terms terms;
    int64_t left = clock_ns();
    int status = lap_leave(&b->lap);
    int64_t away = clock_ns();
    if (!status && apart)
        status = meet(b);
    if (!status)
        status = lap_return(&b->lap, &terms);
    pulse();
    if (i >= 0) {
        b->left[i] = left;
        b->away[i] = away;
        b->back[i] = clock_ns();
    }
    return status;
}

/* The first lap of a size: its rows and results stay for all others. */
static int run_first(struct bench *b)
{
    struct row_terms terms;
    lap_fill(&b->lap);
    int status = lap_leave(&b->lap);
    lap_fill_home(&b->lap);
    return status ? status : lap_return(&b->lap, &terms);
}

static int run_checked(struct bench *b)
{
    struct row_terms terms;
    lap_forget_results(&b->lap);
    int status = lap_leave(&b->lap);
    lap_fill_home(&b->lap);
    if (!status)
        status = lap_return(&b->lap, &terms);
    return status ? status : lap_check_results(&b->lap, &terms);
}

/* ---- times ---- */

struct lap_times lap_times_of(double *values, int n)
{
    sort_ascending(values, n);
    return (struct lap_times){median(values, n), quantile(values, n, 0.99)};
}

static void take_round(struct bench *b, struct alltoall_size *s)
{
    for (int i = 0; i < b->o->iterations; i++)
        b->values[i] = (double)(b->back[i] - b->left[i]);
    s->round = lap_times_of(b->values, b->o->iterations);
}

/* When mark `which` of lap i was made, in rank 0's time. */
static int64_t time_of(const struct bench *b, int rank, int i, int which)
{
    return rally_time(&b->marks, rank, (size_t)i * MARKS_OF_LAP + (size_t)which);
}

/* Lap i: until the last worker had its rows, and from when the first began to give results back
 * until all were there. Alone both meet where the rows had left. */
static void split_lap(struct bench *b, int i, double *dispatch, double *combine)
{
    int64_t last = b->away[i], first = b->back[i];
    int slowest = 0;
    if (!lap_travels(&b->lap))
        first = last;
    for (int rank = 1; rank < b->report->n_ranks && lap_travels(&b->lap); rank++) {
        int64_t arrived = time_of(b, rank, i, 0), leaves = time_of(b, rank, i, 1);
        if (!slowest || arrived > last) {
            last = arrived;
            slowest = rank;
        }
        first = leaves < first ? leaves : first;
    }
    b->last[slowest]++;
    *dispatch = (double)(last - b->left[i]);
    *combine = (double)(b->back[i] - first);
}

static void take_apart(struct bench *b, struct alltoall_size *s)
{
    int n = b->o->iterations, ranks = b->report->n_ranks;
    double *combine = arena_alloc(&b->report->memory, (size_t)n * sizeof *combine);
    memset(b->last, 0, (size_t)ranks * sizeof *b->last);
    for (int i = 0; i < n; i++)
        split_lap(b, i, &b->values[i], &combine[i]);
    s->dispatch = lap_times_of(b->values, n);
    s->combine = lap_times_of(combine, n);
    s->slowest = 0;
    s->rank_dispatch = arena_alloc(&b->report->memory, (size_t)ranks * sizeof *s->rank_dispatch);
    for (int rank = 1; rank < ranks && lap_travels(&b->lap); rank++) {
        for (int i = 0; i < n; i++)
            b->values[i] = (double)(time_of(b, rank, i, 0) - b->left[i]);
        s->rank_dispatch[rank] = median(b->values, n);
        s->slowest = b->last[rank] > b->last[s->slowest] ? rank : s->slowest;
    }
}

/* What one lap has moved: the counters after it, less those before. */
static void count_bytes(struct bench *b, struct alltoall_size *s, bool after)
{
    const struct exchange_counters *c = root_counters(b->lap.root[0]);
    int ranks = b->report->n_ranks;
    if (!s->with)
        s->with = arena_alloc(&b->report->memory, (size_t)ranks * sizeof *s->with);
    s->out = after ? c->sent - s->out : c->sent;
    s->back = after ? c->received - s->back : c->received;
    s->messages = after ? c->messages - s->messages : c->messages;
    s->logical = after ? c->logical - s->logical : c->logical;
    s->local = after ? c->local - s->local : c->local;
    for (int rank = 0; rank < ranks; rank++) {
        struct pair_bytes *with = &s->with[rank];
        with->sent = after ? c->with[rank].sent - with->sent : c->with[rank].sent;
        with->received = after ? c->with[rank].received - with->received : c->with[rank].received;
    }
}

/* All laps of a size. Workers do the same in serve_size(). */
static int run_laps(struct bench *b, struct alltoall_size *s)
{
    const struct alltoall_options *o = b->o;
    int status = run_first(b);
    for (int i = 0; i < o->warmup && !status; i++)
        status = run_lap(b, -1, false);
    count_bytes(b, s, false);
    for (int i = 0; i < o->iterations && !status; i++) {
        status = run_lap(b, i, false);
        if (i == 0)
            count_bytes(b, s, true);
    }
    take_round(b, s);
    for (int i = 0; i < o->iterations && !status; i++)
        status = run_lap(b, i, true);
    if (o->check && !status)
        status = run_checked(b);
    s->checked = o->check && !status;
    return status;
}

static size_t marks_wanted(const struct bench *b)
{
    return lap_travels(&b->lap) ? (size_t)b->o->iterations * MARKS_OF_LAP : 0;
}

static int time_size(struct bench *b, struct alltoall_size *s, int rows)
{
    const struct alltoall_options *o = b->o;
    struct arena memory = {0};
    struct traffic traffic;
    *s = (struct alltoall_size){.rows = rows};
    traffic_draw(&traffic, o->weights, o->experts, rows, o->top_k, o->seed, &memory);
    lap_prepare(&b->lap, &traffic, &o->placement->layers[0]);
    int status = rally_step(b->transport, rows);
    if (!status)
        status = run_laps(b, s);
    if (status == TRANSPORT_INTERRUPTED)
        status = cluster_fault(b->transport);
    if (!status)
        status = rally_collect(&b->marks, b->transport, marks_wanted(b));
    if (!status)
        take_apart(b, s);
    arena_free(&memory);
    return status;
}

/* ---- a run ---- */

/* Workers are ready by now, and join as well. */
static int open_lap(struct bench *b)
{
    struct exchange_limits limits = alltoall_limits(b->o);
    limits.groups = b->o->placement->groups_most;
    bool nccl = b->o->nccl && b->transport;
    int status = lap_open(&b->lap, &(struct lap_setup){.transport = b->transport,
                                                       .isa = b->report->isa,
                                                       .limits = limits,
                                                       .options = b->o->exchange,
                                                       .nccl = nccl,
                                                       .gpu = b->o->gpu});
    if (!status && nccl)
        status = lap_join(&b->lap, b->nccl_id);
    return status == TRANSPORT_INTERRUPTED ? cluster_fault(b->transport) : status;
}

static int open_bench(struct bench *b)
{
    struct arena *memory = &b->report->memory;
    size_t ranks = (size_t)b->report->n_ranks, n = (size_t)b->o->iterations;
    b->last = arena_alloc(memory, ranks * sizeof *b->last);
    b->left = arena_alloc(memory, n * sizeof *b->left);
    b->away = arena_alloc(memory, n * sizeof *b->away);
    b->back = arena_alloc(memory, n * sizeof *b->back);
    b->values = arena_alloc(memory, n * sizeof *b->values);
    return open_lap(b);
}

static int run(struct bench *b)
{
    unsigned common;
    int status = rally_greet(b->transport, b->o->version, alltoall_digest(b->o), &common);
    if (!status)
        status = isa_choose(&b->report->isa, common);
    if (!status)
        status = set_up(b);
    if (status)
        return status;
    status = open_bench(b);
    if (!status)
        status = rally_open(&b->marks, b->transport, &b->report->memory);
    for (int i = 0; i < b->o->n_sizes && !status; i++) {
        status = time_size(b, &b->report->size[i], b->o->rows[i]);
        b->report->n_sizes += !status;
    }
    if (status && b->lap.root[0])
        root_drop(b->lap.root[0]);
    lap_close(&b->lap);
    b->report->uncertainty_ns = b->marks.uncertainty_ns;
    rally_close(&b->marks, b->transport);
    return status;
}

int alltoall_coordinate(struct alltoall_report *r, struct transport *t,
                        const struct alltoall_options *o)
{
    struct bench b = {.transport = t && t->size > 1 ? t : NULL, .o = o, .report = r};
    *r = (struct alltoall_report){.n_ranks = b.transport ? t->size : 1};
    pulse_bind(t ? t->pulse : NULL);
    return run(&b);
}

void alltoall_report_free(struct alltoall_report *r)
{
    arena_free(&r->memory);
}

/* Rank 0: rows, results by slot, and messages. A worker: the message, results, and their sums. */
uint64_t alltoall_bytes(const struct alltoall_options *o, bool worker)
{
    struct exchange_limits l = alltoall_limits(o);
    uint64_t row = wire_row_bytes(WIRE_MODEL, l.type, l.width), rows = (uint64_t)l.rows;
    bool narrows = o->exchange.wire != WIRE_MODEL;
    uint64_t each = rows * row * (uint64_t)l.top_k;
    uint64_t messages = worker && o->exchange.dedup == DEDUP_ON ? rows * row : each;
    return (rows * row + each + messages) * (narrows ? 2 : 1);
}
