/* The cost of a layer's placement is, for each kind of step that counts, the sum over steps of the
 * busiest worker's load over the sum of the mean load: rows in prefill, where matrices are
 * multiplied with many rows, and activated experts in decode, where weights are read. It begins
 * with the hottest expert first, each to the worker with the least rows that has room, and then
 * swaps any two experts of two workers as long as a swap lowers the cost.
 *
 * With copies, what is placed are units: an expert, or one of its copies, which takes its turn of
 * the expert's rows by their numbers in the step. Copies go, one by one, to the expert that has
 * most rows for each of its copies. All numbers of copies that halving leads to from the most are
 * tried, and that with the least cost is taken, of equals the least number. */
#include "study/place.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "study/kept.h"
#include "study/replay.h"

/* Of a recording with more steps of a kind, so many are looked at, at even distances; and of swaps,
 * so many rounds through all pairs. */
enum { MOST_STEPS = 256, MOST_ROUNDS = 20 };

/* Costs that differ by less are equal. */
static const double equal_cost = 1e-9;

struct sample {
    int n;            // steps
    int32_t *load;    // [n][units] of each unit
    int32_t *of_rank; // [n][ranks] and of each rank
    double scale;     // 1 over the sum of mean loads; 0: this kind does not count
};

struct placing {
    const struct routing_file *f;
    int experts, ranks, layer;
    int home; // experts of each layer on rank 0
    struct sample samples[REPLAY_KINDS];
    int units;
    int *first_unit;   // [experts + 1] of each expert; one after the other
    int *expert_of;    // [units]
    int32_t *rank_of;  // [units]
    uint64_t *heat;    // [units]
    uint64_t *rows_of; // [experts] in the steps that are looked at
    int32_t *row;      // [rows][top_k] of a step
};

static bool counts(enum place_goal goal, int kind)
{
    return goal == PLACE_BOTH || (goal == PLACE_DECODE) == (kind == REPLAY_DECODE);
}

static int steps_of(const struct routing_file *f, int kind)
{
    int n = 0;
    for (int i = 0; i < f->n_steps; i++)
        n += (int)replay_kind_of(&f->steps[i]) == kind;
    return n;
}

/* The unit that a row of this number in its step goes to for an expert. */
static int unit_of(const struct placing *p, int expert, int row)
{
    int first = p->first_unit[expert], n = p->first_unit[expert + 1] - first;
    return first + row % n;
}

/* load [units] := of a step: rows, or in decode 1 for each unit that has any. */
static double load_step(struct placing *p, const struct routing_step *step, int kind, int32_t *load)
{
    double sum = 0;
    routing_experts(p->f, step, p->layer, p->row);
    memset(load, 0, (size_t)p->units * sizeof *load);
    for (int i = 0; i < step->n_rows * p->f->head.top_k; i++) {
        int unit = unit_of(p, p->row[i], i / p->f->head.top_k);
        load[unit]++;
        p->heat[unit]++;
    }
    for (int u = 0; u < p->units; u++) {
        if (kind == REPLAY_DECODE)
            load[u] = load[u] > 0;
        sum += p->rank_of[u] ? load[u] : 0;
    }
    return sum;
}

/* The loads of a layer in the steps that are looked at. The mean loads are those without copies. */
static void take_samples(struct placing *p, enum place_goal goal)
{
    memset(p->heat, 0, (size_t)p->units * sizeof *p->heat);
    for (int kind = 0; kind < REPLAY_KINDS; kind++) {
        struct sample *s = &p->samples[kind];
        int of = steps_of(p->f, kind), seen = 0;
        int64_t at;
        double sum = 0;
        s->n = 0;
        for (int i = 0; i < p->f->n_steps && counts(goal, kind); i++) {
            if ((int)replay_kind_of(&p->f->steps[i]) != kind ||
                !is_kept(seen++, of < MOST_STEPS ? of : MOST_STEPS, of, &at))
                continue;
            int32_t *load = s->load + (size_t)s->n++ * (size_t)p->units;
            sum += load_step(p, &p->f->steps[i], kind, load);
        }
        if (p->units == p->experts)
            s->scale = sum > 0 ? (p->ranks - 1) / sum : 0;
    }
}

