/* Strategy `padded` where each rank has a GPU: a round is one uniform all-to-all, in which every
 * rank says something of one size to every rank, itself too. What is not from or to rank 0 is
 * padding: it takes no longer, since rank 0 alone fills its links, but costs memory for what nobody
 * reads.
 *
 * Rank 0's piece is the first of all that a rank gets. So a worker takes round r to where row
 * r * round begins: the other pieces lie behind it, and the next round covers them. Likewise it
 * gives back from there, and the others get whatever follows. */
#include "kernels/ops.h"
#include "transport/direct.h"

/* Rows that one rank gets at most. */
static size_t rows_most(const struct exchange *x)
{
    return x->options.dedup == DEDUP_ON ? (size_t)x->limits.rows : (size_t)pairs_most(&x->limits);
}

/* A round's pieces for all ranks, in bytes. */
static size_t pieces(const struct exchange *x, int rows)
{
    return (size_t)x->transport->size * (size_t)rows * x->wire_row_bytes;
}

size_t padded_slack(const struct exchange *x)
{
    return pieces(x, uniform_most(x).back_rows);
}

static void open_coordinator(struct exchange *x)
{
    struct direct *s = x->direct;
    struct uniform most = uniform_most(x);
    s->rows = dev_alloc(x->dev, pieces(x, (int)rows_most(x) + most.out_rows));
    s->staging = dev_alloc(x->dev, pieces(x, most.back_rows));
    s->count_up = dev_alloc(x->dev, (size_t)most.back_rows * sizeof *s->count_up);
    int32_t *count_up = dev_alloc_host(x->dev, (size_t)most.back_rows * sizeof *count_up);
    for (int i = 0; i < most.back_rows; i++)
        count_up[i] = i;
    dev_upload(x->dev, s->count_up, count_up, (size_t)most.back_rows * sizeof *count_up);
}

void padded_open_direct(struct exchange *x)
{
    struct direct *s = x->direct;
    struct uniform most = uniform_most(x);
    bool worker = x->transport->rank > 0;
    if (worker)
        s->rows = dev_alloc(x->dev, rows_most(x) * x->wire_row_bytes + pieces(x, most.out_rows));
    else
        open_coordinator(x);
    s->nothing = dev_alloc(x->dev, pieces(x, worker ? most.out_rows : most.back_rows));
    s->dropped = dev_alloc(x->dev, pieces(x, worker ? most.back_rows : most.out_rows));
}

static int all_to_all(struct exchange *x, const void *from, void *to, int rows)
{
    struct nccl *n = &x->direct->nccl;
    int status = nccl_begin(n);
    if (!status)
        status = nccl_all_to_all(n, from, to, (size_t)rows * x->wire_row_bytes);
    return status ? status : nccl_start(n);
}

int padded_meet(struct exchange *x)
{
    return all_to_all(x, x->direct->nothing, x->direct->dropped, 1);
}

static int least(int a, int b)
{
    return a < b ? a : b;
}

static int rounds_for(int rows, int round)
{
    return padded_rounds((size_t)rows, (size_t)round);
}

static void count_rounds(struct exchange *x)
{
    int sent = 0, back = 0;
    for (int rank = 1; rank < x->transport->size; rank++) {
        sent = x->sent[rank] > sent ? x->sent[rank] : sent;
        back = x->back[rank] > back ? x->back[rank] : back;
    }
    x->rounds = rounds_for(sent, x->round.out_rows);
    x->rounds_back = rounds_for(back, x->round.back_rows);
}

/* ---- coordinator ---- */

static char *round_out(const struct exchange *x, int round)
{
    return x->direct->rows + (size_t)round * pieces(x, x->round.out_rows);
}

/* All rounds at once: a round that waited for the one before would keep the GPU waiting. */
static void gather_rounds(struct exchange *x, const struct exchange_plan *plan)
{
    int room = x->round.out_rows;
    trace_mark(x->trace, PHASE_PACK);
    direct_upload_rows(x, plan);
    for (int rank = 1; rank < x->transport->size; rank++)
        for (int done = 0; done < x->sent[rank]; done += room)
            gather(x->dev,
                   round_out(x, done / room) + (size_t)rank * (size_t)room * x->wire_row_bytes,
                   rows_out(x, plan), x->direct->index + x->first[rank] + done,
                   least(x->sent[rank] - done, room), x->wire_row_bytes);
    nccl_follow(&x->direct->nccl);
}

