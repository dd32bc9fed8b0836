/* Rank 0 of a replay. */
#include "study/replay.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/pulse.h"
#include "coordinator/cluster.h"
#include "study/quantile.h"
#include "study/rally.h"
#include "study/replay_state.h"

struct replay {
    struct transport *transport; // NULL: alone
    const struct replay_options *o;
    struct replay_report *report;
    struct arena memory;
    struct lap lap;
    struct traffic traffic;   // of one lap
    double *ns[REPLAY_KINDS]; // [iterations] of all round trips of a kind
};

int replay_layers(struct config *layers, const struct routing_file *f, const char *path)
{
    const struct routing_head *h = &f->head;
    if (h->n_layers > MAX_LAYERS || h->n_experts > MAX_EXPERTS)
        return fail(STATUS_BAD_FILE, "%s: expected up to %d layers of %d experts, found %d of %d",
                    path, MAX_LAYERS, MAX_EXPERTS, h->n_layers, h->n_experts);
    if (f->n_steps == 0)
        return fail(STATUS_BAD_FILE, "%s: expected a step or more, found none", path);
    *layers = (struct config){
        .n_layers = h->n_layers, .n_experts = h->n_experts, .top_k = h->top_k, .dtype = h->dtype};
    for (int l = 0; l < h->n_layers; l++)
        layers->sparse[l] = h->sparse[l];
    return 0;
}

enum replay_kind replay_kind_of(const struct routing_step *s)
{
    return s->n_runs == s->n_rows ? REPLAY_DECODE : REPLAY_PREFILL;
}

void replay_traffic(struct traffic *t, const struct routing_file *f,
                    const struct routing_step *step, int sparse_layer)
{
    int k = f->head.top_k;
    t->n = step->n_rows;
    t->k = k;
    routing_experts(f, step, sparse_layer, t->expert);
    for (int i = 0; i < t->n * k; i++)
        t->weight[i] = traffic_weight(i % k);
}

/* ---- an iteration: the whole file ---- */

/* The counters after a lap, less those before. */
static void count(struct replay_sums *s, const struct exchange_counters *now,
                  const struct exchange_counters *then)
{
    s->out += now->sent - then->sent;
    s->back += now->received - then->received;
    s->messages += now->messages - then->messages;
    s->logical += now->logical - then->logical;
    s->local += now->local - then->local;
}

/* The first iteration of a way is compared and counted, the others are timed. */
static int run_lap(struct replay *r, struct replay_sums *sums, bool first, double *ns)
{
    struct row_terms terms;
    struct exchange_counters then = *root_counters(r->lap.root[0]);
    if (first)
        lap_forget_results(&r->lap);
    int64_t start = clock_ns();
    int status = lap_leave(&r->lap);
    if (first)
        lap_fill_home(&r->lap);
    if (!status)
        status = lap_return(&r->lap, &terms);
    *ns += (double)(clock_ns() - start);
    pulse();
    if (first && !status)
        count(sums, root_counters(r->lap.root[0]), &then);
    return first && r->o->check && !status ? lap_check_results(&r->lap, &terms) : status;
}

/* i < 0: the first. */
static int run_file(struct replay *r, struct replay_way *way, int i)
{
    const struct routing_file *f = r->o->file;
    double ns[REPLAY_KINDS] = {0};
    int status = rally_step(r->transport, 1);
    for (int s = 0; s < f->n_steps && !status; s++) {
        enum replay_kind kind = replay_kind_of(&f->steps[s]);
        for (int l = 0, n = 0; l < f->head.n_layers && !status; l++) {
            if (!f->head.sparse[l])
                continue;
            replay_traffic(&r->traffic, f, &f->steps[s], n++);
            lap_prepare(&r->lap, &r->traffic, &r->o->placement->layers[l]);
            status = run_lap(r, &way->sums[kind], i < 0, &ns[kind]);
        }
    }
    for (int kind = 0; kind < REPLAY_KINDS && i >= 0; kind++)
        r->ns[kind][i] = ns[kind];
    return status;
}

/* ---- a way ---- */

