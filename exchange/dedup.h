/* Which distinct rows a rank needs, and which slots are added up to each row; private to exchange/.
 * All arrays are in the memory of d, a CPU device. */
#pragma once

#include "kernels/device.h"

/* The dedup map: of each slot, which of its rank's distinct rows it reads. */
struct dedup_map {
    int32_t *index;  // [slots] a distinct row's number within its rank
    int32_t *row;    // [slots] the distinct rows of a rank, from the rank's first slot on
    int32_t *owner;  // [rows] scratch: the last rank that met this row,
    int32_t *number; // and the number it has there
};

/* For steps of at most `rows` rows of k experts. */
void dedup_open(struct dedup_map *map, struct dev *d, int rows, int k);
/* Forget all; a layer of n rows follows. */
void dedup_reset(struct dedup_map *map, int n);
/* Number the distinct rows that slots [first, first + n) of `rank` read, in the order in which they
 * first occur. Fills index and row from `first` on, and returns how many distinct rows there are.
 * source: the row of each slot (struct routing). */
int dedup_find(struct dedup_map *map, int rank, const int32_t *source, int first, int n);

/* Which slots are added up to each row, and with which factors: at most k of them, in the form that
 * add_norm and sum_rows take. */
struct row_sums {
    int k;
    int32_t *slot;  // [rows][k] -1 ends a row's terms
    float *factor;  // [rows][k]
    int32_t *terms; // [rows] how many terms each row has
    float *weight;  // [slots] the routing's weight of each slot
};

void sums_open(struct row_sums *s, struct dev *d, int rows, int k);
/* Forget all terms; a layer of n rows follows. */
void sums_reset(struct row_sums *s, int n);
/* s->weight[slot[i]] := weight[i], for n pairs. */
void sums_weigh(struct row_sums *s, const int32_t *slot, const float *weight, int n);
/* Add a term to the sum of `row`; false when it has k already. */
bool sums_add(struct row_sums *s, int row, int slot, float factor);
