#include "coordinator/gpu_plan.h"

#include "coordinator/fit.h"
#include "kernels/kernels.h"

int gpu_home_most(const struct memory_plan *p, uint64_t gpu_memory)
{
    struct gpu_need need = gpu_need(p, NULL);
    uint64_t rest = gpu_need_bytes(&need) - need.experts, layer = memory_plan_expert_of_each(p);
    if (rest > gpu_memory)
        return -1;
    uint64_t most = layer ? (gpu_memory - rest) / layer : 0;
    return most < (uint64_t)p->config.n_experts ? (int)most : p->config.n_experts;
}

/* How many experts, of all layers, have their first copy on rank 0. */
static int first_copies_at_home(const struct placement *p)
{
    int n = 0;
    for (int l = 0; l < p->n_layers; l++)
        for (int expert = 0; expert < p->layers[l].n; expert++)
            n += p->layers[l].rank_of[expert] == 0;
    return n;
}

/* All experts are taken to be equally likely, and the row of a step of one token goes to first
 * copies only (model/placement.h). So the share of a token's experts that are on rank 0 is the
 * share of experts whose first copy is there. */
struct gpu_plan gpu_plan_of(const struct memory_plan *p, uint64_t gpu_memory)
{
    const struct config *m = &p->config;
    struct gpu_need need = gpu_need(p, NULL);
    double experts = (double)p->sizes.sparse_layers * m->n_experts;
    double pairs = (double)p->sizes.sparse_layers * m->top_k;
    double at_home = experts > 0 ? pairs * first_copies_at_home(&p->placement) / experts : 0;
    double row = (double)row_stride(m->dim) * dtype_bytes(p->precision.type);
    double expert = (double)p->footprint.expert;
    return (struct gpu_plan){
        .bytes = gpu_need_bytes(&need),
        .workspace = need.workspace,
        .fits = gpu_need_bytes(&need) <= gpu_memory,
        .read_here = (double)(need.weights - p->embed_bytes) + at_home * expert,
        .read_there = (pairs - at_home) * expert,
        .rows = 2 * (pairs - at_home) * row,
    };
}
