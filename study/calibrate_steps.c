/* Steps of a model: of rank 0 alone, of its experts, and of all ranks. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "coordinator/forward.h"
#include "coordinator/unembed.h"
#include "study/calibrate_state.h"
#include "study/expert_run.h"
#include "study/quantile.h"
#include "study/virtual.h"

/* Ways of steps beside the usual one, which the fit sees. */
static const struct exchange_options step_ways[] = {
    {.strategy = STRATEGY_EXACT},
    {.strategy = STRATEGY_PADDED},
    {.strategy = STRATEGY_ALLGATHER},
    {.strategy = STRATEGY_EXACT, .dedup = DEDUP_OFF},
    {.strategy = STRATEGY_EXACT, .combine = COMBINE_SUM},
    {.strategy = STRATEGY_EXACT, .wire = WIRE_INT8}};
enum { STEP_WAYS = sizeof step_ways / sizeof *step_ways };

int calibrate_sequences(const struct calibration *c)
{
    int most = 1;
    for (int i = 0; i < c->n_shapes; i++)
        most = c->shapes[i].sequences > most ? c->shapes[i].sequences : most;
    return most;
}

int calibrate_context(const struct calibration *c)
{
    int most = 1;
    for (int i = 0; i < c->n_shapes; i++) {
        int end = c->shapes[i].position + c->shapes[i].rows;
        most = end > most ? end : most;
    }
    return most;
}

/* ---- a step ---- */

struct step {
    struct batch batch;
    int32_t *tokens, *seq, *pos, *last;
    int n_last;
};

/* Tokens are drawn, the same ones for a shape on any ranks, so that routing is the same. */
static struct step make_step(const struct step_shape *shape, int vocab, struct arena *memory)
{
    size_t n = (size_t)(shape->sequences * shape->rows);
    struct step s = {.tokens = arena_alloc(memory, n * sizeof *s.tokens),
                     .seq = arena_alloc(memory, n * sizeof *s.seq),
                     .pos = arena_alloc(memory, n * sizeof *s.pos),
                     .last = arena_alloc(memory, n * sizeof *s.last)};
    uint32_t random = (uint32_t)n + 1;
    int row = 0;
    for (int i = 0; i < shape->sequences; i++)
        for (int j = 0; j < shape->rows; j++, row++) {
            random = random * 1664525u + 1013904223u;
            s.tokens[row] = (int32_t)((uint64_t)random * (uint64_t)vocab >> 32);
            s.seq[row] = i;
            s.pos[row] = shape->position + j;
            if (j == shape->rows - 1)
                s.last[s.n_last++] = row;
        }
    s.batch = (struct batch){row, s.tokens, s.seq, s.pos};
    return s;
}

/* Positions before a step's first hold zeros, or what other steps have left: its time is the same.
 */
static void hold(struct coordinator *c, const struct step_shape *shape)
{
    for (int i = 0; i < shape->sequences; i++)
        CHECK(kv_cache_extend(&c->kv, i, shape->position + shape->rows), "no block for %d", i);
}

static void let_go(struct coordinator *c, const struct step_shape *shape)
{
    for (int i = 0; i < shape->sequences; i++)
        kv_cache_release(&c->kv, i);
}

static int run_step(struct coordinator *c, const struct step *s)
{
    int status = forward(c, &s->batch);
    if (!status)
        status = unembed(c, s->last, s->n_last);
    return status ? status : dev_wait(&c->dev);
}

static int time_step(struct coordinator *c, const struct step *s, const struct step_shape *shape,
                     double *seconds)
{
    hold(c, shape);
    int64_t start = clock_ns();
    int status = run_step(c, s);
    *seconds = seconds_since(start);
    let_go(c, shape);
    return status;
}

/* The times of every shape's step. Rounds go through all shapes; every second one is of the first
 * turn, the others are of the second. */
struct timing {
    int rounds, room;               // that were timed; of each turn at most
    struct step *steps;             // [shapes]
    double *times[CALIBRATE_TURNS]; // [shapes][room]
};

static void timing_open(struct timing *t, struct calibration *c, int vocab, int room)
{
    size_t shapes = (size_t)c->n_shapes;
    *t = (struct timing){.room = room};
    t->steps = arena_alloc(&c->memory, shapes * sizeof *t->steps);
    for (size_t i = 0; i < shapes; i++)
        t->steps[i] = make_step(&c->shapes[i], vocab, &c->memory);
    for (int turn = 0; turn < CALIBRATE_TURNS; turn++)
        t->times[turn] = arena_alloc(&c->memory, shapes * (size_t)room * sizeof **t->times);
}

