/* The all-to-all of a layer: rows go out to the ranks whose experts they need, and what the experts
 * make of them comes back.
 *
 * One plan, many strategies: the plan is the stable sort of the step's (row, choice) pairs by
 * (rank, expert); `struct exchange_options` says how it travels. All options give the same bits,
 * but COMBINE_SUM and a narrower wire; those give the same bits for every strategy and dedup.
 * docs/protocol.md has every byte. Errors as in transport.h, and STATUS_FAILED for a message that
 * does not hold what the step calls for. */
#pragma once

#include "base/trace.h"
#include "kernels/device.h"
#include "transport/transport.h"

enum strategy {
    STRATEGY_EXACT,     // each worker gets the rows of its experts and nothing else
    STRATEGY_PADDED,    // messages of one size to and from all workers, in rounds until all is said
    STRATEGY_ALLGATHER, // every worker gets all rows and picks
    STRATEGY_COUNT
};
enum dedup { DEDUP_ON, DEDUP_OFF, DEDUP_COUNT }; // a row travels once a rank, or once an expert
/* What comes back: the output of each expert, or, for each row, the rank's weighted sum of them. */
enum combine { COMBINE_ROWS, COMBINE_SUM, COMBINE_COUNT };
/* A step goes whole, or in two halves that take turns: one computes while the other is away. */
enum overlap { OVERLAP_OFF, OVERLAP_ON, OVERLAP_COUNT };

/* All zero is the default. Every rank must have the same. */
struct exchange_options {
    enum strategy strategy;
    enum combine combine;
    enum dedup dedup; // without effect under STRATEGY_ALLGATHER
    enum wire wire;   // of rows, both ways; see exchange_choose_wire
    enum overlap overlap;
};

/* The same as words, as --help and the Setup message have them. */
struct exchange_words {
    const char *strategy, *combine, *dedup, *wire, *overlap;
};
struct exchange_words exchange_words(const struct exchange_options *o);
int exchange_understand(struct exchange_options *o, const struct exchange_words *words);

/* o->wire for a model of this type: STATUS_USAGE unless it is the model's (a wire of the model's
 * own type becomes WIRE_MODEL) or narrower. */
int exchange_choose_wire(struct exchange_options *o, enum dtype type);

struct exchange_limits {
    int rows, top_k; // of any step
    int experts;     // of one layer on all ranks
    int width;       // of a row
    enum dtype type;
};

/* Where a layer's experts live (see model/placement.h): known to both ends. */
struct exchange_layer {
    const int32_t *group_of;   // [experts] place of an expert in (rank, expert) order
    const int32_t *rank_first; // [n_ranks + 1] first group of each rank
};

/* One layer of one step on the coordinator: what route_rows made of it. */
struct exchange_plan {
    int n, k;
    const void *h;         // rows [n]
    void *y;               // rows [n * k]: the outputs at their places
    const int32_t *expert; // [n][k]
    const int32_t *place;  // [n][k]
    const float *weight;   // [n][k]
    const int32_t *source; // [n * k] the row of each place
    const int32_t *count;  // [experts] rows of each group
    struct exchange_layer layer;
};

/* Between two ranks. */
struct pair_bytes {
    uint64_t sent, received;
};

/* What one rank has moved so far, in bytes, and how it spent the time. On the coordinator rows are
 * away from the end of a dispatch until the last of them is back: for the part of it that it waits
 * (exposed), and the part that it works meanwhile (hidden), be it for the other half. Over MPI rows
 * count as back when they are next looked for. */
struct exchange_counters {
    uint64_t sent, received; // all that travelled: rows, counts, padding
    uint64_t messages;       // sent
    uint64_t exposed_ns;     // waiting for rows, on a worker, too
    uint64_t hidden_ns;      // coordinator only
    uint64_t logical;        // (row, expert) pairs times a row of the model's type, out and back
    uint64_t local;          // of these, what experts at home took
    struct pair_bytes *with; // [n_ranks] sent and received, by the other rank
};

/* The messages at hand on a worker. */
struct exchange_work {
    int n_rows;           // (row, expert) pairs of this rank
    const int32_t *count; // [n_experts of its own] rows of each
    const void *rows;     // rows [n_rows] in order of expert
    void *y;              // rows [n_rows]: what the experts make of them goes here
};

/* One round of STRATEGY_PADDED: what both ends know before a byte has moved. */
struct uniform {
    size_t out, back; // bytes
    int out_rows, back_rows;
};

struct shares; // see transport/strategy.h
struct direct; // see transport/direct.h

struct exchange {
    struct transport *transport; // NULL with a single rank: nothing travels
    struct dev *host, *dev;      // where plans and messages are, and where rows are
    int lane;                    // of the transport
    struct exchange_limits limits;
    struct exchange_options options;
    const struct strategy_ops *ops;
    size_t row_bytes, wire_row_bytes;        // of a row in memory and of one that travels
    struct exchange_counters *counters;      // of all lanes together
    struct wire_error *narrow, *narrow_host; // of the rows that this rank narrowed; likewise
    struct trace *trace; // this rank's log of phases, or NULL; set it after exchange_open
    struct shares *shares;
    struct direct *direct; // rows go from GPU to GPU; NULL: within the messages
    size_t *received;      // [n_ranks]
    struct uniform round;
    int rounds, rounds_back; // of STRATEGY_PADDED, else 1
    void *narrowed;          // coordinator: wire rows of h; worker: of what goes back
    int32_t *term_place;     // the shares' terms where rows are
    float *term_factor;

