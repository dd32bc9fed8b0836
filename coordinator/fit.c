#include "coordinator/fit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "model/memory_fit.h"
#include "model/synth_made.h"

/* NCCL's buffers for one peer in one lane, as its source has them (no GPU has said yet): 10 MB a
 * channel, of which it takes 16 or so over NVLink and 2 between ranks of one GPU or over PCIe. */
enum { NCCL_PEER_BYTES = 160 << 20, NCCL_NEAR_PEER_BYTES = 20 << 20 };

struct gpu_need gpu_need(const struct memory_plan *p, const struct state_limits *limits)
{
    uint64_t step = limits ? state_bytes(&p->config, p->precision, limits) : 3 * GPU_SPARE_BYTES;
    struct rank_share home = memory_plan_share(p, 0);
    return (struct gpu_need){.weights = memory_plan_weights(p) + home.pieces + home.outputs,
                             .experts = home.experts,
                             .kv = p->kv_bytes,
                             .workspace = step + GPU_SPARE_BYTES};
}

uint64_t gpu_need_bytes(const struct gpu_need *need)
{
    return need->weights + need->experts + need->kv + need->workspace + need->others;
}

static double gib(uint64_t bytes)
{
    return (double)bytes / (1 << 30);
}

/* Does this rank share rank 0's GPU? The ranks of a host take its GPUs in turn. */
static bool shares(const struct coordinator *c, const struct coordinator_options *o, int rank)
{
    const struct transport *t = c->transport;
    int before = 0; // lower ranks on this host
    for (int r = 0; r < rank; r++)
        before += strcmp(t->hosts[r], t->hosts[0]) == 0;
    return o->gpus && strcmp(t->hosts[rank], t->hosts[0]) == 0 && before % o->gpus == o->gpu;
}

static int count_sharing(const struct coordinator *c, const struct coordinator_options *o)
{
    int n = 0;
    for (int rank = 1; c->transport && rank < c->transport->size; rank++)
        n += shares(c, o, rank);
    return n;
}

static uint64_t nccl_bytes(const struct coordinator *c, const struct coordinator_options *o,
                           int rank)
{
    int others = c->transport ? c->transport->size - 1 : 0;
    int peers = rank == 0 || o->exchange.strategy == STRATEGY_PADDED ? others : 1;
    uint64_t each = count_sharing(c, o) ? NCCL_NEAR_PEER_BYTES : NCCL_PEER_BYTES;
    return o->nccl ? (uint64_t)(peers * exchange_lanes(&o->exchange)) * each : 0;
}

static uint64_t sharing_bytes(const struct coordinator *c, const struct coordinator_options *o,
                              const struct memory_plan *plan)
{
    uint64_t bytes = 0;
    for (int rank = 1; c->transport && rank < c->transport->size; rank++)
        if (shares(c, o, rank))
            bytes += memory_plan_share(plan, rank).bytes + nccl_bytes(c, o, rank) + GPU_SPARE_BYTES;
    return bytes;
}

/* Bytes of the KV cache. One that takes half of what is free (kv_bytes < 0) needs at least one
 * sequence at full length. */
static uint64_t kv_bytes(const struct coordinator *c, const struct coordinator_options *o)
{
    uint64_t least = kv_footprint(&c->config, c->precision.type, c->context);
    uint64_t all = (uint64_t)o->max_sequences * least;
    if (o->kv_bytes < 0)
        return least;
    return o->kv_bytes > 0 && (uint64_t)o->kv_bytes < all ? (uint64_t)o->kv_bytes : all;
}

/* text := the first of these that is enough: a shorter context, experts on workers, no GPU. */
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

/* Ranks whose experts lie in the memory of rank 0's device, this one included. */
static int count_in_memory(const struct coordinator *c, const struct coordinator_options *o)
{
    if (c->dev.cuda)
        return 1 + count_sharing(c, o);
    return c->transport ? transport_ranks_here(c->transport) : 1;
}

uint64_t fit_room(struct coordinator *c, const struct coordinator_options *o)
{
    struct memory_plan plan;
    struct state_limits limits = {c->chunk, c->logit_rows, c->transport != NULL, c->nccl, 0};
    memory_plan_open(&plan, &c->config, c->precision, c->context);
    plan.kv_bytes = kv_bytes(c, o);
    uint64_t need = memory_plan_rest(&plan) + state_bytes(&c->config, c->precision, &limits);
    uint64_t free = dev_free_bytes(&c->dev) / (uint64_t)count_in_memory(c, o);
    need += c->dev.cuda ? GPU_SPARE_BYTES + nccl_bytes(c, o, 0) : 0;
    return free > need ? free - need : 1;
}

/* fit_check() without a GPU. The caller has set plan->embed_bytes to 0 for an embedding in a file:
 * its pages can be dropped when memory is short. */
static int check_host(struct coordinator *c, struct memory_plan *plan, uint64_t buffers)
{
    const struct transport *t = c->transport;
    int size = plan->placement.n_ranks;
    bool *on_host = calloc((size_t)size, sizeof *on_host);
    CHECK_MEMORY(on_host, "no memory for %d ranks", size);
    for (int r = 0; r < size; r++)
        on_host[r] = !t || strcmp(t->hosts[r], t->hosts[0]) == 0;
    struct memory_need need = memory_need_of(plan, 0, buffers, on_host);
    need.threads = t && strcmp(t->name, "mpi") != 0;
    free(on_host);
    return memory_fit(&need, t ? t->hosts[0] : "this host", true);
}

int fit_check(struct coordinator *c, const struct coordinator_options *o)
{
    char advice[96];
    struct memory_plan plan;
    struct state_limits limits = {c->chunk, c->logit_rows, c->transport != NULL, c->nccl,
                                  c->placement.groups_most};
    memory_plan_open(&plan, &c->config, c->precision, c->context);
    plan.placement = c->placement;
    plan.kv_bytes = kv_bytes(c, o);
    if (!c->dev.cuda) {
        plan.embed_bytes = synth_is_made(o->model_dir) ? plan.embed_bytes : 0;
        return check_host(c, &plan, state_bytes(&c->config, c->precision, &limits));
    }
    struct gpu_need need = gpu_need(&plan, &limits);
    need.workspace += nccl_bytes(c, o, 0);
    need.others = sharing_bytes(c, o, &plan);
    uint64_t free = dev_free_bytes(&c->dev);
    if (gpu_need_bytes(&need) <= free)
        return 0;
    advise(advice, sizeof advice, &plan, &need, free);
    return fail(STATUS_FAILED,
                "GPU %d: expected %.2f GiB (weights %.2f, experts here %.2f, KV cache of %d "
                "positions %.2f, workspace %.2f, workers that share it %.2f), found %.2f GiB free: "
                "%s",
                o->gpu, gib(gpu_need_bytes(&need)), gib(need.weights), gib(need.experts),
                c->context, gib(need.kv), gib(need.workspace), gib(need.others), gib(free), advice);
}
