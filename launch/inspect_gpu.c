/* What of a model fits a GPU, and what a token costs when the rest stays with the processors. */
#include "kernels/kernels.h"
#include "launch/inspect.h"

/* For CUDA itself, cuBLAS and the rows of a step. */
static const uint64_t workspace_bytes = (uint64_t)1 << 30;

static uint64_t one_of_each_layer(const struct inspection *i)
{
    return (uint64_t)i->sizes.sparse_layers * i->footprint.expert;
}

int gpu_home_most(const struct inspection *i)
{
    uint64_t rest = rest_bytes(i) + workspace_bytes, layer = one_of_each_layer(i);
    if (rest > i->gpu_memory)
        return -1;
    uint64_t most = layer ? (i->gpu_memory - rest) / layer : 0;
    return most < (uint64_t)i->config.n_experts ? (int)most : i->config.n_experts;
}

/* Any expert is as likely as any other, so that a token's experts are at home as often as there are
 * experts at home. */
struct gpu_plan gpu_plan_of(const struct inspection *i)
{
    const struct config *m = &i->config;
    const struct footprint *f = &i->footprint;
    struct rank_share home = share_of(i, 0);
    double experts = (double)i->sizes.sparse_layers * m->n_experts;
    double pairs = (double)i->sizes.sparse_layers * m->top_k;
    double at_home = experts > 0 ? pairs * home.holding.experts / experts : 0;
    double row = (double)row_stride(m->dim) * dtype_bytes(i->type);
    return (struct gpu_plan){
        .bytes = home.bytes + workspace_bytes,
        .workspace = workspace_bytes,
        .fits = home.bytes + workspace_bytes <= i->gpu_memory,
        .read_here = (double)(f->attention + f->router + f->dense + f->unembed) +
                     at_home * (double)f->expert,
        .read_there = (pairs - at_home) * (double)f->expert,
        .rows = 2 * (pairs - at_home) * row,
    };
}
