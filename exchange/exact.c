/* Strategy `exact`: each worker gets a message with its own rows, as long as it needs to be, and
 * gives one back. */
#include <string.h>

#include "base/check.h"
#include "exchange/mover.h"
#include "exchange/strategy.h"
#include "kernels/ops.h"

static struct layout layout_of_rank(const struct root_end *x, int rank)
{
    const struct plan *p = &x->plan;
    return message_layout(&x->end.form, layer_experts(&p->routing->layer, rank),
                          plan_slots(p, rank), p->sent[rank], layer_pieces(layer_of(x), rank) > 0);
}

void exact_place(struct root_end *x)
{
    size_t at = 0;
    for (int rank = 0; rank < x->plan.ranks; rank++) {
        x->begin[rank] = at;
        at += rank == x->plan.root ? 0 : layout_of_rank(x, rank).bytes;
    }
    x->begin[x->plan.ranks] = at;
    CHECK(at <= x->out_capacity, "%zu bytes of messages, room for %zu", at, x->out_capacity);
}

/* Write for each of the rank's slots which row it reads, and with sum which sum it adds to and with
 * which weight. A rank with pieces gets all rows in order, so there a row has its number in the
 * step; elsewhere its number among the rank's distinct rows. */
static void pack_slots(const struct root_end *x, int rank, char *to, const struct layout *at,
                       size_t slots)
{
    const struct plan *p = &x->plan;
    int first = p->first[rank];
    const int32_t *index = layer_pieces(layer_of(x), rank) ? p->routing->source : p->map.index;
    if (p->dedup)
        memcpy(to + at->index, index + first, slots * sizeof(int32_t));
    if (p->sum) {
        memcpy(to + at->sum, p->map.index + first, slots * sizeof(int32_t));
        memcpy(to + at->weight, p->sums.weight + first, slots * sizeof(float));
    }
}

void exact_pack(struct root_end *x, int rank)
{
    struct exchange_end *e = &x->end;
    const struct plan *p = &x->plan;
    const struct exchange_layer *layer = &p->routing->layer;
    struct layout at = layout_of_rank(x, rank);
    struct message_header header = {p->sent[rank], p->back[rank], e->rounds, e->rounds_back};
    char *to = x->out + x->begin[rank];
    size_t slots = (size_t)plan_slots(p, rank);
    trace_mark(e->trace, PHASE_PACK);
    memcpy(to, &header, sizeof header);
    if (layer_experts(layer, rank))
        memcpy(to + at.count, p->routing->count + layer->rank_first[rank],
               (size_t)layer_experts(layer, rank) * sizeof(int32_t));
    if (slots)
        pack_slots(x, rank, to, &at, slots);
    if (!e->form.apart)
        gather(e->dev, to + at.rows, rows_out(x), p->leaving + p->leaving_first[rank],
               p->sent[rank], e->wire_row_bytes);
}

int exact_begin(struct root_end *x, int n)
{
    (void)x, (void)n;
    return 0;
}

void exact_expect(struct root_end *x)
{
    const struct plan *p = &x->plan;
    EACH_WORKER (&x->end, rank) {
        x->back[rank] = (struct area){results_of(x, p->first[rank]),
                                      (size_t)p->back[rank] * x->end.wire_row_bytes};
        x->pieces_back[rank] = (struct area){piece_results_of(x, rank),
                                             (size_t)piece_rows(x, rank) * x->end.wire_piece_bytes};
    }
}

static int exact_dispatch(struct root_end *x)
{
    struct exchange_end *e = &x->end;
    exact_place(x);
    exact_expect(x);
    int status = e->mover->expect(x, 0);
    EACH_WORKER (e, rank) {
        if (status)
            break;
        exact_pack(x, rank);
        status = root_send_message(x, rank);
    }
    return status ? status : e->mover->send(x);
}

int exact_combine(struct root_end *x)
{
    return x->end.mover->take(x, 0);
}

static int exact_receive(struct worker_end *x, const struct exchange_layer *layer, int n)
{
    (void)layer, (void)n;
    return worker_receive_message(x);
}

int exact_unpack_message(struct worker_end *x, const struct exchange_layer *layer, int n)
{
    const struct exchange_end *e = &x->end;
    struct expected known = end_expects(e, layer, n);
    return message_unpack(&x->dispatch, &e->form, x->in, x->in_bytes, &known);
}

static int exact_unpack(struct worker_end *x, const struct exchange_layer *layer, int n)
{
    const struct mover *m = x->end.mover;
    int status = exact_unpack_message(x, layer, n);
    if (!status)
        status = m->start(x, 0, x->dispatch.n_rows);
    return status ? status : m->finish(x);
}

int exact_give_back(struct worker_end *x, const void *rows, const void *pieces)
{
    return x->end.mover->give_back(x, rows, pieces);
}

const struct strategy_ops strategy_exact = {
    .begin = exact_begin,
    .dispatch = exact_dispatch,
    .combine = exact_combine,
    .receive = exact_receive,
    .unpack = exact_unpack,
    .give_back = exact_give_back,
};
