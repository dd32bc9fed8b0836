#include "study/project.h"

#include <math.h>
#include <string.h>

#include "base/log.h"
#include "study/byte_matrix.h"
#include "study/kept.h"
#include "study/place.h"

struct costs project_prices(const struct fit *fit, const struct topology *topology,
                            const struct fit_model *model)
{
    struct costs prices = fit ? fit->prices : (struct costs){{0}};
    if (topology && topology->has_device) {
        struct costs device = topology_prices(topology, model);
        for (int c = COSTS_OF_LAPS; c < COSTS; c++)
            prices.of[c] = device.of[c];
    }
    return prices;
}

/* One number of ranks and kind of step. */
struct projecting {
    const struct project_options *o;
    struct arena memory; // of this projection alone
    enum replay_kind kind;
    int ranks, workers;
    int n_steps;
    const struct routing_step **steps; // [n_steps] that are taken
    struct traffic traffic;            // of a layer
    struct placement placement;        // over one coordinator and the workers
    int *node;                         // [ranks] with a topology
    struct virtual_pair *pairs;        // [coordinators][1 + workers] of a lap
    struct virtual_pair *sums;         // likewise, of all laps of a way
    struct load *loads;                // [1 + workers] of a layer of a step
    bool *wanted;                      // [experts] of one rank
};

static int experts_of(const struct projecting *p)
{
    return p->o->file->head.n_experts;
}

static double per_step(const struct projecting *p, double sum)
{
    return sum / p->n_steps;
}

/* ---- the steps ---- */

static void take_steps(struct projecting *p, struct project_report *r)
{
    const struct routing_file *f = p->o->file;
    int of = r->recorded[p->kind], wanted = of < p->o->steps ? of : p->o->steps, seen = 0;
    int64_t at;
    p->steps = arena_alloc(&p->memory, (size_t)of * sizeof *p->steps);
    for (int i = 0; i < f->n_steps; i++)
        if (replay_kind_of(&f->steps[i]) == p->kind && is_kept(seen++, wanted, of, &at))
            p->steps[p->n_steps++] = &f->steps[i];
}

/* Rows [first, first + n) of a step are those of one coordinator. */
struct share {
    int first, n;
};

static struct share share_of(const struct projecting *p, const struct routing_step *s, int c)
{
    int64_t m = p->o->coordinators, n = s->n_rows;
    int first = (int)(n * c / m), end = (int)(n * (c + 1) / m);
    return (struct share){first, end - first};
}