/* ---- the first placement ---- */

/* Has the rank another copy of the unit's expert? */
static bool has_other(const struct placing *p, int unit, int rank)
{
    int expert = p->expert_of[unit];
    bool has = false;
    for (int u = p->first_unit[expert]; u < p->first_unit[expert + 1]; u++)
        has = has || (u != unit && p->rank_of[u] == rank);
    return has;
}

/* The worker with the least heat that has room, and no other copy; if only those with another copy
 * have room, one that has none. */
static int coolest(const struct placing *p, int unit, const uint64_t *heat, const int *room)
{
    int best = -1;
    for (int full = 0; full < 2 && best < 0; full++)
        for (int rank = 1; rank < p->ranks; rank++)
            if ((full || room[rank] > 0) && !has_other(p, unit, rank) &&
                (best < 0 || heat[rank] < heat[best]))
                best = rank;
    return best;
}

static int hottest(const struct placing *p, const bool *placed)
{
    int best = -1;
    for (int u = 0; u < p->units; u++)
        if (!placed[u] && (best < 0 || p->heat[u] > p->heat[best]))
            best = u;
    return best;
}

/* Workers have as many units as an even placement gives them. A unit that has no rank yet is at -1.
 */
static void place_hottest_first(struct placing *p, struct arena *memory)
{
    int workers = p->ranks - 1, away = p->units - p->home;
    uint64_t *heat = arena_alloc(memory, (size_t)p->ranks * sizeof *heat);
    int *room = arena_alloc(memory, (size_t)p->ranks * sizeof *room);
    bool *placed = arena_alloc(memory, (size_t)p->units * sizeof *placed);
    for (int rank = 1; rank < p->ranks; rank++)
        room[rank] = away / workers + (rank - 1 < away % workers);
    for (int u = 0; u < p->units; u++)
        placed[u] = p->rank_of[u] == 0;
    for (int u; (u = hottest(p, placed)) >= 0;) {
        int rank = coolest(p, u, heat, room);
        placed[u] = true;
        p->rank_of[u] = rank;
        heat[rank] += p->heat[u];
        room[rank]--;
    }
}

/* ---- swaps ---- */

static int32_t *load_of(const struct placing *p, const struct sample *s, int step)
{
    return s->load + (size_t)step * (size_t)p->units;
}

static int32_t *ranks_of(const struct placing *p, const struct sample *s, int step)
{
    return s->of_rank + (size_t)step * (size_t)p->ranks;
}

static void add_up(struct placing *p)
{
    for (int kind = 0; kind < REPLAY_KINDS; kind++) {
        struct sample *s = &p->samples[kind];
        memset(s->of_rank, 0, (size_t)s->n * (size_t)p->ranks * sizeof *s->of_rank);
        for (int i = 0; i < s->n; i++)
            for (int u = 0; u < p->units; u++)
                ranks_of(p, s, i)[p->rank_of[u]] += load_of(p, s, i)[u];
    }
}

static int32_t busiest(const int32_t *load, int ranks, int a, int b, int32_t of_a, int32_t of_b)
{
    int32_t most = 0;
    for (int rank = 1; rank < ranks; rank++) {
        int32_t here = rank == a ? of_a : rank == b ? of_b : load[rank];
        most = here > most ? here : most;
    }
    return most;
}

/* How much lower the cost is if units x and y change places. */
static double gain_of(const struct placing *p, int x, int y)
{
    int a = p->rank_of[x], b = p->rank_of[y];
    double gain = 0;
    for (int kind = 0; kind < REPLAY_KINDS; kind++) {
        const struct sample *s = &p->samples[kind];
        int64_t change = 0;
        for (int i = 0; i < s->n; i++) {
            const int32_t *load = load_of(p, s, i), *ranks = ranks_of(p, s, i);
            int32_t moves = load[x] - load[y];
            if (moves)
                change += busiest(ranks, p->ranks, a, b, ranks[a], ranks[b]) -
                          busiest(ranks, p->ranks, a, b, ranks[a] - moves, ranks[b] + moves);
        }
        gain += (double)change * s->scale;
    }
    return gain;
}