/* So many rounds, after one that is not kept. */
static int timing_run(struct timing *t, struct calibration *c, struct coordinator *who, int rounds)
{
    int status = 0;
    for (int round = -1; round < rounds && !status; round++) {
        for (int i = 0; i < c->n_shapes && !status; i++) {
            double seconds;
            status = time_step(who, &t->steps[i], &c->shapes[i], &seconds);
            if (round >= 0)
                t->times[t->rounds % CALIBRATE_TURNS][i * t->room + t->rounds / CALIBRATE_TURNS] =
                    seconds;
        }
        t->rounds += round >= 0;
    }
    return status;
}

/* Settings first, first + stride and so on have a shape each: the medians of both turns. */
static void timing_take(struct timing *t, struct calibration *c, int first, int stride)
{
    for (int i = 0; i < c->n_shapes; i++) {
        struct setting *s = &c->settings[first + i * stride];
        s->measured = median(t->times[0] + i * t->room, t->room);
        s->again = median(t->times[1] + i * t->room, t->room);
    }
}

/* ---- what a step counts ---- */

static struct setting *add_step(struct calibration *c, enum setting_kind kind, int shape)
{
    const struct step_shape *s = &c->shapes[shape];
    struct setting *to = calibration_add(c);
    *to = (struct setting){.kind = kind,
                           .rows = s->sequences * s->rows,
                           .position = s->position + s->rows - 1,
                           .ranks = 1,
                           .held_out = s->held_out};
    return to;
}

static void count_home(struct costs *c, const struct step_shape *s)
{
    double each = s->rows * (s->position + (s->rows + 1) / 2.0);
    c->of[COST_STEP] = 1;
    c->of[COST_HOME_ROW] = s->sequences * s->rows;
    c->of[COST_POSITION] = s->sequences * each;
    c->of[COST_OUTPUT] = s->sequences;
}

/* A step's experts with all of them on one rank. */
static void count_experts(struct calibration *c, struct costs *to, int shape, struct traffic *t)
{
    const struct routing_file *f = &c->routing;
    struct load all = {0, 0};
    for (int i = 0; i < f->n_sparse; i++) {
        replay_traffic(t, f, &f->steps[shape], i);
        loads_add(&all, t, NULL, f->head.n_experts);
    }
    to->of[COST_ROW] += all.rows;
    to->of[COST_EXPERT] += all.experts;
}

/* ---- alone ---- */

static int record_steps(struct calibration *c, struct coordinator *alone, const char *path)
{
    int status = 0;
    for (int i = 0; i < c->n_shapes && !status; i++) {
        struct step s = make_step(&c->shapes[i], alone->config.vocab_size, &c->memory);
        hold(alone, &c->shapes[i]);
        status = run_step(alone, &s);
        let_go(alone, &c->shapes[i]);
    }
    if (!status)
        status = record_finish(alone->record);
    record_close(alone->record);
    alone->record = NULL;
    return status ? status : routing_read(&c->routing, path, &c->memory);
}

static double time_experts(struct calibration *c, struct expert_run *run, int shape,
                           struct traffic *t)
{
    static const double stretch = 0.005; // seconds of a layer: several windows of launch/lab.sh
    bool all[MAX_EXPERTS];
    double seconds = 0;
    memset(all, 1, sizeof all);
    for (int i = 0; i < c->routing.n_sparse; i++) {
        replay_traffic(t, &c->routing, &c->routing.steps[shape], i);
        seconds += expert_run_seconds(run, i, t, all, stretch);
    }
    return seconds;
}

/* Settings as of timing_take(); each time is the median of three. */
static void time_all_experts(struct calibration *c, struct expert_run *run, struct traffic *t,
                             int first, int stride)
{
    enum { TIMES = 3 };
    for (int turn = 0; turn < CALIBRATE_TURNS; turn++)
        for (int i = 0; i < c->n_shapes; i++) {
            struct setting *s = &c->settings[first + i * stride];
            double times[TIMES];
            for (int again = 0; again < TIMES; again++)
                times[again] = time_experts(c, run, i, t);
            *(turn ? &s->again : &s->measured) = median(times, TIMES);
        }
}

