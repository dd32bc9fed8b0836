/* How GPUs join for rows that NCCL moves. In the first exchange of two ranks each waits for the
 * other, so that is here: afterwards, to begin waits for nobody. */
#include "exchange/mover.h"

/* A byte each way, between the root and everybody. Nobody reads them. */
static int meet_exact(struct exchange_end *e)
{
    struct nccl *n = &e->nccl->nccl;
    char *bytes = (char *)e->nccl->index;
    bool is_root = end_is_root(e);
    int first = is_root ? 0 : e->root, end = is_root ? e->transport->size : e->root + 1;
    int status = nccl_begin(n);
    for (int rank = first; rank < end && !status; rank++) {
        if (rank == e->transport->rank)
            continue;
        status = nccl_send(n, rank, bytes, 1);
        if (!status)
            status = nccl_recv(n, rank, bytes + 1, 1);
    }
    return status ? status : nccl_start(n);
}

static int meet_allgather(struct exchange_end *e)
{
    struct nccl *n = &e->nccl->nccl;
    int status = nccl_begin(n);
    if (!status)
        status = nccl_broadcast(n, e->nccl->index, 1);
    if (!status)
        status = nccl_start(n);
    return status ? status : nccl_wait(n);
}

static int meet(struct exchange_end *e)
{
    struct nccl_rows *s = e->nccl;
    nccl_follow(&s->nccl);
    int status = e->options.strategy == STRATEGY_PADDED
                     ? nccl_rows_uniform(e, s->zeros, s->discard, 1)
                     : meet_exact(e);
    if (!status)
        status = nccl_wait(&s->nccl);
    return status || e->options.strategy != STRATEGY_ALLGATHER ? status : meet_allgather(e);
}

/* Whoever has loaded waits here for those who load for longer, as long as they get on with it; what
 * NCCL waits for is then short. */
static int await_all(struct exchange_end *e, char *message)
{
    struct transport *t = e->transport;
    int status = 0;
    if (!end_is_root(e))
        status = transport_start_recv(t, e->lane, e->root, message, 0);
    else
        EACH_WORKER (e, rank)
            if (!status)
                status = transport_start_send(t, e->lane, rank, message, 0);
    return status ? status : end_wait(e);
}

/* The root says nothing more until all are done: what it said would call the others off. */
static int all_have_met(struct exchange_end *e, char *message)
{
    bool is_root = end_is_root(e);
    int status = is_root ? nccl_rows_expect_words(e, message) : nccl_rows_give_word(e, message);
    return status ? status : end_wait(e);
}

int nccl_rows_join(struct exchange_end *e, char *message, const void *ids)
{
    if (!e->nccl)
        return 0;
    int status = await_all(e, message);
    if (!status)
        status = nccl_open(&e->nccl->nccl, e->transport, e->dev,
                           (const char *)ids + (size_t)e->lane * NCCL_ID_BYTES);
    if (!status)
        status = meet(e);
    return status ? status : all_have_met(e, message);
}

void nccl_rows_leave(struct exchange_end *e)
{
    if (e->nccl)
        nccl_close(&e->nccl->nccl);
}
