#include "coordinator/fit.h"

#include <stdio.h>

#include "base/log.h"
#include "model/footprint.h"
#include "model/sizes.h"

/* For libraries, graphs and what an allocator rounds up. */
enum { SPARE_BYTES = 256 << 20 };

struct fit {
    uint64_t weights, experts, kv, workspace; // what is to lie on the GPU
    uint64_t expert;                          // one of each layer
    uint64_t free;
};

static uint64_t total(const struct fit *f)
{
    return f->weights + f->experts + f->kv + f->workspace;
}

static double gib(uint64_t bytes)
{
    return (double)bytes / (1 << 30);
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
        .workspace = state_bytes(m, c->dtype, &limits) + SPARE_BYTES,
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
                "positions %.2f, workspace %.2f), found %.2f GiB free: %s",
                o->gpu, gib(total(&f)), gib(f.weights), gib(f.experts), c->context, gib(f.kv),
                gib(f.workspace), gib(f.free), advice);
}
