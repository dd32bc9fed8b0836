/* What coordinators and workers have to do in the steps of a projection. */
#include "study/project_state.h"

#include <math.h>
#include <string.h>

static int experts_of(const struct projecting *p)
{
    return p->o->file->head.n_experts;
}

/* ---- whose rows ---- */

static struct share share_of(const struct projecting *p, const struct routing_step *s, int c)
{
    int64_t m = p->o->coordinators, n = s->n_rows;
    int first = (int)(n * c / m), end = (int)(n * (c + 1) / m);
    return (struct share){first, end - first};
}

struct share project_share(const struct projecting *p, const struct routing_step *s, int c,
                           bool halved, int half)
{
    const struct exchange_options way = {.overlap = halved ? OVERLAP_ON : OVERLAP_OFF};
    struct share all = share_of(p, s, c);
    int second = exchange_second_half(&way, all.n), first = all.n - second;
    return half == 0 ? (struct share){all.first, first} : (struct share){all.first + first, second};
}

int project_halves(const struct projecting *p, const struct routing_step *s, bool halved)
{
    for (int c = 0; c < p->o->coordinators; c++)
        if (project_share(p, s, c, halved, 1).n > 0)
            return MOST_HALVES;
    return 1;
}

struct traffic project_rows(const struct traffic *t, const struct share *share)
{
    size_t at = (size_t)share->first * (size_t)t->k;
    return (struct traffic){
        .n = share->n, .k = t->k, .expert = t->expert + at, .weight = t->weight + at};
}

/* ---- what stays with coordinators ---- */

/* Positions that the rows of a share attend to, and how many of them end their sequence's rows. */
static struct costs home_costs(const struct routing_step *step, const struct share *share)
{
    struct costs c = {{0}};
    int row = 0;
    for (int i = 0; i < step->n_runs; i++)
        for (int j = 0; j < step->runs[i].rows; j++, row++)
            if (row >= share->first && row < share->first + share->n) {
                c.of[COST_POSITION] += step->runs[i].position + j + 1;
                c.of[COST_OUTPUT] += j == step->runs[i].rows - 1;
            }
    c.of[COST_STEP] = share->n > 0;
    c.of[COST_HOME_ROW] = share->n;
    return c;
}

/* What a coordinator does in a step: once, and in all layers together for each half. */
struct home {
    double once, layers[MOST_HALVES];
};

/* Each half reads the weights of the layers; the output matrix is read once. */
static struct home home_of(const struct projecting *p, const struct routing_step *s, int c,
                           bool halved)
{
    const double *price = p->o->prices.of, share_of_layers = p->o->layers_share;
    struct home h = {0};
    for (int half = 0; half < MOST_HALVES; half++) {
        struct share share = project_share(p, s, c, halved, half);
        struct costs counted = home_costs(s, &share);
        h.once += counted.of[COST_OUTPUT] * price[COST_OUTPUT];
        if (half == 0)
            h.once += counted.of[COST_STEP] * price[COST_STEP] * (1 - share_of_layers);
        counted.of[COST_OUTPUT] = 0;
        counted.of[COST_STEP] *= share_of_layers;
        h.layers[half] = costs_time(&counted, &p->o->prices);
    }
    return h;
}

static double home_sum(const struct home *h)
{
    return h->once + h->layers[0] + h->layers[1];
}

/* Of the coordinator that takes longest over the i-th step. */
static void count_home(const struct projecting *p, struct work *w, int i)
{
    int layers = p->o->file->head.n_layers;
    struct home most = {0};
    for (int c = 0; c < p->o->coordinators; c++) {
        struct home h = home_of(p, p->steps[i], c, w->halved);
        if (home_sum(&h) > home_sum(&most))
            most = h;
    }
    w->once[i] = most.once;
    for (int half = 0; half < MOST_HALVES; half++)
        w->home[i * MOST_HALVES + half] = most.layers[half] / layers;
    w->mean_home += per_step(p, home_sum(&most));
}

/* ---- experts ---- */

/* p->loads [1 + workers] := what each rank has of the rows; rank_of NULL: rank 0 has all. */
static void count_loads(struct projecting *p, const struct traffic *rows, const int32_t *rank_of)
{
    memset(p->loads, 0, (size_t)(p->workers + 1) * sizeof *p->loads);
    loads_add(p->loads, rows, rank_of, experts_of(p));
}

