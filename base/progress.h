/* A progress bar on stderr. It is drawn only when stderr is a terminal. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *label, *unit; // "loading", "GB"
    double total;             // in units; 0: unknown
    double scale;             // `done` divided by scale is in units
    char extra[80];           // shown instead of the rate, unless empty
    int64_t start_ns, shown_ns;
    bool visible;
};

void progress_open(struct progress *p, const char *label, const char *unit, double total,
                   double scale);
void progress_update(struct progress *p, double done); // redraws at most ten times a second
void progress_close(struct progress *p);               // wipes the line
