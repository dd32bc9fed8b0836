/* Strategies `exact` and `allgather` where each rank has a GPU, and what all have in common.
 *
 * A worker that has started to give rows back, and whose NCCL has accepted it, says so with an
 * empty message, and the coordinator starts to receive once all have: until then it waits as over
 * any transport, which finds out who is lost or hears why. What NCCL alone can hold up is short.
 *
 * A lane's rows have a stream of their own, which waits for the GPU only where rows are ready to
 * leave. That is also what keeps a buffer until it has been read: between two uses of one, its
 * reader's results have left. */
#include "transport/direct.h"

#include "base/clock.h"
#include "base/log.h"
#include "kernels/ops.h"

static const struct strategy_ops *const strategies[STRATEGY_COUNT] = {&direct_exact, &direct_padded,
                                                                      &direct_allgather};

static void open_rows(struct exchange *x)
{
    size_t rows = (size_t)x->limits.rows, pairs = (size_t)pairs_most(&x->limits);
    bool worker = x->transport->rank > 0;
    if (x->options.strategy == STRATEGY_PADDED)
        padded_open_direct(x);
    else if (x->options.strategy == STRATEGY_EXACT)
        x->direct->rows = dev_alloc(x->dev, pairs * x->wire_row_bytes);
    else if (worker)
        x->direct->rows = dev_alloc(x->dev, rows * x->wire_row_bytes);
}

void direct_open(struct exchange *x)
{
    size_t pairs = (size_t)pairs_most(&x->limits);
    x->direct = dev_alloc_host(x->host, sizeof *x->direct);
    *x->direct = (struct direct){.index = dev_alloc(x->dev, pairs * sizeof(int32_t))};
    x->ops = strategies[x->options.strategy];
    open_rows(x);
}

size_t direct_slack(const struct exchange *x)
{
    return x->options.strategy == STRATEGY_PADDED ? padded_slack(x) : 0;
}

/* ---- what all have in common ---- */

int direct_await_words(struct exchange *x)
{
    int status = 0;
    for (int rank = 1; rank < x->transport->size && !status; rank++)
        status = transport_start_recv(x->transport, x->lane, rank, x->out, 0);
    return status;
}

int direct_send_heads(struct exchange *x, const struct exchange_plan *plan)
{
    message_place(x, plan);
    int status = direct_await_words(x);
    for (int rank = 1; rank < x->transport->size && !status; rank++) {
        message_pack(x, plan, rank);
        status = single_send(x, rank, x->out + x->begin[rank], x->begin[rank + 1] - x->begin[rank]);
    }
    return status;
}

void direct_upload_rows(struct exchange *x, const struct exchange_plan *plan)
{
    size_t places = (size_t)x->first[x->transport->size];
    dev_upload(x->dev, x->direct->index, rows_of_ranks(x, plan), places * sizeof(int32_t));
}

int direct_present(struct exchange *x)
{
    struct direct *s = x->direct;
    x->wire_rows = s->rows;
    if (!x->gather)
        return 0;
    dev_upload(x->dev, s->index, x->gather, (size_t)x->work.n_rows * sizeof *s->index);
    x->gather = s->index;
    return 0;
}

int direct_announce(struct exchange *x)
{
    int status = nccl_settle(&x->direct->nccl);
    return status ? status : single_send(x, 0, x->in, 0);
}

int direct_wait(struct exchange *x)
{
    int64_t start = clock_ns();
    int status = nccl_wait(&x->direct->nccl);
    x->counters->exposed_ns += (uint64_t)(clock_ns() - start);
    return status;
}

/* ---- exact ---- */

static int exact_begin(struct exchange *x, const struct exchange_plan *plan)
{
    (void)x, (void)plan;
    return 0;
}

/* Rows for every worker, those of a rank from its first place on. */
static void gather_all(struct exchange *x, const struct exchange_plan *plan)
{
    struct direct *s = x->direct;
    trace_mark(x->trace, PHASE_PACK);
    direct_upload_rows(x, plan);
    for (int rank = 1; rank < x->transport->size; rank++)
        gather(x->dev, s->rows + (size_t)x->first[rank] * x->wire_row_bytes, rows_out(x, plan),
               s->index + x->first[rank], x->sent[rank], x->wire_row_bytes);
    nccl_follow(&s->nccl);
}

static int send_all(struct exchange *x)
{
    struct direct *s = x->direct;
    int status = nccl_begin(&s->nccl);
    if (status)
        return status;
    for (int rank = 1; rank < x->transport->size && !status; rank++) {
        size_t bytes = (size_t)x->sent[rank] * x->wire_row_bytes;
        if (!bytes)
            continue;
        trace_mark_detail(x->trace, PHASE_WIRE_OUT, rank);
        exchange_count_sent(x, rank, bytes);
        status =
            nccl_send(&s->nccl, rank, s->rows + (size_t)x->first[rank] * x->wire_row_bytes, bytes);
    }
    return status ? status : nccl_start(&s->nccl);
}

