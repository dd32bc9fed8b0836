/* A worker's part of the output matrix: after a step it receives rows, and sends back the logits of
 * its outputs, or only the best candidates. */
#pragma once

#include "exchange/outputs.h"
#include "proto/control.h"

struct worker_logits {
    struct matrix unembed; // [own outputs][dim]
    struct outputs outputs;
    struct dev *dev;                       // the device that computes
    void *rows;                            // a GPU's copy of the rows; NULL on the CPU
    float *logits;                         // device [rows][own outputs]
    float *on_host;                        // and the host's copy, from which they are sent
    struct candidate *best, *best_on_host; // likewise [rows][TOP_MOST]
};

/* Allocate the buffers; l->unembed has been loaded. */
void worker_logits_open(struct worker_logits *l, struct dev *dev,
                        const struct outputs_setup *setup);

/* Serve one Logits message. 0, an error as in exchange/outputs.h or of dev_wait(), or STATUS_FAILED
 * for more rows than agreed. */
int worker_logits_serve(struct worker_logits *l, const struct logits *asked);
