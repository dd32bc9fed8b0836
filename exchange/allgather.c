/* Strategy `allgather`: one message, the same for all workers, holds every row and the routing; a
 * worker sorts it as the root did and picks what is its own. What comes back is as with `exact`. */
#include <string.h>

#include "base/check.h"
#include "exchange/mover.h"
#include "exchange/strategy.h"
#include "kernels/ops.h"

static int allgather_begin(struct root_end *x, int n)
{
    return x->end.mover->send_all(x, n);
}

static size_t pack(struct root_end *x)
{
    struct exchange_end *e = &x->end;
    const struct routing *r = x->plan.routing;
    struct layout at = allgather_layout(&e->form, r->n, r->k);
    struct message_header header = {r->n, 0, 1, 1};
    size_t pairs = (size_t)r->n * (size_t)r->k;
    trace_mark(e->trace, PHASE_PACK);
    CHECK(at.bytes <= x->out_capacity, "a message of %zu bytes, room for %zu", at.bytes,
          x->out_capacity);
    memcpy(x->out, &header, sizeof header);
    if (pairs)
        memcpy(x->out + at.count, r->expert, pairs * sizeof(int32_t));
    if (e->form.sum && pairs)
        memcpy(x->out + at.weight, r->weight, pairs * sizeof(float));
    if (!e->form.apart)
        memcpy(x->out + at.rows, rows_out(x), (size_t)r->n * e->wire_row_bytes);
    return at.bytes;
}

static int allgather_dispatch(struct root_end *x)
{
    struct exchange_end *e = &x->end;
    size_t bytes = pack(x);
    exact_expect(x);
    int status = e->mover->expect(x, 0);
    EACH_WORKER (e, rank) {
        if (status)
            break;
        status = end_send(e, rank, x->out, bytes);
    }
    return status;
}

/* If rows travel apart, they may come before the message, so receiving them starts first. */
static int allgather_receive(struct worker_end *x, const struct exchange_layer *layer, int n)
{
    (void)layer;
    int status = x->end.mover->start(x, 0, n);
    return status ? status : worker_receive_message(x);
}

/* With sum: find which of this rank's sums each of its slots adds to. Returns how many sums there
 * are. */
static int find_sums(struct worker_end *x, const float *weight, int first, int n, int k)
{
    struct dispatch *d = &x->dispatch;
    dedup_reset(&x->map, n);
    sums_weigh(&x->terms, x->slot, weight, n * k);
    d->sum_of = x->map.index + first;
    d->weight = x->terms.weight + first;
    return dedup_find(&x->map, x->end.transport->rank, x->source, first, d->n_slots);
}

static int total(const int32_t *count, int begin, int end)
{
    int sum = 0;
    for (int group = begin; group < end; group++)
        sum += count[group];
    return sum;
}

/* This rank's slots are [first, first + own) of the sort. */
static int allgather_unpack(struct worker_end *x, const struct exchange_layer *layer, int n)
{
    struct exchange_end *e = &x->end;
    const int32_t *expert;
    const float *weight;
    int rank = e->transport->rank, k = layer->top_k;
    struct expected known = end_expects(e, layer, n);
    int begin = layer->rank_first[rank], end = layer->rank_first[rank + 1];
    int status = allgather_check(&e->form, x->in, x->in_bytes, &known, &expert, &weight);
    if (status)
        return status;
    struct sorting to = {x->count, x->slot, x->source, NULL, layer->groups};
    sort_rows(&to, expert, n, k);
    int first = total(x->count, 0, begin), own = total(x->count, begin, end);
    x->dispatch = (struct dispatch){.n_slots = own,
                                    .count = x->count + begin,
                                    .source = x->source + first,
                                    .rows = x->in + allgather_layout(&e->form, n, k).rows,
                                    .n_rows = n,
                                    .n_back = own,
                                    .n_piece_rows = known.pieces * n};
    if (e->form.sum)
        x->dispatch.n_back = find_sums(x, weight, first, n, k);
    return e->mover->finish(x);
}

const struct strategy_ops strategy_allgather = {
    .begin = allgather_begin,
    .dispatch = allgather_dispatch,
    .combine = exact_combine,
    .receive = allgather_receive,
    .unpack = allgather_unpack,
    .give_back = exact_give_back,
};
