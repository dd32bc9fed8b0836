/* The output matrix over several ranks: each has a range of its outputs, that is of the vocabulary,
 * which may be empty. The root sends rows to every rank with outputs, and each sends back its slice
 * of the logits, or only the best candidates of it. Rows and results travel from and to the host's
 * memory, in lane 0, between two steps. Errors: as in transport.h, and STATUS_FAILED for a message
 * of another length than expected. */
#pragma once

#include "exchange/exchange.h"

struct outputs_setup {
    struct dev *host;            // where rows and slices are
    struct transport *transport; // NULL, or of size 1: alone
    int root;
    const int32_t *first; // [n_ranks + 1] first output of each rank, then their number
    int rows;             // the most of a call
    size_t row_bytes;     // of a row of the model's type
    struct exchange_counters *counters; // the root's; NULL on a worker
};

struct outputs {
    struct outputs_setup s;
    char **slice;     // root: [n_ranks] what each rank sent
    char *rows;       // root: the caller writes the rows to send here; worker: the rows that came
    size_t *received; // [n_ranks] bytes of the last wait
};

/* How many candidates a slice of so many outputs gives when `most` of all outputs are wanted. */
static inline int outputs_best(int most, int outputs)
{
    return most < outputs ? most : outputs;
}

static inline int outputs_of(const struct outputs *x, int rank)
{
    return x->s.first[rank + 1] - x->s.first[rank];
}

/* Does a rank other than the root have outputs? */
bool outputs_are_shared(const struct outputs *x);

void outputs_open(struct outputs *x, const struct outputs_setup *setup);

/* Root. outputs_send starts to send the n rows in x->rows to all ranks with outputs, and to receive
 * their results. outputs_take waits until these are in x->slice[rank]. With most > 0 they are
 * struct candidate [n][outputs_best()], with tokens counted from the rank's first output; with most
 * == 0 f32 logits [n][outputs of the rank]. */
int outputs_send(struct outputs *x, int n, int most);
int outputs_take(struct outputs *x, int n, int most);

/* Worker. outputs_receive waits for n rows; *rows := where they are. outputs_give sends the slice
 * back, in the form above, and waits until it has left. */
int outputs_receive(struct outputs *x, int n, const void **rows);
int outputs_give(struct outputs *x, const void *slice, int n, int most);
