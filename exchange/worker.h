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
    const int32_t *count;  // [its own experts] pairs of each, in order of expert; the host's memory
    const void *rows;      // rows [n_rows] of the model's type
    int n_rows;            // that have come
    const int32_t *source; // [n] the row of each pair; NULL: pair i has row i. Where rows are
    void *y;               // rows [n]: what the experts make of them goes here
    const void *all;       // with pieces: the step's rows, in order
    int n_piece_rows;      // of all own pieces together: as many times the step's rows
    float *z;              // f32 rows [own pieces][rows of the step]: what they make goes here
};

/* As root_open, root_join, root_leave, root_trace. */
int worker_end_open(struct worker_end *x[LANES], const struct exchange_setup *setup);
int worker_end_join(struct worker_end *x[LANES], int lanes, const void *ids);
void worker_end_leave(struct worker_end *x[LANES], int lanes);
void worker_end_trace(struct worker_end *x, struct trace *log);

/* The next dispatch of a step of n rows; fill (*work)->y and z, then give it back. Both may wait
 * for the root. */
int worker_end_receive(struct worker_end *x, const struct exchange_layer *layer, int n,
                       const struct exchange_work **work);
int worker_end_return(struct worker_end *x);
/* The end of a step: all that was given back has left. */
int worker_end_finish(struct worker_end *x);

/* As root_wire_error. */
int worker_end_wire_error(struct worker_end *x, struct wire_error *error);
int worker_end_lane(const struct worker_end *x);