static int exact_dispatch(struct exchange *x, const struct exchange_plan *plan)
{
    int status = direct_send_heads(x, plan);
    if (status)
        return status;
    gather_all(x, plan);
    return send_all(x);
}

static int exact_combine(struct exchange *x, const struct exchange_plan *plan)
{
    struct nccl *n = &x->direct->nccl;
    (void)plan;
    int status = exchange_wait(x);
    if (!status)
        status = nccl_begin(n);
    if (status)
        return status;
    for (int rank = 1; rank < x->transport->size && !status; rank++) {
        size_t bytes = (size_t)x->back[rank] * x->wire_row_bytes;
        exchange_count_received(x, rank, bytes);
        if (bytes)
            status =
                nccl_recv(n, rank, x->landing + (size_t)x->first[rank] * x->wire_row_bytes, bytes);
    }
    if (!status)
        status = nccl_start(n);
    return status ? status : direct_wait(x);
}

static int take_rows(struct exchange *x)
{
    struct nccl *n = &x->direct->nccl;
    size_t bytes = (size_t)x->n_wire_rows * x->wire_row_bytes;
    exchange_count_received(x, 0, bytes);
    if (!bytes)
        return 0;
    int status = nccl_begin(n);
    if (!status)
        status = nccl_recv(n, 0, x->direct->rows, bytes);
    if (!status)
        status = nccl_start(n);
    return status ? status : direct_wait(x);
}

static int exact_unpack(struct exchange *x, const struct exchange_layer *layer, int n)
{
    int status = message_unpack(x, layer, n);
    if (status)
        return status;
    trace_mark(x->trace, PHASE_AWAIT);
    status = take_rows(x);
    trace_mark(x->trace, PHASE_UNPACK);
    return status ? status : direct_present(x);
}

static int exact_give_back(struct exchange *x, const void *rows)
{
    struct nccl *n = &x->direct->nccl;
    size_t bytes = (size_t)x->n_back * x->wire_row_bytes;
    nccl_follow(n);
    int status = bytes ? nccl_begin(n) : 0;
    if (bytes && !status) {
        exchange_count_sent(x, 0, bytes);
        status = nccl_send(n, 0, rows, bytes);
        if (!status)
            status = nccl_start(n);
    }
    return status ? status : direct_announce(x);
}

const struct strategy_ops direct_exact = {
    .begin = exact_begin,
    .dispatch = exact_dispatch,
    .combine = exact_combine,
    .receive = single_receive,
    .unpack = exact_unpack,
    .give_back = exact_give_back,
};

/* ---- allgather: all rows leave before anybody knows where they are wanted ---- */

static int broadcast(struct exchange *x, void *rows, int n)
{
    struct nccl *c = &x->direct->nccl;
    int status = nccl_begin(c);
    if (!status)
        status = nccl_broadcast(c, rows, (size_t)n * x->wire_row_bytes);
    return status ? status : nccl_start(c);
}

static int allgather_begin(struct exchange *x, const struct exchange_plan *plan)
{
    trace_mark(x->trace, PHASE_WIRE_OUT);
    for (int rank = 1; rank < x->transport->size; rank++)
        exchange_count_sent(x, rank, (size_t)plan->n * x->wire_row_bytes);
    nccl_follow(&x->direct->nccl);
    int status = broadcast(x, (void *)rows_out(x, plan), plan->n);
    trace_mark(x->trace, PHASE_ROUTER);
    return status;
}

static int allgather_dispatch(struct exchange *x, const struct exchange_plan *plan)
{
    size_t bytes = allgather_pack(x, plan);
    int status = direct_await_words(x);
    for (int rank = 1; rank < x->transport->size && !status; rank++)
        status = single_send(x, rank, x->out, bytes);
    return status;
}

/* NCCL need not wait for the message to be told of the rows. */
static int allgather_receive(struct exchange *x, const struct exchange_layer *layer, int n)
{
    exchange_count_received(x, 0, (size_t)n * x->wire_row_bytes);
    int status = broadcast(x, x->direct->rows, n);
    return status ? status : single_receive(x, layer, n);
}

static int allgather_take(struct exchange *x, const struct exchange_layer *layer, int n)
{
    int status = allgather_unpack(x, layer, n);
    if (status)
        return status;
    trace_mark(x->trace, PHASE_AWAIT);
    status = direct_wait(x);
    trace_mark(x->trace, PHASE_UNPACK);
    return status ? status : direct_present(x);
}

const struct strategy_ops direct_allgather = {
    .begin = allgather_begin,
    .dispatch = allgather_dispatch,
    .combine = exact_combine,
    .receive = allgather_receive,
    .unpack = allgather_take,
    .give_back = exact_give_back,
};
