/* The workers' clocks beside this rank's: what a moment there was here.
 *
 * As NTP does it: a question leaves at a, is heard at b and answered at c by the other clock, and
 * the answer arrives at d. Since nothing arrives before it is sent, the other clock is ahead by
 * something in [c - d, b - a]. Each exchange narrows the bounds; the middle is the estimate. Two
 * clocks that cannot be told apart (ranks of one host have the same) count as one. Between two
 * measurements the offset is taken to drift evenly. */
#pragma once

#include "transport/transport.h"

struct clock_bounds {
    int64_t at_ns;     // by the other clock
    int64_t low, high; // ns that it is ahead
};

struct rank_clock {
    struct clock_bounds first, before, last; // measurements: of the run, and the latest two
};

/* Ask every worker; clocks [t->size], entry 0 left alone, all zero before the first time. */
int clocks_measure(struct transport *t, struct rank_clock *clocks);

/* How far ahead that clock was when it showed at_ns: between the latest two measurements. */
int64_t clock_offset(const struct rank_clock *c, int64_t at_ns);

/* Half the width of the latest bounds, and how much faster that clock has been since the first
 * measurement, in parts of a million. */
int64_t clock_uncertainty(const struct rank_clock *c);
double clock_drift_ppm(const struct rank_clock *c);
