/* What the parts of a projection share; private to study/project*.c. */
#pragma once

#include "study/project.h"
#include "study/turns.h"

/* What steps take beside the exchange, whole or in halves, whatever the way of their rows. */
struct work {
    bool halved;
    double *once;                  // [steps] what the coordinator does once a step
    double *home;                  // [steps][MOST_HALVES] and in each layer
    double *experts;               // [steps][layers with experts][MOST_HALVES] slowest worker's
    double mean_home;              // of a mean step: all of `once` and `home`
    double mean_experts;           // of a mean step
    struct project_rank *per_rank; // [ranks], or NULL: not wanted
};

/* One number of ranks and kind of step. */
struct projecting {
    const struct project_options *o;
    struct arena memory; // of this projection alone
    enum replay_kind kind;
    int ranks, workers;
    int n_steps;
    const struct routing_step **steps; // [n_steps] that are taken
    struct traffic traffic;            // of a layer
    struct traffic half;               // of half of its rows, or of all
    struct placement placement;        // over one coordinator and the workers
    int *node;                         // [ranks] with a topology
    struct virtual_pair *pairs;        // [coordinators][1 + workers] of a lap
    struct virtual_pair *sums;         // likewise, of all laps of a way
    struct load *loads;                // [1 + workers] of a half of a layer
    bool *wanted;                      // [experts] of one rank
    struct turn *turns;                // [layers][MOST_HALVES] of a step
    struct work work[2];               // of whole steps; of steps in halves
};

static inline double per_step(const struct projecting *p, double sum)
{
    return sum / p->n_steps;
}

/* Rows [first, first + n) of a step. */
struct share {
    int first, n;
};

/* Coordinator c's rows of a step, or, with `halved`, those of its first or second half; whole steps
 * have a first half alone. */
struct share project_share(const struct projecting *p, const struct routing_step *s, int c,
                           bool halved, int half);
/* How many halves a step has, with more than one coordinator that of any. */
int project_halves(const struct projecting *p, const struct routing_step *s, bool halved);
/* The rows of a share, as they stand in t. */
struct traffic project_rows(const struct traffic *t, const struct share *share);

/* *w := of the steps taken, with experts where p->placement says. per_rank [ranks], all zeros, gets
 * rows, experts and seconds of each worker; or NULL. */
void project_work(struct projecting *p, struct work *w, bool halved, struct project_rank *per_rank);
/* Seconds of a mean step on one rank that has everything. */
double project_alone(struct projecting *p);
