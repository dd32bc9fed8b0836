/* What a narrower wire, or sums in place of rows, does to a model's logits: the tokens of recorded
 * steps go through the model once by rows on its own wire, and once in each other way. The errors
 * depend on wire and combine alone; no strategy, dedup or number of ranks changes a bit of logits
 * by rows. */
#pragma once

#include "coordinator/coordinator.h"
#include "proto/routing.h"

enum { WIRE_ERRORS_MOST = COMBINE_COUNT * (int)WIRE_COUNT };
/* Logits of so many bytes are kept; of more rows, so many at even distances are looked at. */
enum { WIRE_ERRORS_BYTES = 256 << 20 };

struct wire_errors_way {
    enum combine combine;
    enum wire wire;
    double kl_mean, kl_most; // Kullback-Leibler divergence from the logits by rows on the own wire,
                             // in nats
    double delta_most;       // the largest |difference| of two logits
    int same_best;           // rows whose best token is the same
    double rows_rms;         // RMS of what narrowing changed in rows that travelled, over theirs
};

struct wire_errors {
    int rows; // whose logits were compared: the last of each sequence in a step
    int n_ways;
    struct wire_errors_way ways[WIRE_ERRORS_MOST];
};

/* c: with other ranks, open for steps of f->most_rows rows, f->sequences sequences of f->positions
 * positions, and logits of as many rows as a step has sequences; o: what it was opened with. 0,
 * STATUS_BAD_FILE for a file that is none of this model, or what the exchange returned. */
int wire_errors_measure(struct wire_errors *e, struct coordinator *c,
                        const struct coordinator_options *o, const struct routing_file *f,
                        const char *path);
