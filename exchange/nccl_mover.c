/* NCCL moves rows from GPU to GPU; the transport moves the messages, which have no rows.
 *
 * Once NCCL has accepted the rows that a worker gives back, the worker sends an empty message, its
 * word. The root waits for all words by the transport, which finds lost ranks and hears why a
 * worker gave up, and only then receives the rows by NCCL, which takes a short time.
 *
 * A lane's transfers have a queue of their own. It waits for the GPU's calls only when rows are
 * ready to be sent (nccl_follow). This is also enough to keep a buffer from being overwritten too
 * early: before it is used again, results made from its contents have been sent.
 *
 * A round of STRATEGY_PADDED is one uniform all-to-all: every rank sends every rank, itself too, a
 * part of one size. What is not from or to the root is padding. That takes no longer, since the
 * root's links are the bottleneck, but takes memory for what nobody reads. */
#include "base/clock.h"
#include "exchange/mover.h"
#include "exchange/strategy.h"
#include "kernels/ops.h"

/* The most rows that one worker gets. */
static size_t rows_most(const struct exchange_end *e)
{
    size_t rows = (size_t)e->limits.rows, all = e->limits.pieces ? rows : 0;
    return e->form.dedup ? rows : (size_t)end_pairs(e) + all;
}

/* Bytes of a round with a part of so many bytes for each rank. */
static size_t parts(const struct exchange_end *e, size_t bytes)
{
    return (size_t)e->transport->size * bytes;
}

static size_t out_part(const struct exchange_end *e, const struct padded_round *r)
{
    return (size_t)r->out_rows * e->wire_row_bytes;
}

static size_t pieces_part(const struct exchange_end *e, const struct padded_round *r)
{
    return (size_t)r->piece_rows * e->wire_piece_bytes;
}

/* The larger part of what comes back. */
static size_t back_part(const struct exchange_end *e, const struct padded_round *r)
{
    size_t pieces = pieces_part(e, r);
    return r->back > pieces ? r->back : pieces;
}

static bool is_padded(const struct exchange_end *e)
{
    return e->form.rounds;
}

static size_t slack(const struct exchange_end *e)
{
    struct padded_round most = padded_most(e);
    return is_padded(e) ? parts(e, back_part(e, &most)) : 0;
}

/* Allocate the lane's buffers: rows, their numbers, and padding to send and to receive. */
static void open_rows(struct exchange_end *e, size_t bytes, int numbers, size_t zeros,
                      size_t discard)
{
    struct nccl_rows *s = dev_alloc_host(e->host, sizeof *s);
    *s = (struct nccl_rows){.index = dev_alloc(e->dev, (size_t)numbers * sizeof *s->index)};
    s->rows = bytes ? dev_alloc(e->dev, bytes) : NULL;
    if (is_padded(e)) {
        s->zeros = dev_alloc(e->dev, parts(e, zeros));
        s->discard = dev_alloc(e->dev, parts(e, discard));
    }
    e->nccl = s;
}

/* Bytes of the rows that a root gathers to send: each worker's own, or every round's parts for all
 * ranks; 0 for STRATEGY_ALLGATHER, which sends h itself. */
static size_t root_bytes(const struct exchange_end *e, const struct padded_round *most)
{
    int leaving = plan_leaving_most(&e->limits, e->transport->size);
    if (is_padded(e))
        return parts(e, rows_most(e) * e->wire_row_bytes + out_part(e, most));
    return e->options.strategy == STRATEGY_EXACT ? (size_t)leaving * e->wire_row_bytes : 0;
}

/* Bytes of the rows that a worker receives. In an all-to-all the root's part comes first. So a
 * worker receives each round where the round's rows belong: the padding from other ranks lies after
 * them, and the next round overwrites it. */
static size_t worker_bytes(const struct exchange_end *e, const struct padded_round *most)
{
    return rows_most(e) * e->wire_row_bytes + (is_padded(e) ? parts(e, out_part(e, most)) : 0);
}

