/* How GPUs join for rows that NCCL moves. In the first exchange of two ranks each waits for the
 * other, so that is here: afterwards, to begin waits for nobody. */
#include "transport/direct.h"

/* A word each way, between 0 and everybody. */
static int exact_meet(struct exchange *x)
{
    struct nccl *n = &x->direct->nccl;
    char *words = (char *)x->direct->index; // nobody reads them
    int first = x->transport->rank ? 0 : 1, end = x->transport->rank ? 1 : x->transport->size;
    int status = nccl_begin(n);
    for (int rank = first; rank < end && !status; rank++) {
        status = nccl_send(n, rank, words, 1);
        if (!status)
            status = nccl_recv(n, rank, words + 1, 1);
    }
    return status ? status : nccl_start(n);
}

static int meet(struct exchange *x)
{
    struct nccl *n = &x->direct->nccl;
    nccl_follow(n);
    int status = x->options.strategy == STRATEGY_PADDED ? padded_meet(x) : exact_meet(x);
    if (!status)
        status = nccl_wait(n);
    if (status || x->options.strategy != STRATEGY_ALLGATHER)
        return status;
    status = nccl_begin(n);
    if (!status)
        status = nccl_broadcast(n, x->direct->index, 1);
    if (!status)
        status = nccl_start(n);
    return status ? status : nccl_wait(n);
}

/* Whoever has loaded waits here for those who load for longer, as long as they get on with it; what
 * NCCL waits for is then short. */
static int await_all(struct exchange *x)
{
    struct transport *t = x->transport;
    int status = t->rank ? transport_start_recv(t, x->lane, 0, x->in, 0) : 0;
    for (int rank = 1; t->rank == 0 && rank < t->size && !status; rank++)
        status = transport_start_send(t, x->lane, rank, x->out, 0);
    return status ? status : exchange_wait(x);
}

/* Rank 0 says nothing more until all are done: what it said would call the others off. */
static int all_have_met(struct exchange *x)
{
    int status = x->transport->rank ? direct_announce(x) : direct_await_words(x);
    return status ? status : exchange_wait(x);
}

int exchange_join(struct exchange x[LANES], const void *ids)
{
    int status = 0;
    for (int lane = 0; lane < LANES && !status; lane++) {
        if (!x[lane].direct)
            continue;
        status = await_all(&x[lane]);
        if (!status)
            status = nccl_open(&x[lane].direct->nccl, x[lane].transport, x[lane].dev,
                               (const char *)ids + (size_t)lane * NCCL_ID_BYTES);
        if (!status)
            status = meet(&x[lane]);
        if (!status)
            status = all_have_met(&x[lane]);
    }
    return status;
}

void exchange_leave(struct exchange x[LANES])
{
    for (int lane = 0; lane < LANES; lane++)
        if (x[lane].direct)
            nccl_close(&x[lane].direct->nccl);
}
