/* The end of an exchange that has rows and needs the experts' results: the coordinator's.
 *
 * The calls of a layer: root_begin() when its rows are known, root_dispatch() when they are routed,
 * then the caller runs the root's own experts and pieces, then root_combine(). The first two do not
 * wait for another rank, so both lanes can have a dispatch under way. Without other ranks the same
 * calls move nothing. An int is 0 or an error (exchange.h), unless a comment says otherwise. */
#pragma once

#include "exchange/exchange.h"

struct root_end;

/* One layer's routing of n rows to k experts each, as route_rows() made it. A slot is the place of
 * a (row, expert) pair in the stable sort by (rank, expert). The arrays are in host memory (without
 * other ranks in any memory, as they are not read) and may not change before root_combine()
 * returns. */
struct routing {
    int n, k;
    const int32_t *expert; // [n][k]
    const int32_t *slot;   // [n][k]
    const float *weight;   // [n][k]
    const int32_t *source; // [n * k] the row of each slot
    const int32_t *count;  // [groups] rows of each group
    struct exchange_layer layer;
};

/* The result for each row of the step is a weighted sum of rows of y: their slots and weights,
 * [n][k] each; a negative slot ends a row's sum. */
struct row_terms {
    const int32_t *slot;
    const float *weight;
};

/* Open the ends, and return how many: with OVERLAP_OFF or without other ranks 1, x[0] for all of a
 * step's rows; else LANES, x[0] and x[1] for the two halves (exchange_second_half), each in a lane
 * of its own. Buffers are sized for the largest step and last as long as the devices. */
int root_open(struct root_end *x[LANES], const struct exchange_setup *setup);
/* With nccl, on all ranks at the same time: open the lanes' communicators. ids
 * [lanes][NCCL_ID_BYTES] were made by the root and are the same on all ranks (transport/nccl.h). */
int root_join(struct root_end *x[LANES], int lanes, const void *ids);
/* Close the communicators, before the devices close. An x[lane] may be NULL. */
void root_leave(struct root_end *x[LANES], int lanes);
/* Log the end's phases to `log`; NULL: do not. */
void root_trace(struct root_end *x, struct trace *log);

/* Begin a layer with rows h [n]. With nccl and STRATEGY_ALLGATHER this starts to send the rows,
 * which go to every worker whatever their routing is; otherwise rows are sent by root_dispatch().
 */
int root_begin(struct root_end *x, const struct exchange_layer *layer, const void *h, int n);
/* Start to send rows to the other ranks. Results of experts go to y, rows [n * k] by slot, and
 * those of pieces to z, f32 rows [pieces, by (rank, piece)][n]. The caller computes the root's own
 * results from root_input(): the first root_home_rows() rows of y, and root_home_piece_rows() rows
 * of z from row root_home_pieces() on. */
int root_dispatch(struct root_end *x, const struct routing *r, void *y, float *z);
/* The rows that all experts and pieces are to read: h, or what h is after a narrower wire. */
const void *root_input(const struct root_end *x);
int root_home_rows(const struct root_end *x);
int root_home_pieces(const struct root_end *x);
int root_home_piece_rows(const struct root_end *x);
int root_piece_rows(const struct root_end *x); // rows of z, of all ranks
/* While the caller computes: let rows in all lanes move on. Never waits. */
int root_advance(struct root_end *x);
/* Wait until all of y and z is there; *terms says how y adds up. */
int root_combine(struct root_end *x, struct row_terms *terms);

/* After an error: give up what is under way, in all lanes. The buffers may go then. */
void root_drop(struct root_end *x);

/* The counters of all lanes together. The second is for counting other things that travel. */
const struct exchange_counters *root_counters(const struct root_end *x);
struct exchange_counters *root_counters_of_all(struct root_end *x);
/* Count (row, expert) and (row, piece) pairs that the root has computed without a dispatch. */
void root_count_home(struct root_end *x, int pairs, int pieces);
/* *error := what narrowing has changed on this rank so far. Waits: 0, or what dev_wait() said. */
int root_wire_error(struct root_end *x, struct wire_error *error);
/* The number of the end's lane. */
int root_lane(const struct root_end *x);
