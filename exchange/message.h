/* What a dispatch's message holds, byte by byte (docs/protocol.md); private to exchange/. With
 * strategies exact and padded each worker gets a message with its own rows; with allgather all get
 * the same message. If rows travel apart from messages, by NCCL, a message ends before the rows. */
#pragma once

#include "exchange/exchange.h"

enum { MESSAGE_ALIGN = 16 };

/* The beginning of every dispatch. */
struct message_header {
    int32_t rows;                // how many the worker gets, in the message or apart from it
    int32_t back;                // rows that its experts give back; 0 under STRATEGY_ALLGATHER
    int32_t rounds, rounds_back; // how many, out and back; 1 unless STRATEGY_PADDED
};

/* The form of a run's messages, the same on all ranks. */
struct message_form {
    bool dedup, sum;  // DEDUP_ON, COMBINE_SUM
    bool apart;       // rows travel apart from messages
    bool rounds;      // STRATEGY_PADDED
    int experts;      // of a layer, on all ranks
    size_t row_bytes; // of a row on the wire
};

/* Are messages cut into rounds of one size, with padding at the end? If rows travel apart, only the
 * rows are cut, and messages are not. */
static inline bool message_is_cut(const struct message_form *f)
{
    return f->rounds && !f->apart;
}

struct message_form message_form(const struct exchange_options *o, const struct exchange_limits *l,
                                 bool apart);

/* Offsets in a message, and its size. index: a list of which row each slot reads (dedup); sum: a
 * list of which sum each slot adds to (COMBINE_SUM). Sums are numbered like the distinct rows of
 * the rank's experts, so both are one list, except with `all`: the worker then gets all rows of the
 * step, for its pieces, and index has their numbers in the step. */
struct layout {
    size_t count, index, sum, weight, rows, bytes;
};
struct layout message_layout(const struct message_form *f, int n_experts, int slots, int rows,
                             bool all);
/* The same for allgather, of n rows with k experts each. `count` is where the routing's experts
 * [n][k] begin; index and sum are not used. */
struct layout allgather_layout(const struct message_form *f, int n, int k);

/* A dispatch, unpacked by a worker. Pointers are into the message, or under STRATEGY_ALLGATHER into
 * the arrays that the worker has sorted itself. */
struct dispatch {
    int n_slots;
    const int32_t *count;  // [own experts] slots of each expert
    const int32_t *source; // [n_slots] which row each slot reads; NULL: slot i reads row i
    const int32_t *sum_of; // with sum: [n_slots] the sum that each slot adds to
    const float *weight;   // with sum: [n_slots] the slot's weight in it
    const char *rows;      // [n_rows] in their form on the wire; NULL if they travel apart
    int n_rows, n_back;    // rows that come, and rows that go back from experts
    int all;               // with pieces: the step's rows, in order, are rows all, all + 1, …
    int n_piece_rows;      // rows that the worker's pieces make; 0: it has no pieces
};

/* What a receiver knows beforehand: its experts and pieces in the layer, the step's rows (n), and
 * the experts of each row (k). */
struct expected {
    int experts, pieces, n, k;
};

/* Unpack a message into *d. All of it is checked: 0, or STATUS_FAILED with what was expected and
 * found; then *d is undefined. */
int message_unpack(struct dispatch *d, const struct message_form *f, const char *message,
                   size_t bytes, const struct expected *known);
/* Check allgather's message; *expert and *weight := the routing [n][k] in it. The worker makes its
 * struct dispatch from these. 0 or STATUS_FAILED. */
int allgather_check(const struct message_form *f, const char *message, size_t bytes,
                    const struct expected *known, const int32_t **expert, const float **weight);
