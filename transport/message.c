/* A message that brings a worker its own rows, and nobody else's: header, counts, where needed the
 * row behind each place and its weight, then the rows. */
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "kernels/ops.h"
#include "transport/strategy.h"

struct layout message_layout(const struct exchange *x, int n_experts, int places, int rows)
{
    struct layout at = {.count = sizeof(struct message_header)};
    at.index = at.count + (size_t)n_experts * sizeof(int32_t);
    at.weight = at.index + (has_index(x) ? (size_t)places * sizeof(int32_t) : 0);
    at.rows = at.weight + (x->options.combine == COMBINE_SUM ? (size_t)places * sizeof(float) : 0);
    at.rows = message_align(at.rows);
    at.bytes = message_align(at.rows + (size_t)rows * x->wire_row_bytes);
    return at;
}

static struct layout layout_of_rank(const struct exchange *x, const struct exchange_plan *plan,
                                    int rank)
{
    return message_layout(x, experts_of(&plan->layer, rank), x->first[rank + 1] - x->first[rank],
                          x->direct ? 0 : x->sent[rank]);
}

void message_place(struct exchange *x, const struct exchange_plan *plan)
{
    x->begin[0] = x->begin[1] = 0;
    for (int rank = 1; rank < x->transport->size; rank++)
        x->begin[rank + 1] = x->begin[rank] + layout_of_rank(x, plan, rank).bytes;
    CHECK(x->begin[x->transport->size] <= x->out_capacity, "%zu bytes of messages, room for %zu",
          x->begin[x->transport->size], x->out_capacity);
}

void message_pack(struct exchange *x, const struct exchange_plan *plan, int rank)
{
    trace_mark(x->trace, PHASE_PACK);
    struct layout at = layout_of_rank(x, plan, rank);
    struct message_header header = {x->sent[rank], x->back[rank], x->rounds, x->rounds_back};
    char *to = x->out + x->begin[rank];
    size_t places = (size_t)(x->first[rank + 1] - x->first[rank]);
    int first = x->first[rank];
    memcpy(to, &header, sizeof header);
    memcpy(to + at.count, plan->count + plan->layer.rank_first[rank],
           (size_t)experts_of(&plan->layer, rank) * sizeof(int32_t));
    if (has_index(x))
        memcpy(to + at.index, x->shares->index + first, places * sizeof(int32_t));
    if (x->options.combine == COMBINE_SUM)
        memcpy(to + at.weight, x->shares->weight + first, places * sizeof(float));
    if (!x->direct)
        gather(x->dev, to + at.rows, rows_out(x, plan), rows_of_ranks(x, plan) + first,
               x->sent[rank], x->wire_row_bytes);
}

/* The sum of the counts, or -1 when one is negative or all are more than `most`. */
static int64_t total_of(const int32_t *count, int n, int most)
{
    int64_t total = 0;
    for (int e = 0; e < n; e++) {
        if (count[e] < 0)
            return -1;
        total += count[e];
    }
    return total <= most ? total : -1;
}

static int check_index(const int32_t *index, int n, int end)
{
    for (int i = 0; i < n; i++)
        if (index[i] < 0 || index[i] >= end)
            return fail(STATUS_FAILED, "dispatch: expected rows below %d, found %d", end, index[i]);
    return 0;
}

int message_check_rounds(const struct exchange *x, const struct message_header *header)
{
    if (x->options.strategy == STRATEGY_PADDED || (header->rounds == 1 && header->rounds_back == 1))
        return 0;
    return fail(STATUS_FAILED, "dispatch: expected 1 round and 1 back, found %d, %d",
                header->rounds, header->rounds_back);
}

/* What the header says must agree with the counts and the options. */
static int check_header(const struct exchange *x, const struct message_header *header, int places,
                        int n)
{
    bool dedup = x->options.dedup == DEDUP_ON, sum = x->options.combine == COMBINE_SUM;
    int most = places < n ? places : n;
    bool rows = dedup ? header->rows >= 0 && header->rows <= most : header->rows == places;
    bool back = sum ? header->back >= 0 && header->back <= most : header->back == places;
    if (!rows || !back || (dedup && sum && header->rows != header->back))
        return fail(STATUS_FAILED, "dispatch: %d places of %d rows: found %d rows to give %d for",
                    places, n, header->rows, header->back);
    return message_check_rounds(x, header);
}

int message_unpack(struct exchange *x, const struct exchange_layer *layer, int n)
{
    int n_experts = experts_of(layer, x->transport->rank);
    struct layout at = message_layout(x, n_experts, 0, 0);
    struct message_header header;
    if (x->in_bytes < at.index)
        return fail(STATUS_FAILED, "dispatch: expected %d counts, found %zu bytes", n_experts,
                    x->in_bytes);
    memcpy(&header, x->in, sizeof header);
    const int32_t *count = (const int32_t *)(const void *)(x->in + at.count);
    int64_t places = total_of(count, n_experts, n * x->limits.top_k);
    if (places < 0)
        return fail(STATUS_FAILED, "dispatch: expected counts of up to %d rows in all, found more",
                    n * x->limits.top_k);
    int status = check_header(x, &header, (int)places, n);
    if (status)
        return status;
    at = message_layout(x, n_experts, (int)places, x->direct ? 0 : header.rows);
    if (x->in_bytes < at.bytes || (x->in_bytes > at.bytes && !x->ops->pads))
        return fail(STATUS_FAILED, "dispatch: expected %zu bytes of %d rows, found %zu", at.bytes,
                    header.rows, x->in_bytes);
    const int32_t *index = (const int32_t *)(const void *)(x->in + at.index);
    x->work.n_rows = (int)places;
    x->work.count = count;
    x->gather = x->options.dedup == DEDUP_ON ? index : NULL;
    x->share = index;
    x->weight = (const float *)(const void *)(x->in + at.weight);
    x->wire_rows = x->in + at.rows;
    x->n_wire_rows = header.rows;
    x->n_back = header.back;
    if (!has_index(x))
        return 0;
    return check_index(index, (int)places,
                       x->options.dedup == DEDUP_ON ? header.rows : header.back);
}