static void open_lane(struct exchange_end *e)
{
    struct padded_round most = padded_most(e);
    size_t out = out_part(e, &most), back = back_part(e, &most);
    int numbers = plan_leaving_most(&e->limits, e->transport->size);
    numbers = numbers > 1 ? numbers : 1; // meet_exact() needs 2 bytes, meet_allgather() 1
    if (end_is_root(e))
        open_rows(e, root_bytes(e, &most), numbers, back, out);
    else
        open_rows(e, worker_bytes(e, &most), numbers, out, back);
}

/* ---- both ends ---- */

int nccl_rows_expect_words(struct exchange_end *e, char *message)
{
    int status = 0;
    EACH_WORKER (e, rank)
        if (!status)
            status = transport_start_recv(e->transport, e->lane, rank, message, 0);
    return status;
}

int nccl_rows_give_word(struct exchange_end *e, const char *message)
{
    int status = nccl_settle(&e->nccl->nccl);
    return status ? status : end_send(e, e->root, message, 0);
}

int nccl_rows_uniform(struct exchange_end *e, const void *from, void *to, size_t bytes)
{
    struct nccl *n = &e->nccl->nccl;
    int status = nccl_begin(n);
    if (!status)
        status = nccl_all_to_all(n, from, to, bytes);
    return status ? status : nccl_start(n);
}

static int broadcast(struct exchange_end *e, void *rows, int n)
{
    struct nccl *c = &e->nccl->nccl;
    int status = nccl_begin(c);
    if (!status)
        status = nccl_broadcast(c, rows, (size_t)n * e->wire_row_bytes);
    return status ? status : nccl_start(c);
}

/* Wait until all transfers that were started are done. Both ends count the time as exposed. */
static int wait_for_rows(struct exchange_end *e)
{
    int64_t start = clock_ns();
    int status = nccl_wait(&e->nccl->nccl);
    e->counters->exposed_ns += (uint64_t)(clock_ns() - start);
    return status;
}

/* ---- root ---- */

/* A worker gives one word, for all rounds. */
static int expect(struct root_end *x, int round)
{
    return round ? 0 : nccl_rows_expect_words(&x->end, x->out);
}

/* Copy the numbers of the rows to send to the GPU. */
static void upload_rows(struct root_end *x)
{
    struct exchange_end *e = &x->end;
    size_t n = (size_t)x->plan.leaving_first[x->plan.ranks];
    trace_mark(e->trace, PHASE_PACK);
    dev_upload(e->dev, e->nccl->index, x->plan.leaving, n * sizeof(int32_t));
}

static char *round_out(const struct exchange_end *e, int round)
{
    return e->nccl->rows + (size_t)round * parts(e, out_part(e, &e->round));
}

/* Gather the rows for one worker, in the plan's order; if padded, into its part of every round. */
static void gather_rows(struct root_end *x, int rank)
{
    struct exchange_end *e = &x->end;
    int sent = x->plan.sent[rank], first = x->plan.leaving_first[rank];
    int room = is_padded(e) ? e->round.out_rows : sent;
    for (int done = 0; done < sent; done += room) {
        char *to = is_padded(e) ? round_out(e, done / room) + (size_t)rank * out_part(e, &e->round)
                                : e->nccl->rows + (size_t)first * e->wire_row_bytes;
        gather(e->dev, to, rows_out(x), e->nccl->index + first + done, end_least(sent - done, room),
               e->wire_row_bytes);
    }
}

static int send_to(struct root_end *x, int rank)
{
    struct exchange_end *e = &x->end;
    size_t bytes = (size_t)x->plan.sent[rank] * e->wire_row_bytes;
    if (!bytes)
        return 0;
    trace_mark_detail(e->trace, PHASE_WIRE_OUT, rank);
    end_count_sent(e, rank, bytes);
    return nccl_send(&e->nccl->nccl, rank,
                     e->nccl->rows + (size_t)x->plan.leaving_first[rank] * e->wire_row_bytes,
                     bytes);
}

