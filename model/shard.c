#include "model/shard.h"

#include <string.h>

#include "kernels/ops.h"
#include "model/sizes.h"

static void alloc_layers(struct shard *s, struct dev *d, const struct placement *p, int rank)
{
    s->layers = dev_alloc_host(d, (size_t)p->n_layers * sizeof *s->layers);
    for (int l = 0; l < p->n_layers; l++) {
        if (!p->layers[l].rank_of)
            continue;
        struct shard_layer *here = &s->layers[l];
        here->n_experts = placement_count(&p->layers[l], rank);
        here->experts = dev_alloc_host(d, (size_t)here->n_experts * sizeof *here->experts);
        here->list = (struct ffn_list){.ffns = here->experts, .n = here->n_experts};
        s->n_experts += here->n_experts;
    }
}

int shard_open(struct shard *s, struct dev *d, const struct config *m, const struct checkpoint *c,
               enum dtype type, const struct placement *p, int rank, load_progress progress,
               void *context)
{
    uint64_t before = d->bytes;
    *s = (struct shard){.type = type,
                        .row_bytes = (size_t)row_stride(m->dim) * (size_t)dtype_bytes(type)};
    alloc_layers(s, d, p, rank);
    uint64_t expert_bytes = sizes_of(m).expert * (uint64_t)dtype_bytes(type), loaded = 0;
    for (int l = 0; l < p->n_layers; l++) {
        for (int i = 0; i < s->layers[l].n_experts; i++) {
            const struct layer_placement *at = &p->layers[l];
            int expert = at->expert_at[at->rank_first[rank] + i];
            int status = weights_load_expert(&s->layers[l].experts[i], d, m, c, type, l, expert);
            if (status)
                return status;
            loaded += expert_bytes;
            if (progress)
                progress(context, loaded);
        }
        if (s->layers[l].n_experts)
            ffn_list_open(d, &s->layers[l].list);
    }
    s->bytes = d->bytes - before;
    return 0;
}
