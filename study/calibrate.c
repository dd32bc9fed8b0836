/* What is measured: the lists of settings, and laps. */
#include "study/calibrate_state.h"

#include <string.h>

#include "base/log.h"
#include "coordinator/cluster.h"
#include "study/alltoall_state.h"
#include "study/virtual.h"

/* Rows of laps; what the fit does not see lies between what it sees. */
static const struct lap_size {
    int rows;
    bool held_out;
} sizes[] = {{1, false},  {2, false},    {3, true},    {4, false},   {6, true},   {8, false},
             {12, true},  {16, false},   {24, true},   {32, false},  {48, true},  {64, false},
             {96, true},  {128, false},  {192, true},  {256, false}, {384, true}, {512, false},
             {768, true}, {1024, false}, {1536, true}, {2048, false}};
enum { SIZES = sizeof sizes / sizeof *sizes };

/* Skewed rows need several rounds when padded, so that messages and ranks can be told apart. */
static const struct lap_way {
    struct exchange_options way;
    const char *skew;
} lap_ways[] = {{{.strategy = STRATEGY_EXACT}, "uniform"},
                {{.strategy = STRATEGY_EXACT, .dedup = DEDUP_OFF}, "uniform"},
                {{.strategy = STRATEGY_EXACT, .combine = COMBINE_SUM}, "uniform"},
                {{.strategy = STRATEGY_EXACT, .wire = WIRE_INT8}, "uniform"},
                {{.strategy = STRATEGY_PADDED}, "uniform"},
                {{.strategy = STRATEGY_PADDED}, "zipf:4"},
                {{.strategy = STRATEGY_ALLGATHER}, "uniform"}};
enum { LAP_WAYS = sizeof lap_ways / sizeof *lap_ways };

static const struct step_shape step_shapes[] = {
    {1, 1, 16, false},  {2, 1, 16, false},  {3, 1, 64, true},   {4, 1, 16, false},
    {6, 1, 64, true},   {8, 1, 16, false},  {12, 1, 64, true},  {16, 1, 16, false},
    {24, 1, 64, true},  {32, 1, 16, false}, {1, 1, 400, false}, {1, 1, 250, true},
    {8, 1, 400, false}, {8, 1, 250, true},  {1, 8, 0, false},   {1, 12, 0, true},
    {1, 32, 0, false},  {1, 48, 0, true},   {1, 128, 0, false}, {1, 96, 0, true},
    {1, 512, 0, false}, {1, 384, 0, true}};

void calibration_open(struct calibration *c, const struct calibrate_options *o)
{
    *c = (struct calibration){0};
    for (size_t i = 0; i < sizeof step_shapes / sizeof *step_shapes && o->has_model; i++) {
        const struct step_shape *s = &step_shapes[i];
        if (s->sequences * s->rows <= o->most_rows && s->position + s->rows <= o->context)
            c->shapes[c->n_shapes++] = *s;
    }
}

void calibration_close(struct calibration *c)
{
    arena_free(&c->memory);
}

/* The next setting, which is all zeros. */
struct setting *calibration_add(struct calibration *c)
{
    if (c->n == c->room) {
        struct setting *old = c->settings;
        c->room = c->room ? 2 * c->room : 64;
        c->settings = arena_alloc(&c->memory, (size_t)c->room * sizeof *old);
        if (old)
            memcpy(c->settings, old, (size_t)c->n * sizeof *old);
    }
    return &c->settings[c->n++];
}

/* ---- laps ---- */

/* A lap's options, the same on all ranks but for the placement. */
static int lap_options(struct alltoall_options *a, const struct calibrate_options *o,
                       const struct lap_way *way, struct arena *memory)
{
    const struct fit_model *m = &o->shape;
    double *weights = NULL;
    *a = (struct alltoall_options){.hidden = m->hidden,
                                   .top_k = m->top_k,
                                   .experts = m->experts,
                                   .type = m->dtype,
                                   .exchange = way->way,
                                   .skew = way->skew,
                                   .warmup = 2,
                                   .iterations = o->repetitions,
                                   .version = o->version};
    for (int i = 0; i < SIZES; i++)
        if (sizes[i].rows <= o->most_rows)
            a->rows[a->n_sizes++] = sizes[i].rows;
    int status = skew_parse(&weights, way->skew, m->experts, m->top_k, memory);
    a->weights = weights;
    return status;
}

