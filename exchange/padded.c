/* Strategy `padded`: every message of a round has one size, known to both ends before a byte has
 * moved, as a uniform all-to-all wants it. A worker's message, the same as `exact` would send, or
 * its rows where they go apart, is cut into as many rounds as the longest of all needs; what lies
 * beyond the end is padding of any value. The message's header says how many rounds there are, out
 * and back. */
#include <string.h>

#include "base/log.h"
#include "exchange/mover.h"
#include "exchange/strategy.h"
#include "kernels/ops.h"

/* A round has room for 1.5 times the rows that an even routing sends to a worker. If any worker has
 * pieces, it also has room for all rows of the step. The results of pieces come back in the first
 * round; every worker sends as many rows as the worker with the most pieces. */
static struct padded_round round_of(const struct exchange_end *e, const struct expected *most)
{
    int pairs = most->n * most->k, workers = e->transport->size - 1;
    int all = most->pieces ? most->n : 0;
    int share = end_least(pairs, (int)((3 * (int64_t)pairs + 2 * workers - 1) / (2 * workers)));
    int distinct = all ? all : end_least(share, most->n);
    int rows = e->form.dedup ? distinct : share + all;
    int back = e->form.sum ? end_least(share, most->n) : share;
    return (struct padded_round){
        .out = message_layout(&e->form, most->experts, share, rows, all > 0).bytes,
        .back = (size_t)back * e->wire_row_bytes,
        .out_rows = rows,
        .back_rows = back,
        .piece_rows = most->pieces * most->n};
}

static void choose_round(struct exchange_end *e, const struct exchange_layer *layer, int n)
{
    struct expected most = {.n = n, .k = layer->top_k};
    EACH_WORKER (e, rank) {
        int experts = layer_experts(layer, rank), pieces = layer_pieces(layer, rank);
        most.experts = experts > most.experts ? experts : most.experts;
        most.pieces = pieces > most.pieces ? pieces : most.pieces;
    }
    e->round = round_of(e, &most);
}

struct padded_round padded_most(const struct exchange_end *e)
{
    const struct exchange_limits *l = &e->limits;
    return round_of(e, &(struct expected){l->experts, l->pieces, l->rows, l->top_k});
}

/* How many rounds a length needs, at least one. */
static int rounds_for(size_t length, size_t round)
{
    return length > round ? (int)((length + round - 1) / round) : 1;
}

/* ---- root ---- */

void padded_open_root(struct root_end *x)
{
    struct exchange_end *e = &x->end;
    struct padded_round most = padded_most(e);
    int n = most.back_rows > most.piece_rows ? most.back_rows : most.piece_rows;
    size_t bytes = (size_t)n * sizeof *x->identity, ranks = (size_t)e->transport->size;
    int32_t *identity = dev_alloc_host(e->dev, bytes);
    for (int i = 0; i < n; i++)
        identity[i] = i;
    x->identity = dev_alloc_copy(e->dev, identity, bytes);
    dev_upload(e->dev, x->identity, identity, bytes);
    x->staging = dev_alloc(e->dev, ranks * most.back);
    x->piece_staging = dev_alloc(e->dev, ranks * (size_t)most.piece_rows * e->wire_piece_bytes);
}

/* Count the rounds: of rows if they travel apart, else of messages with their rows. */
static void count_rounds(struct root_end *x)
{
    struct exchange_end *e = &x->end;
    size_t out = 0, back = 0;
    EACH_WORKER (e, rank) {
        size_t length =
            e->form.apart ? (size_t)x->plan.sent[rank] : x->begin[rank + 1] - x->begin[rank];
        out = length > out ? length : out;
        back = (size_t)x->plan.back[rank] > back ? (size_t)x->plan.back[rank] : back;
    }
    e->rounds = rounds_for(out, e->form.apart ? (size_t)e->round.out_rows : e->round.out);
    e->rounds_back = rounds_for(back, (size_t)e->round.back_rows);
}

static void expect_round(struct root_end *x)
{
    struct exchange_end *e = &x->end;
    size_t pieces = (size_t)e->round.piece_rows * e->wire_piece_bytes;
    EACH_WORKER (e, rank) {
        x->back[rank] = (struct area){x->staging + (size_t)rank * e->round.back, e->round.back};
        x->pieces_back[rank] = (struct area){x->piece_staging + (size_t)rank * pieces, pieces};
    }
}

