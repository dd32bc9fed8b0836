#include "model/balance.h"

#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "kernels/kernels.h"
#include "model/pieces.h"
#include "model/sizes.h"

const struct workload usual_workload = {1500, 40, 1};

/* The speed that every rank is assumed to have where none was measured: that of a few server cores.
 * All ranks being alike, only the number of FLOPs for each byte read decides anything. */
static const struct rank_speed usual_speed = {100e9, 10e9, 0};

/* In a step of fewer than MANY_ROWS rows it depends on chance how many of a rank's experts are hit,
 * and so which rank is slowest. The model draws the experts of such a step DRAWS times and takes
 * the mean time. In larger steps each rank gets its expected share of the rows. */
enum { DRAWS = 64, MANY_ROWS = 8 };

struct cost {
    double flops, bytes;
};

/* One kind of step through one kind of layer. */
struct step_cost {
    int rows;
    double times; // such steps that the workload has
    bool overlapped;
    struct cost own;    // what the coordinator alone does
    struct cost piece;  // all rows through one piece
    struct cost expert; // one expert's share of the rows through it; its weights are read once
};

/* What is to be shared out in a layer, and how much of it each rank has. */
struct shares {
    int n_ranks, n_experts, n_pieces, top_k;
    int *experts, *pieces; // [n_ranks]
    int *copies;           // [n_ranks] of experts that another rank has, too, and comes before it
    double *moved;         // [n_ranks] experts' worth of rows that copies bring, or take away
};

struct solver {
    const struct balance *b;
    struct step_cost steps[BALANCE_PHASES];
    struct shares s;
    uint64_t expert_bytes, piece_bytes; // of memory, over all layers of the kind
    uint64_t *memory;                   // [n_ranks] left for this kind of layer; NULL: no limit
    int16_t (*prefix)[MAX_EXPERTS + 1]; // [DRAWS][e] how many of the experts 0 .. e - 1 are hit
    struct arena arena;
};

static const struct rank_speed *speed_of(const struct balance *b, int rank)
{
    return b->speeds ? &b->speeds[rank] : &usual_speed;
}

static double seconds(const struct balance *b, int rank, struct cost c)
{
    const struct rank_speed *s = speed_of(b, rank);
    double compute = c.flops / s->flops, read = c.bytes / s->bytes;
    return compute > read ? compute : read;
}

static double bytes_of_weights(const struct balance *b, enum quant quant, double n)
{
    return n * weight_bytes(b->precision.type, quant);
}

static struct cost block_cost(const struct balance *b, int width, double rows)
{
    double weights = 3.0 * b->m->dim * width;
    return (struct cost){2 * weights * rows, bytes_of_weights(b, b->precision.blocks, weights)};
}

/* Attention and the router: products, then scores and values over what came before. */
static struct cost own_cost(const struct balance *b, int layer, int rows, double keys)
{
    const struct config *m = b->m;
    double heads = (double)(m->n_heads + m->n_kv_heads) * m->head_dim;
    double weights = 2.0 * m->dim * heads,
           router = m->sparse[layer] ? (double)m->dim * m->n_experts : 0;
    double bytes = bytes_of_weights(b, b->precision.matrices, weights) +
                   bytes_of_weights(b, QUANT_NONE, router);
    double kv = 2.0 * keys * m->n_kv_heads * m->head_dim * dtype_bytes(b->precision.type);
    return (struct cost){2 * (weights + router) * rows + 4.0 * keys * m->n_heads * m->head_dim,
                         bytes + kv / (rows > 1 ? KV_BLOCK : 1)};
}