    // coordinator
    int64_t away_ns;       // when the rows had left
    uint64_t exposed_then; // counters.exposed_ns at that time
    void *seen;            // rows of h as the experts see them, when the wire is narrower
    char *out;             // messages, one after the other
    size_t out_capacity;
    size_t *begin; // [n_ranks + 1] where each begins
    int *first;    // [n_ranks + 1] first place of each rank
    int *sent;     // [n_ranks] rows that leave
    int *back;     // [n_ranks] rows that come back
    char
        *landing; // where: wire rows at the rank's first place; plan.y when the wire is the model's
    char *landing_wire, *staging;

    // worker
    char *in; // the message
    size_t in_bytes, in_capacity;
    struct exchange_work work;
    const int32_t *gather; // [n_rows] the row of the message that each place reads; NULL: in order
    const int32_t *share;  // [n_rows] the sum that each place adds to
    const float *weight;   // [n_rows] and how much
    const char *wire_rows;
    int n_wire_rows, n_back;
    void *wide, *runs, *y, *sums;
    int32_t *count, *place, *source; // of STRATEGY_ALLGATHER: the worker sorts for itself
};

/* Open what a step needs: x[0] for all of its rows; or, with OVERLAP_ON and somebody to exchange
 * with, x[0] and x[1], one for each half (exchange_second_half), in a lane of its own. Returns how
 * many: 1 or LANES. Buffers come from the device's memory, sized for the largest step. */
int exchange_open(struct exchange x[LANES], struct dev *d, struct transport *t,
                  const struct exchange_limits *limits, const struct exchange_options *o);

/* The same on every rank of a run or on none: rows move from GPU to GPU by NCCL, all else as ever
 * through the host. plan->h and plan->y, and on a worker work->rows and work->y, are the GPU's
 * memory then; the rest of a plan or work is the host's. A lane has a communicator of its own: in
 * a common one, what waits in one lane would hold up the other.
 *
 * exchange_join() on all ranks once all have loaded, ids [lanes][NCCL_ID_BYTES] being rank 0's (see
 * transport/nccl.h); exchange_leave() before the devices close. Both do nothing without NCCL. */
int exchange_open_direct(struct exchange x[LANES], struct dev *host, struct dev *gpu,
                         struct transport *t, const struct exchange_limits *limits,
                         const struct exchange_options *o);
int exchange_join(struct exchange x[LANES], const void *ids);
void exchange_leave(struct exchange x[LANES]);

/* Lanes of a run with other ranks. */
static inline int exchange_lanes(const struct exchange_options *o)
{
    return o->overlap == OVERLAP_ON ? LANES : 1;
}

/* Rows of the second half of a step of n rows; the first has one more of an odd number. */
static inline int exchange_second_half(int n)
{
    return n / 2;
}

/* Coordinator. exchange_begin() as soon as the rows are there: plan->n, k and h. Rows that leave
 * whatever their routing is are on their way then. The rest of the plan before exchange_dispatch():
 * rows for other ranks leave; theirs will land in plan->y. Nothing of the plan may change before
 * exchange_combine() is back, but plan->h becomes the rows as the experts are to see them, and rank
 * 0's own places of plan->y are to be filled meanwhile. Neither waits for another rank, so there
 * may be a dispatch under way in each lane. exchange_combine() leaves plan->place and plan->weight
 * as add_norm is to have them. */
int exchange_begin(struct exchange *x, struct exchange_plan *plan);
int exchange_dispatch(struct exchange *x, struct exchange_plan *plan);
/* In between: let rows that are under way move on, of both halves. Never waits. */
int exchange_advance(struct exchange *x);
int exchange_combine(struct exchange *x, struct exchange_plan *plan);

/* Count (row, expert) pairs that stayed at home without a dispatch. */
static inline void exchange_count_home(struct exchange *x, int pairs)
{
    x->counters->logical += 2 * (uint64_t)pairs * x->row_bytes;
    x->counters->local += 2 * (uint64_t)pairs * x->row_bytes;
}

/* Places of the last dispatch that are rank 0's own: the first ones. */
static inline int exchange_home_rows(const struct exchange *x)
{
    return x->first[1];
}

/* What narrowing has cost on this rank so far. Waits: 0, or what dev_wait() said. */
int exchange_wire_error(struct exchange *x, struct wire_error *error);

/* Worker. The next dispatch of a step of n rows; fill (*work)->y, then give it back. Both may wait
 * for the coordinator; exchange_finish() ends a step. */
int exchange_receive(struct exchange *x, const struct exchange_layer *layer, int n,
                     const struct exchange_work **work);
int exchange_return(struct exchange *x);
int exchange_finish(struct exchange *x);

/* Either, after an error: give up what is under way, in both lanes. The buffers may go then. */
void exchange_drop(struct exchange *x);
