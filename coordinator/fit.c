#include "coordinator/fit.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "model/footprint.h"
#include "model/sizes.h"

/* For libraries, graphs and what an allocator rounds up. */
enum { SPARE_BYTES = 256 << 20 };

/* NCCL's buffers for one peer in one lane, as its source has them (no GPU has said yet): 10 MB a
 * channel, of which it takes 16 or so over NVLink and 2 between ranks of one GPU or over PCIe. */
enum { NCCL_PEER_BYTES = 160 << 20, NCCL_NEAR_PEER_BYTES = 20 << 20 };

struct fit {
    uint64_t weights, experts, kv, workspace; // what is to lie on the GPU
    uint64_t others;                          // and of workers that share it
    uint64_t expert;                          // one of each layer
    uint64_t free;
};

static uint64_t total(const struct fit *f)
{
    return f->weights + f->experts + f->kv + f->workspace + f->others;
}

static double gib(uint64_t bytes)
{
    return (double)bytes / (1 << 30);
}

/* Workers that share rank 0's GPU: ranks of a host take its GPUs in turn. */
static bool shares(const struct coordinator *c, const struct coordinator_options *o, int rank)
{
    const struct transport *t = c->transport;
    int before = 0; // ranks of this host
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
                              uint64_t expert)
{
    uint64_t bytes = 0;
    for (int rank = 1; c->transport && rank < c->transport->size; rank++)
        if (shares(c, o, rank))
            bytes += (uint64_t)placement_holding(&c->placement, rank).experts * expert +
                     nccl_bytes(c, o, rank) + SPARE_BYTES;
    return bytes;
}

static struct fit fit_of(struct coordinator *c, const struct coordinator_options *o)
{
    const struct config *m = &c->config;
    struct footprint f = footprint_of(m, c->dtype);
    struct sizes sizes = sizes_of(m);
    bool travels = c->transport != NULL;
    struct state_limits limits = {c->chunk, c->logit_rows, travels, travels && o->nccl};
    uint64_t kv = (uint64_t)o->max_sequences * kv_footprint(m, c->dtype, c->context);
    struct fit fit = {
        .weights = f.attention + f.router + f.dense + f.unembed +
                   sizes.embed * (uint64_t)dtype_bytes(m->dtype),
        .experts = (uint64_t)placement_holding(&c->placement, 0).experts * f.expert,
        .kv = kv,
        .workspace = state_bytes(m, c->dtype, &limits) + nccl_bytes(c, o, 0) + SPARE_BYTES,
        .others = sharing_bytes(c, o, f.expert),
        .expert = (uint64_t)sizes.sparse_layers * f.expert,
        .free = dev_free_bytes(&c->dev),
    };
    // a limited cache, or one that takes what is left, needs no more than one full sequence
    uint64_t least = kv_footprint(m, c->dtype, c->context);
    if (o->kv_bytes > 0 && (uint64_t)o->kv_bytes < kv)
        fit.kv = (uint64_t)o->kv_bytes;
    else if (o->kv_bytes < 0)
        fit.kv = least;
    return fit;
}

/* The first of these that is enough: a shorter context, experts on workers, another machine. */
static void advise(char *text, size_t size, const struct coordinator *c, const struct fit *f)
{
    uint64_t without_kv = total(f) - f->kv, without_experts = total(f) - f->experts;
    if (without_kv < f->free) {
        double share = (double)(f->free - without_kv) / (double)f->kv;
        snprintf(text, size, "-c %d would fit", (int)(share * c->context) / KV_BLOCK * KV_BLOCK);
    } else if (without_experts < f->free) {
        uint64_t home = f->expert ? (f->free - without_experts) / f->expert : 0;
        snprintf(text, size, "--ranks 2 --worker-device cpu --home %d would fit", (int)home);
    } else {
        snprintf(text, size, "--device cpu needs no GPU");
    }
}

int fit_check(struct coordinator *c, const struct coordinator_options *o)
{
    char advice[96];
    if (!c->dev.cuda)
        return 0;
    struct fit f = fit_of(c, o);
    if (total(&f) <= f.free)
        return 0;
    advise(advice, sizeof advice, c, &f);
    return fail(STATUS_FAILED,
                "GPU %d: expected %.2f GiB (weights %.2f, experts here %.2f, KV cache of %d "
                "positions %.2f, workspace %.2f, workers that share it %.2f), found %.2f GiB free: "
                "%s",
                o->gpu, gib(total(&f)), gib(f.weights), gib(f.experts), c->context, gib(f.kv),
                gib(f.workspace), gib(f.others), gib(f.free), advice);
}
