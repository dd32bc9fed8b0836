/* How long the layers of a step take when its rows go in two halves that take turns, or whole. The
 * coordinator, the wire out, the workers and the wire back each serve one half at a time, in the
 * order in which the halves take turns: A(0) B(0) A(1) B(1) … (coordinator/forward.c). While one
 * half is away or with the workers, the coordinator has the other. docs/projection.md derives what
 * comes of it. */
#pragma once

#include <stdbool.h>

enum { MOST_HALVES = 2 };

/* What a layer takes for the rows of one half, or of the whole step, in seconds. In a layer without
 * experts only `home` is above 0. */
struct turn {
    double home;    // the coordinator's own work: attention, norms, router
    double hand;    // its work for the exchange: handing over messages and narrowing rows
    double out;     // rows go to the workers
    double experts; // of the slowest worker
    double back;    // results come home
};

/* Seconds from the beginning of the first layer until all results of the last one are at home.
 * turns [layers][halves], halves 1 or MOST_HALVES. travels: false leaves out `hand`, `out` and
 * `back`, as if the exchange took no time. */
double turns_time(const struct turn *turns, int layers, int halves, bool travels);
