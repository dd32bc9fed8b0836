#include "exchange/dedup.h"

#include <string.h>

void dedup_open(struct dedup_map *map, struct dev *d, int rows, int k)
{
    size_t n = (size_t)rows, slots = n * (size_t)k;
    *map = (struct dedup_map){
        .index = dev_alloc(d, slots * sizeof *map->index),
        .row = dev_alloc(d, slots * sizeof *map->row),
        .owner = dev_alloc(d, n * sizeof *map->owner),
        .number = dev_alloc(d, n * sizeof *map->number),
    };
}

void dedup_reset(struct dedup_map *map, int n)
{
    memset(map->owner, 0xff, (size_t)n * sizeof *map->owner); // -1: no rank
}

int dedup_find(struct dedup_map *map, int rank, const int32_t *source, int first, int n)
{
    int found = 0;
    for (int slot = first; slot < first + n; slot++) {
        int32_t row = source[slot];
        if (map->owner[row] != rank) {
            map->owner[row] = rank;
            map->number[row] = found;
            map->row[first + found++] = row;
        }
        map->index[slot] = map->number[row];
    }
    return found;
}

void sums_open(struct row_sums *s, struct dev *d, int rows, int k)
{
    size_t n = (size_t)rows, slots = n * (size_t)k;
    *s = (struct row_sums){
        .k = k,
        .slot = dev_alloc(d, slots * sizeof *s->slot),
        .factor = dev_alloc(d, slots * sizeof *s->factor),
        .terms = dev_alloc(d, n * sizeof *s->terms),
        .weight = dev_alloc(d, slots * sizeof *s->weight),
    };
}

void sums_reset(struct row_sums *s, int n)
{
    memset(s->slot, 0xff, (size_t)n * (size_t)s->k * sizeof *s->slot); // -1: none
    memset(s->terms, 0, (size_t)n * sizeof *s->terms);
}

void sums_weigh(struct row_sums *s, const int32_t *slot, const float *weight, int n)
{
    for (int i = 0; i < n; i++)
        s->weight[slot[i]] = weight[i];
}

bool sums_add(struct row_sums *s, int row, int slot, float factor)
{
    if (s->terms[row] == s->k)
        return false;
    size_t at = (size_t)row * (size_t)s->k + (size_t)s->terms[row]++;
    s->slot[at] = slot;
    s->factor[at] = factor;
    return true;
}
