/* A worker's end: what all strategies have in common. */
#include "exchange/worker.h"

#include "base/log.h"
#include "exchange/mover.h"
#include "exchange/strategy.h"
#include "kernels/ops.h"

static bool sums(const struct worker_end *x)
{
    return x->end.options.combine == COMBINE_SUM;
}

static void open_message(struct worker_end *x)
{
    struct exchange_end *e = &x->end;
    x->in_capacity = end_messages_most(e, 1) + (message_is_cut(&e->form) ? padded_most(e).out : 0);
    x->in = dev_alloc(e->host, x->in_capacity);
}

static void open_sums(struct worker_end *x, size_t slack)
{
    struct exchange_end *e = &x->end;
    size_t rows = (size_t)e->limits.rows, pairs = (size_t)end_pairs(e);
    sums_open(&x->terms, e->host, e->limits.rows, e->limits.top_k);
    x->sums = dev_alloc(e->dev, rows * e->row_bytes + slack);
    x->slot_dev = dev_alloc_copy(e->dev, x->terms.slot, pairs * sizeof *x->slot_dev);
    x->factor_dev = dev_alloc_copy(e->dev, x->terms.factor, pairs * sizeof *x->factor_dev);
}

static void open_rows(struct worker_end *x)
{
    struct exchange_end *e = &x->end;
    size_t rows = (size_t)e->limits.rows, pairs = (size_t)end_pairs(e);
    size_t n_pieces = (size_t)e->limits.pieces, slack = e->mover->slack(e);
    size_t come = e->options.dedup == DEDUP_ON ? rows : pairs + (n_pieces ? rows : 0);
    x->y = dev_alloc(e->dev, pairs * e->row_bytes + slack);
    x->z = dev_alloc(e->dev, rows * n_pieces * e->piece_bytes + slack);
    if (sums(x))
        open_sums(x, slack);
    if (!end_narrows(e))
        return;
    x->widened = dev_alloc(e->dev, come * e->row_bytes);
    x->narrowed = dev_alloc(e->dev, (sums(x) ? rows : pairs) * e->wire_row_bytes + slack);
    x->narrow_pieces = dev_alloc(e->dev, rows * n_pieces * e->wire_piece_bytes + slack);
}

/* Buffers for STRATEGY_ALLGATHER, with which the worker sorts the routing as the root did. */
static void open_sorting(struct worker_end *x)
{
    struct exchange_end *e = &x->end;
    size_t pairs = (size_t)end_pairs(e);
    dedup_open(&x->map, e->host, e->limits.rows, e->limits.top_k);
    x->count = dev_alloc(e->host, (size_t)e->limits.groups * sizeof *x->count);
    x->slot = dev_alloc(e->host, pairs * sizeof *x->slot);
    x->source = dev_alloc(e->host, pairs * sizeof *x->source);
}

static struct worker_end *open_lane(const struct exchange_end *end)
{
    struct worker_end *x = dev_alloc_host(end->host, sizeof *x);
    *x = (struct worker_end){.end = *end};
    open_message(x);
    open_rows(x);
    if (end->options.strategy == STRATEGY_ALLGATHER)
        open_sorting(x);
    end->mover->open(&x->end);
    return x;
}

int worker_end_open(struct worker_end *x[LANES], const struct exchange_setup *setup)
{
    struct exchange_setup s = end_settle(setup);
    struct exchange_end all = end_of(&s);
    int n = end_lanes(&s);
    for (int lane = 0; lane < n; lane++) {
        struct exchange_end e = end_of_lane(&all, lane, n);
        x[lane] = open_lane(&e);
    }
    return n;
}

int worker_end_join(struct worker_end *x[LANES], int lanes, const void *ids)
{
    int status = 0;
    for (int lane = 0; lane < lanes && !status; lane++)
        status = nccl_rows_join(&x[lane]->end, x[lane]->in, ids);
    return status;
}

void worker_end_leave(struct worker_end *x[LANES], int lanes)
{
    for (int lane = 0; lane < lanes; lane++)
        if (x[lane])
            nccl_rows_leave(&x[lane]->end);
}

void worker_end_trace(struct worker_end *x, struct trace *log)
{
    x->end.trace = log;
}