static void swap(struct placing *p, int x, int y)
{
    int a = p->rank_of[x], b = p->rank_of[y];
    for (int kind = 0; kind < REPLAY_KINDS; kind++) {
        struct sample *s = &p->samples[kind];
        for (int i = 0; i < s->n; i++) {
            int32_t moves = load_of(p, s, i)[x] - load_of(p, s, i)[y];
            ranks_of(p, s, i)[a] -= moves;
            ranks_of(p, s, i)[b] += moves;
        }
    }
    p->rank_of[x] = b;
    p->rank_of[y] = a;
}

static bool may_swap(const struct placing *p, int x, int y)
{
    int a = p->rank_of[x], b = p->rank_of[y];
    return a && b && a != b && !has_other(p, x, b) && !has_other(p, y, a);
}

static void improve(struct placing *p)
{
    bool better = true;
    add_up(p);
    for (int round = 0; round < MOST_ROUNDS && better; round++) {
        better = false;
        for (int x = 0; x < p->units; x++)
            for (int y = x + 1; y < p->units; y++)
                if (may_swap(p, x, y) && gain_of(p, x, y) > equal_cost) {
                    swap(p, x, y);
                    better = true;
                }
    }
}

/* ---- copies ---- */

/* Units := the experts, those of `home` on rank 0, and `copies` further ones. A copy goes to the
 * expert with most rows for each unit, if it is a worker's and there is a worker left for it. */
static void make_units(struct placing *p, int copies)
{
    int *n = p->first_unit + 1; // units of each expert, until they are added up
    for (int e = 0; e < p->experts; e++)
        n[e] = 1;
    for (int i = 0; i < copies; i++) {
        int best = -1;
        for (int e = p->home; e < p->experts; e++)
            if (n[e] < p->ranks - 1 &&
                (best < 0 || p->rows_of[e] * (uint64_t)n[best] > p->rows_of[best] * (uint64_t)n[e]))
                best = e;
        if (best >= 0)
            n[best]++;
    }
    p->first_unit[0] = p->units = 0;
    for (int e = 0; e < p->experts; e++) {
        for (int end = p->units + n[e]; p->units < end; p->units++) {
            p->expert_of[p->units] = e;
            p->rank_of[p->units] = e < p->home ? 0 : -1;
        }
        n[e] = p->units;
    }
}

static double cost_of(const struct placing *p)
{
    double cost = 0;
    for (int kind = 0; kind < REPLAY_KINDS; kind++) {
        const struct sample *s = &p->samples[kind];
        for (int i = 0; i < s->n; i++)
            cost += s->scale * busiest(ranks_of(p, s, i), p->ranks, 0, 0, 0, 0);
    }
    return cost;
}

/* Has every copy a row in the steps that are looked at? In steps of one row the first has them all.
 */
static bool all_have_rows(const struct placing *p)
{
    bool all = true;
    for (int u = 0; u < p->units; u++)
        all = all && (p->heat[u] > 0 || u == p->first_unit[p->expert_of[u]]);
    return all;
}

/* Place a layer with so many further copies; its cost. Copies that no row needs are never worth it.
 */
static double place_units(struct placing *p, enum place_goal goal, int copies, struct arena *memory)
{
    make_units(p, copies);
    take_samples(p, goal);
    if (copies == 0)
        memcpy(p->rows_of, p->heat, (size_t)p->experts * sizeof *p->rows_of);
    if (!all_have_rows(p))
        return INFINITY;
    place_hottest_first(p, memory);
    improve(p);
    return cost_of(p);
}

