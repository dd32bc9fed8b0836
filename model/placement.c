#include "model/placement.h"

#include "base/log.h"

/* Groups in order of (rank, expert), from rank_of alone. */
static void order_groups(struct layer_placement *l, int n_experts, int n_ranks)
{
    int group = 0;
    for (int rank = 0; rank < n_ranks; rank++) {
        l->rank_first[rank] = group;
        for (int e = 0; e < n_experts; e++) {
            if (l->rank_of[e] != rank)
                continue;
            l->group_of[e] = group;
            l->expert_at[group++] = e;
        }
    }
    l->rank_first[n_ranks] = group;
}

static void layer_alloc(struct layer_placement *l, struct arena *memory, int n_experts, int n_ranks)
{
    size_t bytes = (size_t)n_experts * sizeof(int32_t);
    l->rank_of = arena_alloc(memory, bytes);
    l->group_of = arena_alloc(memory, bytes);
    l->expert_at = arena_alloc(memory, bytes);
    l->rank_first = arena_alloc(memory, (size_t)(n_ranks + 1) * sizeof(int32_t));
}

static void placement_init(struct placement *p, struct arena *memory, int n_layers, int n_experts,
                           int n_ranks)
{
    *p = (struct placement){.n_layers = n_layers, .n_experts = n_experts, .n_ranks = n_ranks};
    p->layers = arena_alloc(memory, (size_t)n_layers * sizeof *p->layers);
}

/* The worker that holds expert e when the first `extra` of them hold share + 1 and the rest share.
 */
static int even_rank(int e, int share, int extra)
{
    int in_larger = extra * (share + 1);
    return 1 + (e < in_larger ? e / (share + 1) : extra + (e - in_larger) / share);
}

void placement_even(struct placement *p, struct arena *memory, const struct config *m, int n_ranks)
{
    placement_init(p, memory, m->n_layers, m->n_experts, n_ranks);
    int workers = n_ranks - 1;
    for (int i = 0; i < m->n_layers; i++) {
        struct layer_placement *l = &p->layers[i];
        if (!m->sparse[i])
            continue;
        layer_alloc(l, memory, m->n_experts, n_ranks);
        for (int e = 0; e < m->n_experts; e++)
            l->rank_of[e] =
                workers ? even_rank(e, m->n_experts / workers, m->n_experts % workers) : 0;
        order_groups(l, m->n_experts, n_ranks);
    }
}

int placement_from_ranks(struct placement *p, struct arena *memory, const int32_t *rank_of,
                         int n_layers, int n_experts, int n_ranks)
{
    placement_init(p, memory, n_layers, n_experts, n_ranks);
    for (int i = 0; i < n_layers; i++) {
        const int32_t *ranks = rank_of + (size_t)i * (size_t)n_experts;
        if (n_experts == 0 || ranks[0] < 0)
            continue;
        struct layer_placement *l = &p->layers[i];
        layer_alloc(l, memory, n_experts, n_ranks);
        for (int e = 0; e < n_experts; e++) {
            if (ranks[e] < 0 || ranks[e] >= n_ranks)
                return fail(
                    STATUS_FAILED,
                    "placement: expected a rank from 0 to %d for layer %d expert %d, found %d",
                    n_ranks - 1, i, e, ranks[e]);
            l->rank_of[e] = ranks[e];
        }
        order_groups(l, n_experts, n_ranks);
    }
    return 0;
}
