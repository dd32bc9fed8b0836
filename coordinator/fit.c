#include "coordinator/fit.h"

#include <stdio.h>

#include "base/log.h"
struct gpu_need gpu_need(const struct memory_plan *p, const struct state_limits *limits)
{
    uint64_t step = limits ? state_bytes(&p->config, p->type, limits) : 3 * GPU_SPARE_BYTES;
    return (struct gpu_need){.weights = memory_plan_weights(p),
                             .experts = memory_plan_share(p, 0).experts,
                             .kv = p->kv_bytes,
                             .workspace = step + GPU_SPARE_BYTES};
}

uint64_t gpu_need_bytes(const struct gpu_need *need)
{
    return need->weights + need->experts + need->kv + need->workspace;
}

static double gib(uint64_t bytes)
{
    return (double)bytes / (1 << 30);
}

/* A limited cache, or one that takes what is left, needs no more than one full sequence. */
static uint64_t kv_bytes(const struct coordinator *c, const struct coordinator_options *o)
{
    uint64_t least = kv_footprint(&c->config, c->dtype, c->context);
    uint64_t all = (uint64_t)o->max_sequences * least;
    if (o->kv_bytes < 0)
        return least;
    return o->kv_bytes > 0 && (uint64_t)o->kv_bytes < all ? (uint64_t)o->kv_bytes : all;
}

/* The first of these that is enough: a shorter context, experts on workers, another machine. */
static void advise(char *text, size_t size, const struct memory_plan *p,
                   const struct gpu_need *need, uint64_t free)
{
    uint64_t without_kv = gpu_need_bytes(need) - need->kv;
    uint64_t without_experts = gpu_need_bytes(need) - need->experts;
    if (without_kv < free) {
        double share = (double)(free - without_kv) / (double)need->kv;
        snprintf(text, size, "-c %d would fit", (int)(share * p->context) / KV_BLOCK * KV_BLOCK);
    } else if (without_experts < free) {
        uint64_t expert = memory_plan_expert_of_each(p);
        uint64_t home = expert ? (free - without_experts) / expert : 0;
        snprintf(text, size, "--ranks 2 --worker-device cpu --home %d would fit", (int)home);
    } else {
        snprintf(text, size, "--device cpu needs no GPU");
    }
}

int fit_check(struct coordinator *c, const struct coordinator_options *o)
{
    char advice[96];
    struct memory_plan plan;
    struct state_limits limits = {c->chunk, c->logit_rows, c->transport != NULL, c->nccl};
    if (!c->dev.cuda)
        return 0;
    memory_plan_open(&plan, &c->config, c->dtype, c->context);
    plan.placement = c->placement;
    plan.kv_bytes = kv_bytes(c, o);
    struct gpu_need need = gpu_need(&plan, &limits);
    uint64_t free = dev_free_bytes(&c->dev);
    if (gpu_need_bytes(&need) <= free)
        return 0;
    advise(advice, sizeof advice, &plan, &need, free);
    return fail(STATUS_FAILED,
                "GPU %d: expected %.2f GiB (weights %.2f, experts here %.2f, KV cache of %d "
                "positions %.2f, workspace %.2f), found %.2f GiB free: %s",
                o->gpu, gib(gpu_need_bytes(&need)), gib(need.weights), gib(need.experts),
                c->context, gib(need.kv), gib(need.workspace), gib(free), advice);
}
