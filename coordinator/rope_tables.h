/* How far each position turns queries and keys: tables made once, from model/rope.h's frequencies.
 * With dynamic scaling beyond the length of training, the positions of a prompt turn as its whole
 * length says, and each later one as the text that it ends; then every sequence has rows of its
 * own, made when it begins. So a position turns alike whatever else is in the step, and as in
 * transformers, which gives a prompt to the model at once. */
#pragma once

#include "kernels/device.h"
#include "model/config.h"

struct rope_tables {
    struct rope_table table; // for rope_append
    float *cosines, *sines;  // as the host has made them
    int positions;           // of a sequence
    int *prompt;             // [sequences] whose prompt's length its rows are made for; 0: any of
                             // the length of training
};

/* Memory is the device's. */
void rope_tables_open(struct rope_tables *r, struct dev *d, const struct config *m, int positions,
                      int sequences);

/* A sequence with a prompt of n tokens begins in a slot. A device's error waits for the next
 * dev_wait(), as ever. */
void rope_tables_begin(struct rope_tables *r, struct dev *d, const struct config *m, int slot,
                       int n);
