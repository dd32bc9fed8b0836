/* How a plan travels; private to transport/. exchange.c does what all strategies share (the wire's
 * type, sums), message.c what messages hold, and a strategy's own file how they move. */
#pragma once

#include "transport/exchange.h"

struct strategy_ops {
    /* Coordinator, where rows go apart: they are there, their plan is not. */
    int (*begin)(struct exchange *x, const struct exchange_plan *plan);
    /* Coordinator: every worker's message leaves, and what it gives back is awaited; then all of it
     * is in x->landing. */
    int (*dispatch)(struct exchange *x, const struct exchange_plan *plan);
    int (*combine)(struct exchange *x, const struct exchange_plan *plan);
    /* Worker: the message is in x->in; then it is checked and taken apart; then x->n_back wire rows
     * go back. */
    int (*receive)(struct exchange *x, const struct exchange_layer *layer, int n);
    int (*unpack)(struct exchange *x, const struct exchange_layer *layer, int n);
    int (*give_back)(struct exchange *x, const void *rows);
    bool pads; // a message may be followed by padding
};

extern const struct strategy_ops strategy_exact, strategy_padded, strategy_allgather;

/* Who needs which rows; see below. */
struct shares {
    int rows, k;
    int32_t *index;  // [places] which of its rank's distinct rows a place reads
    int32_t *row;    // [places] those rows, from the rank's first place on
    float *weight;   // [places]
    int32_t *marked; // [rows] scratch: the rank that has met this row, and as which of its rows
    int32_t *as;
    int32_t *place; // [rows][k] terms of each row's sum, as add_norm wants them
    float *factor;  // [rows][k]
    int32_t *terms; // [rows] how many
};

/* ---- messages (message.c) ---- */

enum { MESSAGE_ALIGN = 16 };

/* In front of every dispatch. */
struct message_header {
    int32_t rows;                // that follow
    int32_t back;                // rows that come back; 0 under STRATEGY_ALLGATHER
    int32_t rounds, rounds_back; // of equal messages; 1 unless STRATEGY_PADDED
};

/* Where things stand in a message that brings a rank its own rows, and its size. */
struct layout {
    size_t count, index, weight, rows, bytes;
};
struct layout message_layout(const struct exchange *x, int n_experts, int places, int rows);

/* x->begin := where the workers' messages begin. */
void message_place(struct exchange *x, const struct exchange_plan *plan);
void message_pack(struct exchange *x, const struct exchange_plan *plan, int rank);
int message_unpack(struct exchange *x, const struct exchange_layer *layer, int n);
/* Worker: one round and one back, unless messages are padded. */
int message_check_rounds(const struct exchange *x, const struct message_header *header);

/* Of STRATEGY_ALLGATHER: everybody's message, of which the size is returned. */
size_t allgather_pack(struct exchange *x, const struct exchange_plan *plan);
int allgather_unpack(struct exchange *x, const struct exchange_layer *layer, int n);

static inline size_t message_align(size_t bytes)
{
    return (bytes + MESSAGE_ALIGN - 1) / MESSAGE_ALIGN * MESSAGE_ALIGN;
}

static inline bool has_index(const struct exchange *x)
{
    return x->options.dedup == DEDUP_ON || x->options.combine == COMBINE_SUM;
}

static inline int pairs_most(const struct exchange_limits *l)
{
    return l->rows * l->top_k;
}

/* The rows that travel, as they do. */
static inline const void *rows_out(const struct exchange *x, const struct exchange_plan *plan)
{
    return x->options.wire == WIRE_MODEL ? plan->h : x->narrowed;
}

/* Which rows those of a rank's places are, from its first place on. */
static inline const int32_t *rows_of_ranks(const struct exchange *x,
                                           const struct exchange_plan *plan)
{
    return x->options.dedup == DEDUP_ON ? x->shares->row : plan->source;
}

/* Groups of one rank. */
static inline int experts_of(const struct exchange_layer *layer, int rank)
{
    return layer->rank_first[rank + 1] - layer->rank_first[rank];
}

/* A round of STRATEGY_PADDED, and the largest one; a buffer may be read so far beyond its end. */
void uniform_choose(struct exchange *x, const struct exchange_layer *layer, int n);
struct uniform uniform_most(const struct exchange *x);
/* How many rounds so much needs, at least one. */
int padded_rounds(size_t length, size_t round);
/* Worker: x->rounds and rounds_back as the message's header has them, if it is no more than that.
 */
int padded_read_rounds(struct exchange *x, int most, int most_back);

/* ---- one message each way (strategy.c) ---- */

/* Finish what was started in this lane: x->received, and the time that took. */
int exchange_wait(struct exchange *x);

/* So many bytes have left for a rank in a message of their own, or have come from one. */
void exchange_count_sent(struct exchange *x, int to, size_t bytes);
void exchange_count_received(struct exchange *x, int from, size_t bytes);
int single_send(struct exchange *x, int to, const void *bytes, size_t n);
int single_await(struct exchange *x); // start receiving what workers give back
int single_combine(struct exchange *x, const struct exchange_plan *plan);
int single_receive(struct exchange *x, const struct exchange_layer *layer, int n);
int single_give_back(struct exchange *x, const void *rows);

/* ---- who needs which rows (shares.c) ---- */

void shares_open(struct shares *s, struct dev *d, int rows, int k);
/* Forget all; n rows come. */
void shares_reset(struct shares *s, int n);
/* weight[place] := its assignment's. */
void shares_weigh(struct shares *s, const int32_t *place, const float *weight, int n);
/* The distinct rows behind places [first, first + n) of `rank`, numbered as they are first met:
 * fills index and row from `first` on, returns their number. */
int shares_find(struct shares *s, int rank, const int32_t *source, int first, int n);
/* One more term for sum `row`; false when it has k already. */
bool shares_add(struct shares *s, int row, int place, float factor);
