/* The end of an exchange that has experts: a worker's. It mirrors root.h: for each layer of a step,
 * worker_end_receive(), run the experts, worker_end_return(). Errors: exchange.h. */
#pragma once

#include "exchange/exchange.h"

struct worker_end;

/* What a dispatch brings: rows for this rank's experts, each row once (dedup) or once for each
 * expert; and all rows of the step for its pieces, if it has any. All of it lasts until the next
 * receive in this lane. */
struct exchange_work {
    int n;                 // (row, expert) pairs
    const int32_t *count;  // [own experts] pairs of each, in order of expert; in host memory
    const void *rows;      // rows [n_rows] of the model's type, in the memory of exchange_setup.dev
    int n_rows;            // how many have come
    const int32_t *source; // [n] the row of each pair; NULL: pair i has row i. In the same memory
    void *y;               // rows [n]: the experts' outputs go here
    const void *all;       // with pieces: the step's rows, in order
    int n_piece_rows;      // own pieces times rows of the step
    float *z;              // f32 rows [own pieces][rows of the step]: the pieces' outputs go here
};

/* As root_open, root_join, root_leave, root_trace. */
int worker_end_open(struct worker_end *x[LANES], const struct exchange_setup *setup);
int worker_end_join(struct worker_end *x[LANES], int lanes, const void *ids);
void worker_end_leave(struct worker_end *x[LANES], int lanes);
void worker_end_trace(struct worker_end *x, struct trace *log);

/* Receive the next dispatch of a step of n rows; the caller fills (*work)->y and z, and
 * worker_end_return() sends them to the root. Both may wait for the root. */
int worker_end_receive(struct worker_end *x, const struct exchange_layer *layer, int n,
                       const struct exchange_work **work);
int worker_end_return(struct worker_end *x);
/* At the end of a step: wait until all results have been sent. */
int worker_end_finish(struct worker_end *x);

/* As root_wire_error. */
int worker_end_wire_error(struct worker_end *x, struct wire_error *error);
int worker_end_lane(const struct worker_end *x);
