/* Experts that several ranks hold: the order of a layer's groups, and copies in a placement's file.
 * Private to model/. */
#pragma once

#include <stdio.h>

#include "model/placement.h"

struct js; // base/json.h

/* Set a layer's group_of, block_at, rank_first, n_groups and turns from its rank_of and copies. */
void layer_order(struct layer_placement *l, struct arena *memory, int n_ranks);

/* Copies of experts as they are found in a file. */
struct copies_found {
    struct arena *memory;
    const char *file;
    int n_ranks; // that the file is for
    int n, room;
    int32_t *cell, *rank; // see struct expert_copies
};

/* The list of ranks that hold the expert of `cell`: *first := its first rank, the others are added
 * to f. `key` is where in the file. 0, or STATUS_BAD_FILE: the list is empty or longer than there
 * are ranks, or has no rank, one that is out of range, or one twice. */
int copies_read(struct copies_found *f, int32_t *first, int cell, const struct js *list,
                const char *key);

/* As a placement's file has it: a block's rank, or a list of the ranks that hold a copy. */
void copies_write(FILE *out, const struct layer_placement *l, int block);
