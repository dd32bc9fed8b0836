/* The cost of a layer's placement is, for each kind of step that counts, the sum over steps of the
 * busiest worker's load over the sum of the mean load: rows in prefill, where matrices are
 * multiplied with many rows, and activated experts in decode, where weights are read. It begins
 * with the hottest expert first, each to the worker with the least rows that has room, and then
 * swaps any two experts of two workers as long as a swap lowers the cost. */
#include "study/place.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "study/replay.h"

/* Of a recording with more steps of a kind, so many are looked at, at even distances; and of swaps,
 * so many rounds through all pairs. */
enum { MOST_STEPS = 256, MOST_ROUNDS = 20 };

struct sample {
    int n;            // steps
    int32_t *load;    // [n][experts] of each expert
    int32_t *of_rank; // [n][ranks] and of each rank
    double scale;     // 1 over the sum of mean loads; 0: this kind does not count
};

struct placing {
    const struct routing_file *f;
    int experts, ranks, layer;
    struct sample samples[REPLAY_KINDS];
    int32_t *rank_of; // [experts]
    uint64_t *heat;   // [experts]
    int32_t *row;     // [rows][top_k] of a step
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

/* load [experts] := of a step: rows, or in decode 1 for each expert that has any. */
static double load_step(struct placing *p, const struct routing_step *step, int kind, int32_t *load)
{
    double sum = 0;
    routing_experts(p->f, step, p->layer, p->row);
    memset(load, 0, (size_t)p->experts * sizeof *load);
    for (int i = 0; i < step->n_rows * p->f->head.top_k; i++) {
        load[p->row[i]]++;
        p->heat[p->row[i]]++;
    }
    for (int e = 0; e < p->experts; e++) {
        if (kind == REPLAY_DECODE)
            load[e] = load[e] > 0;
        sum += p->rank_of[e] ? load[e] : 0;
    }
    return sum;
}

/* The loads of a layer in the steps that are looked at. */
static void take_samples(struct placing *p, enum place_goal goal)
{
    memset(p->heat, 0, (size_t)p->experts * sizeof *p->heat);
    for (int kind = 0; kind < REPLAY_KINDS; kind++) {
        struct sample *s = &p->samples[kind];
        int of = steps_of(p->f, kind), seen = 0;
        double sum = 0;
        s->n = 0;
        for (int i = 0; i < p->f->n_steps && counts(goal, kind); i++) {
            if ((int)replay_kind_of(&p->f->steps[i]) != kind)
                continue;
            int wanted = of <= MOST_STEPS ? of : MOST_STEPS;
            if ((int64_t)seen++ * wanted / of < s->n)
                continue;
            int32_t *load = s->load + (size_t)s->n++ * (size_t)p->experts;
            sum += load_step(p, &p->f->steps[i], kind, load);
        }
        s->scale = sum > 0 ? (p->ranks - 1) / sum : 0;
    }
}

/* ---- the first placement ---- */

/* The worker with the least heat that has room. */
static int coolest(const uint64_t *heat, const int *room, int ranks)
{
    int best = -1;
    for (int rank = 1; rank < ranks; rank++)
        if (room[rank] > 0 && (best < 0 || heat[rank] < heat[best]))
            best = rank;
    return best;
}

static int hottest(const struct placing *p, const bool *placed)
{
    int best = -1;
    for (int e = 0; e < p->experts; e++)
        if (!placed[e] && (best < 0 || p->heat[e] > p->heat[best]))
            best = e;
    return best;
}

/* Workers keep as many experts as the placement gave them. */
static void place_hottest_first(struct placing *p, struct arena *memory)
{
    uint64_t *heat = arena_alloc(memory, (size_t)p->ranks * sizeof *heat);
    int *room = arena_alloc(memory, (size_t)p->ranks * sizeof *room);
    bool *placed = arena_alloc(memory, (size_t)p->experts * sizeof *placed);
    for (int e = 0; e < p->experts; e++) {
        placed[e] = p->rank_of[e] == 0;
        room[p->rank_of[e]]++;
    }
    for (int e; (e = hottest(p, placed)) >= 0;) {
        int rank = coolest(heat, room, p->ranks);
        placed[e] = true;
        p->rank_of[e] = rank;
        heat[rank] += p->heat[e];
        room[rank]--;
    }
}

/* ---- swaps ---- */

static int32_t *load_of(const struct placing *p, const struct sample *s, int step)
{
    return s->load + (size_t)step * (size_t)p->experts;
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
            for (int e = 0; e < p->experts; e++)
                ranks_of(p, s, i)[p->rank_of[e]] += load_of(p, s, i)[e];
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

/* How much lower the cost is if experts x and y change places. */
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

static void improve(struct placing *p)
{
    bool better = true;
    add_up(p);
    for (int round = 0; round < MOST_ROUNDS && better; round++) {
        better = false;
        for (int x = 0; x < p->experts; x++)
            for (int y = x + 1; y < p->experts; y++)
                if (p->rank_of[x] && p->rank_of[y] && p->rank_of[x] != p->rank_of[y] &&
                    gain_of(p, x, y) > 1e-9) {
                    swap(p, x, y);
                    better = true;
                }
    }
}

static void open_placing(struct placing *p, struct arena *memory)
{
    size_t experts = (size_t)p->experts, ranks = (size_t)p->ranks;
    for (int kind = 0; kind < REPLAY_KINDS; kind++) {
        struct sample *s = &p->samples[kind];
        s->load = arena_alloc(memory, MOST_STEPS * experts * sizeof *s->load);
        s->of_rank = arena_alloc(memory, MOST_STEPS * ranks * sizeof *s->of_rank);
    }
    p->heat = arena_alloc(memory, experts * sizeof *p->heat);
    p->row =
        arena_alloc(memory, (size_t)p->f->most_rows * (size_t)p->f->head.top_k * sizeof *p->row);
}

int place_by_routing(struct placement *placement, struct arena *memory,
                     const struct routing_file *f, const struct config *layers, int n_ranks,
                     long home, enum place_goal goal)
{
    struct placement_spec even = {.text = "even", .home = home};
    struct placement start;
    struct arena scratch = {0};
    int status = placement_build(&start, &scratch, layers, n_ranks, &even);
    if (status) {
        arena_free(&scratch);
        return status;
    }
    struct placing p = {.f = f, .experts = layers->n_experts, .ranks = n_ranks};
    size_t cells = (size_t)layers->n_layers * (size_t)layers->n_experts;
    int32_t *rank_of = arena_alloc(&scratch, cells * sizeof *rank_of);
    static const int32_t no_pieces;
    open_placing(&p, &scratch);
    for (int l = 0; l < layers->n_layers; l++) {
        p.rank_of = rank_of + (size_t)l * (size_t)p.experts;
        for (int e = 0; e < p.experts; e++)
            p.rank_of[e] = layers->sparse[l] ? start.layers[l].rank_of[e] : -1;
        if (!layers->sparse[l])
            continue;
        take_samples(&p, goal);
        if (n_ranks > 2) {
            place_hottest_first(&p, &scratch);
            improve(&p);
        }
        p.layer++;
    }
    status = placement_from_ranks(placement, memory, layers, rank_of, &no_pieces, n_ranks);
    arena_free(&scratch);
    return status;
}
