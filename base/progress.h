/* A progress bar on stderr where someone waits: only on a terminal, nothing when piped. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *label, *unit; // "loading", "GB"
    double total, scale;      // total in units (0: unknown); done is divided by scale to give units
    char extra[80];           // shown instead of the rate, if set
    int64_t start_ns, shown_ns;
    bool visible;
};

void progress_open(struct progress *p, const char *label, const char *unit, double total,
                   double scale);
void progress_update(struct progress *p, double done); // done unscaled; cheap to call often
void progress_close(struct progress *p);               // wipes the line
