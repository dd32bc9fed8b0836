/* What a placement computed from recorded routing is worth beside an even one. */
#pragma once

#include <stdio.h>

#include "study/balance_stats.h"

struct place_report {
    const struct routing_file *file; // that they are compared on
    const char *path, *on, *out;     // of the routing, of that file, and of the placement, or NULL
    const char *goal;
    int n_ranks;
    long home;
    struct balance_stats even, placed;
    long replicas;                     // 0: there is nothing of copies to report, else
    int n_copies;                      // so many there are
    struct balance_stats copied;       // with them
    const struct placement *placement; // likewise
};

void place_print(const struct place_report *r, bool json, FILE *out);

/* Write the experts' ranks as a placement file (docs/placement.md), without pieces and outputs,
 * which are then rank 0's. 0 or STATUS_FAILED. */
int place_write(const struct placement *p, const char *path);
