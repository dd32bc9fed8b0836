/* What a dispatch's message holds, byte by byte (docs/protocol.md); private to exchange/. One kind
 * brings a worker its own rows (strategies exact and padded), the other brings every worker the
 * same (allgather). Where rows go apart, by NCCL, both end before the rows. */
#pragma once

#include "exchange/exchange.h"

enum { MESSAGE_ALIGN = 16 };

/* In front of every dispatch. */
struct message_header {
    int32_t rows;                // that follow
    int32_t back;                // rows that come back; 0 under STRATEGY_ALLGATHER
    int32_t rounds, rounds_back; // of equal messages; 1 unless STRATEGY_PADDED
};

/* What a run's messages hold: the same on all ranks. */
struct message_form {
    bool dedup, sum; // DEDUP_ON, COMBINE_SUM
    bool apart;      // rows are no part of the message
    bool rounds;     // STRATEGY_PADDED
    int experts;
    size_t row_bytes; // of a row on the wire
};

/* Messages are cut into rounds of one size, and padding may follow. Where rows go apart, only they
 * are cut. */
static inline bool message_is_cut(const struct message_form *f)
{
    return f->rounds && !f->apart;
}

struct message_form message_form(const struct exchange_options *o, const struct exchange_limits *l,
                                 bool apart);

/* Where things begin in a message, and its size. index: which of the rows each slot reads; sum:
 * which sum it adds to. Both are one list unless all rows travel, for pieces: then a row's number
 * is its own, and sums are still those of the experts' distinct rows. */
struct layout {
    size_t count, index, sum, weight, rows, bytes;
};
struct layout message_layout(const struct message_form *f, int n_experts, int slots, int rows,
                             bool all);
/* Of n rows of k experts each; count is where the routing's experts stand. */
struct layout allgather_layout(const struct message_form *f, int n, int k);

/* A dispatch as a worker has taken it apart. Pointers are into the message, or into the worker's
 * own sort under STRATEGY_ALLGATHER. */
struct dispatch {
    int n_slots;
    const int32_t *count;  // [its experts]
    const int32_t *source; // [n_slots] which of the rows each slot reads; NULL: in order
    const int32_t *sum_of; // with sum: [n_slots] the sum that each slot adds to
    const float *weight;   // with sum: [n_slots] and how much
    const char *rows;      // on the wire; NULL where they go apart
    int n_rows, n_back;    // rows that come, and go back from experts
    int all;               // the step's rows, in order, begin at this one of those that come,
    int n_piece_rows;      // so that its pieces make so many rows; 0: they need not be there
};

/* What the receiver knows before: its experts and pieces of the layer, rows of the step, and how
 * many experts each has. */
struct expected {
    int experts, pieces, n, k;
};

/* Take a message apart. Nothing in it is trusted: STATUS_FAILED with what was expected and found,
 * *d then being of no use. */
int message_unpack(struct dispatch *d, const struct message_form *f, const char *message,
                   size_t bytes, const struct expected *known);
/* The same of allgather's, without what the worker sorts out for itself; *expert [n][k] and
 * *weight [n][k] are the routing. */
int allgather_check(const struct message_form *f, const char *message, size_t bytes,
                    const struct expected *known, const int32_t **expert, const float **weight);
