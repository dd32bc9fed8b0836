/* What the two ends of an exchange are made of; private to exchange/. A strategy (strategy.h) says
 * what is sent, a mover (mover.h) moves the rows; ends.c is what all of them use. */
#pragma once

#include "exchange/message.h"
#include "exchange/plan.h"
#include "exchange/worker.h"
#include "proto/phase.h"

struct strategy_ops;
struct mover;
struct nccl_rows; // see mover.h

/* A round of STRATEGY_PADDED: what both ends know before a byte has moved. */
struct padded_round {
    size_t out, back;        // bytes of the message, and of what comes back
    int out_rows, back_rows; // rows
    int piece_rows;          // that come back from pieces, in the first round only
};

struct exchange_end {
    struct transport *transport; // NULL: alone
    int lane;                    // of it
    int root;                    // the root's rank
    struct dev *host, *dev;      // where messages are, and where rows are
    struct exchange_limits limits;
    struct exchange_options options;
    struct message_form form;
    size_t row_bytes, wire_row_bytes;     // of a row in memory and of one that travels
    size_t piece_bytes, wire_piece_bytes; // the same of the rows that pieces make
    const struct strategy_ops *strategy;
    const struct mover *mover;
    struct nccl_rows *nccl;                // the NCCL mover's
    struct exchange_counters *counters;    // of all lanes together
    struct wire_error *error, *error_host; // of the rows that this rank narrowed: the device's, and
                                           // a copy for the host
    struct trace *trace;                   // this rank's log of phases, or NULL
    size_t *received;                      // [n_ranks] bytes of the last wait
    struct padded_round round;
    int rounds, rounds_back; // of STRATEGY_PADDED, else 1
};

/* Bytes from one rank. */
struct area {
    char *at;
    size_t bytes;
};

struct root_end {
    struct exchange_end end;
    struct plan plan;
    const void *h, *input; // rows of the layer, and as the experts see them
    void *y;               // rows by slot
    float *z;              // what pieces make of rows: [pieces, by (rank, piece)][n] rows
    int n;                 // rows of the layer
    bool stays;            // nothing of it is elsewhere
    void *narrowed;        // wire rows of h
    void *rounded;         // rows of h as a narrower wire shows them
    char *results;         // wire rows by slot, as they come back: y when the wire is the model's
    char *narrow_results;  // else this
    char *piece_results, *narrow_pieces; // likewise for z
    char *out;                           // messages, one after the other
    size_t out_capacity;
    size_t *begin;            // [n_ranks + 1] where each rank's begins
    struct area *back;        // [n_ranks] where what comes back goes,
    struct area *pieces_back; // [n_ranks] and what comes back from pieces
    char *staging;            // STRATEGY_PADDED, where rows are: [n_ranks] parts of a round,
    char *piece_staging;      // and of what comes back from pieces
    int32_t *identity;        // likewise: 0, 1, 2, …
    int64_t away_ns;          // when the rows had left
    uint64_t exposed_then;    // counters.exposed_ns at that time
};

struct worker_end {
    struct exchange_end end;
    char *in; // the message
    size_t in_bytes, in_capacity;
    struct dispatch dispatch; // taken apart
    struct exchange_work work;
    void *widened;  // rows, where the wire is narrower
    void *y, *sums; // rows: the experts' outputs, and the sums of them that go back
    void *narrowed; // wire rows that go back
    float *z;       // what the pieces make of rows: [own pieces][n] rows
    void *narrow_pieces;
    struct row_sums terms;
    int32_t *slot_dev; // the terms where rows are
    float *factor_dev;
    struct dedup_map map;           // of STRATEGY_ALLGATHER: the worker plans for itself
    int32_t *count, *slot, *source; // likewise
};

/* Opening an end: the setup with what does not apply taken out (no transport when alone; dedup is
 * always on for STRATEGY_ALLGATHER), how many lanes it has, what all lanes have in common, and from
 * that lane `lane` of n. */
struct exchange_setup end_settle(const struct exchange_setup *setup);
int end_lanes(const struct exchange_setup *setup);
struct exchange_end end_of(const struct exchange_setup *setup);
struct exchange_end end_of_lane(const struct exchange_end *e, int lane, int n);
int end_wire_error(struct exchange_end *e, struct wire_error *error);

static inline bool end_narrows(const struct exchange_end *e)
{
    return e->options.wire != WIRE_MODEL;
}

static inline bool end_is_root(const struct exchange_end *e)
{
    return e->transport->rank == e->root;
}

static inline int end_least(int a, int b)
{
    return a < b ? a : b;
}

static inline int end_pairs(const struct exchange_end *e)
{
    return e->limits.rows * e->limits.top_k;
}

/* The next rank after `rank` that is a worker; start with -1. */
static inline int next_worker(const struct exchange_end *e, int rank)
{
    return rank + 1 == e->root ? rank + 2 : rank + 1;
}
#define EACH_WORKER(e, rank)                                                                       \
    for (int rank = next_worker(e, -1); rank < (e)->transport->size; rank = next_worker(e, rank))

/* What a worker knows of a layer's dispatch before it comes. */
static inline struct expected end_expects(const struct exchange_end *e,
                                          const struct exchange_layer *layer, int n)
{
    int rank = e->transport->rank;
    return (struct expected){layer_experts(layer, rank), layer_pieces(layer, rank), n,
                             layer->top_k};
}

/* The longest that the messages to so many workers can be together. */
size_t end_messages_most(const struct exchange_end *e, int workers);

/* Finish what was started in this lane: e->received, and the time that took counts as exposed. */
int end_wait(struct exchange_end *e);
/* So many bytes have left for a rank in a message of their own, or have come from one. */
void end_count_sent(struct exchange_end *e, int to, size_t bytes);
void end_count_received(struct exchange_end *e, int from, size_t bytes);
int end_send(struct exchange_end *e, int to, const void *bytes, size_t n);

/* Root: a worker's message, which has been packed, leaves. Worker: its message is in x->in. */
int root_send_message(struct root_end *x, int rank);
int worker_receive_message(struct worker_end *x);

/* Root: where a rank's rows stand among those that come back, and the rows that travel. */
static inline char *results_of(const struct root_end *x, int slot)
{
    return x->results + (size_t)slot * x->end.wire_row_bytes;
}

static inline const struct exchange_layer *layer_of(const struct root_end *x)
{
    return &x->plan.routing->layer;
}

/* And how many rows a rank's pieces make, and where they stand. */
static inline int piece_rows(const struct root_end *x, int rank)
{
    return layer_pieces(layer_of(x), rank) * x->n;
}

static inline char *piece_results_of(const struct root_end *x, int rank)
{
    size_t first = (size_t)layer_of(x)->piece_first[rank] * (size_t)x->n;
    return x->piece_results + first * x->end.wire_piece_bytes;
}

static inline const void *rows_out(const struct root_end *x)
{
    return end_narrows(&x->end) ? x->narrowed : x->h;
}
