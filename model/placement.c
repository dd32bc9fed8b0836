#include "model/placement.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"

enum { MAX_FILE_BYTES = 16 << 20 };

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

/* The worker that holds the i-th of n experts in contiguous shares: the first n % workers of them
 * hold one more. */
static int even_rank(int i, int n, int workers)
{
    int share = n / workers, extra = n % workers, in_larger = extra * (share + 1);
    return 1 + (i < in_larger ? i / (share + 1) : extra + (i - in_larger) / share);
}

static int rank_by_rule(const struct placement *p, bool even, int home, int expert)
{
    int workers = p->n_ranks - 1;
    if (expert < home || workers == 0)
        return 0;
    return even ? even_rank(expert - home, p->n_experts - home, workers) : 1 + expert % workers;
}

static int by_rule(struct placement *p, struct arena *memory, const struct config *m, bool even,
                   long home)
{
    if (home > m->n_experts)
        return fail(STATUS_USAGE, "--home %ld: expected at most %d, the experts of a layer", home,
                    m->n_experts);
    for (int i = 0; i < m->n_layers; i++) {
        struct layer_placement *l = &p->layers[i];
        if (!m->sparse[i])
            continue;
        layer_alloc(l, memory, p->n_experts, p->n_ranks);
        for (int e = 0; e < p->n_experts; e++)
            l->rank_of[e] = rank_by_rule(p, even, (int)home, e);
        order_groups(l, p->n_experts, p->n_ranks);
    }
    return 0;
}

static int from_file(struct placement *p, struct arena *memory, const struct config *m, int n_ranks,
                     const struct placement_spec *spec)
{
    size_t bytes;
    if (spec->home_given)
        return fail(STATUS_USAGE,
                    "--home %ld: expected none beside --placement %s: the file says "
                    "which experts stay at home",
                    spec->home, spec->text);
    if (!file_exists(spec->text))
        return fail(STATUS_BAD_FILE,
                    "--placement %s: expected even, round-robin or a file, found no such file",
                    spec->text);
    char *text = file_read(spec->text, MAX_FILE_BYTES, &bytes);
    if (!text)
        return STATUS_BAD_FILE;
    int status = placement_parse(p, memory, m, n_ranks, text, bytes, spec->text);
    free(text);
    return status;
}

int placement_build(struct placement *p, struct arena *memory, const struct config *m, int n_ranks,
                    const struct placement_spec *spec)
{
    bool even = !spec->text || strcmp(spec->text, "even") == 0;
    if (!even && strcmp(spec->text, "round-robin") != 0)
        return from_file(p, memory, m, n_ranks, spec);
    placement_init(p, memory, m->n_layers, m->n_experts, n_ranks);
    return by_rule(p, memory, m, even, spec->home);
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

struct holding placement_holding(const struct placement *p, int rank)
{
    struct holding h = {0};
    bool first = true;
    for (int i = 0; i < p->n_layers; i++) {
        if (!p->layers[i].rank_of)
            continue;
        int n = placement_count(&p->layers[i], rank);
        h.experts += n;
        h.least = first || n < h.least ? n : h.least;
        h.most = n > h.most ? n : h.most;
        first = false;
    }
    return h;
}
