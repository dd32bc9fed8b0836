/* Which experts rows go to, without a model: drawn at random, by a skew that says how often each
 * expert is wanted. */
#pragma once

#include <math.h>
#include <stdint.h>

#include "base/arena.h"

/* *weights := [experts] of which an expert is drawn in proportion, from a text: "uniform";
 * "zipf:S", where expert e has weight 1 / (e + 1)^S, S from 0 to 8; or the path of a JSON file, a
 * list with a number of 0 or more for each expert. At least top_k weights are above 0. 0,
 * STATUS_USAGE, or STATUS_BAD_FILE with the file, the entry, what was expected and what was found.
 */
int skew_parse(double **weights, const char *text, int experts, int top_k, struct arena *memory);

/* One layer's routing before it is sorted. */
struct traffic {
    int n, k;
    int32_t *expert; // [n][k] different ones in each row
    float *weight;   // [n][k] powers of two, so that sums of small integers are exact
};

/* *t := room for n rows of k experts each, in the arena; it has no rows yet. */
void traffic_open(struct traffic *t, int n, int k, struct arena *memory);

/* The weight of a row's choice j. */
static inline float traffic_weight(int j)
{
    return ldexpf(1, -1 - j % 8);
}

/* n rows, each with k different experts, drawn one after the other in proportion to the weights of
 * those that are left. A row depends on its number and the seed alone, so a smaller n has the first
 * rows of a larger one. */
void traffic_draw(struct traffic *t, const double *weights, int experts, int n, int k,
                  uint64_t seed, struct arena *memory);
