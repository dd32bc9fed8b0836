/* Which distinct rows a rank needs, and what a row's sum is made of; private to exchange/. */
#pragma once

#include "kernels/device.h"

/* The dedup map: of each slot, which of its rank's distinct rows it reads. */
struct dedup_map {
    int32_t *index;  // [slots] a distinct row's number within its rank
    int32_t *row;    // [slots] the distinct rows of a rank, from the rank's first slot on
    int32_t *owner;  // [rows] scratch: the last rank that met this row,
    int32_t *number; // and the number it has there
};

void dedup_open(struct dedup_map *map, struct dev *d, int rows, int k);
/* Forget all; n rows come. */
void dedup_reset(struct dedup_map *map, int n);
/* The distinct rows behind slots [first, first + n) of `rank`, numbered as they are first met:
 * fills index and row from `first` on, returns their number. */
int dedup_find(struct dedup_map *map, int rank, const int32_t *source, int first, int n);

/* Weighted sums of slots, at most k terms each, as add_norm and sum_rows take them. */
struct row_sums {
    int k;
    int32_t *slot;  // [rows][k] -1 ends a row's terms
    float *factor;  // [rows][k]
    int32_t *terms; // [rows] how many
    float *weight;  // [slots] the routing's weight of each slot
};

void sums_open(struct row_sums *s, struct dev *d, int rows, int k);
/* Forget all terms; n rows come. */
void sums_reset(struct row_sums *s, int n);
/* weight[slot[i]] := weight[i], of n pairs. */
void sums_weigh(struct row_sums *s, const int32_t *slot, const float *weight, int n);
/* One more term for sum `row`; false when it has k already. */
bool sums_add(struct row_sums *s, int row, int slot, float factor);
