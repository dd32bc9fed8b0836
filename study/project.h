/* What other numbers of ranks would give, from recorded routing. Bytes, messages, rows and experts
 * of every rank are counted by the exchange's own code (virtual.h); times come from prices that
 * were fitted here, or from a machine's datasheet. docs/measuring.md derives them. */
#pragma once

#include <stdio.h>

#include "study/fit.h"
#include "study/replay.h"
#include "study/topology.h"

enum { PROJECT_MAX_COUNTS = 32, PROJECT_MAX_RANKS = 4096 };

enum project_placement { PROJECT_BEST, PROJECT_EVEN, PROJECT_ROUND_ROBIN, PROJECT_COMPUTED };
/* Whole steps, steps in two halves that take turns, or both, of which the shorter is best. */
enum project_overlap { PROJECT_OVERLAP_BEST, PROJECT_OVERLAP_OFF, PROJECT_OVERLAP_ON };

/* Really running rows through experts, on the device at hand: seconds that those of a layer of the
 * recording (the i-th with experts) take which `wanted` has. */
struct expert_runner {
    void *of;
    double (*seconds)(void *of, int i, const struct traffic *t, const bool *wanted);
};

struct project_options {
    const struct routing_file *file;
    struct config layers; // replay_layers() of it
    const char *path, *fit_path, *topology_path;
    const struct fit *fit;                    // NULL: none
    const struct topology *topology;          // NULL: none; one of both is there
    struct costs prices;                      // see project_prices()
    double layers_share;                      // see project_layers_share()
    int n_counts, counts[PROJECT_MAX_COUNTS]; // ranks, each more than there are coordinators
    int coordinators;
    enum project_placement placement;
    enum project_overlap overlap;
    int steps;                          // of each kind that are taken, at even distances
    const struct expert_runner *runner; // NULL: experts by their prices
};

/* Of the fit, or of the topology where it has a device. */
struct costs project_prices(const struct fit *fit, const struct topology *topology,
                            const struct fit_model *model);
/* Of what a coordinator does once a step, the share that each half of a step has to do: the weights
 * of the layers are read for each, those of the output matrix are not. By parameters. */
double project_layers_share(const struct fit_model *model);

/* All of a mean step. */
struct project_way {
    struct exchange_options options; // overlap: off or on
    double home, experts, exchange;  // seconds that each takes, hidden or not
    double step;                     // seconds of the step
    double bare;                     // and if the exchange took no time
    double out, back, messages_out, messages_back;
    double busiest_out;                  // bytes that the busiest coordinator sends
    struct span lap_bytes, lap_messages; // of a coordinator's laps, each half's its own
};

/* What is not hidden makes the step longer: step = home + both. Of a whole step it is all. */
static inline double project_exposed_experts(const struct project_way *w)
{
    return w->bare > w->home ? w->bare - w->home : 0;
}
static inline double project_exposed_exchange(const struct project_way *w)
{
    return w->step - w->bare;
}

struct project_rank {
    double sent, received, rows, experts, seconds; // seconds: of its experts
};

enum project_outside {
    OUTSIDE_RANKS,
    OUTSIDE_ROWS,
    OUTSIDE_POSITIONS,
    OUTSIDE_BYTES,
    OUTSIDE_MESSAGES,
    OUTSIDE_OVERLAP, // steps in halves are not measured
    OUTSIDES
};

struct projection {
    int ranks, workers, holders; // holders: workers that have experts
    enum replay_kind kind;
    double rows, alone; // of a mean step; seconds
    const char *placement;
    int n_ways, best, best_of_all; // best: of those that change no result
    struct project_way ways[2 * REPLAY_MAX_WAYS];
    struct project_rank *per_rank; // [ranks] of the best way
    struct virtual_pair *pairs;    // [coordinators][1 + workers] its bytes, of all steps taken
    bool outside[OUTSIDES];        // of what was measured
};

struct project_report {
    struct arena memory;
    int recorded[REPLAY_KINDS], taken[REPLAY_KINDS];
    double rows[REPLAY_KINDS]; // of the steps taken
    int n;
    struct projection *list; // [n]
};

/* 0, or a status of placement_build() or place_by_routing(). A report is to be freed in any case.
 */
int project_run(struct project_report *r, const struct project_options *o);
void project_free(struct project_report *r);

void project_print(const struct project_report *r, const struct project_options *o,
                   enum alltoall_format format, FILE *out);
/* The bytes from rank to rank of the last projection's best way, of all steps taken, in
 * nccl-tests' format. 0 or STATUS_FAILED. */
int project_write_matrix(const struct project_report *r, const struct project_options *o,
                         const char *path);
