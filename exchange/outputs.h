/* The output matrix over several ranks: each has some of its outputs, that is a range of the
 * vocabulary. Rows go from the root to every rank that has any; each sends back its slice of the
 * logits, or the best of it only. Both ends know the ranges; rows and results travel in the host's
 * memory, in lane 0, between two steps. Errors: as in transport.h, and STATUS_FAILED for a message
 * of another length than expected. */
#pragma once

#include "exchange/exchange.h"

struct outputs_setup {
    struct dev *host;            // where rows and slices are
    struct transport *transport; // NULL, or of size 1: alone
    int root;
    const int32_t *first;               // [n_ranks + 1] first output of each rank; the last: all
    int rows;                           // at most, of a call
    size_t row_bytes;                   // of a row of the model's type
    struct exchange_counters *counters; // of the root; NULL on a worker
};

struct outputs {
    struct outputs_setup s;
    char **slice;     // root: [n_ranks] what each rank sent
    char *rows;       // the rows that leave, or that came
    size_t *received; // [n_ranks]
};

/* Candidates of a slice of so many outputs when `most` are wanted of all. */
static inline int outputs_best(int most, int outputs)
{
    return most < outputs ? most : outputs;
}

static inline int outputs_of(const struct outputs *x, int rank)
{
    return x->s.first[rank + 1] - x->s.first[rank];
}

/* Has a rank other than the root any? */
bool outputs_are_shared(const struct outputs *x);

void outputs_open(struct outputs *x, const struct outputs_setup *setup);

/* Root: n rows x->rows leave for all that have outputs, and what comes back is awaited: most > 0:
 * the best outputs_best() candidates of each row, their tokens counted from 0; most == 0: whole
 * slices, f32 [n][outputs of the rank]. Then wait for it: x->slice[rank]. */
int outputs_send(struct outputs *x, int n, int most);
int outputs_take(struct outputs *x, int n, int most);

/* Worker: wait for n rows; then give the slice, or candidates, back and wait until it has left. */
int outputs_receive(struct outputs *x, int n, const void **rows);
int outputs_give(struct outputs *x, const void *slice, int n, int most);