static int padded_begin(struct exchange *x, const struct exchange_plan *plan)
{
    uniform_choose(x, &plan->layer, plan->n);
    return 0;
}

static int padded_dispatch(struct exchange *x, const struct exchange_plan *plan)
{
    size_t bytes = (size_t)x->round.out_rows * x->wire_row_bytes;
    count_rounds(x);
    int status = direct_send_heads(x, plan);
    if (!status)
        gather_rounds(x, plan);
    trace_mark(x->trace, PHASE_WIRE_OUT);
    for (int round = 0; round < x->rounds && !status; round++) {
        for (int rank = 1; rank < x->transport->size; rank++)
            exchange_count_sent(x, rank, bytes);
        status = all_to_all(x, round_out(x, round), x->direct->dropped, x->round.out_rows);
    }
    return status;
}

/* The rows of a round leave the staging area for their places. */
static void place_round(struct exchange *x, int round)
{
    int room = x->round.back_rows, done = round * room;
    for (int rank = 1; rank < x->transport->size; rank++) {
        exchange_count_received(x, rank, x->round.back);
        gather(x->dev, x->landing + (size_t)(x->first[rank] + done) * x->wire_row_bytes,
               x->direct->staging + (size_t)rank * x->round.back, x->direct->count_up,
               done < x->back[rank] ? least(x->back[rank] - done, room) : 0, x->wire_row_bytes);
    }
    nccl_follow(&x->direct->nccl);
}

static int padded_combine(struct exchange *x, const struct exchange_plan *plan)
{
    struct direct *s = x->direct;
    (void)plan;
    int status = exchange_wait(x);
    for (int round = 0; round < x->rounds_back && !status; round++) {
        trace_mark(x->trace, PHASE_WAIT);
        status = all_to_all(x, s->nothing, s->staging, x->round.back_rows);
        if (!status)
            status = direct_wait(x);
        trace_mark(x->trace, PHASE_COMBINE);
        if (!status)
            place_round(x, round);
    }
    return status;
}

/* ---- worker ---- */

static int take_round(struct exchange *x, int round)
{
    size_t bytes = (size_t)x->round.out_rows * x->wire_row_bytes;
    exchange_count_received(x, 0, bytes);
    return all_to_all(x, x->direct->nothing, x->direct->rows + (size_t)round * bytes,
                      x->round.out_rows);
}

/* The first round's size is known before the message is here. */
static int padded_receive(struct exchange *x, const struct exchange_layer *layer, int n)
{
    uniform_choose(x, layer, n);
    int status = take_round(x, 0);
    return status ? status : single_receive(x, layer, n);
}

static int padded_unpack(struct exchange *x, const struct exchange_layer *layer, int n)
{
    int status = message_unpack(x, layer, n);
    if (!status)
        status = padded_read_rounds(x, rounds_for((int)rows_most(x), x->round.out_rows),
                                    rounds_for(n * x->limits.top_k, x->round.back_rows));
    trace_mark(x->trace, PHASE_AWAIT);
    for (int round = 1; !status && round < x->rounds; round++)
        status = take_round(x, round);
    if (!status)
        status = direct_wait(x);
    trace_mark(x->trace, PHASE_UNPACK);
    return status ? status : direct_present(x);
}

static int padded_give_back(struct exchange *x, const void *rows)
{
    int status = 0;
    nccl_follow(&x->direct->nccl);
    for (int round = 0; round < x->rounds_back && !status; round++) {
        const char *from = (const char *)rows + (size_t)round * x->round.back;
        exchange_count_sent(x, 0, x->round.back);
        status = all_to_all(x, round * x->round.back_rows < x->n_back ? from : rows,
                            x->direct->dropped, x->round.back_rows);
    }
    return status ? status : direct_announce(x);
}

const struct strategy_ops direct_padded = {
    .begin = padded_begin,
    .dispatch = padded_dispatch,
    .combine = padded_combine,
    .receive = padded_receive,
    .unpack = padded_unpack,
    .give_back = padded_give_back,
};