static struct traffic rows_of(const struct traffic *t, const struct share *s)
{
    size_t at = (size_t)s->first * (size_t)t->k;
    return (struct traffic){
        .n = s->n, .k = t->k, .expert = t->expert + at, .weight = t->weight + at};
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

/* The coordinator that takes longest, of each step; all of a step on one with `whole`. */
static double home_time(const struct projecting *p, bool whole)
{
    double sum = 0;
    for (int i = 0; i < p->n_steps; i++) {
        const struct routing_step *s = p->steps[i];
        double most = 0;
        for (int c = 0; c < (whole ? 1 : p->o->coordinators); c++) {
            struct share share = whole ? (struct share){0, s->n_rows} : share_of(p, s, c);
            struct costs counted = home_costs(s, &share);
            most = fmax(most, costs_time(&counted, &p->o->prices));
        }
        sum += most;
    }
    return per_step(p, sum);
}

/* ---- experts ---- */

/* p->loads [1 + workers] := what each rank has of a layer of a step; rank_of NULL: rank 0 has all.
 */
static void count_loads(struct projecting *p, const int32_t *rank_of)
{
    memset(p->loads, 0, (size_t)(p->workers + 1) * sizeof *p->loads);
    loads_add(p->loads, &p->traffic, rank_of, experts_of(p));
}

static double seconds_of_load(struct projecting *p, int sparse_layer, const int32_t *rank_of,
                              int rank)
{
    const struct expert_runner *run = p->o->runner;
    const struct load *l = &p->loads[rank];
    if (!run || l->rows == 0)
        return load_time(l, &p->o->prices);
    for (int e = 0; e < experts_of(p); e++)
        p->wanted[e] = !rank_of || rank_of[e] == rank;
    return run->seconds(run->of, sparse_layer, &p->traffic, p->wanted);
}

/* One layer of one step: its slowest worker; per_rank, unless it is NULL, gets what each has. */
static double layer_experts_time(struct projecting *p, int sparse_layer, const int32_t *rank_of,
                                 struct project_rank *per_rank)
{
    double most = 0;
    count_loads(p, rank_of);
    for (int w = 1; w <= p->workers; w++) {
        double seconds = seconds_of_load(p, sparse_layer, rank_of, w);
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

/* Of all layers of a mean step; alone: one rank has all experts. */
static double experts_time(struct projecting *p, bool alone, struct project_rank *per_rank)
{
    const struct routing_file *f = p->o->file;
    double sum = 0;
    for (int i = 0; i < p->n_steps; i++)
        for (int l = 0, n = 0; l < f->head.n_layers; l++) {
            if (!f->head.sparse[l])
                continue;
            replay_traffic(&p->traffic, f, p->steps[i], n);
            if (alone) {
                count_loads(p, NULL);
                sum += seconds_of_load(p, n, NULL, 0);
            } else
                sum += layer_experts_time(p, n, p->placement.layers[l].rank_of, per_rank);
            n++;
        }
    return per_step(p, sum);
}

/* ---- the exchange ---- */

/* Coordinator c's part of a lap. */
static void count_coordinator(struct projecting *p, int c, struct project_way *way)
{
    size_t each = (size_t)p->workers + 1;
    struct virtual_pair sum = {0};
    for (size_t w = 1; w < each; w++) {
        const struct virtual_pair *pair = &p->pairs[(size_t)c * each + w];
        virtual_add(&sum, pair);
        virtual_add(&p->sums[(size_t)c * each + w], pair);
    }
    double bytes = (double)(sum.out + sum.back);
    double messages = (double)(sum.messages_out + sum.messages_back);
    if (messages > 0) {
        span_widen(&way->lap_bytes, bytes);
        span_widen(&way->lap_messages, messages);
    }
    way->out += per_step(p, (double)sum.out);
    way->back += per_step(p, (double)sum.back);
    way->messages_out += per_step(p, (double)sum.messages_out);
    way->messages_back += per_step(p, (double)sum.messages_back);
}

/* One layer of one step: its counts, and the time of the wire. */
static double run_lap(struct projecting *p, struct virtual_ranks *v,
                      const struct routing_step *step, const struct layer_placement *experts,
                      struct project_way *way)
{
    const struct project_options *o = p->o;
    size_t each = (size_t)p->workers + 1;
    for (int c = 0; c < o->coordinators; c++) {
        struct share share = share_of(p, step, c);
        struct traffic rows = rows_of(&p->traffic, &share);
        struct virtual_pair *to = p->pairs + (size_t)c * each;
        memset(to, 0, each * sizeof *to);
        if (share.n > 0) {
            virtual_lap(v, &rows, experts);
            memcpy(to, v->pairs, each * sizeof *to);
        }
        count_coordinator(p, c, way);
    }
    const struct star star = {o->coordinators, p->workers, p->pairs};
    return o->topology ? star_time_by_topology(&star, o->topology, p->node)
                       : star_time_by_prices(&star, &o->prices, way->options.wire != WIRE_MODEL);
}

static void run_way(struct projecting *p, struct project_way *way)
{
    const struct routing_file *f = p->o->file;
    const struct routing_head *h = &f->head;
    struct exchange_limits limits = {
        f->most_rows, h->top_k, h->n_experts, h->hidden, h->dtype, 0, p->placement.groups_most};
    struct virtual_ranks v;
    size_t each = (size_t)p->workers + 1, pairs = (size_t)p->o->coordinators * each;
    memset(p->sums, 0, pairs * sizeof *p->sums);
    way->lap_bytes = way->lap_messages = span_none;
    virtual_open(&v, p->workers + 1, &limits, &way->options);
    for (int i = 0; i < p->n_steps; i++)
        for (int l = 0, n = 0; l < h->n_layers; l++)
            if (h->sparse[l]) {
                replay_traffic(&p->traffic, f, p->steps[i], n++);
                way->exchange +=
                    per_step(p, run_lap(p, &v, p->steps[i], &p->placement.layers[l], way));
            }
    virtual_close(&v);
    for (int c = 0; c < p->o->coordinators; c++) {
        double out = 0;
        for (size_t w = 1; w < each; w++)
            out += per_step(p, (double)p->sums[(size_t)c * each + w].out);
        way->busiest_out = fmax(way->busiest_out, out);
    }
}

/* ---- a placement ---- */

static int build_placement(struct projecting *p, struct placement *to, enum project_placement which)
{
    const struct project_options *o = p->o;
    struct placement_spec spec = {.text = which == PROJECT_ROUND_ROBIN ? "round-robin" : "even"};
    const struct place_wish wish = {.n_ranks = p->workers + 1, .goal = PLACE_BOTH};
    if (which == PROJECT_COMPUTED)
        return place_by_routing(to, &p->memory, o->file, &o->layers, &wish);
    return placement_build(to, &p->memory, &o->layers, p->workers + 1, &spec);
}

/* The placement that was asked for, or the one under which the default way takes the least time.
 */
static int choose_placement(struct projecting *p, struct projection *to)
{
    static const char *const names[] = {"", "even", "round-robin", "computed"};
    double least = INFINITY;
    struct placement best = {0};
    for (int i = PROJECT_EVEN; i <= PROJECT_COMPUTED; i++) {
        struct project_way way = {0};
        if (p->o->placement != PROJECT_BEST && (int)p->o->placement != i)
            continue;
        int status = build_placement(p, &p->placement, (enum project_placement)i);
        if (status)
            return status;
        run_way(p, &way);
        double seconds = way.exchange + experts_time(p, false, NULL);
        if (seconds < least) {
            least = seconds;
            best = p->placement;
            to->placement = names[i];
        }
    }
    p->placement = best;
    return 0;
}

static int count_holders(const struct projecting *p)
{
    int holders = 0;
    for (int w = 1; w <= p->workers; w++)
        holders += placement_holding(&p->placement, w).experts > 0;
    return holders;
}

/* ---- a projection ---- */

static bool changes_nothing(const struct exchange_options *o)
{
    return o->wire == WIRE_MODEL && o->combine == COMBINE_ROWS;
}

static void run_ways(struct projecting *p, struct projection *to)
{
    struct exchange_options ways[REPLAY_MAX_WAYS];
    double home = home_time(p, false), experts = experts_time(p, false, to->per_rank);
    to->n_ways = replay_ways(ways, p->o->file->head.dtype);
    for (int i = 0; i < to->n_ways; i++) {
        struct project_way *w = &to->ways[i];
        *w = (struct project_way){.options = ways[i], .home = home, .experts = experts};
        run_way(p, w);
        if (project_step(w) < project_step(&to->ways[to->best_of_all]))
            to->best_of_all = i;
        if (changes_nothing(&ways[i]) && project_step(w) < project_step(&to->ways[to->best]))
            to->best = i;
    }
}

/* What each rank sends and receives the best way, whose laps are run once more. */
static void count_ranks(struct projecting *p, struct projection *to, struct arena *memory)
{
    struct project_way again = {.options = to->ways[to->best].options};
    int coordinators = p->o->coordinators;
    size_t bytes = (size_t)coordinators * (size_t)(p->workers + 1) * sizeof *p->sums;
    run_way(p, &again);
    to->pairs = memcpy(arena_alloc(memory, bytes), p->sums, bytes);
    for (int c = 0; c < coordinators; c++)
        for (int w = 1; w <= p->workers; w++) {
            const struct virtual_pair *s =
                &p->sums[(size_t)c * (size_t)(p->workers + 1) + (size_t)w];
            struct project_rank *a = &to->per_rank[c], *b = &to->per_rank[coordinators + w - 1];
            a->sent += per_step(p, (double)s->out);
            a->received += per_step(p, (double)s->back);
            b->sent += per_step(p, (double)s->back);
            b->received += per_step(p, (double)s->out);
        }
}

static bool is_outside(double v, const struct span *s)
{
    return v < s->least || v > s->most;
}

/* Whether a step, or a lap of the best way, lies outside of what was measured. With a topology the
 * exchange is not the fit's, and with its device nothing is. */
static void mark_outside(const struct projecting *p, struct projection *to)
{
    const struct project_options *o = p->o;
    const struct project_way *w = &to->ways[to->best];
    if (!o->fit || (o->topology && o->topology->has_device))
        return;
    const struct fit_spans *s = &o->fit->spans;
    for (int i = 0; i < p->n_steps; i++) {
        const struct routing_step *step = p->steps[i];
        to->outside[OUTSIDE_ROWS] |= is_outside(step->n_rows, &s->rows);
        for (int r = 0; r < step->n_runs; r++)
            to->outside[OUTSIDE_POSITIONS] |=
                step->runs[r].position + step->runs[r].rows - 1 > s->positions.most;
    }
    if (o->topology)
        return;
    to->outside[OUTSIDE_RANKS] = is_outside(to->ranks, &s->ranks);
    to->outside[OUTSIDE_BYTES] = is_outside(w->lap_bytes.least, &s->lap_bytes) ||
                                 is_outside(w->lap_bytes.most, &s->lap_bytes);
    to->outside[OUTSIDE_MESSAGES] = is_outside(w->lap_messages.least, &s->lap_messages) ||
                                    is_outside(w->lap_messages.most, &s->lap_messages);
}

static void open_projecting(struct projecting *p, struct project_report *r)
{
    const struct routing_file *f = p->o->file;
    size_t ends = (size_t)p->o->coordinators * (size_t)(p->workers + 1);
    traffic_open(&p->traffic, f->most_rows, f->head.top_k, &p->memory);
    p->pairs = arena_alloc(&p->memory, ends * sizeof *p->pairs);
    p->sums = arena_alloc(&p->memory, ends * sizeof *p->sums);
    p->loads = arena_alloc(&p->memory, (size_t)(p->workers + 1) * sizeof *p->loads);
    p->wanted = arena_alloc(&p->memory, (size_t)f->head.n_experts * sizeof *p->wanted);
    p->node = arena_alloc(&p->memory, (size_t)p->ranks * sizeof *p->node);
    if (p->o->topology)
        topology_nodes(p->node, p->o->topology, p->o->coordinators, p->workers);
    take_steps(p, r);
}

static int project_one(struct project_report *r, struct projecting *p)
{
    struct projection *to = &r->list[r->n];
    *to = (struct projection){.ranks = p->ranks, .workers = p->workers, .kind = p->kind};
    to->per_rank = arena_alloc(&r->memory, (size_t)p->ranks * sizeof *to->per_rank);
    open_projecting(p, r);
    int status = choose_placement(p, to);
    if (status)
        return status;
    double rows = 0;
    for (int i = 0; i < p->n_steps; i++)
        rows += p->steps[i]->n_rows;
    r->taken[p->kind] = p->n_steps;
    r->rows[p->kind] = rows;
    to->rows = per_step(p, rows);
    to->holders = count_holders(p);
    to->alone = home_time(p, true) + experts_time(p, true, NULL);
    run_ways(p, to);
    count_ranks(p, to, &r->memory);
    mark_outside(p, to);
    r->n++;
    return 0;
}

int project_run(struct project_report *r, const struct project_options *o)
{
    int status = 0;
    *r = (struct project_report){0};
    for (int i = 0; i < o->file->n_steps; i++)
        r->recorded[replay_kind_of(&o->file->steps[i])]++;
    r->list = arena_alloc(&r->memory, (size_t)o->n_counts * REPLAY_KINDS * sizeof *r->list);
    for (int i = 0; i < o->n_counts; i++)
        for (int kind = 0; kind < REPLAY_KINDS && !status; kind++) {
            struct projecting p = {.o = o,
                                   .kind = (enum replay_kind)kind,
                                   .ranks = o->counts[i],
                                   .workers = o->counts[i] - o->coordinators};
            if (r->recorded[kind])
                status = project_one(r, &p);
            arena_free(&p.memory);
        }
    return status;
}

int project_write_matrix(const struct project_report *r, const struct project_options *o,
                         const char *path)
{
    const struct projection *p = &r->list[r->n - 1];
    struct arena memory = {0};
    size_t n = (size_t)p->ranks, coordinators = (size_t)o->coordinators;
    struct byte_matrix m = {.n = p->ranks, .bytes = arena_alloc(&memory, n * n * sizeof *m.bytes)};
    for (size_t c = 0; c < coordinators; c++)
        for (size_t w = 1; w <= (size_t)p->workers; w++) {
            const struct virtual_pair *pair = &p->pairs[c * (size_t)(p->workers + 1) + w];
            size_t rank = coordinators + w - 1;
            m.bytes[c * n + rank] = pair->out;
            m.bytes[rank * n + c] = pair->back;
        }
    int status = byte_matrix_write(&m, path);
    arena_free(&memory);
    return status;
}

void project_free(struct project_report *r)
{
    arena_free(&r->memory);
}
