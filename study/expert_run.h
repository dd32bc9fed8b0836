/* Rows through experts by themselves, on a coordinator that holds all of them: what a rank would be
 * busy with in a layer, wherever it is. */
#pragma once

#include "coordinator/coordinator.h"
#include "study/project.h"

struct expert_run {
    struct expert_runner runner; // its `of` is this struct, which must not move
    struct coordinator *c;
    int rows; // of the longest step
    void *x, *y;
    int32_t *source, *count, *source_host, *count_host;
};

/* c is open, alone, with every expert at home. Buffers go with its device. */
void expert_run_open(struct expert_run *r, struct coordinator *c, int rows);
/* The rows of t whose experts are wanted [experts], in the i-th layer with experts: from the call
 * until the device has done it, the mean of a stretch of so many seconds or more, and of at least
 * three runs. A long stretch is for ranks that are stopped and let go on again, as in
 * launch/lab.sh.
 */
double expert_run_seconds(struct expert_run *r, int i, const struct traffic *t, const bool *wanted,
                          double stretch);
