/* Which rank holds which expert: the only difference between running alone and running apart.
 *
 * Rows travel sorted by group: the experts of a layer in order of (rank, expert). A rank's groups
 * are therefore contiguous, and so are its rows. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "model/config.h"

struct layer_placement {
    int32_t *rank_of;    // [n_experts]
    int32_t *group_of;   // [n_experts] place of an expert in (rank, expert) order
    int32_t *expert_at;  // [n_experts] its inverse
    int32_t *rank_first; // [n_ranks + 1] first group of each rank
};

struct placement {
    int n_layers, n_experts, n_ranks;
    struct layer_placement *layers; // [n_layers]; all NULL in a dense layer
};

/* What the user asks for. */
struct placement_spec {
    const char *text; // NULL or "even", "round-robin", or the path of a file
    long home;        // experts of every sparse layer that stay on rank 0, the first ones by id
    bool home_given;  // a file says it itself
};

/* The placement over n_ranks. even: contiguous, almost equal shares over ranks 1 .. n_ranks - 1
 * (the first ones get one more). round-robin: expert e on rank 1 + e mod (n_ranks - 1). With one
 * rank everything is at home, on rank 0. 0, or STATUS_USAGE, or STATUS_BAD_FILE (see
 * placement_parse). */
int placement_build(struct placement *p, struct arena *memory, const struct config *m, int n_ranks,
                    const struct placement_spec *spec);

/* The text of a placement file (docs/placement.md) for a run of n_ranks; `name` is the file's. 0,
 * or STATUS_BAD_FILE: fail() has named file, key, what was expected and what was found. */
int placement_parse(struct placement *p, struct arena *memory, const struct config *m, int n_ranks,
                    const char *text, size_t bytes, const char *name);

/* Write p as such a file, one layer a line. 0 or STATUS_FAILED. */
int placement_write(const struct placement *p, const char *path);

/* From rank_of [n_layers][n_experts] as the Setup message carries it (-1 in dense layers): 0, or
 * STATUS_FAILED when a rank is out of range. */
int placement_from_ranks(struct placement *p, struct arena *memory, const int32_t *rank_of,
                         int n_layers, int n_experts, int n_ranks);

/* Groups of one rank in a layer. */
static inline int placement_count(const struct layer_placement *l, int rank)
{
    return l->rank_first[rank + 1] - l->rank_first[rank];
}

/* Experts of one rank: in all layers, and the fewest and most of a sparse layer. */
struct holding {
    int experts, least, most;
};
struct holding placement_holding(const struct placement *p, int rank);