int worker_receive_message(struct worker_end *x)
{
    struct exchange_end *e = &x->end;
    int status = transport_start_recv(e->transport, e->lane, e->root, x->in, x->in_capacity);
    if (!status)
        status = end_wait(e);
    x->in_bytes = e->received[e->root];
    end_count_received(e, e->root, x->in_bytes);
    return status;
}

/* x->terms := the terms of each of the n sums that may go back, in order of expert. */
static int find_terms(struct worker_end *x, int n)
{
    const struct dispatch *d = &x->dispatch;
    sums_reset(&x->terms, n);
    for (int slot = 0; slot < d->n_slots; slot++)
        if (!sums_add(&x->terms, d->sum_of[slot], slot, d->weight[slot]))
            return fail(STATUS_FAILED, "dispatch: expected up to %d experts of a row, found more",
                        x->end.limits.top_k);
    return 0;
}

static void prepare_work(struct worker_end *x)
{
    struct exchange_end *e = &x->end;
    const struct exchange_limits *l = &e->limits;
    const struct dispatch *d = &x->dispatch;
    const void *rows = d->rows;
    if (end_narrows(e)) {
        widen_rows(e->dev, x->widened, l->type, rows, e->options.wire, d->n_rows, l->width);
        rows = x->widened;
    }
    x->work = (struct exchange_work){.n = d->n_slots,
                                     .count = d->count,
                                     .rows = rows,
                                     .n_rows = d->n_rows,
                                     .source = d->source,
                                     .y = x->y,
                                     .all = (const char *)rows + (size_t)d->all * e->row_bytes,
                                     .n_piece_rows = d->n_piece_rows,
                                     .z = x->z};
}

int worker_end_receive(struct worker_end *x, const struct exchange_layer *layer, int n,
                       const struct exchange_work **work)
{
    struct exchange_end *e = &x->end;
    e->rounds = e->rounds_back = 1;
    trace_mark(e->trace, PHASE_AWAIT);
    int status = e->strategy->receive(x, layer, n);
    if (status)
        return status;
    trace_mark(e->trace, PHASE_UNPACK);
    status = e->strategy->unpack(x, layer, n);
    if (!status && sums(x))
        status = find_terms(x, n);
    if (status)
        return status;
    prepare_work(x);
    *work = &x->work;
    return 0;
}

/* x->sums := what the terms say of x->y. */
static void sum_output(struct worker_end *x)
{
    struct exchange_end *e = &x->end;
    const struct exchange_limits *l = &e->limits;
    size_t terms = (size_t)x->dispatch.n_back * (size_t)l->top_k;
    dev_upload(e->dev, x->slot_dev, x->terms.slot, terms * sizeof *x->slot_dev);
    dev_upload(e->dev, x->factor_dev, x->terms.factor, terms * sizeof *x->factor_dev);
    sum_rows(e->dev, x->sums, x->y, l->type, x->slot_dev, x->factor_dev, x->dispatch.n_back,
             l->top_k, l->width);
}

int worker_end_return(struct worker_end *x)
{
    struct exchange_end *e = &x->end;
    const struct exchange_limits *l = &e->limits;
    const void *rows = x->y, *pieces = x->z;
    trace_mark(e->trace, PHASE_PACK);
    if (sums(x)) {
        sum_output(x);
        rows = x->sums;
    }
    if (end_narrows(e)) {
        narrow_rows(e->dev, x->narrowed, e->options.wire, rows, l->type, x->dispatch.n_back,
                    l->width, e->error);
        narrow_rows(e->dev, x->narrow_pieces, e->options.wire, pieces, DTYPE_F32,
                    x->dispatch.n_piece_rows, l->width, e->error);
        rows = x->narrowed;
        pieces = x->narrow_pieces;
    }
    return e->strategy->give_back(x, rows, pieces);
}

int worker_end_finish(struct worker_end *x)
{
    return end_wait(&x->end);
}

int worker_end_wire_error(struct worker_end *x, struct wire_error *error)
{
    return end_wire_error(&x->end, error);
}

int worker_end_lane(const struct worker_end *x)
{
    return x->end.lane;
}
