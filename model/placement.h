/* Which rank holds which expert, and which piece of the dense blocks: the only difference between
 * running alone and running apart.
 *
 * Rows travel sorted by group: the experts of a layer in order of (rank, expert). A rank's groups
 * are therefore contiguous, and so are its rows. Pieces (model/pieces.h) are in order of
 * (rank, piece) likewise.
 *
 * Several ranks may hold an expert. Each copy is a group of its own, and the expert's rows go to
 * its copies in turn: the i-th row of a call to copy (i mod turns) mod the number of copies, a rule
 * that every rank knows. Pieces have no copies. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/arena.h"
#include "kernels/kernels.h"
#include "model/config.h"

/* Of a layer's n blocks: its experts, or its pieces. */
struct layer_placement {
    int n;
    int32_t *rank_of;             // [n] of each block's first copy
    int n_copies;                 // beyond these:
    int32_t *copy_of, *copy_rank; // [n_copies] the block, ascending, and the copy's rank
    int n_groups, turns;          // n + n_copies; see struct grouping
    int32_t *group_of;            // [turns][n] place of a block's copy in (rank, block) order
    int32_t *block_at;            // [n_groups] the block of each group
    int32_t *rank_first;          // [n_ranks + 1] first group of each rank
};

/* A layer's groups at most: what the sort of rows has room for. */
enum { MAX_GROUPS = 4096 };

/* For the sort of rows (kernels/kernels.h), on the host. */
static inline struct grouping placement_grouping(const struct layer_placement *l)
{
    return (struct grouping){l->group_of, l->n, l->n_groups, l->turns};
}

/* The group that the row of this number in its call goes to for a block. */
static inline int placement_group(const struct layer_placement *l, int block, int row)
{
    return l->group_of[(row & (l->turns - 1)) * l->n + block];
}

struct placement {
    int n_layers, n_experts, n_ranks;
    int n_copies;                   // of all experts beyond the first, in all layers
    int groups_most;                // of a layer
    struct layer_placement *layers; // [n_layers] the experts; n is 0 in a dense layer
    struct layer_placement *pieces; // [n_layers]
    int32_t *output_first;          // [n_ranks + 1] the outputs of each rank: a range of the output
                                    // matrix's rows. All on rank 0 unless "balanced" or a file says
};

/* Ranges begin and end at multiples of this, but for the last. */
enum { OUTPUT_BLOCK = 64 };

struct balance; // balance.h

/* What the user asks for. */
struct placement_spec {
    const char *text; // NULL or "balanced", "even", "round-robin", or the path of a file
    long home;        // how many experts of every sparse layer stay on rank 0, the first ones by id
    bool home_given;  // the user has set `home`; not with a file, which says it itself
    const struct balance *balance; // what "balanced" is computed from; NULL: equal ranks, and the
                                   // usual workload
};
bool placement_is_balanced(const struct placement_spec *spec);

/* The placement over n_ranks. balanced: see balance.h; home_given fixes how many experts are rank
 * 0's. even: contiguous, almost equal shares over ranks 1 .. n_ranks - 1
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

/* The same without pieces and outputs, up to the last brace. */
void placement_write_experts(const struct placement *p, FILE *f);

/* From ranks as the Setup message carries them: rank_of [n_layers][n_experts] (-1 in dense layers)
 * and piece_rank_of [pieces_total(m)], layer by layer. All outputs are rank 0's. 0, or
 * STATUS_FAILED when a rank is out of range. */
int placement_from_ranks(struct placement *p, struct arena *memory, const struct config *m,
                         const int32_t *rank_of, const int32_t *piece_rank_of, int n_ranks);

/* Copies of experts beyond the first, of a whole placement. cell: layer * n_experts + expert,
 * ascending; an expert's own are in the order in which rows take turns. */
struct expert_copies {
    int n;
    const int32_t *cell, *rank; // [n]
};

/* Add them to a placement without copies. 0, or STATUS_FAILED: cells do not ascend or are no
 * expert's, a rank is out of range or holds the expert already, or a layer has more than MAX_GROUPS
 * groups. */
int placement_add_copies(struct placement *p, struct arena *memory, const struct expert_copies *c);
struct expert_copies placement_copies(const struct placement *p, struct arena *memory);

/* Outputs as Setup carries them: 0, or STATUS_FAILED unless they are n_ranks + 1 and end at the
 * vocabulary. */
int placement_take_outputs(struct placement *p, const struct config *m, const int32_t *output_first,
                           int n);

/* Has a rank other than rank 0 any expert or piece of this layer? */
bool placement_leaves_home(const struct placement *p, int layer);

/* Groups of one rank in a layer. */
static inline int placement_count(const struct layer_placement *l, int rank)
{
    return l->rank_first[rank + 1] - l->rank_first[rank];
}

/* What one rank holds in all layers; and the fewest and most experts of a sparse layer. */
struct holding {
    int experts, least, most, pieces;
};
struct holding placement_holding(const struct placement *p, int rank);
