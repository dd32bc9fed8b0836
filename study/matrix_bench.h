/* A benchmark of what a byte matrix asks for: every rank sends each other one a message, all at the
 * same time, by the transport alone. Neither plan nor strategy has a part in it. */
#pragma once

#include <stdio.h>

#include "study/alltoall.h"
#include "study/byte_matrix.h"

struct matrix_options {
    struct byte_matrix matrix;
    const char *file;
    int warmup, iterations;
    bool check;
    const char *version;
};

struct matrix_report {
    struct arena memory;
    int n_ranks;
    uint64_t wire, local;  // bytes between ranks; of the diagonal, which stay
    uint64_t busiest;      // the most bytes that one rank sends to others, or receives from them
    struct lap_times time; // from the first rank's start to the last one's end
    int slowest;           // the rank that most often ended last
    int64_t uncertainty_ns;
    bool checked;
};

/* What the messages of ranks [first, first + n) take in memory. */
uint64_t matrix_memory(const struct byte_matrix *m, int first, int n);

/* As alltoall_coordinate() and alltoall_serve(). A wrong byte is named with the rank that sent it,
 * the rank that received it, and its position. */
int matrix_coordinate(struct matrix_report *r, struct transport *t, const struct matrix_options *o);
int matrix_serve(struct transport *t, const struct matrix_options *o);

void matrix_print(const struct matrix_report *r, const struct matrix_options *o,
                  const struct transport *t, enum alltoall_format format, FILE *out);