static void count_lap(struct setting *s, struct virtual_ranks *v, const struct alltoall_options *a)
{
    struct arena memory = {0};
    struct traffic t;
    traffic_draw(&t, a->weights, a->experts, s->rows, a->top_k, a->seed, &memory);
    virtual_lap(v, &t, &a->placement->layers[0]);
    struct virtual_pair sum = virtual_sum(v);
    s->counted = lap_costs(&sum, 1, a->exchange.wire != WIRE_MODEL, false);
    s->lap_bytes = (double)(sum.out + sum.back);
    s->lap_messages = (double)(sum.messages_out + sum.messages_back);
    arena_free(&memory);
}

/* A setting for each size of a way; its times are to come. */
static void add_laps(struct calibration *c, const struct alltoall_options *a, int ranks,
                     int at_once)
{
    struct virtual_ranks v;
    struct exchange_limits limits = alltoall_limits(a);
    limits.groups = a->placement->groups_most;
    virtual_open(&v, ranks, &limits, &a->exchange);
    for (int i = 0; i < SIZES && i < a->n_sizes; i++) {
        struct setting *s = calibration_add(c);
        *s = (struct setting){.kind = SETTING_LAP,
                              .rows = a->rows[i],
                              .ranks = ranks,
                              .way = a->exchange,
                              .held_out = sizes[i].held_out,
                              .at_once = at_once};
        count_lap(s, &v, a);
    }
    virtual_close(&v);
}

static int time_laps(struct calibration *c, struct transport *t, struct alltoall_options *a,
                     int first, int turn)
{
    static struct alltoall_report report;
    int status = alltoall_coordinate(&report, t, a);
    for (int i = 0; i < report.n_sizes && !status; i++) {
        struct setting *s = &c->settings[first + i];
        *(turn ? &s->again : &s->measured) = report.size[i].round.median * 1e-9;
    }
    c->isa = report.isa;
    alltoall_report_free(&report);
    return status;
}

int calibrate_laps(struct calibration *c, struct transport *t, const struct calibrate_options *o,
                   int at_once)
{
    struct placement even;
    const struct placement_spec spec = {.text = "even"};
    int status = 0, first[LAP_WAYS];
    for (int i = 0; i < CALIBRATE_TURNS * LAP_WAYS; i++) {
        struct alltoall_options a = {0};
        int way = i % LAP_WAYS;
        if (i > 0)
            cluster_stop(t);
        if (!status)
            status = lap_options(&a, o, &lap_ways[way], &c->memory);
        struct config one = alltoall_layer(&a);
        if (!status)
            status = placement_build(&even, &c->memory, &one, t->size, &spec);
        a.placement = &even;
        if (!status && i < LAP_WAYS) {
            first[way] = c->n;
            add_laps(c, &a, t->size, at_once);
        }
        if (!status)
            status = time_laps(c, t, &a, first[way], i / LAP_WAYS);
    }
    return status;
}

void calibrate_no_laps(struct transport *t)
{
    for (int i = 1; i < CALIBRATE_TURNS * LAP_WAYS; i++)
        cluster_stop(t);
}

int calibrate_serve_laps(struct transport *t, const struct calibrate_options *o)
{
    struct arena memory = {0};
    int status = 0;
    for (int i = 0; i < CALIBRATE_TURNS * LAP_WAYS && !status; i++) {
        struct alltoall_options a;
        status = lap_options(&a, o, &lap_ways[i % LAP_WAYS], &memory);
        if (!status)
            status = alltoall_serve(t, &a);
    }
    arena_free(&memory);
    return status;
}
