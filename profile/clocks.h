/* How far the workers' clocks are ahead of rank 0's.
 *
 * The method is that of NTP. Rank 0 sends a question at time a of its own clock. The worker
 * receives it at time b and answers at time c of its clock, and rank 0 receives the answer at time
 * d. As nothing arrives before it is sent, the worker's clock is ahead by a number in [c - d, b -
 * a]. Each exchange narrows these bounds; the middle is the estimate. If 0 is within the bounds,
 * the clocks count as the same (ranks of one host share a clock). Between two measurements the
 * offset is assumed to change evenly. */
#pragma once

#include "transport/transport.h"

struct clock_bounds {
    int64_t at_ns;     // by the other clock
    int64_t low, high; // the bounds of how far it is ahead, in ns
};

struct rank_clock {
    struct clock_bounds first, before, last; // the first measurement of the run, the latest two
};

/* Measure every worker's clock. clocks [t->size] must be all zero before the first call; entry 0 is
 * not used. The workers must be between steps. 0, or an error of the transport. */
int clocks_measure(struct transport *t, struct rank_clock *clocks);

/* How far ahead the clock was when it showed at_ns, a time between the latest two measurements. */
int64_t clock_offset(const struct rank_clock *c, int64_t at_ns);

/* Half the width of the latest bounds, in ns. How much faster that clock has run since the first
 * measurement, in parts per million. */
int64_t clock_uncertainty(const struct rank_clock *c);
double clock_drift_ppm(const struct rank_clock *c);