static struct step_cost step_cost(const struct balance *b, int layer, enum balance_phase phase)
{
    const struct config *m = b->m;
    const struct workload *w = &b->load;
    bool prefill = phase == BALANCE_PREFILL;
    int chunk = w->prompt < b->chunk ? w->prompt : b->chunk, rows = prefill ? chunk : w->batch;
    double context = w->prompt + w->generated / 2.0;
    double keys = prefill ? (double)rows * w->prompt / 2 : rows * context;
    int width = pieces_of(m, layer).width, n_experts = m->sparse[layer] ? m->n_experts : 1;
    double share = (double)m->top_k / n_experts;
    struct step_cost c = {.rows = rows,
                          .times = prefill ? (double)w->batch * w->prompt / rows : w->generated,
                          .overlapped = b->halved && rows >= b->halved,
                          .own = own_cost(b, layer, rows, keys),
                          .piece = block_cost(b, width, rows)};
    if (m->sparse[layer])
        c.expert = block_cost(b, m->expert_dim, rows * share);
    return c;
}

/* ---- the time of a layer ---- */

static bool is_drawn(const struct solver *v, const struct step_cost *c)
{
    return v->s.n_experts && c->rows < MANY_ROWS;
}

/* What `rank` has to do. In a drawn step only those of its experts that are hit are read, and the
 * rows are equally many for each expert that is hit anywhere; so few rows are all taken to go to
 * the first copy. */
static struct cost share_cost(const struct solver *v, const struct step_cost *c, int rank, int draw,
                              int first)
{
    double pieces = v->s.pieces[rank], read = v->s.experts[rank] + v->s.copies[rank];
    double rows = v->s.experts[rank] + v->s.moved[rank];
    if (draw >= 0) {
        const int16_t *below = v->prefix[draw];
        read = below[first + v->s.experts[rank]] - below[first];
        rows = read * v->s.n_experts / below[v->s.n_experts];
    }
    return (struct cost){pieces * c->piece.flops + rows * c->expert.flops,
                         pieces * c->piece.bytes + read * c->expert.bytes};
}

static double layer_time(const struct solver *v, const struct step_cost *c, int draw, double *busy)
{
    const struct balance *b = v->b;
    double own = seconds(b, 0, c->own), home = 0, slowest = 0;
    for (int rank = 0, first = 0; rank < v->s.n_ranks; first += v->s.experts[rank++]) {
        double time = seconds(b, rank, share_cost(v, c, rank, draw, first));
        if (busy)
            busy[rank] += (rank ? time : own + time) / (draw < 0 ? 1 : DRAWS);
        home = rank ? home : time;
        slowest = rank && time > slowest ? time : slowest;
    }
    if (c->overlapped)
        return own + home > slowest ? own + home : slowest;
    return own + (home > slowest ? home : slowest);
}

/* Seconds of one layer in a step: the mean over the draws, if the step is drawn. */
static double step_time(const struct solver *v, const struct step_cost *c, double *busy)
{
    double sum = 0;
    if (!is_drawn(v, c))
        return layer_time(v, c, -1, busy);
    for (int i = 0; i < DRAWS; i++)
        sum += layer_time(v, c, i, busy);
    return sum / DRAWS;
}

static double workload_time(const struct solver *v)
{
    double sum = 0;
    for (int i = 0; i < BALANCE_PHASES; i++)
        sum += v->steps[i].times * step_time(v, &v->steps[i], NULL);
    return sum;
}

/* Draw top_k distinct experts for each of the rows, DRAWS times. Every expert is equally likely, so
 * it does not matter which ones a rank holds, and each rank is taken to hold a range of them. */
static void make_draws(struct solver *v, int rows)
{
    bool hit[MAX_EXPERTS];
    for (int i = 0; i < DRAWS; i++) {
        memset(hit, 0, sizeof hit);
        for (int r = 0; r < rows; r++)
            for (int k = 0, tries = 0; k < v->s.top_k && tries < 64 * v->s.top_k; tries++) {
                uint64_t key = (uint64_t)i << 40 | (uint64_t)r << 20 | (uint64_t)tries;
                size_t e = hash_mix(key + 1) % (uint64_t)v->s.n_experts;
                k += !hit[e];
                hit[e] = true;
            }
        v->prefix[i][0] = 0;
        for (int e = 0; e < v->s.n_experts; e++)
            v->prefix[i][e + 1] = (int16_t)(v->prefix[i][e] + hit[e]);
    }
}

