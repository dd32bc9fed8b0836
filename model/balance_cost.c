#include "model/balance_cost.h"

#include <string.h>

#include "base/hash.h"
#include "kernels/kernels.h"
#include "model/pieces.h"

/* The speed that every rank is assumed to have where none was measured: that of a few server cores.
 * All ranks being alike, only the number of FLOPs for each byte read decides anything. */
static const struct rank_speed usual_speed = {100e9, 10e9, 0};

const struct rank_speed *balance_speed(const struct balance *b, int rank)
{
    return b->speeds ? &b->speeds[rank] : &usual_speed;
}

double balance_seconds(const struct balance *b, int rank, struct cost c)
{
    const struct rank_speed *s = balance_speed(b, rank);
    return longer(c.flops / s->flops, c.bytes / s->bytes);
}

double balance_weight_bytes(const struct balance *b, enum quant quant, double n)
{
    return n * weight_bytes(b->precision.type, quant);
}

struct cost balance_block_cost(const struct balance *b, int width, double rows)
{
    double weights = 3.0 * b->m->dim * width;
    return (struct cost){2 * weights * rows, balance_weight_bytes(b, b->precision.blocks, weights)};
}

/* Attention and the router: products, then scores and values over what came before. */
static struct cost own_cost(const struct balance *b, int layer, int rows, double keys)
{
    const struct config *m = b->m;
    double heads = (double)(m->n_heads + m->n_kv_heads) * m->head_dim;
    double weights = 2.0 * m->dim * heads,
           router = m->sparse[layer] ? (double)m->dim * m->n_experts : 0;
    double bytes = balance_weight_bytes(b, b->precision.matrices, weights) +
                   balance_weight_bytes(b, QUANT_NONE, router);
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
                          .piece = balance_block_cost(b, width, rows)};
    if (m->sparse[layer])
        c.expert = balance_block_cost(b, m->expert_dim, rows * share);
    return c;
}

/* ---- the time of a layer ---- */

bool balance_is_drawn(const struct solver *v, const struct step_cost *c)
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

double balance_together(const struct step_cost *c, double own, double home, double slowest)
{
    return c->overlapped ? longer(own + home, slowest) : own + longer(home, slowest);
}

double balance_rank_time(const struct solver *v, const struct step_cost *c, int rank, int draw,
                         int first)
{
    return balance_seconds(v->b, rank, share_cost(v, c, rank, draw, first));
}

static double layer_time(const struct solver *v, const struct step_cost *c, int draw, double *busy)
{
    double own = balance_seconds(v->b, 0, c->own), home = 0, slowest = 0;
    for (int rank = 0, first = 0; rank < v->s.n_ranks; first += v->s.experts[rank++]) {
        double time = balance_rank_time(v, c, rank, draw, first);
        if (busy)
            busy[rank] += (rank ? time : own + time) / (draw < 0 ? 1 : DRAWS);
        if (rank)
            slowest = longer(time, slowest);
        else
            home = time;
    }
    return balance_together(c, own, home, slowest);
}

double balance_step_time(const struct solver *v, const struct step_cost *c, double *busy)
{
    double sum = 0;
    if (!balance_is_drawn(v, c))
        return layer_time(v, c, -1, busy);
    for (int i = 0; i < DRAWS; i++)
        sum += layer_time(v, c, i, busy);
    return sum / DRAWS;
}

double balance_workload_time(const struct solver *v)
{
    double sum = 0;
    for (int i = 0; i < BALANCE_PHASES; i++)
        sum += v->steps[i].times * balance_step_time(v, &v->steps[i], NULL);
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

struct solver balance_open(const struct balance *b, int layer)
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
    v.time = arena_alloc(&v.arena, n * sizeof *v.time);
    v.behind = arena_alloc(&v.arena, n * sizeof *v.behind);
    v.prefix = arena_alloc(&v.arena, DRAWS * sizeof *v.prefix);
    for (int i = 0; i < BALANCE_PHASES; i++) {
        v.steps[i] = step_cost(b, layer, (enum balance_phase)i);
        if (balance_is_drawn(&v, &v.steps[i]))
            make_draws(&v, v.steps[i].rows);
    }
    return v;
}
