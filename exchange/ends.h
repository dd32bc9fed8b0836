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
    size_t out, back;        // bytes that each worker gets, and that it gives back from experts
    int out_rows, back_rows; // how many rows these hold
    int piece_rows;          // rows that come back from pieces, in the first round only
};

struct exchange_end {
    struct transport *transport; // NULL: alone
    int lane;                    // of the transport
    int root;                    // the root's rank
    struct dev *host, *dev;      // devices whose memory has the messages, and the rows
    struct exchange_limits limits;
    struct exchange_options options;
    struct message_form form;
    size_t row_bytes, wire_row_bytes;     // of a row in memory, and on the wire
    size_t piece_bytes, wire_piece_bytes; // the same of the f32 rows that pieces make
    const struct strategy_ops *strategy;
    const struct mover *mover;
    struct nccl_rows *nccl;                // the NCCL mover's
    struct exchange_counters *counters;    // of all lanes together
    struct wire_error *error, *error_host; // of the rows that this rank narrowed: the device's, and
                                           // a copy for the host
    struct trace *trace;                   // this rank's log of phases, or NULL
    size_t *received;                      // [n_ranks] bytes that came in the last end_wait()
    struct padded_round round;
    int rounds, rounds_back; // how many, out and back; 1 unless STRATEGY_PADDED
};

/* Where the bytes from one rank go. */
struct area {
    char *at;
    size_t bytes;
};

struct root_end {
    struct exchange_end end;
    struct plan plan;
    const void *h, *input; // the layer's rows, and the rows that experts read: h, or `rounded`
    void *y;               // the experts' results: a row for each slot
    float *z;              // the pieces' results: [pieces, by (rank, piece)][n] rows
    int n;                 // rows of the layer
    bool stays;            // no other rank has an expert or piece of the layer
    void *narrowed;        // with a narrower wire: h in its form on the wire
    void *rounded;         // and widened again
    char *results;         // the experts' results on the wire, by slot: y, or narrow_results
    char *narrow_results;  // with a narrower wire: their memory
    char *piece_results, *narrow_pieces; // likewise for z
    char *out;                           // the messages to the workers, one after the other
    size_t out_capacity;
    size_t *begin;            // [n_ranks + 1] where each rank's message begins in `out`
    struct area *back;        // [n_ranks] where the experts' results from each rank go
    struct area *pieces_back; // [n_ranks] where the pieces' results go
    char *staging;            // STRATEGY_PADDED: [n_ranks] what comes back in a round, from experts
    char *piece_staging;      // and from pieces
    int32_t *identity;        // STRATEGY_PADDED: 0, 1, 2, …, where rows are
    int64_t away_ns;          // when the last rows were handed to the transport
    uint64_t exposed_then;    // counters->exposed_ns at that time
};

struct worker_end {
    struct exchange_end end;
    char *in; // the message
    size_t in_bytes, in_capacity;
    struct dispatch dispatch; // the message, unpacked
    struct exchange_work work;
    void *widened;         // with a narrower wire: the rows, widened
    void *y, *sums;        // the experts' outputs, and with COMBINE_SUM the sums that go back
    void *narrowed;        // with a narrower wire: what goes back from experts
    float *z;              // the pieces' outputs: [own pieces][n] rows
    void *narrow_pieces;   // with a narrower wire: what goes back from pieces
    struct row_sums terms; // with COMBINE_SUM: what each sum is made of, in the host's memory
    int32_t *slot_dev;     // copies of terms.slot and terms.factor where rows are
    float *factor_dev;
    struct dedup_map map;           // STRATEGY_ALLGATHER: the worker makes its own plan from the
    int32_t *count, *slot, *source; // routing, in these (struct sorting)
};

/* Opening an end, in this order. end_settle: the setup with what does not apply taken out (no
 * transport when alone; dedup is always on for STRATEGY_ALLGATHER). end_lanes: how many lanes to
 * open. end_of: what all lanes share. end_of_lane: the same for lane `lane` of n, with limits and
 * memory of its own. */
struct exchange_setup end_settle(const struct exchange_setup *setup);
int end_lanes(const struct exchange_setup *setup);
struct exchange_end end_of(const struct exchange_setup *setup);
struct exchange_end end_of_lane(const struct exchange_end *e, int lane, int n);
/* See root_wire_error(). */
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

/* What a worker knows about a layer's dispatch of n rows before it receives it. */
static inline struct expected end_expects(const struct exchange_end *e,
                                          const struct exchange_layer *layer, int n)
{
    int rank = e->transport->rank;
    return (struct expected){layer_experts(layer, rank), layer_pieces(layer, rank), n,
                             layer->top_k};
}

/* The most bytes that the messages to so many workers can have together. */
size_t end_messages_most(const struct exchange_end *e, int workers);

/* transport_wait() for this lane; sets e->received, and counts the time as exposed. */
int end_wait(struct exchange_end *e);
/* Count a message to a rank, or bytes from a rank. */
void end_count_sent(struct exchange_end *e, int to, size_t bytes);
void end_count_received(struct exchange_end *e, int from, size_t bytes);
/* Count and start to send n bytes. */
int end_send(struct exchange_end *e, int to, const void *bytes, size_t n);

/* Root: start to send a worker its packed message. */
int root_send_message(struct root_end *x, int rank);
/* Worker: wait for the message; it is then in x->in. */
int worker_receive_message(struct worker_end *x);

/* Root: where the result of a slot goes, in its form on the wire. */
static inline char *results_of(const struct root_end *x, int slot)
{
    return x->results + (size_t)slot * x->end.wire_row_bytes;
}

static inline const struct exchange_layer *layer_of(const struct root_end *x)
{
    return &x->plan.routing->layer;
}

/* Root: how many rows a rank's pieces make. */
static inline int piece_rows(const struct root_end *x, int rank)
{
    return layer_pieces(layer_of(x), rank) * x->n;
}

/* Root: where they go, in their form on the wire. */
static inline char *piece_results_of(const struct root_end *x, int rank)
{
    size_t first = (size_t)layer_of(x)->piece_first[rank] * (size_t)x->n;
    return x->piece_results + first * x->end.wire_piece_bytes;
}

/* Root: the layer's rows in their form on the wire. */
static inline const void *rows_out(const struct root_end *x)
{
    return end_narrows(&x->end) ? x->narrowed : x->h;
}
