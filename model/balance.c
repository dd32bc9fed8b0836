#include "model/balance.h"

#include <string.h>

#include "base/check.h"
#include "model/balance_cost.h"
#include "model/pieces.h"

const struct workload usual_workload = {1500, 40, 1};

static uint64_t held_bytes(const struct solver *v, int rank)
{
    return (uint64_t)v->s.experts[rank] * v->expert_bytes +
           (uint64_t)v->s.pieces[rank] * v->piece_bytes;
}

static bool fits(const struct solver *v, int rank)
{
    return !v->memory || held_bytes(v, rank) <= v->memory[rank];
}

/* How long a rank works on its blocks in a step of a prompt, where chance plays no part. */
static double load_of(const struct solver *v, int rank)
{
    return balance_rank_time(v, &v->steps[BALANCE_PREFILL], rank, -1, 0);
}

/* behind[rank] := the slowest of the ranks behind it, whose experts begin `later` experts later. */
static void look_behind(struct solver *v, const struct step_cost *c, int draw, int later)
{
    double slowest = 0;
    int first = later;
    for (int rank = 0; rank < v->s.n_ranks; rank++)
        first += v->s.experts[rank];
    for (int rank = v->s.n_ranks - 1; rank >= 0; rank--) {
        first -= v->s.experts[rank];
        v->behind[rank] = slowest;
        slowest = longer(slowest, balance_rank_time(v, c, rank, draw, first));
    }
}

/* time[rank] += weight times what a layer takes if `rank` has one more of `kind`: then experts of
 * the ranks behind it begin one later, and nothing else changes. */
static void try_one_more(struct solver *v, const struct step_cost *c, int draw, int *kind,
                         double weight)
{
    double own = balance_seconds(v->b, 0, c->own), home = balance_rank_time(v, c, 0, draw, 0),
           slowest = 0;
    look_behind(v, c, draw, kind == v->s.experts);
    for (int rank = 0, first = 0; rank < v->s.n_ranks; first += v->s.experts[rank++]) {
        double before = balance_rank_time(v, c, rank, draw, first);
        double others = longer(slowest, v->behind[rank]);
        kind[rank]++;
        double more = balance_rank_time(v, c, rank, draw, first);
        kind[rank]--;
        v->time[rank] += weight * (rank ? balance_together(c, own, home, longer(others, more))
                                        : balance_together(c, own, more, others));
        slowest = rank ? longer(slowest, before) : 0;
    }
}

/* time[rank] := balance_workload_time() if `rank` had one more of `kind`. */
static void workload_times(struct solver *v, int *kind)
{
    memset(v->time, 0, (size_t)v->s.n_ranks * sizeof *v->time);
    for (int i = 0; i < BALANCE_PHASES; i++) {
        const struct step_cost *c = &v->steps[i];
        if (balance_is_drawn(v, c))
            for (int draw = 0; draw < DRAWS; draw++)
                try_one_more(v, c, draw, kind, c->times / DRAWS);
        else
            try_one_more(v, c, -1, kind, c->times);
    }
}

/* One more of `kind` for the rank with which all takes the least time; of equals the one that is
 * busy least, since what is measured wanders; and the first if none has memory for it. Rank 0 has
 * as many experts as it was told to, if it was. */
static void give_one(struct solver *v, int *kind)
{
    int best = -1, first = kind == v->s.experts && v->b->home >= 0 ? 1 : 0;
    double least = 0, best_load = 0;
    workload_times(v, kind);
    for (int rank = first; rank < v->s.n_ranks; rank++) {
        kind[rank]++;
        double time = v->time[rank], load = load_of(v, rank);
        bool equal = best >= 0 && time <= least * (1 + 1e-9) && time >= least * (1 - 1e-9);
        bool better = best < 0 || (equal ? load < best_load : time < least);
        if (fits(v, rank) && better) {
            best = rank;
            least = time;
            best_load = load;
        }
        kind[rank]--;
    }
    kind[best < 0 ? first % v->s.n_ranks : best]++;
}

