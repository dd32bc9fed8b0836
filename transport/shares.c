/* Which rows a rank needs once, and what a row's sum is made of. */
#include <string.h>

#include "transport/strategy.h"

void shares_open(struct shares *s, struct dev *d, int rows, int k)
{
    size_t n = (size_t)rows, places = n * (size_t)k;
    *s = (struct shares){
        .rows = rows,
        .k = k,
        .index = dev_alloc(d, places * sizeof *s->index),
        .row = dev_alloc(d, places * sizeof *s->row),
        .weight = dev_alloc(d, places * sizeof *s->weight),
        .marked = dev_alloc(d, n * sizeof *s->marked),
        .as = dev_alloc(d, n * sizeof *s->as),
        .place = dev_alloc(d, places * sizeof *s->place),
        .factor = dev_alloc(d, places * sizeof *s->factor),
        .terms = dev_alloc(d, n * sizeof *s->terms),
    };
}

void shares_reset(struct shares *s, int n)
{
    memset(s->marked, 0xff, (size_t)n * sizeof *s->marked); // -1: nobody
    memset(s->place, 0xff, (size_t)n * (size_t)s->k * sizeof *s->place);
    memset(s->terms, 0, (size_t)n * sizeof *s->terms);
}

void shares_weigh(struct shares *s, const int32_t *place, const float *weight, int n)
{
    for (int i = 0; i < n; i++)
        s->weight[place[i]] = weight[i];
}

int shares_find(struct shares *s, int rank, const int32_t *source, int first, int n)
{
    int found = 0;
    for (int at = first; at < first + n; at++) {
        int32_t row = source[at];
        if (s->marked[row] != rank) {
            s->marked[row] = rank;
            s->as[row] = found;
            s->row[first + found++] = row;
        }
        s->index[at] = s->as[row];
    }
    return found;
}

bool shares_add(struct shares *s, int row, int place, float factor)
{
    if (s->terms[row] == s->k)
        return false;
    size_t at = (size_t)row * (size_t)s->k + (size_t)s->terms[row]++;
    s->place[at] = place;
    s->factor[at] = factor;
    return true;
}