static double seconds_of_load(struct projecting *p, const struct traffic *rows, int sparse_layer,
                              const int32_t *rank_of, int rank)
{
    const struct expert_runner *run = p->o->runner;
    const struct load *l = &p->loads[rank];
    if (!run || l->rows == 0)
        return load_time(l, &p->o->prices);
    for (int e = 0; e < experts_of(p); e++)
        p->wanted[e] = !rank_of || rank_of[e] == rank;
    return run->seconds(run->of, sparse_layer, rows, p->wanted);
}

/* p->half := the rows of a half in p->traffic, of all coordinators. */
static void take_half(struct projecting *p, const struct routing_step *s, bool halved, int half)
{
    struct traffic *to = &p->half;
    to->n = 0;
    to->k = p->traffic.k;
    for (int c = 0; c < p->o->coordinators; c++) {
        struct share share = project_share(p, s, c, halved, half);
        struct traffic rows = project_rows(&p->traffic, &share);
        size_t at = (size_t)to->n * (size_t)to->k, pairs = (size_t)rows.n * (size_t)rows.k;
        memcpy(to->expert + at, rows.expert, pairs * sizeof *to->expert);
        memcpy(to->weight + at, rows.weight, pairs * sizeof *to->weight);
        to->n += rows.n;
    }
}

/* The slowest worker over p->half in a layer; per_rank, unless it is NULL, gets what each has. */
static double slowest_worker(struct projecting *p, int sparse_layer, const int32_t *rank_of,
                             struct project_rank *per_rank)
{
    double most = 0;
    count_loads(p, &p->half, rank_of);
    for (int w = 1; w <= p->workers; w++) {
        double seconds = seconds_of_load(p, &p->half, sparse_layer, rank_of, w);
        most = fmax(most, seconds);
        if (!per_rank)
            continue;
        struct project_rank *rank = &per_rank[p->o->coordinators + w - 1];
        rank->rows += per_step(p, p->loads[w].rows);
        rank->experts += per_step(p, p->loads[w].experts);
        rank->seconds += per_step(p, seconds);
    }
    return most;
}

/* Of the i-th step. */
static void count_experts(struct projecting *p, struct work *w, int i)
{
    const struct routing_file *f = p->o->file;
    const struct routing_step *s = p->steps[i];
    int halves = project_halves(p, s, w->halved);
    double *to = w->experts + (size_t)i * (size_t)f->n_sparse * MOST_HALVES;
    for (int l = 0, n = 0; l < f->head.n_layers; l++) {
        if (!f->head.sparse[l])
            continue;
        replay_traffic(&p->traffic, f, s, n);
        for (int half = 0; half < halves; half++) {
            take_half(p, s, w->halved, half);
            double seconds = slowest_worker(p, n, p->placement.layers[l].rank_of, w->per_rank);
            to[n * MOST_HALVES + half] = seconds;
            w->mean_experts += per_step(p, seconds);
        }
        n++;
    }
}

void project_work(struct projecting *p, struct work *w, bool halved, struct project_rank *per_rank)
{
    size_t steps = (size_t)p->n_steps, halves = steps * MOST_HALVES;
    size_t layers = (size_t)p->o->file->n_sparse;
    *w = (struct work){.halved = halved,
                       .once = arena_alloc(&p->memory, steps * sizeof *w->once),
                       .home = arena_alloc(&p->memory, halves * sizeof *w->home),
                       .experts = arena_alloc(&p->memory, halves * layers * sizeof *w->experts),
                       .per_rank = per_rank};
    for (int i = 0; i < p->n_steps; i++) {
        count_home(p, w, i);
        count_experts(p, w, i);
    }
}

/* ---- one rank ---- */

double project_alone(struct projecting *p)
{
    const struct routing_file *f = p->o->file;
    double sum = 0;
    for (int i = 0; i < p->n_steps; i++) {
        const struct share all = {0, p->steps[i]->n_rows};
        struct costs home = home_costs(p->steps[i], &all);
        sum += costs_time(&home, &p->o->prices);
        for (int n = 0; n < f->n_sparse; n++) {
            replay_traffic(&p->traffic, f, p->steps[i], n);
            count_loads(p, &p->traffic, NULL);
            sum += seconds_of_load(p, &p->traffic, n, NULL, 0);
        }
    }
    return per_step(p, sum);
}
