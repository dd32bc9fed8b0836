/* How rows get to another rank: private to exchange/. Two movers: message_mover.c has rows stand
 * behind the message, in the host's memory; nccl_mover.c sends messages without rows, and the rows
 * from GPU to GPU. A call that has nothing to do returns 0. */
#pragma once

#include "exchange/ends.h"
#include "transport/nccl.h"

struct mover {
    bool apart; // rows are no part of the messages
    /* What the mover itself keeps for an end: e->nccl. */
    void (*open)(struct exchange_end *e);
    /* Bytes that may be read beyond the end of what a worker gives back. */
    size_t (*slack)(const struct exchange_end *e);

    /* Root, in this order.
     *   send_all  before the message: the n rows that every worker gets (STRATEGY_ALLGATHER)
     *   expect    before any message: start to receive a round of results into x->back, and with
     *             the first what pieces make into x->pieces_back
     *   send      after the messages: each worker's own rows, in e->rounds rounds
     *   take      wait until they are there
     * Later rounds are expected and taken one after the other. */
    int (*send_all)(struct root_end *x, int n);
    int (*expect)(struct root_end *x, int round);
    int (*send)(struct root_end *x);
    int (*take)(struct root_end *x, int round);

    /* Worker, in this order.
     *   start      start to receive n rows of the dispatch, from row `first` on
     *   finish     wait until they are there: x->dispatch.rows and source are where rows are
     *   give_back  x->dispatch.n_piece_rows rows of pieces leave, and n_back rows of experts, these
     *              in e->rounds_back rounds */
    int (*start)(struct worker_end *x, int first, int n);
    int (*finish)(struct worker_end *x);
    int (*give_back)(struct worker_end *x, const void *rows, const void *pieces);
};

extern const struct mover message_mover, nccl_mover;

/* What NCCL's mover keeps for a lane; rows are on the GPU. */
struct nccl_rows {
    struct nccl nccl; // the lane's communicator and queue
    int32_t *index;   // root: the rows that leave; worker: the row of each slot
    char *rows;       // wire rows that leave, or have come; NULL where h is what leaves
    char *zeros;      // STRATEGY_PADDED, parts for all ranks: what is sent where nothing is meant,
    char *discard;    // and where that arrives
};

/* nccl_join.c: bring a lane's communicator up, on all ranks at the same time. message: this end's
 * buffer of messages; ids: of all lanes. Both do nothing for the other mover. */
int nccl_rows_join(struct exchange_end *e, char *message, const void *ids);
void nccl_rows_leave(struct exchange_end *e);

/* nccl_mover.c. All ranks: a part of so many bytes to and from every rank. */
int nccl_rows_uniform(struct exchange_end *e, const void *from, void *to, size_t bytes);
/* Root: each worker's word that its rows have been started is awaited; worker: give it. */
int nccl_rows_expect_words(struct exchange_end *e, char *message);
int nccl_rows_give_word(struct exchange_end *e, const char *message);