/* What a layer's placement is: of the whole model as placement_from_ranks() and
 * placement_add_copies() take it. */
struct found {
    int32_t *rank_of; // [layers][experts]
    int n_copies;
    int32_t *cell, *rank; // [layers * copies]
};

static void take_over(struct found *to, int before, const struct placing *p, int layer)
{
    to->n_copies = before;
    for (int u = 0; u < p->units; u++) {
        int cell = layer * p->experts + p->expert_of[u];
        if (u == p->first_unit[p->expert_of[u]]) {
            to->rank_of[cell] = p->rank_of[u];
        } else {
            to->cell[to->n_copies] = cell;
            to->rank[to->n_copies++] = p->rank_of[u];
        }
    }
}

static void place_layer(struct placing *p, struct found *to, enum place_goal goal, int layer,
                        int most)
{
    struct arena memory = {0};
    int before = to->n_copies;
    double least = place_units(p, goal, 0, &memory);
    take_over(to, before, p, layer);
    double without = least;
    for (int copies = most; copies > 0; copies /= 2) {
        double cost = place_units(p, goal, copies, &memory);
        if (cost < without - equal_cost && cost < least + equal_cost) {
            least = cost;
            take_over(to, before, p, layer);
        }
    }
    arena_free(&memory);
}

static void open_placing(struct placing *p, struct arena *memory, int copies)
{
    size_t experts = (size_t)p->experts, units = experts + (size_t)copies, ranks = (size_t)p->ranks;
    for (int kind = 0; kind < REPLAY_KINDS; kind++) {
        struct sample *s = &p->samples[kind];
        s->load = arena_alloc(memory, MOST_STEPS * units * sizeof *s->load);
        s->of_rank = arena_alloc(memory, MOST_STEPS * ranks * sizeof *s->of_rank);
    }
    p->first_unit = arena_alloc(memory, (experts + 1) * sizeof *p->first_unit);
    p->expert_of = arena_alloc(memory, units * sizeof *p->expert_of);
    p->rank_of = arena_alloc(memory, units * sizeof *p->rank_of);
    p->heat = arena_alloc(memory, units * sizeof *p->heat);
    p->rows_of = arena_alloc(memory, experts * sizeof *p->rows_of);
    p->row =
        arena_alloc(memory, (size_t)p->f->most_rows * (size_t)p->f->head.top_k * sizeof *p->row);
}

static void open_found(struct found *f, struct arena *memory, const struct config *layers,
                       int copies)
{
    size_t n = (size_t)layers->n_layers, room = n * (size_t)copies;
    f->rank_of = arena_alloc(memory, n * (size_t)layers->n_experts * sizeof *f->rank_of);
    f->cell = arena_alloc(memory, room * sizeof *f->cell);
    f->rank = arena_alloc(memory, room * sizeof *f->rank);
}

int place_by_routing(struct placement *placement, struct arena *memory,
                     const struct routing_file *f, const struct config *layers,
                     const struct place_wish *wish)
{
    struct placement_spec even = {.text = "even", .home = wish->home};
    int status = placement_build(placement, memory, layers, wish->n_ranks, &even);
    if (status || wish->n_ranks < 3)
        return status;
    struct arena scratch = {0};
    struct found found = {0};
    struct placing p = {
        .f = f, .experts = layers->n_experts, .ranks = wish->n_ranks, .home = (int)wish->home};
    static const int32_t no_pieces;
    open_placing(&p, &scratch, wish->copies);
    open_found(&found, &scratch, layers, wish->copies);
    for (int l = 0; l < layers->n_layers; l++)
        if (layers->sparse[l]) {
            place_layer(&p, &found, wish->goal, l, wish->copies);
            p.layer++;
        }
    status =
        placement_from_ranks(placement, memory, layers, found.rank_of, &no_pieces, wish->n_ranks);
    const struct expert_copies copies = {found.n_copies, found.cell, found.rank};
    if (!status)
        status = placement_add_copies(placement, memory, &copies);
    arena_free(&scratch);
    return status;
}