static int set_up(struct replay *r, const struct exchange_options *way)
{
    struct cluster_terms terms = {.version = r->o->version,
                                  .precision = precision_of(r->o->file->head.dtype),
                                  .max_rows = r->o->file->most_rows,
                                  .exchange = *way};
    uint64_t bytes;
    if (!r->transport)
        return 0;
    int status =
        cluster_set_up(r->transport, &terms, r->report->isa, &r->o->layers, r->o->placement);
    return status ? status : cluster_await(r->transport, &bytes);
}

/* Rows are filled in once, for the longest step. */
static void fill_rows(struct replay *r)
{
    r->lap.routing.n = r->o->file->most_rows;
    lap_fill(&r->lap);
}

static int run_way(struct replay *r, struct replay_way *way)
{
    int status = set_up(r, &way->options);
    if (status)
        return status;
    struct exchange_limits limits = replay_limits(r->o);
    limits.groups = r->o->placement->groups_most;
    status = lap_open(&r->lap, &(struct lap_setup){.transport = r->transport,
                                                   .isa = r->report->isa,
                                                   .limits = limits,
                                                   .options = way->options});
    if (!status)
        fill_rows(r);
    for (int i = -1; i < r->o->iterations && !status; i++)
        status = run_file(r, way, i);
    if (status == TRANSPORT_INTERRUPTED)
        status = cluster_fault(r->transport);
    for (int kind = 0; kind < REPLAY_KINDS && !status; kind++)
        way->sums[kind].ns = median(r->ns[kind], r->o->iterations);
    if (status && r->transport)
        root_drop(r->lap.root[0]);
    lap_close(&r->lap);
    return status;
}

int replay_ways(struct exchange_options *ways, enum dtype type)
{
    int n = 0;
    for (int i = 0; i < REPLAY_MAX_WAYS; i++) {
        struct exchange_options o = {
            .strategy = (enum strategy)(i / WIRE_COUNT / COMBINE_COUNT / DEDUP_COUNT),
            .dedup = (enum dedup)(i / WIRE_COUNT / COMBINE_COUNT % DEDUP_COUNT),
            .combine = (enum combine)(i / WIRE_COUNT % COMBINE_COUNT),
            .wire = (enum wire)(i % WIRE_COUNT)};
        bool narrower = o.wire != WIRE_BF16 || type == DTYPE_F32;
        bool other = o.strategy != STRATEGY_ALLGATHER || o.dedup == DEDUP_ON;
        if (narrower && other)
            ways[n++] = o;
    }
    return n;
}

/* Alone there is nothing that travels, so there is one way. */
static void list_ways(struct replay_report *r, enum dtype type)
{
    struct exchange_options ways[REPLAY_MAX_WAYS];
    r->n_ways = replay_ways(ways, type);
    if (r->n_ranks == 1)
        r->n_ways = 1;
    for (int i = 0; i < r->n_ways; i++)
        r->ways[i].options = ways[i];
}

static void count_steps(struct replay_report *r, const struct routing_file *f)
{
    for (int s = 0; s < f->n_steps; s++) {
        enum replay_kind kind = replay_kind_of(&f->steps[s]);
        r->steps[kind]++;
        r->rows[kind] += (uint64_t)f->steps[s].n_rows;
    }
}

static int run_ways(struct replay *r)
{
    unsigned common;
    int status = rally_greet(r->transport, r->o->version, replay_digest(r->o), &common);
    if (!status)
        status = isa_choose(&r->report->isa, common);
    for (int i = 0; i < r->report->n_ways && !status; i++)
        status = run_way(r, &r->report->ways[i]);
    return status;
}

int replay_coordinate(struct replay_report *report, struct transport *t,
                      const struct replay_options *o)
{
    struct replay r = {.transport = t && t->size > 1 ? t : NULL, .o = o, .report = report};
    *report = (struct replay_report){.n_ranks = r.transport ? t->size : 1,
                                     .transport = alltoall_transport(t, false)};
    pulse_bind(t ? t->pulse : NULL);
    for (int kind = 0; kind < REPLAY_KINDS; kind++)
        r.ns[kind] = arena_alloc(&r.memory, (size_t)o->iterations * sizeof(double));
    traffic_open(&r.traffic, o->file->most_rows, o->file->head.top_k, &r.memory);
    list_ways(report, o->file->head.dtype);
    count_steps(report, o->file);
    int status = run_ways(&r);
    arena_free(&r.memory);
    return status;
}
