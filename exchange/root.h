/* The end of an exchange that has rows and wants the experts' results: the coordinator's.
 *
 * A layer is: root_begin() once its rows are there, root_dispatch() once they are routed, then the
 * root's own experts, then root_combine(). Neither of the first two waits for another rank, so a
 * dispatch may be under way in each lane. Alone (no transport) the same calls move nothing.
 * Errors: exchange.h. */
#pragma once

#include "exchange/exchange.h"

struct root_end;

/* One layer's routing of n rows to k experts each, as route_rows made it. A slot is where a
 * (row, expert) pair stands in the stable sort by (rank, expert). All of it is the host's memory;
 * alone, any memory: it is not read. Nothing changes before root_combine() is back. */
struct routing {
    int n, k;
    const int32_t *expert; // [n][k]
    const int32_t *slot;   // [n][k]
    const float *weight;   // [n][k]
    const int32_t *source; // [n * k] the row of each slot
    const int32_t *count;  // [groups] rows of each group
    struct exchange_layer layer;
};

/* How the results' rows add up to each row of the step: slots of y and their weights, [n][k] each;
 * a negative slot ends a row's sum. */
struct row_terms {
    const int32_t *slot;
    const float *weight;
};

/* x[0] for all of a step's rows; or, unless OVERLAP_OFF, with somebody to exchange with, x[0] and
 * x[1], one for each half (exchange_second_half), in a lane of its own. Returns how many: 1 or
 * LANES. Buffers come from the devices' memory, sized for the largest step, and go with it. */
int root_open(struct root_end *x[LANES], const struct exchange_setup *setup);
/* With nccl, on all ranks once all have loaded: bring up the lanes' communicators. ids
 * [lanes][NCCL_ID_BYTES] are the root's, the same on all ranks (transport/nccl.h). */
int root_join(struct root_end *x[LANES], int lanes, const void *ids);
/* Before the devices close. x may hold NULL. */
void root_leave(struct root_end *x[LANES], int lanes);
void root_trace(struct root_end *x, struct trace *log);

/* h: rows [n] of the layer. Rows that leave whatever their routing is are on their way on return.
 */
int root_begin(struct root_end *x, const struct exchange_layer *layer, const void *h, int n);
/* Rows for other ranks leave. Their results will be in y, rows [n * k] by slot, and in z, f32 rows
 * [pieces, by (rank, piece)][n]. The root's own slots of y, the first root_home_rows(), and its own
 * rows of z, from root_home_pieces() on, are for itself to fill from root_input(). */
int root_dispatch(struct root_end *x, const struct routing *r, void *y, float *z);
/* The rows as all experts are to see them: h, or what a narrower wire makes of it. */
const void *root_input(const struct root_end *x);
int root_home_rows(const struct root_end *x);
int root_home_pieces(const struct root_end *x);
int root_home_piece_rows(const struct root_end *x); // so many, and in all:
int root_piece_rows(const struct root_end *x);
/* In between: let rows that are under way move on, in all lanes. Never waits. */
int root_advance(struct root_end *x);
/* Wait until all of y and z is there; *terms says how y adds up. */
int root_combine(struct root_end *x, struct row_terms *terms);

/* After an error: give up what is under way, in all lanes. The buffers may go then. */
void root_drop(struct root_end *x);

/* Of all lanes together; the second to count what else travels. */
const struct exchange_counters *root_counters(const struct root_end *x);
struct exchange_counters *root_counters_of_all(struct root_end *x);
/* Count (row, expert) and (row, piece) pairs that stayed at home without a dispatch. */
void root_count_home(struct root_end *x, int pairs, int pieces);
/* What narrowing has cost on this rank so far. Waits: 0, or what dev_wait() said. */
int root_wire_error(struct root_end *x, struct wire_error *error);
int root_lane(const struct root_end *x);
