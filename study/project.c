#include "study/project.h"

#include <math.h>
#include <string.h>

#include "study/byte_matrix.h"
#include "study/kept.h"
#include "study/place.h"
#include "study/project_state.h"

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

double project_layers_share(const struct fit_model *m)
{
    double all = m->home_parameters + m->output_parameters;
    return all > 0 ? m->home_parameters / all : 1;
}

/* ---- the steps ---- */

static void take_steps(struct projecting *p, int of)
{
    const struct routing_file *f = p->o->file;
    int wanted = of < p->o->steps ? of : p->o->steps, seen = 0;
    int64_t at;
    p->steps = arena_alloc(&p->memory, (size_t)of * sizeof *p->steps);
    for (int i = 0; i < f->n_steps; i++)
        if (replay_kind_of(&f->steps[i]) == p->kind && is_kept(seen++, wanted, of, &at))
            p->steps[p->n_steps++] = &f->steps[i];
}

/* ---- the exchange ---- */

static bool is_halved(const struct exchange_options *o)
{
    return o->overlap == OVERLAP_ON;
}

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

/* A half of a step in a layer with experts: its counts, and the time of its exchange. */
static struct lap_time run_lap(struct projecting *p, struct virtual_ranks *v,
                               const struct routing_step *step, int half,
                               const struct layer_placement *experts, struct project_way *way)
{
    const struct project_options *o = p->o;
    size_t each = (size_t)p->workers + 1;
    for (int c = 0; c < o->coordinators; c++) {
        struct share share = project_share(p, step, c, is_halved(&way->options), half);
        struct traffic rows = project_rows(&p->traffic, &share);
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

/* The i-th step, layer by layer, half by half. */
static void run_step(struct projecting *p, struct virtual_ranks *v, int i, struct project_way *way)
{
    const struct routing_file *f = p->o->file;
    const struct work *w = &p->work[is_halved(&way->options)];
    const struct routing_step *step = p->steps[i];
    const double *experts = w->experts + (size_t)i * (size_t)f->n_sparse * MOST_HALVES;
    int halves = project_halves(p, step, w->halved);
    struct turn *t = p->turns;
    for (int l = 0, n = 0; l < f->head.n_layers; l++) {
        bool sparse = f->head.sparse[l];
        if (sparse)
            replay_traffic(&p->traffic, f, step, n);
        for (int half = 0; half < halves; half++, t++) {
            *t = (struct turn){.home = w->home[i * MOST_HALVES + half]};
            if (!sparse)
                continue;
            struct lap_time lap = run_lap(p, v, step, half, &p->placement.layers[l], way);
            t->hand = lap.hand;
            t->out = lap.out;
            t->back = lap.back;
            t->experts = experts[n * MOST_HALVES + half];
            way->exchange += per_step(p, lap_time_sum(&lap));
        }
        n += sparse;
    }
    int layers = f->head.n_layers;
    way->step += per_step(p, w->once[i] + turns_time(p->turns, layers, halves, true));
    way->bare += per_step(p, w->once[i] + turns_time(p->turns, layers, halves, false));
}

/* All steps by one way, after project_work() of these halves: p->sums and the way's figures. */
static struct project_way run_way(struct projecting *p, const struct exchange_options *options)
{
    const struct routing_head *h = &p->o->file->head;
    const struct work *w = &p->work[is_halved(options)];
    struct project_way way = {.options = *options,
                              .home = w->mean_home,
                              .experts = w->mean_experts,
                              .lap_bytes = span_none,
                              .lap_messages = span_none};
    struct exchange_limits limits = {
        p->o->file->most_rows,   h->top_k, h->n_experts, h->hidden, h->dtype, 0,
        p->placement.groups_most};
    struct exchange_options whole = *options; // each half is a lap of its own
    struct virtual_ranks v;
    size_t each = (size_t)p->workers + 1, pairs = (size_t)p->o->coordinators * each;
    memset(p->sums, 0, pairs * sizeof *p->sums);
    whole.overlap = OVERLAP_OFF;
    virtual_open(&v, p->workers + 1, &limits, &whole);
    for (int i = 0; i < p->n_steps; i++)
        run_step(p, &v, i, &way);
    virtual_close(&v);
    for (int c = 0; c < p->o->coordinators; c++) {
        double out = 0;
        for (size_t rank = 1; rank < each; rank++)
            out += per_step(p, (double)p->sums[(size_t)c * each + rank].out);
        way.busiest_out = fmax(way.busiest_out, out);
    }
    return way;
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

/* The placement that was asked for, or the one under which whole steps take the least time by the
 * default way. */
static int choose_placement(struct projecting *p, struct projection *to)
{
    static const char *const names[] = {"", "even", "round-robin", "computed"};
    double least = INFINITY;
    struct placement best = {0};
    for (int i = PROJECT_EVEN; i <= PROJECT_COMPUTED; i++) {
        const struct exchange_options usual = {0};
        if (p->o->placement != PROJECT_BEST && (int)p->o->placement != i)
            continue;
        int status = build_placement(p, &p->placement, (enum project_placement)i);
        if (status)
            return status;
        project_work(p, &p->work[0], false, NULL);
        struct project_way way = run_way(p, &usual);
        double seconds = way.exchange + way.experts;
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

static void choose_best(struct projection *to, int i)
{
    const struct project_way *w = &to->ways[i];
    if (w->step < to->ways[to->best_of_all].step)
        to->best_of_all = i;
    if (changes_nothing(&w->options) && w->step < to->ways[to->best].step)
        to->best = i;
}

/* Has any step more than one row, so that it can go in halves? */
static bool has_halves(const struct projecting *p)
{
    bool has = false;
    for (int i = 0; i < p->n_steps; i++)
        has = has || project_halves(p, p->steps[i], true) > 1;
    return has;
}

static bool is_wanted(const struct projecting *p, bool halved)
{
    if (p->o->overlap == PROJECT_OVERLAP_BEST)
        return !halved || has_halves(p);
    return halved == (p->o->overlap == PROJECT_OVERLAP_ON);
}

/* The first way is the default one, which changes no result. */
static void run_ways(struct projecting *p, struct projection *to, struct arena *memory)
{
    struct exchange_options ways[REPLAY_MAX_WAYS];
    int n = replay_ways(ways, p->o->file->head.dtype);
    for (int halved = 0; halved < 2; halved++) {
        if (!is_wanted(p, halved))
            continue;
        project_work(p, &p->work[halved], halved,
                     arena_alloc(memory, (size_t)p->ranks * sizeof *to->per_rank));
        for (int i = 0; i < n; i++, to->n_ways++) {
            ways[i].overlap = halved ? OVERLAP_ON : OVERLAP_OFF;
            to->ways[to->n_ways] = run_way(p, &ways[i]);
            choose_best(to, to->n_ways);
        }
    }
    to->per_rank = p->work[is_halved(&to->ways[to->best].options)].per_rank;
}

/* What each rank sends and receives the best way, whose laps are run once more. */
static void count_ranks(struct projecting *p, struct projection *to, struct arena *memory)
{
    int coordinators = p->o->coordinators;
    size_t bytes = (size_t)coordinators * (size_t)(p->workers + 1) * sizeof *p->sums;
    run_way(p, &to->ways[to->best].options);
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

/* Whether a step, or a lap of the best way, lies outside of what was measured, which are whole
 * steps. With a topology the exchange is not the fit's, and with its device nothing is. */
static void mark_outside(const struct projecting *p, struct projection *to)
{
    const struct project_options *o = p->o;
    const struct project_way *w = &to->ways[to->best];
    if (!o->fit || (o->topology && o->topology->has_device))
        return;
    const struct fit_spans *s = &o->fit->spans;
    to->outside[OUTSIDE_OVERLAP] = is_halved(&w->options) && has_halves(p);
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
    const struct routing_head *h = &f->head;
    size_t ends = (size_t)p->o->coordinators * (size_t)(p->workers + 1);
    traffic_open(&p->traffic, f->most_rows, h->top_k, &p->memory);
    traffic_open(&p->half, f->most_rows, h->top_k, &p->memory);
    p->pairs = arena_alloc(&p->memory, ends * sizeof *p->pairs);
    p->sums = arena_alloc(&p->memory, ends * sizeof *p->sums);
    p->loads = arena_alloc(&p->memory, (size_t)(p->workers + 1) * sizeof *p->loads);
    p->wanted = arena_alloc(&p->memory, (size_t)h->n_experts * sizeof *p->wanted);
    p->node = arena_alloc(&p->memory, (size_t)p->ranks * sizeof *p->node);
    p->turns = arena_alloc(&p->memory, (size_t)h->n_layers * MOST_HALVES * sizeof *p->turns);
    if (p->o->topology)
        topology_nodes(p->node, p->o->topology, p->o->coordinators, p->workers);
    take_steps(p, r->recorded[p->kind]);
}

static int project_one(struct project_report *r, struct projecting *p)
{
    struct projection *to = &r->list[r->n];
    *to = (struct projection){.ranks = p->ranks, .workers = p->workers, .kind = p->kind};
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
    to->alone = project_alone(p);
    run_ways(p, to, &r->memory);
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
