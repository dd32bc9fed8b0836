/* Machines that are not at hand, by their datasheets: nodes of several ranks, links within and
 * between them, and what a rank's device can do. docs/projection.md has the file's keys,
 * docs/measuring.md the formulas. */
#pragma once

#include "study/fit.h"
#include "study/virtual.h"

struct link {
    double latency;          // seconds of a message
    double bytes_per_second; // of one rank's link, each way
    double per_message;      // seconds that a message costs its sender in addition
};

struct topology {
    const char *name, *source;
    int ranks_per_node;
    struct link intra, inter;
    bool has_device;
    double flops, read_bytes; // a second, of one rank's device
};

/* Texts are in the arena. 0, or STATUS_BAD_FILE with file, key, what was expected and found. */
int topology_read(struct topology *t, const char *path, struct arena *memory);
int topology_parse(struct topology *t, const char *text, size_t bytes, const char *name,
                   struct arena *memory);

/* What the parts of a step cost on a device: reading weights and computing with them are added up.
 * Costs of laps are left at 0. */
struct costs topology_prices(const struct topology *t, const struct fit_model *m);

/* node [coordinators + workers] := where each rank is: coordinators spread evenly over as many
 * nodes as all need, workers fill what is left in order. */
void topology_nodes(int *node, const struct topology *t, int coordinators, int workers);

/* Who exchanges with whom in a lap: pairs [coordinators][1 + workers], where entry 0 of each is not
 * used. */
struct star {
    int coordinators, workers;
    const struct virtual_pair *pairs;
};

/* What a lap is expected to take the rank that takes longest, in seconds. */
struct lap_time {
    double hand;      // it hands messages over and narrows rows
    double out, back; // on the wire, each way
};
static inline double lap_time_sum(const struct lap_time *t)
{
    return t->hand + t->out + t->back;
}

/* By prices of a fit; narrowed: the wire is narrower than the model. Latency, and waking up after
 * work, are half of the way out and half of the way back. */
struct lap_time star_time_by_prices(const struct star *s, const struct costs *prices,
                                    bool narrowed);
/* By a topology: the slower of a rank's two links out, then the slower of them back; all of it is
 * the wire's. */
struct lap_time star_time_by_topology(const struct star *s, const struct topology *t,
                                      const int *node);
