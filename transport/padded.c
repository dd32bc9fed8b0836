/* Strategy `padded`: every message of a round has one size, known to both ends before a byte has
 * moved, as a uniform all-to-all wants it. A worker's message, the same as `exact` would send, is
 * cut into as many rounds as the longest of all needs; what lies beyond a message's end is padding,
 * whatever it holds. The first message's header says how many rounds there are, out and back. */
#include <string.h>

#include "base/log.h"
#include "transport/strategy.h"

static int least(int a, int b)
{
    return a < b ? a : b;
}

/* Room for half as many rows again as an even routing has for a worker. */
static struct uniform sizes(const struct exchange *x, int n_experts, int n)
{
    int pairs = n * x->limits.top_k, workers = x->transport->size - 1;
    int share = (int)least(pairs, (int)((3 * (int64_t)pairs + 2 * workers - 1) / (2 * workers)));
    int rows = x->options.dedup == DEDUP_ON ? least(share, n) : share;
    int back = x->options.combine == COMBINE_SUM ? least(share, n) : share;
    return (struct uniform){.out = message_layout(x, n_experts, share, rows).bytes,
                            .back = (size_t)back * x->wire_row_bytes,
                            .out_rows = rows,
                            .back_rows = back};
}

void uniform_choose(struct exchange *x, const struct exchange_layer *layer, int n)
{
    int most = 0;
    for (int rank = 1; rank < x->transport->size; rank++)
        most = experts_of(layer, rank) > most ? experts_of(layer, rank) : most;
    x->round = sizes(x, most, n);
}

struct uniform uniform_most(const struct exchange *x)
{
    return sizes(x, x->limits.experts, x->limits.rows);
}

int padded_rounds(size_t length, size_t round)
{
    return length > round ? (int)((length + round - 1) / round) : 1;
}

/* What a message of `bytes` sends in a round; a message that has ended sends anything. */
static const char *piece(const char *message, size_t bytes, int round, size_t round_bytes)
{
    size_t at = (size_t)round * round_bytes;
    return at < bytes ? message + at : message;
}

static int await_round(struct exchange *x)
{
    int status = 0;
    for (int rank = 1; rank < x->transport->size && !status; rank++)
        status =
            transport_start_recv(x->transport, x->lane, rank,
                                 x->staging + (size_t)(rank - 1) * x->round.back, x->round.back);
    return status;
}

static void count_rounds(struct exchange *x)
{
    x->rounds = x->rounds_back = 1;
    for (int rank = 1; rank < x->transport->size; rank++) {
        int out = padded_rounds(x->begin[rank + 1] - x->begin[rank], x->round.out);
        int back = padded_rounds((size_t)x->back[rank] * x->wire_row_bytes, x->round.back);
        x->rounds = out > x->rounds ? out : x->rounds;
        x->rounds_back = back > x->rounds_back ? back : x->rounds_back;
    }
}

static int send_round(struct exchange *x, int round)
{
    size_t bytes = x->round.out;
    int status = 0;
    for (int rank = 1; rank < x->transport->size && !status; rank++) {
        const char *message = x->out + x->begin[rank];
        size_t length = x->begin[rank + 1] - x->begin[rank];
        status = single_send(x, rank, piece(message, length, round, bytes), bytes);
    }
    return status;
}

static int padded_dispatch(struct exchange *x, const struct exchange_plan *plan)
{
    int status = 0;
    uniform_choose(x, &plan->layer, plan->n);
    message_place(x, plan);
    count_rounds(x);
    for (int rank = 1; rank < x->transport->size; rank++)
        message_pack(x, plan, rank);
    for (int round = 0; round < x->rounds && !status; round++)
        status = send_round(x, round);
    return status ? status : await_round(x);
}

