/* What epmoe inspect has found out, between the part that looks and the parts that print. */
#pragma once

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
};

struct rank_share share_of(const struct inspection *i, int rank);
uint64_t bytes_of_all(const struct inspection *i); // summed over all ranks

void inspect_print(const struct inspection *i, FILE *out);
bool inspect_print_json(const struct inspection *i, FILE *out);