int calibrate_alone(struct calibration *c, struct coordinator *alone,
                    const struct calibrate_options *o, const char *path)
{
    struct expert_run run;
    struct traffic t;
    struct timing timing;
    int status = record_steps(c, alone, path), first = c->n; // a step, its experts, a step, …
    if (status)
        return status;
    traffic_open(&t, c->routing.most_rows, c->routing.head.top_k, &c->memory);
    expert_run_open(&run, alone, c->routing.most_rows);
    for (int i = 0; i < c->n_shapes; i++) {
        struct setting *step = add_step(c, SETTING_ALONE, i);
        count_home(&step->counted, &c->shapes[i]);
        count_experts(c, &step->counted, i, &t);
        struct setting *experts = add_step(c, SETTING_EXPERTS, i);
        count_experts(c, &experts->counted, i, &t);
    }
    timing_open(&timing, c, alone->config.vocab_size, o->repetitions);
    status = timing_run(&timing, c, alone, CALIBRATE_TURNS * o->repetitions);
    timing_take(&timing, c, first, 2);
    time_all_experts(c, &run, &t, first + 1, 2);
    return status;
}

/* ---- all ranks ---- */

/* The laps and loads of a step's layers. */
static void count_step(struct calibration *c, struct setting *s, int shape, struct virtual_ranks *v,
                       const struct placement *p, struct traffic *t)
{
    const struct routing_file *f = &c->routing;
    struct virtual_pair all = {0};
    struct load *loads =
        arena_alloc(&c->memory, (size_t)f->n_sparse * (size_t)p->n_ranks * sizeof *loads);
    for (int l = 0, i = 0; l < f->head.n_layers; l++) {
        if (!f->head.sparse[l])
            continue;
        replay_traffic(t, f, &f->steps[shape], i);
        virtual_lap(v, t, &p->layers[l]);
        struct virtual_pair lap = virtual_sum(v);
        double bytes = (double)(lap.out + lap.back);
        double messages = (double)(lap.messages_out + lap.messages_back);
        virtual_add(&all, &lap);
        loads_add(loads + (size_t)i * (size_t)p->n_ranks, t, p->layers[l].rank_of,
                  f->head.n_experts);
        s->lap_bytes = bytes > s->lap_bytes ? bytes : s->lap_bytes;
        s->lap_messages = messages > s->lap_messages ? messages : s->lap_messages;
        i++;
    }
    s->counted = lap_costs(&all, f->n_sparse, s->way.wire != WIRE_MODEL, true);
    count_home(&s->counted, &c->shapes[shape]);
    s->loads = loads;
    s->layers = f->n_sparse;
}

static void add_steps(struct calibration *c, const struct coordinator *all, int way, int at_once)
{
    const struct routing_head *h = &c->routing.head;
    struct exchange_limits limits = {
        c->routing.most_rows,      h->top_k, h->n_experts, h->hidden, h->dtype, 0,
        all->placement.groups_most};
    struct virtual_ranks v;
    struct traffic t;
    traffic_open(&t, c->routing.most_rows, c->routing.head.top_k, &c->memory);
    virtual_open(&v, all->placement.n_ranks, &limits, &step_ways[way]);
    for (int i = 0; i < c->n_shapes; i++) {
        struct setting *s = add_step(c, SETTING_STEP, i);
        s->ranks = all->placement.n_ranks;
        s->at_once = at_once;
        s->way = step_ways[way];
        s->held_out |= way > 0;
        count_step(c, s, i, &v, &all->placement, &t);
    }
    virtual_close(&v);
}

static int change_way(struct coordinator *all, const struct coordinator_options *opened, int way)
{
    struct coordinator_options other = *opened;
    other.exchange.strategy = step_ways[way].strategy;
    other.exchange.dedup = step_ways[way].dedup;
    other.exchange.combine = step_ways[way].combine;
    other.exchange.wire = step_ways[way].wire;
    return coordinator_change_exchange(all, &other);
}

/* As often through all ways as there are turns: what changes with time is in all of them. */
int calibrate_steps(struct calibration *c, struct coordinator *all,
                    const struct coordinator_options *opened, const struct calibrate_options *o,
                    int at_once)
{
    int ways = o->all_ways ? STEP_WAYS : 1, first = c->n, status = 0;
    struct timing timings[STEP_WAYS];
    for (int way = 0; way < ways; way++) {
        add_steps(c, all, way, at_once);
        timing_open(&timings[way], c, all->config.vocab_size, o->repetitions);
    }
    for (int i = 0; i < CALIBRATE_TURNS * ways && !status; i++) {
        if (ways > 1)
            status = change_way(all, opened, i % ways);
        if (!status)
            status = timing_run(&timings[i % ways], c, all, o->repetitions);
    }
    for (int way = 0; way < ways && !status; way++)
        timing_take(&timings[way], c, first + way * c->n_shapes, 1);
    return status;
}
