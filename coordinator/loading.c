#include "coordinator/loading.h"

#include <unistd.h>

#include "base/clock.h"
#include "base/progress.h"
#include "coordinator/cluster.h"
#include "model/sizes.h"

/* A progress bar that counts the bytes of the weights in the type that they will be kept in. */
struct load_bar {
    struct progress progress;
    double type_bytes;
};

static void open_bar(struct load_bar *bar, const char *label, uint64_t parameters, enum dtype type,
                     enum quant quant)
{
    bar->type_bytes = weight_bytes(type, quant);
    progress_open(&bar->progress, label, "GB", (double)parameters * bar->type_bytes * 1e-9, 1e9);
}

static void show_progress(void *context, uint64_t parameters)
{
    struct load_bar *bar = context;
    progress_update(&bar->progress, (double)parameters * bar->type_bytes);
}

static int load(struct coordinator *c, const struct checkpoint *ckpt)
{
    struct load_bar bar;
    const struct config *m = &c->config;
    struct sizes sizes = sizes_of(m);
    int outputs = c->placement.output_first[1];
    uint64_t own = (uint64_t)outputs * (uint64_t)m->dim + sizes.layers - sizes.dense;
    open_bar(&bar, "loading", own, c->precision.type, c->precision.matrices);
    int status =
        weights_open(&c->weights, &c->dev, m, ckpt, c->precision, outputs, show_progress, &bar);
    progress_close(&bar.progress);
    if (status)
        return status;
    open_bar(&bar, "loading experts", shard_parameters(m, &c->placement, 0), c->precision.type,
             c->precision.blocks);
    status = shard_open(&c->shard, &c->dev, m, ckpt, c->precision, &c->placement, 0, show_progress,
                        &bar);
    progress_close(&bar.progress);
    return status;
}

int coordinator_load(struct coordinator *c, const struct checkpoint *ckpt)
{
    int64_t start = clock_ns();
    int status = load(c, ckpt);
    if (!status)
        status = dev_wait(&c->dev); // a GPU may still be packing
    if (status)
        return status;
    char host[64] = "";
    gethostname(host, sizeof host - 1);
    struct ready ready = {c->weights.bytes + c->shard.bytes, (uint32_t)c->shard.n_experts,
                          seconds_since(start)};
    cluster_note_loaded(host, 0, &ready);
    return 0;
}
