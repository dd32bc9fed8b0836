/* Rows from GPU to GPU by NCCL, beside messages without rows by the transport.
 *
 * A worker that has started to give rows back, and whose NCCL has accepted it, says so with an
 * empty message, its word, and the root starts to receive rows once it has all words: until then it
 * waits as over any transport, which finds out who is lost or hears why. What NCCL alone can hold
 * up is short.
 *
 * A lane's rows have a queue of their own, which waits for the GPU only where rows are ready to
 * leave. That also keeps a buffer until it has been read: between two uses of one, its reader's
 * results have left.
 *
 * A round of STRATEGY_PADDED is one uniform all-to-all: every rank sends every rank, itself too, a
 * part of one size. What is not from or to the root is padding. It takes no longer, since the root
 * alone fills its links, but costs memory for what nobody reads. */
#include "base/clock.h"
#include "exchange/mover.h"
#include "exchange/strategy.h"
#include "kernels/ops.h"

/* Rows that one rank gets at most. */
static size_t rows_most(const struct exchange_end *e)
{
    size_t rows = (size_t)e->limits.rows, all = e->limits.pieces ? rows : 0;
    return e->form.dedup ? rows : (size_t)end_pairs(e) + all;
}

/* A round's parts of so many bytes for all ranks. */
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

/* The lane's buffers: of rows, of their numbers, and of parts that mean nothing. */
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

/* What a root sends: rows that it gathers for each worker, a part a round for each rank, or h. */
static size_t root_bytes(const struct exchange_end *e, const struct padded_round *most)
{
    int leaving = plan_leaving_most(&e->limits, e->transport->size);
    if (is_padded(e))
        return parts(e, rows_most(e) * e->wire_row_bytes + out_part(e, most));
    return e->options.strategy == STRATEGY_EXACT ? (size_t)leaving * e->wire_row_bytes : 0;
}

/* The root's part is the first of all that a rank gets. So a worker takes a round to where the
 * round's rows begin: the other parts lie behind it, and the next round covers them. */
static size_t worker_bytes(const struct exchange_end *e, const struct padded_round *most)
{
    return rows_most(e) * e->wire_row_bytes + (is_padded(e) ? parts(e, out_part(e, most)) : 0);
}

static void open_lane(struct exchange_end *e)
{
    struct padded_round most = padded_most(e);
    size_t out = out_part(e, &most), back = back_part(e, &most);
    int numbers = plan_leaving_most(&e->limits, e->transport->size);
    numbers = numbers > 1 ? numbers : 1; // see nccl_rows_join
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

/* What was started is done. Both ends' time for it counts as exposed. */
static int wait_for_rows(struct exchange_end *e)
{
    int64_t start = clock_ns();
    int status = nccl_wait(&e->nccl->nccl);
    e->counters->exposed_ns += (uint64_t)(clock_ns() - start);
    return status;
}

/* ---- root ---- */

/* One word for all rounds. */
static int expect(struct root_end *x, int round)
{
    return round ? 0 : nccl_rows_expect_words(&x->end, x->out);
}

/* The GPU knows which rows leave. */
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

/* The rows for one worker, as the plan lists them; or its part of every round. */
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

/* All rows are gathered before any leaves: a round that waited for the one before would keep the
 * GPU waiting. Those of STRATEGY_ALLGATHER have left. */
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

/* What pieces make comes with the first round. */
static int take_round(struct root_end *x, int round)
{
    struct exchange_end *e = &x->end;
    size_t pieces = pieces_part(e, &e->round);
    int status =
        round || !pieces ? 0 : nccl_rows_uniform(e, e->nccl->zeros, x->piece_staging, pieces);
    return status ? status : nccl_rows_uniform(e, e->nccl->zeros, x->staging, e->round.back);
}

/* A round waits until the one before has left the staging area. */
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

/* n rows from the root alone. */
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

/* What says which slot reads which row must be where the rows are. */
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

/* The root's part of a round begins where the round's rows do; the others get whatever follows. */
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
