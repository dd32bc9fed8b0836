/* What epmoe inspect has found out, between the part that looks and the parts that print. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "model/config.h"
#include "model/footprint.h"
#include "model/placement.h"
#include "model/sizes.h"

/* The files with the weights, as far as their headers tell. */
struct weight_files {
    int files, missing; // expected, and how many of them are not here
    uint64_t bytes;     // of those that are here
    bool types[3];      // enum dtype: tensors of this type are there
};

/* What one rank would hold, in bytes of memory. */
struct rank_share {
    struct holding holding;
    uint64_t experts, rest, bytes; // rest: what only rank 0 has; bytes: both
};

struct inspection {
    const char *name;
    struct config config;
    enum dtype type; // that weights and KV cache would have
    int context;     // positions that the KV cache is counted for
    struct weight_files weights;
    struct sizes sizes;
    struct footprint footprint;
    uint64_t embed_bytes, kv_bytes; // the embedding as it lies in the file; the KV cache
    const char *rule;               // "even", "round-robin" or a file
    struct placement placement;
    uint64_t gpu_memory; // of rank 0's GPU; 0: none was asked about
};

/* A GPU as rank 0, the other ranks on processors. Per token: weights that are read on the GPU and
 * on the others, of experts as many as a routing without favourites takes; and rows that travel
 * there and back, at most (a row that several experts of a rank want goes there once). */
struct gpu_plan {
    uint64_t bytes, workspace; // of the GPU's memory; workspace is part of it
    bool fits;
    double read_here, read_there, rows; // bytes a token
};
struct gpu_plan gpu_plan_of(const struct inspection *i);
/* The most experts of each layer that fit beside all else; -1: that does not fit itself. */
int gpu_home_most(const struct inspection *i);

uint64_t rest_bytes(const struct inspection *i); // what only rank 0 holds
struct rank_share share_of(const struct inspection *i, int rank);
uint64_t bytes_of_all(const struct inspection *i); // summed over all ranks

void inspect_print(const struct inspection *i, FILE *out);
bool inspect_print_json(const struct inspection *i, FILE *out);