/* Move one of `kind` wherever that helps most; false when it helps nowhere. */
static bool move_one(struct solver *v, int *kind)
{
    int first = kind == v->s.experts && v->b->home >= 0 ? 1 : 0, from = -1, to = -1;
    double least = balance_workload_time(v) * (1 - 1e-9);
    for (int a = first; a < v->s.n_ranks; a++)
        for (int c = first; kind[a] && c < v->s.n_ranks; c++) {
            kind[a]--;
            kind[c]++;
            double time = a == c ? least : balance_workload_time(v);
            if (time < least && fits(v, c)) {
                least = time;
                from = a;
                to = c;
            }
            kind[a]++;
            kind[c]--;
        }
    if (from < 0)
        return false;
    kind[from]--;
    kind[to]++;
    return true;
}

static bool nearly(double a, double b)
{
    return a <= b * 1.1 && b <= a * 1.1;
}

/* Ranks that have as many pieces and are, as far as measuring can tell, equally fast. */
static bool alike(const struct solver *v, int a, int b)
{
    const struct rank_speed *x = balance_speed(v->b, a), *y = balance_speed(v->b, b);
    return v->s.pieces[a] == v->s.pieces[b] && nearly(x->flops, y->flops) &&
           nearly(x->bytes, y->bytes);
}

/* even [n_ranks] := the same experts, those of ranks like `leader` divided among these. */
static void divide_evenly(const struct solver *v, int leader, int *even)
{
    int n = 0, sum = 0;
    for (int rank = leader; rank < v->s.n_ranks; rank++)
        if (even[rank] < 0 && alike(v, leader, rank)) {
            n++;
            sum += v->s.experts[rank];
        }
    for (int rank = leader, i = 0; rank < v->s.n_ranks; rank++)
        if (even[rank] < 0 && alike(v, leader, rank)) {
            even[rank] = sum * (i + 1) / n - sum * i / n;
            i++;
        }
}

/* Give ranks that are alike the same number of experts, give or take one: which of them has more
 * is an accident of the draws. Not where the workload would take a hundredth longer, or memory
 * would not do. */
static void even_out(struct solver *v)
{
    size_t bytes = (size_t)v->s.n_ranks * sizeof *v->s.experts;
    int *even = arena_alloc(&v->arena, bytes), *given = arena_alloc(&v->arena, bytes);
    double most = balance_workload_time(v) * 1.01;
    bool fit = true;
    memcpy(given, v->s.experts, bytes);
    even[0] = given[0];
    for (int rank = 1; rank < v->s.n_ranks; rank++)
        even[rank] = -1;
    for (int rank = 1; rank < v->s.n_ranks; rank++)
        if (even[rank] < 0)
            divide_evenly(v, rank, even);
    memcpy(v->s.experts, even, bytes);
    for (int rank = 0; rank < v->s.n_ranks; rank++)
        fit = fit && fits(v, rank);
    if (!fit || balance_workload_time(v) > most)
        memcpy(v->s.experts, given, bytes);
}

/* The largest blocks first, one by one, then moves that help. */
static void share_out(struct solver *v)
{
    enum { MOST_RANKS_MOVED = 16, MOST_MOVES = 64 };
    int home = v->b->home >= 0 ? (int)v->b->home : 0;
    if (v->s.n_experts)
        v->s.experts[0] = v->s.n_ranks == 1 ? v->s.n_experts : home;
    for (int i = 0; i < v->s.n_pieces; i++)
        give_one(v, v->s.pieces);
    for (int i = v->s.n_experts ? v->s.experts[0] : 0; i < v->s.n_experts; i++)
        give_one(v, v->s.experts);
    for (int i = 0; i < MOST_MOVES && v->s.n_ranks <= MOST_RANKS_MOVED; i++)
        if (!move_one(v, v->s.pieces) && !move_one(v, v->s.experts))
            break;
    even_out(v);
}

