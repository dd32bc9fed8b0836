#include "coordinator/watched.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

static size_t n_entries(const struct watched *w)
{
    return (size_t)w->n_layers * (size_t)w->n_experts;
}

void watched_open(struct watched *w, int n_layers, int n_experts, int n_ranks)
{
    *w = (struct watched){.n_layers = n_layers, .n_experts = n_experts, .n_ranks = n_ranks};
    w->experts = calloc(n_entries(w) + 1, sizeof *w->experts);
    w->ranks = calloc((size_t)n_ranks, sizeof *w->ranks);
    CHECK_MEMORY(w->experts && w->ranks, "no memory to count rows");
}

void watched_close(struct watched *w)
{
    free(w->experts);
    free(w->ranks);
    *w = (struct watched){0};
}

void watched_count(struct watched *w, int layer, const struct routing *r,
                   const struct layer_placement *experts)
{
    if (!w)
        return;
    const struct exchange_layer *l = &r->layer;
    for (int g = 0; r->k && g < experts->n_groups; g++)
        w->experts[layer * w->n_experts + experts->block_at[g]] += (uint64_t)r->count[g];
    for (int rank = 0; rank < w->n_ranks; rank++) {
        w->ranks[rank] += (uint64_t)(layer_pieces(l, rank) * r->n);
        for (int g = l->rank_first[rank]; r->k && g < l->rank_first[rank + 1]; g++)
            w->ranks[rank] += (uint64_t)r->count[g];
    }
}

void watched_copy(struct watched *to, const struct watched *from)
{
    memcpy(to->experts, from->experts, n_entries(from) * sizeof *to->experts);
    memcpy(to->ranks, from->ranks, (size_t)from->n_ranks * sizeof *to->ranks);
}
