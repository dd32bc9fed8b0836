/* Opens the communicators by which NCCL moves rows. When two ranks exchange rows for the first
 * time, starting waits for the other rank; that first exchange is made here, so that later starts
 * do not wait. */
#include "exchange/mover.h"

/* Exchange a byte between the root and each worker. Nobody reads them. */
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

/* Wait over the transport until all ranks have loaded: it can wait as long as a rank makes
 * progress. NCCL, which has only a timeout, then waits for a short time. */
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

/* Wait until all ranks have finished their first exchange. The root may send no control message
 * before: to a worker that waits in NCCL it would mean that the run is called off. */
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