/* Bytes of all experts and pieces of a layer. */
static double block_bytes(const struct balance *b, int layer)
{
    const struct config *m = b->m;
    struct pieces cut = pieces_of(m, layer);
    double hidden = (double)cut.n * cut.width;
    hidden += m->sparse[layer] ? (double)m->n_experts * m->expert_dim : 0;
    return balance_block_cost(b, 1, 0).bytes * hidden;
}

/* A layer may fill that part of each rank's memory which it is of all layers' blocks. */
static void limit_memory(struct solver *v, int layer)
{
    const struct balance *b = v->b;
    double all = 0;
    v->expert_bytes = (uint64_t)balance_block_cost(b, b->m->expert_dim, 0).bytes;
    v->piece_bytes = (uint64_t)balance_block_cost(b, pieces_of(b->m, layer).width, 0).bytes;
    if (!b->speeds)
        return;
    for (int l = 0; l < b->m->n_layers; l++)
        all += block_bytes(b, l);
    double share = all > 0 ? block_bytes(b, layer) / all : 0;
    v->memory = arena_alloc(&v->arena, (size_t)b->n_ranks * sizeof *v->memory);
    for (int rank = 0; rank < b->n_ranks; rank++) {
        uint64_t memory = b->speeds[rank].memory;
        v->memory[rank] = memory ? (uint64_t)((double)memory * share) : UINT64_MAX;
    }
}

/* Blocks in order, rank by rank. */
static void lay_out(struct layer_placement *l, const int *share, int n_ranks)
{
    int block = 0;
    for (int rank = 0; rank < n_ranks && l->n; rank++)
        for (int i = 0; i < share[rank]; i++)
            l->rank_of[block++] = rank;
    CHECK(block == l->n, "%d of %d blocks placed", block, l->n);
}

/* Each rank gets outputs in proportion to its read bandwidth, so that all make their logits in the
 * same time: no rank has other work then. */
static void share_outputs(struct placement *p, const struct balance *b)
{
    double all = 0, before = 0;
    int blocks = b->m->vocab_size / OUTPUT_BLOCK;
    for (int rank = 0; rank < b->n_ranks; rank++)
        all += balance_speed(b, rank)->bytes;
    for (int rank = 0; rank < b->n_ranks; rank++) {
        p->output_first[rank] = OUTPUT_BLOCK * (int32_t)(before / all * blocks + 0.5);
        before += balance_speed(b, rank)->bytes;
    }
    p->output_first[b->n_ranks] = b->m->vocab_size;
}

static void place_layer(struct placement *p, const struct balance *b, int layer)
{
    struct solver v = balance_open(b, layer);
    limit_memory(&v, layer);
    share_out(&v);
    lay_out(&p->layers[layer], v.s.experts, b->n_ranks);
    lay_out(&p->pieces[layer], v.s.pieces, b->n_ranks);
    arena_free(&v.arena);
}

static void copy_ranks(struct layer_placement *to, const struct layer_placement *from)
{
    if (to->n)
        memcpy(to->rank_of, from->rank_of, (size_t)to->n * sizeof *to->rank_of);
}

/* Sparse layers are all alike, and so are dense ones: the first of each kind is solved. */
void balance_place(struct placement *p, const struct balance *b)
{
    int solved[2] = {-1, -1}; // the first dense layer, the first sparse one
    share_outputs(p, b);
    for (int l = 0; l < b->m->n_layers; l++) {
        int *like = &solved[b->m->sparse[l]];
        if (*like < 0) {
            place_layer(p, b, l);
            *like = l;
            continue;
        }
        copy_ranks(&p->layers[l], &p->layers[*like]);
        copy_ranks(&p->pieces[l], &p->pieces[*like]);
    }
}
