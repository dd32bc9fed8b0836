/* A worker's part of the output matrix: rows come after a step, and the logits of its outputs, or
 * the best of them, go back. */
#pragma once

#include "exchange/outputs.h"
#include "proto/control.h"

struct worker_logits {
    struct matrix unembed; // [own outputs][dim]
    struct outputs outputs;
    struct dev *dev;                       // what computes
    void *rows;                            // device; NULL: the host's own
    float *logits;                         // device [rows][own outputs], and
    float *on_host;                        // where they leave from
    struct candidate *best, *best_on_host; // [rows][TOP_MOST]
};

/* Buffers; l->unembed is loaded. */
void worker_logits_open(struct worker_logits *l, struct dev *dev,
                        const struct outputs_setup *setup);

/* Serve one Logits. Errors: as exchange/outputs.h; STATUS_FAILED for more rows than agreed. */
int worker_logits_serve(struct worker_logits *l, const struct logits *asked);