static int send_group(struct root_end *x)
{
    struct exchange_end *e = &x->end;
    int status = nccl_begin(&e->nccl->nccl);
    if (status)
        return status;
    EACH_WORKER (e, rank)
        if (!status)
            status = send_to(x, rank);
    return status ? status : nccl_start(&e->nccl->nccl);
}

static int send_rounds(struct root_end *x)
{
    struct exchange_end *e = &x->end;
    int status = 0;
    trace_mark(e->trace, PHASE_WIRE_OUT);
    for (int round = 0; round < e->rounds && !status; round++) {
        EACH_WORKER (e, rank)
            end_count_sent(e, rank, out_part(e, &e->round));
        status =
            nccl_rows_uniform(e, round_out(e, round), e->nccl->discard, out_part(e, &e->round));
    }
    return status;
}

/* All rows are gathered before any is sent, so that the GPU never waits for a round. The rows of
 * STRATEGY_ALLGATHER have been sent by send_all(). */
static int send(struct root_end *x)
{
    struct exchange_end *e = &x->end;
    if (e->options.strategy == STRATEGY_ALLGATHER)
        return 0;
    upload_rows(x);
    EACH_WORKER (e, rank)
        gather_rows(x, rank);
    nccl_follow(&e->nccl->nccl);
    return is_padded(e) ? send_rounds(x) : send_group(x);
}

static int send_all(struct root_end *x, int n)
{
    struct exchange_end *e = &x->end;
    trace_mark(e->trace, PHASE_WIRE_OUT);
    EACH_WORKER (e, rank)
        end_count_sent(e, rank, (size_t)n * e->wire_row_bytes);
    nccl_follow(&e->nccl->nccl);
    int status = broadcast(e, (void *)rows_out(x), n);
    trace_mark(e->trace, PHASE_ROUTER);
    return status;
}

static int receive_area(struct exchange_end *e, int rank, const struct area *a)
{
    return a->bytes ? nccl_recv(&e->nccl->nccl, rank, a->at, a->bytes) : 0;
}

static int take_group(struct root_end *x)
{
    struct exchange_end *e = &x->end;
    int status = nccl_begin(&e->nccl->nccl);
    if (status)
        return status;
    EACH_WORKER (e, rank) {
        if (!status)
            status = receive_area(e, rank, &x->pieces_back[rank]);
        if (!status)
            status = receive_area(e, rank, &x->back[rank]);
    }
    return status ? status : nccl_start(&e->nccl->nccl);
}

/* Start to receive a round; the pieces' results come with the first one. */
static int take_round(struct root_end *x, int round)
{
    struct exchange_end *e = &x->end;
    size_t pieces = pieces_part(e, &e->round);
    int status =
        round || !pieces ? 0 : nccl_rows_uniform(e, e->nccl->zeros, x->piece_staging, pieces);
    return status ? status : nccl_rows_uniform(e, e->nccl->zeros, x->staging, e->round.back);
}

/* Receive a round. A later one first waits until the one before has been copied from the staging
 * area. */
static int take(struct root_end *x, int round)
{
    struct exchange_end *e = &x->end;
    int status = round ? 0 : end_wait(e);
    if (status)
        return status;
    if (round)
        nccl_follow(&e->nccl->nccl);
    EACH_WORKER (e, rank)
        end_count_received(e, rank, x->back[rank].bytes + (round ? 0 : x->pieces_back[rank].bytes));
    status = is_padded(e) ? take_round(x, round) : take_group(x);
    return status ? status : wait_for_rows(e);
}

/* ---- worker ---- */

