/* One end of an exchange that has no model: rows go out to the ranks that hold their experts, and
 * as many results come back, by the plans, strategies and movers of exchange/. One such round is a
 * lap.
 *
 * Nothing is computed, so that a lap's time is the exchange's. Results are filled in once: what can
 * be told apart from any other expert's result of any other row, so that both directions can be
 * compared value by value. Rank 0 is the root, all others are workers. */
#pragma once

#include "exchange/root.h"
#include "exchange/worker.h"
#include "model/placement.h"
#include "study/traffic.h"

struct lap_setup {
    struct transport *transport;     // NULL or of size 1: alone, and nothing travels
    enum isa isa;                    // the same on all ranks
    struct exchange_limits limits;   // of all laps; without pieces
    struct exchange_options options; // overlap is off
    bool nccl;                       // on all ranks or on none: rows go from GPU to GPU
    int gpu;                         // with nccl: this rank's
};

struct lap {
    struct lap_setup s;
    struct dev host, gpu;             // gpu: with nccl
    struct dev *where;                // where rows are: one of the two
    struct root_end *root[LANES];     // of rank 0
    struct worker_end *worker[LANES]; // of any other
    struct routing routing;
    const int32_t *expert_at; // [groups] which expert each is
    int32_t *count, *slot, *source;
    void *h, *y;                      // of rank 0: rows, and rows by slot
    const struct exchange_work *work; // of a worker: what has come
    char *wire, *expected;            // for checks: a row on the wire, a row
    char *rows, *results;             // with nccl: the host's copies of rows, of results,
    int32_t *row_of;                  // and of work->source
};

/* 0, or STATUS_USAGE or STATUS_FAILED if it cannot have the GPU or its memory; lap_close() follows
 * in any case. */
int lap_open(struct lap *x, const struct lap_setup *setup);
/* With nccl, on all ranks at the same time: as root_join(). */
int lap_join(struct lap *x, const void *ids);
void lap_close(struct lap *x); // after all that was given back has left

/* All ranks: the next laps have this routing, whose experts are where `experts` says. Both stay as
 * they are. */
void lap_prepare(struct lap *x, const struct traffic *t, const struct layer_placement *experts);

/* A worker that has nothing to compare or to fill: the next laps have n rows of k experts each.
 * What comes says which. */
void lap_expect(struct lap *x, int n, int k, const struct layer_placement *experts);

/* Does anything travel? If not, workers have no part in the lap. */
bool lap_travels(const struct lap *x);

/* Rank 0: rows leave; then wait until all results are back. 0, or an error as in transport.h. */
int lap_leave(struct lap *x);
int lap_return(struct lap *x, struct row_terms *terms);

/* A worker: wait for the rows; then give results back, and wait until they have left. */
int lap_receive(struct lap *x);
int lap_give_back(struct lap *x);

/* ---- what travels ---- */

/* Rank 0, before lap_leave: fill the rows; after it: what experts at home make of them. */
void lap_fill(struct lap *x);
void lap_fill_home(struct lap *x);
/* A worker, after lap_receive: fill what its experts make of the rows. It stays for later laps. */
void lap_fill_results(struct lap *x);

/* A worker, after lap_receive: compare the rows that have come with what rank 0 fills in. 0, or
 * STATUS_FAILED with the expert, the row, the value, what was expected and what was found. */
int lap_check_rows(struct lap *x);
/* Rank 0: forget all results; after lap_return: compare them with what experts fill in. The error
 * also names the rank that they came from. */
void lap_forget_results(struct lap *x);
int lap_check_results(struct lap *x, const struct row_terms *terms);
