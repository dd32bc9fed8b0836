/* What is sent to whom, and what comes back: a strategy's calls, in the order of a layer. Private
 * to exchange/. A strategy decides what messages hold; the mover (mover.h) takes the rows there. */
#pragma once

#include "exchange/ends.h"

struct strategy_ops {
    /* Root: rows x->h [n] are there, their routing is not. */
    int (*begin)(struct root_end *x, int n);
    /* Every worker's message and rows leave, and what it gives back is awaited; then all of it is
     * in x->results. */
    int (*dispatch)(struct root_end *x);
    int (*combine)(struct root_end *x);
    /* Worker: the message is in x->in; then it is checked and taken apart, and the rows are there;
     * then x->dispatch.n_back wire rows of experts and n_piece_rows of pieces go back. */
    int (*receive)(struct worker_end *x, const struct exchange_layer *layer, int n);
    int (*unpack)(struct worker_end *x, const struct exchange_layer *layer, int n);
    int (*give_back)(struct worker_end *x, const void *rows, const void *pieces);
};

extern const struct strategy_ops strategy_exact, strategy_padded, strategy_allgather;

/* exact.c: one message of its own for each worker, and one message back. exact_begin does nothing:
 * no row leaves before it is routed. */
int exact_begin(struct root_end *x, int n);
/* x->begin := where the workers' messages begin in x->out. */
void exact_place(struct root_end *x);
void exact_pack(struct root_end *x, int rank);
/* x->back and x->pieces_back := where each worker's results are wanted, in a message each. */
void exact_expect(struct root_end *x);
int exact_combine(struct root_end *x);
int exact_unpack_message(struct worker_end *x, const struct exchange_layer *layer, int n);
int exact_give_back(struct worker_end *x, const void *rows, const void *pieces);

/* padded.c: the largest round of the run; open what the root's rounds come back to. */
struct padded_round padded_most(const struct exchange_end *e);
void padded_open_root(struct root_end *x);
