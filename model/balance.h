/* --placement balanced: who holds how many experts and pieces, so that an expected mix of work
 * takes the least time. A model of cost, from shapes alone: what each rank computes and reads in a
 * layer, over what it can compute and read in a second. Any placement gives the same results, so
 * the answer need only be good, not exact.
 *
 * In a layer the coordinator has attention and the router to do first; then all ranks run their
 * blocks at the same time. With overlap it does so for one half of a step while the others run the
 * blocks of the other half. */
#pragma once

#include "base/quant.h"
#include "model/placement.h"

/* What one rank can do. */
struct rank_speed {
    double flops,
        bytes;       // a second: of the products that its device is best at, and read from memory
    uint64_t memory; // for experts and pieces; 0: as much as it takes
};

/* The mix: `batch` sequences at a time, each with a prompt of so many tokens, then so many new
 * ones. */
struct workload {
    int prompt, generated, batch;
};
extern const struct workload usual_workload; // 1500 tokens in, 40 out, one sequence
enum { USUAL_CHUNK = 2048 };

struct balance {
    const struct config *m;
    struct precision precision;
    struct workload load;
    int chunk;  // rows of a prompt's step
    int halved; // steps of so many rows or more go in two halves; 0: none does
    int n_ranks;
    const struct rank_speed *speeds; // [n_ranks]; NULL: all ranks are alike
    long home;                       // experts of each layer that rank 0 is to hold; -1: as is best
};

/* Fill p's ranks (memory as placement_build has it): rank_of of every expert and piece. */
void balance_place(struct placement *p, const struct balance *b);

/* What the cost model says of any placement: of all layers, and in a decode step of the output
 * matrix, which each rank with outputs goes through once. */
enum balance_phase { BALANCE_PREFILL, BALANCE_DECODE, BALANCE_PHASES };
struct balance_times {
    double step;  // seconds of a step: a chunk of a prompt, or a token of each sequence
    double own;   // of these, what the coordinator alone must do
    double alone; // seconds if rank 0 held everything
    double bound; // no placement takes less: all work cut at will among the ranks
    int rows;     // of the step
};
/* busy [n_ranks]: seconds that each rank works in such a step. */
struct balance_times balance_times(const struct balance *b, const struct placement *p,
                                   enum balance_phase phase, double *busy);
