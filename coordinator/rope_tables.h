/* Tables of cos and sin of the angles by which positions rotate queries and keys, from the
 * frequencies of model/rope.h. They are made once, except with dynamic scaling, where frequencies
 * depend on the length of the text beyond the length of training. Then each sequence has rows of
 * its own, made when it begins: the prompt's positions have the frequencies of the whole prompt's
 * length, and each later position p those of a text of p + 1 tokens. So the angles do not depend on
 * how a prompt is divided into steps, and are those of transformers, which gives a prompt to the
 * model at once. */
#pragma once

#include "kernels/device.h"
#include "model/config.h"

struct rope_tables {
    struct rope_table table; // for rope_append
    float *cosines, *sines;  // the host's copies
    int positions;           // of a sequence
    int *prompt; // [sequences] the prompt length that a sequence's rows were made for; 0:
                 // any length that needs no scaling
};

/* Memory is the device's. */
void rope_tables_open(struct rope_tables *r, struct dev *d, const struct config *m, int positions,
                      int sequences);

/* A sequence with a prompt of n tokens begins in a slot: make its rows, if they depend on n. A
 * device's error is returned by the next dev_wait(). */
void rope_tables_begin(struct rope_tables *r, struct dev *d, const struct config *m, int slot,
                       int n);
