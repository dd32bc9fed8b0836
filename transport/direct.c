/* Strategy `exact` where each rank has a GPU: the host's messages are those of exact without their
 * rows, and the rows go from GPU to GPU by NCCL. Both ends know how many before they begin.
 *
 * A worker that has started to give rows back says so with an empty message, and the coordinator
 * starts to receive once all have: until then it waits as over any transport, which finds out who
 * is lost. What NCCL alone can hold up is short. */
#include "base/log.h"
#include "kernels/ops.h"
#include "transport/nccl.h"
#include "transport/strategy.h"

struct direct {
    struct nccl *nccl;
    struct dev *gpu;
    int32_t *index; // [places] on the GPU: rows that leave, or the row of each place
    char *rows;     // that leave, or have come
    char *runs;     // worker: rows in order of expert
};

int exchange_can_be_direct(const struct exchange_options *o)
{
    struct exchange_words words = exchange_words(o);
    if (o->strategy != STRATEGY_EXACT)
        return fail(STATUS_USAGE, "--transport nccl: expected --strategy exact, found %s",
                    words.strategy);
    if (o->combine != COMBINE_ROWS)
        return fail(STATUS_USAGE, "--transport nccl: expected --combine rows, found %s",
                    words.combine);
    if (o->wire != WIRE_MODEL)
        return fail(STATUS_USAGE, "--transport nccl: expected --wire model, found %s", words.wire);
    if (o->overlap != OVERLAP_OFF)
        return fail(STATUS_USAGE, "--transport nccl: expected --overlap off, found %s",
                    words.overlap);
    return 0;
}

void exchange_move_directly(struct exchange *x, struct dev *gpu, struct nccl *nccl)
{
    size_t pairs = (size_t)pairs_most(&x->limits);
    bool worker = x->transport->rank > 0;
    x->direct = dev_alloc_host(gpu, sizeof *x->direct);
    *x->direct = (struct direct){.nccl = nccl,
                                 .gpu = gpu,
                                 .index = dev_alloc(gpu, pairs * sizeof(int32_t)),
                                 .rows = dev_alloc(gpu, pairs * x->row_bytes)};
    if (worker) {
        x->direct->runs = dev_alloc(gpu, pairs * x->row_bytes);
        x->y = dev_alloc(gpu, pairs * x->row_bytes);
    }
    x->ops = &strategy_direct;
}

/* Rows for every worker, those of a rank from its first place on. */
static void gather_all(struct exchange *x, const struct exchange_plan *plan)
{
    struct direct *s = x->direct;
    const int32_t *row = x->options.dedup == DEDUP_ON ? x->shares->row : plan->source;
    int ranks = x->transport->size;
    dev_upload(s->gpu, s->index, row, (size_t)x->first[ranks] * sizeof *row);
    for (int rank = 1; rank < ranks; rank++)
        gather(s->gpu, s->rows + (size_t)x->first[rank] * x->row_bytes, plan->h,
               s->index + x->first[rank], x->sent[rank], x->row_bytes);
}

static int send_rows(struct exchange *x)
{
    struct direct *s = x->direct;
    int status = nccl_begin(s->nccl);
    if (status)
        return status;
    for (int rank = 1; rank < x->transport->size && !status; rank++) {
        size_t bytes = (size_t)x->sent[rank] * x->row_bytes;
        if (!bytes)
            continue;
        trace_mark_detail(x->trace, PHASE_WIRE_OUT, rank);
        exchange_count_sent(x, bytes);
        status = nccl_send(s->nccl, rank, s->rows + (size_t)x->first[rank] * x->row_bytes, bytes);
    }
    return status ? status : nccl_start(s->nccl);
}

static int direct_dispatch(struct exchange *x, struct dev *d, const struct exchange_plan *plan)
{
    int status = 0;
    message_place(x, plan);
    for (int rank = 1; rank < x->transport->size && !status; rank++)
        status = transport_start_recv(x->transport, x->lane, rank, x->out, 0);
    for (int rank = 1; rank < x->transport->size && !status; rank++) {
        message_pack(x, d, plan, rank);
        status = single_send(x, rank, x->out + x->begin[rank], x->begin[rank + 1] - x->begin[rank]);
    }
    trace_mark(x->trace, PHASE_PACK);
    gather_all(x, plan);
    return status ? status : send_rows(x);
}

static int direct_combine(struct exchange *x, const struct exchange_plan *plan)
{
    struct nccl *n = x->direct->nccl;
    int status = exchange_wait(x);
    if (!status)
        status = nccl_begin(n);
    if (status)
        return status;
    for (int rank = 1; rank < x->transport->size && !status; rank++) {
        size_t bytes = (size_t)x->back[rank] * x->row_bytes;
        x->counters->received += bytes;
        if (bytes)
            status =
                nccl_recv(n, rank, (char *)plan->y + (size_t)x->first[rank] * x->row_bytes, bytes);
    }
    if (!status)
        status = nccl_start(n);
    return status ? status : nccl_wait(n);
}

static int take_rows(struct exchange *x)
{
    struct direct *s = x->direct;
    size_t bytes = (size_t)x->n_wire_rows * x->row_bytes;
    x->counters->received += bytes;
    if (!bytes)
        return 0;
    int status = nccl_begin(s->nccl);
    if (!status)
        status = nccl_recv(s->nccl, 0, s->rows, bytes);
    if (!status)
        status = nccl_start(s->nccl);
    return status ? status : nccl_wait(s->nccl);
}

/* The rows are then in order of expert, so that nothing is left to gather. */
static int direct_unpack(struct exchange *x, struct dev *d, const struct exchange_layer *layer,
                         int n)
{
    struct direct *s = x->direct;
    int status = message_unpack(x, d, layer, n);
    if (!status)
        status = take_rows(x);
    if (status)
        return status;
    x->wire_rows = s->rows;
    if (!x->gather)
        return 0;
    dev_upload(s->gpu, s->index, x->gather, (size_t)x->work.n_rows * sizeof *s->index);
    gather(s->gpu, s->runs, s->rows, s->index, x->work.n_rows, x->row_bytes);
    x->wire_rows = s->runs;
    x->gather = NULL;
    return 0;
}

static int direct_give_back(struct exchange *x, const void *rows)
{
    struct nccl *n = x->direct->nccl;
    size_t bytes = (size_t)x->n_back * x->row_bytes;
    int status = bytes ? nccl_begin(n) : 0;
    if (bytes && !status) {
        exchange_count_sent(x, bytes);
        status = nccl_send(n, 0, rows, bytes);
        if (!status)
            status = nccl_start(n);
    }
    return status ? status : single_send(x, 0, x->in, 0);
}

const struct strategy_ops strategy_direct = {
    .dispatch = direct_dispatch,
    .combine = direct_combine,
    .receive = single_receive,
    .unpack = direct_unpack,
    .give_back = direct_give_back,
    .rows_apart = true,
};
