/* What is sent to whom, and what comes back: a strategy's calls, in the order of a layer. Private
 * to exchange/. A strategy decides what messages hold; the mover (mover.h) moves the rows. */
#pragma once

#include "exchange/ends.h"

struct strategy_ops {
    /* Root. begin: send what does not depend on the routing; called only if rows travel apart.
     * dispatch: start to send all messages and rows, and to receive results. combine: wait until
     * all results are in x->results and x->piece_results. */
    int (*begin)(struct root_end *x, int n);
    int (*dispatch)(struct root_end *x);
    int (*combine)(struct root_end *x);
    /* Worker. receive: wait for the message, in x->in. unpack: check it, set x->dispatch and wait
     * for the rows. give_back: start to send x->dispatch.n_back rows of experts and n_piece_rows of
     * pieces, in their form on the wire. */
    int (*receive)(struct worker_end *x, const struct exchange_layer *layer, int n);
    int (*unpack)(struct worker_end *x, const struct exchange_layer *layer, int n);
    int (*give_back)(struct worker_end *x, const void *rows, const void *pieces);
};

extern const struct strategy_ops strategy_exact, strategy_padded, strategy_allgather;

/* exact.c: each worker gets a message of its own, and gives one back. exact_begin does nothing,
 * since no row is sent before it is routed. */
int exact_begin(struct root_end *x, int n);
/* x->begin := where the workers' messages begin in x->out. */
void exact_place(struct root_end *x);
/* Write a worker's message to x->out. */
void exact_pack(struct root_end *x, int rank);
/* x->back and x->pieces_back := where each worker's results go. */
void exact_expect(struct root_end *x);
int exact_combine(struct root_end *x);
int exact_unpack_message(struct worker_end *x, const struct exchange_layer *layer, int n);
int exact_give_back(struct worker_end *x, const void *rows, const void *pieces);

/* padded.c: the largest round of the run; and allocate the root's staging areas. */
struct padded_round padded_most(const struct exchange_end *e);
void padded_open_root(struct root_end *x);
