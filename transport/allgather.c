/* Strategy `allgather`: one message, the same for all workers, holds every row and the routing; a
 * worker sorts it as the coordinator did and picks what is its own. */
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "kernels/ops.h"
#include "transport/strategy.h"

/* count is where the routing's experts stand. */
static struct layout layout_of(const struct exchange *x, int n)
{
    size_t pairs = (size_t)n * (size_t)x->limits.top_k;
    struct layout at = {.count = sizeof(struct message_header)};
    at.weight = at.count + pairs * sizeof(int32_t);
    at.rows =
        message_align(at.weight + (x->options.combine == COMBINE_SUM ? pairs * sizeof(float) : 0));
    at.bytes = message_align(at.rows + (x->direct ? 0 : (size_t)n * x->wire_row_bytes));
    return at;
}

size_t allgather_pack(struct exchange *x, const struct exchange_plan *plan)
{
    trace_mark(x->trace, PHASE_PACK);
    struct layout at = layout_of(x, plan->n);
    struct message_header header = {plan->n, 0, 1, 1};
    size_t pairs = (size_t)plan->n * (size_t)plan->k;
    CHECK(at.bytes <= x->out_capacity, "a message of %zu bytes, room for %zu", at.bytes,
          x->out_capacity);
    memcpy(x->out, &header, sizeof header);
    memcpy(x->out + at.count, plan->expert, pairs * sizeof(int32_t));
    if (x->options.combine == COMBINE_SUM)
        memcpy(x->out + at.weight, plan->weight, pairs * sizeof(float));
    if (!x->direct)
        memcpy(x->out + at.rows, rows_out(x, plan), (size_t)plan->n * x->wire_row_bytes);
    return at.bytes;
}

static int allgather_dispatch(struct exchange *x, const struct exchange_plan *plan)
{
    size_t bytes = allgather_pack(x, plan);
    int status = single_await(x);
    for (int rank = 1; rank < x->transport->size && !status; rank++)
        status = single_send(x, rank, x->out, bytes);
    return status;
}

static int check_routing(const struct exchange *x, const int32_t *expert, int n)
{
    for (int i = 0; i < n; i++)
        if (expert[i] < 0 || expert[i] >= x->limits.experts)
            return fail(STATUS_FAILED, "dispatch: expected experts below %d, found %d",
                        x->limits.experts, expert[i]);
    return 0;
}

static int check_header(const struct exchange *x, size_t expected, int n)
{
    struct message_header header;
    if (x->in_bytes != expected)
        return fail(STATUS_FAILED, "dispatch: expected %d rows in %zu bytes, found %zu bytes", n,
                    expected, x->in_bytes);
    memcpy(&header, x->in, sizeof header);
    if (header.rows != n || header.back != 0)
        return fail(STATUS_FAILED, "dispatch: expected %d rows and 0 to give back, found %d and %d",
                    n, header.rows, header.back);
    return message_check_rounds(x, &header);
}

/* This rank's places are [first, first + n_rows) of the sort; they are its message's rows, too. */
int allgather_unpack(struct exchange *x, const struct exchange_layer *layer, int n)
{
    int k = x->limits.top_k, rank = x->transport->rank, first = 0, own = 0;
    int begin = layer->rank_first[rank], end = layer->rank_first[rank + 1];
    struct layout at = layout_of(x, n);
    const int32_t *expert = (const int32_t *)(const void *)(x->in + at.count);
    int status = check_header(x, at.bytes, n);
    if (!status)
        status = check_routing(x, expert, n * k);
    if (status)
        return status;
    sort_rows(x->host, x->count, x->place, x->source, NULL, expert, layer->group_of, n, k,
              x->limits.experts);
    for (int group = 0; group < begin; group++)
        first += x->count[group];
    for (int group = begin; group < end; group++)
        own += x->count[group];
    x->work.n_rows = own;
    x->work.count = x->count + begin;
    x->gather = x->source + first;
    x->wire_rows = x->in + at.rows;
    x->n_wire_rows = n;
    x->n_back = own;
    if (x->options.combine == COMBINE_ROWS)
        return 0;
    shares_weigh(x->shares, x->place, (const float *)(const void *)(x->in + at.weight), n * k);
    x->n_back = shares_find(x->shares, rank, x->source, first, own);
    x->share = x->shares->index + first;
    x->weight = x->shares->weight + first;
    return 0;
}

const struct strategy_ops strategy_allgather = {
    .dispatch = allgather_dispatch,
    .combine = single_combine,
    .receive = single_receive,
    .unpack = allgather_unpack,
    .give_back = single_give_back,
};