static int padded_dispatch(struct root_end *x)
{
    struct exchange_end *e = &x->end;
    choose_round(e, &x->plan.routing->layer, x->plan.routing->n);
    exact_place(x);
    count_rounds(x);
    expect_round(x);
    int status = e->mover->expect(x, 0);
    EACH_WORKER (e, rank) {
        exact_pack(x, rank);
        if (e->form.apart && !status)
            status = root_send_message(x, rank);
    }
    return status ? status : e->mover->send(x);
}

/* Copy a round's results from the staging area to their slots. */
static void place_round(struct root_end *x, int round)
{
    struct exchange_end *e = &x->end;
    int room = e->round.back_rows, done = round * room;
    EACH_WORKER (e, rank)
        if (x->plan.back[rank] > done)
            gather(e->dev, results_of(x, x->plan.first[rank] + done), x->back[rank].at, x->identity,
                   end_least(x->plan.back[rank] - done, room), e->wire_row_bytes);
}

/* Copy the pieces' results from the staging area to their place. */
static void place_pieces(struct root_end *x)
{
    struct exchange_end *e = &x->end;
    EACH_WORKER (e, rank)
        gather(e->dev, piece_results_of(x, rank), x->pieces_back[rank].at, x->identity,
               piece_rows(x, rank), e->wire_piece_bytes);
}

static int padded_combine(struct root_end *x)
{
    struct exchange_end *e = &x->end;
    int status = 0;
    for (int round = 0; round < e->rounds_back && !status; round++) {
        trace_mark(e->trace, PHASE_WAIT);
        if (round > 0)
            status = e->mover->expect(x, round);
        if (!status)
            status = e->mover->take(x, round);
        trace_mark(e->trace, PHASE_COMBINE);
        if (!status)
            place_round(x, round);
        if (!status && round == 0)
            place_pieces(x);
    }
    return status;
}

/* ---- worker ---- */

/* The most rounds that a step of n rows can need; *back := the same for results. */
static int rounds_most(const struct worker_end *x, int n, int k, int *back)
{
    const struct exchange_end *e = &x->end;
    size_t pairs = (size_t)n * (size_t)k, all = e->round.piece_rows ? (size_t)n : 0;
    *back = rounds_for(pairs, (size_t)e->round.back_rows);
    if (e->form.apart)
        return rounds_for(e->form.dedup ? (size_t)n : pairs + all, (size_t)e->round.out_rows);
    return (int)(x->in_capacity / e->round.out);
}

/* e->rounds and rounds_back := those of the message's header, which must be in range. */
static int read_rounds(struct worker_end *x, int n, int k)
{
    struct exchange_end *e = &x->end;
    struct message_header header;
    int most_back, most = rounds_most(x, n, k, &most_back);
    if (x->in_bytes < sizeof header)
        return fail(STATUS_FAILED, "dispatch: expected a header of %zu bytes, found %zu",
                    sizeof header, x->in_bytes);
    memcpy(&header, x->in, sizeof header);
    if (header.rounds < 1 || header.rounds > most || header.rounds_back < 1 ||
        header.rounds_back > most_back)
        return fail(STATUS_FAILED, "dispatch: expected up to %d rounds and %d back, found %d, %d",
                    most, most_back, header.rounds, header.rounds_back);
    e->rounds = header.rounds;
    e->rounds_back = header.rounds_back;
    return 0;
}

/* The first round's size is known before the header is here. */
static int padded_receive(struct worker_end *x, const struct exchange_layer *layer, int n)
{
    struct exchange_end *e = &x->end;
    choose_round(e, layer, n);
    x->in_bytes = 0;
    int room = e->round.out_rows, status = e->mover->start(x, 0, room);
    if (!status && e->form.apart)
        status = worker_receive_message(x);
    if (!status)
        status = read_rounds(x, n, layer->top_k);
    for (int round = 1; !status && round < e->rounds; round++)
        status = e->mover->start(x, round * room, room);
    return status;
}

/* Unpack the message, and check that it announces enough rounds for all results. */
static int padded_unpack(struct worker_end *x, const struct exchange_layer *layer, int n)
{
    struct exchange_end *e = &x->end;
    int status = exact_unpack_message(x, layer, n);
    if (status)
        return status;
    int back = x->dispatch.n_back;
    int needed = rounds_for((size_t)back, (size_t)e->round.back_rows);
    if (e->rounds_back < needed)
        return fail(STATUS_FAILED,
                    "dispatch: expected at least %d rounds back for %d rows, found %d", needed,
                    back, e->rounds_back);
    return e->mover->finish(x);
}

const struct strategy_ops strategy_padded = {
    .begin = exact_begin,
    .dispatch = padded_dispatch,
    .combine = padded_combine,
    .receive = padded_receive,
    .unpack = padded_unpack,
    .give_back = exact_give_back,
};
