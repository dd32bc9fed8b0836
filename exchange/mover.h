/* How rows get to another rank: private to exchange/. There are two movers. message_mover.c sends
 * rows as the last part of the message, from the host's memory; nccl_mover.c sends messages without
 * rows, and the rows from GPU to GPU. Calls that return int return 0 or an error (exchange.h). */
#pragma once

#include "exchange/ends.h"
#include "transport/nccl.h"

struct mover {
    bool apart; // rows travel apart from messages
    /* Make the memory that the mover itself needs for an end (e->nccl). */
    void (*open)(struct exchange_end *e);
    /* How many bytes beyond the end of a worker's results may be read, to pad a round. */
    size_t (*slack)(const struct exchange_end *e);

    /* The root calls these in their order; for each later round expect and take follow again. */

    /* Before the messages: send the n rows that every worker gets (STRATEGY_ALLGATHER). */
    int (*send_all)(struct root_end *x, int n);
    /* Before any message: start to receive a round of the experts' results into x->back, and with
     * the first round the pieces' results into x->pieces_back. */
    int (*expect)(struct root_end *x, int round);
    /* After the messages: send each worker's own rows, in e->rounds rounds. */
    int (*send)(struct root_end *x);
    /* Wait until the round's results are there. */
    int (*take)(struct root_end *x, int round);

    /* A worker calls these in their order. */

    /* Start to receive n rows of the dispatch, from row `first` on. */
    int (*start)(struct worker_end *x, int first, int n);
    /* Wait until they are there; x->dispatch.rows and source then point to the memory of
     * x->end.dev. */
    int (*finish)(struct worker_end *x);
    /* Start to send x->dispatch.n_piece_rows rows of pieces and n_back rows of experts, the latter
     * in e->rounds_back rounds. */
    int (*give_back)(struct worker_end *x, const void *rows, const void *pieces);
};

extern const struct mover message_mover, nccl_mover;

/* What NCCL's mover keeps for a lane; rows are on the GPU. */
struct nccl_rows {
    struct nccl nccl; // the lane's communicator and queue
    int32_t *index;   // root: which rows are sent; worker: the row of each slot
    char *rows;       // rows to send, or received; NULL on a root that sends h itself
    char *zeros;      // STRATEGY_PADDED: [n_ranks] parts to send when a rank has nothing to send,
    char *discard;    // and [n_ranks] parts to receive what nobody reads
};

/* nccl_join.c: open and close a lane's communicator, on all ranks at the same time. message: this
 * end's buffer of messages; ids [lanes][NCCL_ID_BYTES]. Both do nothing for message_mover. */
int nccl_rows_join(struct exchange_end *e, char *message, const void *ids);
void nccl_rows_leave(struct exchange_end *e);

/* nccl_mover.c. On all ranks: start an all-to-all with a part of so many bytes for every rank. */
int nccl_rows_uniform(struct exchange_end *e, const void *from, void *to, size_t bytes);
/* A worker's word is an empty message: NCCL has accepted the rows that the worker sends. Root:
 * start to receive the words of all workers. Worker: wait for NCCL, then send the word. */
int nccl_rows_expect_words(struct exchange_end *e, char *message);
int nccl_rows_give_word(struct exchange_end *e, const char *message);
