/* The pieces of a layer's dense block: the MLP of a dense layer, or a sparse layer's shared expert.
 * A piece has some of the block's hidden values, with their rows of gate and up and their columns
 * of down. Every row goes through every piece; each piece's output stays in f32, and they are added
 * in order of piece. So which rank has which piece changes no bit of the result: the cut is the
 * model's own, and the same for any placement. */
#pragma once

#include "model/config.h"

struct pieces {
    int n;     // 0: the layer has no dense block
    int width; // hidden values of each, but for the last, which has what is left
};

/* A shared expert is cut into pieces about as wide as the layer's experts, an MLP into pieces of
 * about PIECE_WIDTH or less: of equal width, so that they are alike to a device, and multiples of
 * ROW_ALIGN. Where no number of pieces near that divides the block, the last has less to do. */
enum { PIECE_WIDTH = 2048 };
struct pieces pieces_of(const struct config *m, int layer);

/* Hidden values of piece p. */
int piece_values(const struct config *m, int layer, int p);

/* The most pieces of a layer, and the widest piece; 0 where there are none. */
int pieces_most(const struct config *m);
int pieces_widest(const struct config *m);
int pieces_total(const struct config *m); // of all layers