/* Start to receive n rows from the root (STRATEGY_EXACT). */
static int receive(struct exchange_end *e, void *rows, int n)
{
    struct nccl *c = &e->nccl->nccl;
    if (!n)
        return 0;
    int status = nccl_begin(c);
    if (!status)
        status = nccl_recv(c, e->root, rows, (size_t)n * e->wire_row_bytes);
    return status ? status : nccl_start(c);
}

static int start(struct worker_end *x, int first, int n)
{
    struct exchange_end *e = &x->end;
    char *rows = e->nccl->rows + (size_t)first * e->wire_row_bytes;
    end_count_received(e, e->root, (size_t)n * e->wire_row_bytes);
    if (is_padded(e))
        return nccl_rows_uniform(e, e->nccl->zeros, rows, (size_t)n * e->wire_row_bytes);
    return e->options.strategy == STRATEGY_EXACT ? receive(e, rows, n) : broadcast(e, rows, n);
}

/* Wait for the rows; then the list of which slot reads which row is copied to the GPU, too. */
static int finish(struct worker_end *x)
{
    struct exchange_end *e = &x->end;
    struct dispatch *d = &x->dispatch;
    trace_mark(e->trace, PHASE_AWAIT);
    int status = wait_for_rows(e);
    trace_mark(e->trace, PHASE_UNPACK);
    if (status)
        return status;
    d->rows = e->nccl->rows;
    if (!d->source)
        return 0;
    dev_upload(e->dev, e->nccl->index, d->source, (size_t)d->n_slots * sizeof *d->source);
    d->source = e->nccl->index;
    return 0;
}

static int send_area(struct exchange_end *e, const void *from, size_t bytes)
{
    if (!bytes)
        return 0;
    end_count_sent(e, e->root, bytes);
    return nccl_send(&e->nccl->nccl, e->root, from, bytes);
}

static int give_rows(struct worker_end *x, const void *rows, const void *pieces)
{
    struct exchange_end *e = &x->end;
    struct nccl *n = &e->nccl->nccl;
    size_t bytes = (size_t)x->dispatch.n_back * e->wire_row_bytes;
    size_t piece_bytes = (size_t)x->dispatch.n_piece_rows * e->wire_piece_bytes;
    if (!bytes && !piece_bytes)
        return 0;
    int status = nccl_begin(n);
    if (!status)
        status = send_area(e, pieces, piece_bytes);
    if (!status)
        status = send_area(e, rows, bytes);
    return status ? status : nccl_start(n);
}

/* The root's part of a round begins where the round's rows do; the other ranks' parts are whatever
 * bytes follow. The root must be rank 0. */
static int give_rounds(struct worker_end *x, const void *rows, const void *pieces)
{
    struct exchange_end *e = &x->end;
    size_t part = pieces_part(e, &e->round);
    int status = part ? nccl_rows_uniform(e, pieces, e->nccl->discard, part) : 0;
    if (part)
        end_count_sent(e, e->root, part);
    for (int round = 0; round < e->rounds_back && !status; round++) {
        bool ended = round * e->round.back_rows >= x->dispatch.n_back;
        const char *from = (const char *)rows + (ended ? 0 : (size_t)round * e->round.back);
        end_count_sent(e, e->root, e->round.back);
        status = nccl_rows_uniform(e, from, e->nccl->discard, e->round.back);
    }
    return status;
}

static int give_back(struct worker_end *x, const void *rows, const void *pieces)
{
    struct exchange_end *e = &x->end;
    nccl_follow(&e->nccl->nccl);
    int status = is_padded(e) ? give_rounds(x, rows, pieces) : give_rows(x, rows, pieces);
    return status ? status : nccl_rows_give_word(e, x->in);
}

const struct mover nccl_mover = {
    .apart = true,
    .open = open_lane,
    .slack = slack,
    .send_all = send_all,
    .expect = expect,
    .send = send,
    .take = take,
    .start = start,
    .finish = finish,
    .give_back = give_back,
};
