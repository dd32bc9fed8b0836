/* What the cost model says of any placement. */
#include <string.h>

#include "model/balance_cost.h"

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
    if (balance_is_drawn(v, c))
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
    double flops = 0, bytes = 0, alone = balance_seconds(b, 0, own), wait = overlapped ? alone : 0;
    for (int rank = 0; rank < b->n_ranks; rank++) {
        flops += balance_speed(b, rank)->flops;
        bytes += balance_speed(b, rank)->bytes;
    }
    double compute = (shared.flops + wait * balance_speed(b, 0)->flops) / flops;
    double read = (shared.bytes + wait * balance_speed(b, 0)->bytes) / bytes;
    double together = longer(compute, read);
    return overlapped ? longer(together, alone) : alone + together;
}

/* So many rows of the output matrix, for a row of each sequence. */
static struct cost outputs_cost(const struct balance *b, int outputs)
{
    double weights = (double)b->m->dim * outputs;
    return (struct cost){2 * weights * b->load.batch,
                         balance_weight_bytes(b, b->precision.matrices, weights)};
}

/* The logits of a decode step: every rank goes through its outputs, at the same time. */
static void add_outputs(struct balance_times *t, const struct balance *b, const struct placement *p,
                        double *busy)
{
    struct cost all = outputs_cost(b, b->m->vocab_size);
    double slowest = 0;
    for (int rank = 0; rank < b->n_ranks; rank++) {
        int outputs = p->output_first[rank + 1] - p->output_first[rank];
        double time = balance_seconds(b, rank, outputs_cost(b, outputs));
        busy[rank] += time;
        slowest = time > slowest ? time : slowest;
    }
    t->step += slowest;
    t->alone += balance_seconds(b, 0, all);
    t->bound += least_time(b, (struct cost){0}, all, false);
}

struct balance_times balance_times(const struct balance *b, const struct placement *p,
                                   enum balance_phase phase, double *busy)
{
    struct balance_times t = {0};
    memset(busy, 0, (size_t)b->n_ranks * sizeof *busy);
    for (int l = 0; l < b->m->n_layers; l++) {
        struct solver v = balance_open(b, l);
        const struct step_cost *c = &v.steps[phase];
        struct cost blocks = all_blocks(&v, c);
        count_shares(&v, p, l);
        t.rows = c->rows;
        t.step += balance_step_time(&v, c, busy);
        t.own += balance_seconds(b, 0, c->own);
        t.alone += balance_seconds(b, 0, c->own) + balance_seconds(b, 0, blocks);
        t.bound += least_time(b, c->own, blocks, c->overlapped);
        arena_free(&v.arena);
    }
    if (phase == BALANCE_DECODE)
        add_outputs(&t, b, p, busy);
    return t;
}
