/* Recording the routing of every step into a file (proto/routing.h). */
#pragma once

#include "kernels/device.h"
#include "model/config.h"
#include "proto/routing.h"

struct record;

struct record_setup {
    const char *path, *version, *model;
    uint64_t digest; // of the checkpoint
    const struct config *config;
    enum dtype dtype;
    int rows; // of the largest step
};

/* *r := a record that writes to setup->path; NULL where that is NULL. 0, STATUS_FAILED where the
 * file cannot be written, or STATUS_USAGE for a model without experts. */
int record_open(struct record **r, const struct record_setup *setup);
/* After the last step: complete the file and give it its name. 0 or STATUS_FAILED. */
int record_finish(struct record *r);
/* Free a record. If it was not finished, no file is left. */
void record_close(struct record *r);

/* The functions below do nothing when r is NULL. */

/* A step of n rows begins; tokens, seq and pos [n] as in struct batch. tokens must stay valid until
 * record_end_step(). */
void record_begin_step(struct record *r, int n, const int32_t *tokens, const int32_t *seq,
                       const int32_t *pos);
/* Rows [first, first + n) of the step have been routed in a layer with experts, to expert
 * [n][top_k] in device memory. */
void record_rows(struct record *r, struct dev *d, int layer, int first, const int32_t *expert,
                 int n);
/* Write the step to the file; record_finish() reports errors. */
void record_end_step(struct record *r);