/* The rows of a round leave the staging area for their places. */
static int take_round(struct exchange *x, int round)
{
    for (int rank = 1; rank < x->transport->size; rank++) {
        if (x->received[rank] != x->round.back)
            return fail(STATUS_FAILED, "rank %d: expected %zu bytes of rows back, found %zu", rank,
                        x->round.back, x->received[rank]);
        exchange_count_received(x, rank, x->round.back);
        int done = round * x->round.back_rows,
            rows = least(x->back[rank] - done, x->round.back_rows);
        if (rows > 0)
            memcpy(x->landing + (size_t)(x->first[rank] + done) * x->wire_row_bytes,
                   x->staging + (size_t)(rank - 1) * x->round.back,
                   (size_t)rows * x->wire_row_bytes);
    }
    return 0;
}

static int padded_combine(struct exchange *x, const struct exchange_plan *plan)
{
    (void)plan;
    int status = 0;
    for (int round = 0; round < x->rounds_back && !status; round++) {
        if (round > 0)
            trace_mark(x->trace, PHASE_WAIT);
        if (round > 0)
            status = await_round(x);
        if (!status)
            status = exchange_wait(x);
        trace_mark(x->trace, PHASE_COMBINE);
        if (!status)
            status = take_round(x, round);
    }
    return status;
}

static int receive_round(struct exchange *x)
{
    size_t bytes = x->round.out;
    int status = transport_start_recv(x->transport, x->lane, 0, x->in + x->in_bytes, bytes);
    if (!status)
        status = exchange_wait(x);
    if (!status && x->received[0] != bytes)
        status = fail(STATUS_FAILED, "dispatch: expected a round of %zu bytes, found %zu", bytes,
                      x->received[0]);
    x->in_bytes += bytes;
    exchange_count_received(x, 0, bytes);
    return status;
}

int padded_read_rounds(struct exchange *x, int most, int most_back)
{
    struct message_header header;
    memcpy(&header, x->in, sizeof header);
    if (header.rounds < 1 || header.rounds > most || header.rounds_back < 1 ||
        header.rounds_back > most_back)
        return fail(STATUS_FAILED, "dispatch: expected up to %d rounds and %d back, found %d, %d",
                    most, most_back, header.rounds, header.rounds_back);
    x->rounds = header.rounds;
    x->rounds_back = header.rounds_back;
    return 0;
}

static int padded_receive(struct exchange *x, const struct exchange_layer *layer, int n)
{
    size_t back_most = (size_t)n * (size_t)x->limits.top_k * x->wire_row_bytes;
    uniform_choose(x, layer, n);
    x->in_bytes = 0;
    int status = receive_round(x);
    if (!status)
        status = padded_read_rounds(x, (int)(x->in_capacity / x->round.out),
                                    padded_rounds(back_most, x->round.back));
    for (int round = 1; !status && round < x->rounds; round++)
        status = receive_round(x);
    return status;
}

/* All rows that are asked for must have room on their way back. */
static int padded_unpack(struct exchange *x, const struct exchange_layer *layer, int n)
{
    int status = message_unpack(x, layer, n);
    if (status)
        return status;
    int needed = padded_rounds((size_t)x->n_back * x->wire_row_bytes, x->round.back);
    if (x->rounds_back < needed)
        return fail(STATUS_FAILED,
                    "dispatch: expected at least %d rounds back for %d rows, found %d", needed,
                    x->n_back, x->rounds_back);
    return 0;
}

static int padded_give_back(struct exchange *x, const void *rows)
{
    size_t bytes = (size_t)x->n_back * x->wire_row_bytes;
    int status = 0;
    for (int round = 0; round < x->rounds_back && !status; round++)
        status = single_send(x, 0, piece(rows, bytes, round, x->round.back), x->round.back);
    return status;
}

const struct strategy_ops strategy_padded = {
    .dispatch = padded_dispatch,
    .combine = padded_combine,
    .receive = padded_receive,
    .unpack = padded_unpack,
    .give_back = padded_give_back,
    .pads = true,
};