/* ---- sharing out ---- */

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
    return seconds(v->b, rank, share_cost(v, &v->steps[BALANCE_PREFILL], rank, -1, 0));
}

/* One more of `kind` for the rank with which all takes the least time; of equals the one that is
 * busy least, since what is measured wanders; and the first if none has memory for it. Rank 0 has
 * as many experts as it was told to, if it was. */
static void give_one(struct solver *v, int *kind)
{
    int best = -1, first = kind == v->s.experts && v->b->home >= 0 ? 1 : 0;
    double least = 0, best_load = 0;
    for (int rank = first; rank < v->s.n_ranks; rank++) {
        kind[rank]++;
        double time = workload_time(v), load = load_of(v, rank);
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
    double least = workload_time(v) * (1 - 1e-9);
    for (int a = first; a < v->s.n_ranks; a++)
        for (int c = first; kind[a] && c < v->s.n_ranks; c++) {
            kind[a]--;
            kind[c]++;
            double time = a == c ? least : workload_time(v);
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
}

static struct solver solver_open(const struct balance *b, int layer)
{
    const struct config *m = b->m;
    struct solver v = {.b = b};
    size_t n = (size_t)b->n_ranks;
    v.s = (struct shares){.n_ranks = b->n_ranks,
                          .n_experts = m->sparse[layer] ? m->n_experts : 0,
                          .n_pieces = pieces_of(m, layer).n,
                          .top_k = m->top_k,
                          .experts = arena_alloc(&v.arena, n * sizeof *v.s.experts),
                          .pieces = arena_alloc(&v.arena, n * sizeof *v.s.pieces),
                          .copies = arena_alloc(&v.arena, n * sizeof *v.s.copies),
                          .moved = arena_alloc(&v.arena, n * sizeof *v.s.moved)};
    v.prefix = arena_alloc(&v.arena, DRAWS * sizeof *v.prefix);
    for (int i = 0; i < BALANCE_PHASES; i++) {
        v.steps[i] = step_cost(b, layer, (enum balance_phase)i);
        if (is_drawn(&v, &v.steps[i]))
            make_draws(&v, v.steps[i].rows);
    }
    return v;
}

/* Bytes of all experts and pieces of a layer. */
static double block_bytes(const struct balance *b, int layer)
{
    const struct config *m = b->m;
    struct pieces cut = pieces_of(m, layer);
    double hidden = (double)cut.n * cut.width;
    hidden += m->sparse[layer] ? (double)m->n_experts * m->expert_dim : 0;
    return block_cost(b, 1, 0).bytes * hidden;
}

/* A layer may fill that part of each rank's memory which it is of all layers' blocks. */
static void limit_memory(struct solver *v, int layer)
{
    const struct balance *b = v->b;
    double all = 0;
    v->expert_bytes = (uint64_t)block_cost(b, b->m->expert_dim, 0).bytes;
    v->piece_bytes = (uint64_t)block_cost(b, pieces_of(b->m, layer).width, 0).bytes;
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
        all += speed_of(b, rank)->bytes;
    for (int rank = 0; rank < b->n_ranks; rank++) {
        p->output_first[rank] = OUTPUT_BLOCK * (int32_t)(before / all * blocks + 0.5);
        before += speed_of(b, rank)->bytes;
    }
    p->output_first[b->n_ranks] = b->m->vocab_size;
}

static void place_layer(struct placement *p, const struct balance *b, int layer)
{
    struct solver v = solver_open(b, layer);
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

/* ---- what a placement is expected to take ---- */

/* An expert's rows are shared evenly by its copies. */
static void count_copies(struct solver *v, const struct layer_placement *l)
{
    for (int i = 0, n; i < l->n_copies; i += n) {
        for (n = 1; i + n < l->n_copies && l->copy_of[i + n] == l->copy_of[i]; n++)
            ;
        double part = 1.0 / (n + 1);
        int first = l->rank_of[l->copy_of[i]];
        v->s.moved[first] -= n * part;
        for (int j = i; j < i + n; j++) {
            v->s.experts[l->copy_rank[j]]--;
            v->s.copies[l->copy_rank[j]]++;
            v->s.moved[l->copy_rank[j]] += part;
        }
    }
}

static void count_shares(struct solver *v, const struct placement *p, int layer)
{
    for (int rank = 0; rank < v->s.n_ranks; rank++) {
        v->s.experts[rank] = placement_count(&p->layers[layer], rank);
        v->s.pieces[rank] = placement_count(&p->pieces[layer], rank);
    }
    count_copies(v, &p->layers[layer]);
}

/* All blocks of a layer, one after the other, on one rank. */
static struct cost all_blocks(const struct solver *v, const struct step_cost *c)
{
    double hits = v->s.n_experts;
    if (is_drawn(v, c))
        for (int i = 0; i < DRAWS; i++)
            hits = (i ? hits : 0) + (double)v->prefix[i][v->s.n_experts] / DRAWS;
    return (struct cost){v->s.n_pieces * c->piece.flops + v->s.n_experts * c->expert.flops,
                         v->s.n_pieces * c->piece.bytes + hits * c->expert.bytes};
}

/* The least time in which all ranks together do the coordinator's own work and `shared`: no rank
 * computes or reads faster than it can, whatever part is its own. Unless overlapped, `shared`
 * begins when the coordinator's own work is done. */
static double least_time(const struct balance *b, struct cost own, struct cost shared,
                         bool overlapped)
{
    double flops = 0, bytes = 0, alone = seconds(b, 0, own), wait = overlapped ? alone : 0;
    for (int rank = 0; rank < b->n_ranks; rank++) {
        flops += speed_of(b, rank)->flops;
        bytes += speed_of(b, rank)->bytes;
    }
    double compute = (shared.flops + wait * speed_of(b, 0)->flops) / flops;
    double read = (shared.bytes + wait * speed_of(b, 0)->bytes) / bytes;
    double together = compute > read ? compute : read;
    if (!overlapped)
        return alone + together;
    return together > alone ? together : alone;
}

/* So many rows of the output matrix, for a row of each sequence. */
static struct cost outputs_cost(const struct balance *b, int outputs)
{
    double weights = (double)b->m->dim * outputs;
    return (struct cost){2 * weights * b->load.batch,
                         bytes_of_weights(b, b->precision.matrices, weights)};
}

/* The logits of a decode step: every rank goes through its outputs, at the same time. */
static void add_outputs(struct balance_times *t, const struct balance *b, const struct placement *p,
                        double *busy)
{
    struct cost all = outputs_cost(b, b->m->vocab_size);
    double slowest = 0;
    for (int rank = 0; rank < b->n_ranks; rank++) {
        int outputs = p->output_first[rank + 1] - p->output_first[rank];
        double time = seconds(b, rank, outputs_cost(b, outputs));
        busy[rank] += time;
        slowest = time > slowest ? time : slowest;
    }
    t->step += slowest;
    t->alone += seconds(b, 0, all);
    t->bound += least_time(b, (struct cost){0}, all, false);
}

struct balance_times balance_times(const struct balance *b, const struct placement *p,
                                   enum balance_phase phase, double *busy)
{
    struct balance_times t = {0};
    memset(busy, 0, (size_t)b->n_ranks * sizeof *busy);
    for (int l = 0; l < b->m->n_layers; l++) {
        struct solver v = solver_open(b, l);
        const struct step_cost *c = &v.steps[phase];
        struct cost blocks = all_blocks(&v, c);
        count_shares(&v, p, l);
        t.rows = c->rows;
        t.step += step_time(&v, c, busy);
        t.own += seconds(b, 0, c->own);
        t.alone += seconds(b, 0, c->own) + seconds(b, 0, blocks);
        t.bound += least_time(b, c->own, blocks, c->overlapped);
        arena_free(&v.arena);
    }
    if (phase == BALANCE_DECODE)
        add_outputs(&t, b, p, busy);
    return t;
}
