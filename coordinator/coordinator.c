#include "coordinator/coordinator.h"

#include <limits.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/pulse.h"
#include "coordinator/cluster.h"
#include "coordinator/fit.h"
#include "coordinator/stage.h"
#include "coordinator/unembed.h"
#include "kernels/ops.h"
#include "model/pieces.h"
#include "model/sizes.h"

_Static_assert((int)CONTROL_NCCL_ID_BYTES == (int)NCCL_ID_BYTES, "Setup has no room for it");
_Static_assert((int)CONTROL_NCCL_MAX_IDS == (int)LANES, "Setup has no room for all");

/* theta^(-2i/d) and the angle in f32, as the reference implementation has them; the cosine of that
 * angle correctly rounded. */
static void rope_open(struct rope_table *r, struct dev *d, const struct config *m, int positions)
{
    int half = m->head_dim / 2;
    size_t bytes = (size_t)positions * (size_t)half * sizeof(float);
    float *cosines = dev_alloc_host(d, bytes), *sines = dev_alloc_host(d, bytes);
    for (int i = 0; i < half; i++) {
        float exponent = (float)(2 * i) / (float)m->head_dim;
        float frequency = 1.0f / powf((float)m->rope_theta, exponent);
        for (int p = 0; p < positions; p++) {
            float angle = (float)p * frequency;
            cosines[p * half + i] = (float)cos((double)angle);
            sines[p * half + i] = (float)sin((double)angle);
        }
    }
    float *cosines_device = dev_alloc_copy(d, cosines, bytes),
          *sines_device = dev_alloc_copy(d, sines, bytes);
    dev_upload(d, cosines_device, cosines, bytes);
    dev_upload(d, sines_device, sines, bytes);
    *r = (struct rope_table){cosines_device, sines_device, half};
}

/* A bar in bytes of the type that the run computes in. */
struct load_bar {
    struct progress progress;
    double type_bytes;
};

static void open_bar(struct load_bar *bar, const char *label, uint64_t parameters, enum dtype type)
{
    bar->type_bytes = (double)dtype_bytes(type);
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
    open_bar(&bar, "loading", own, c->dtype);
    int status =
        weights_open(&c->weights, &c->dev, m, ckpt, c->dtype, outputs, show_progress, &bar);
    progress_close(&bar.progress);
    if (status)
        return status;
    open_bar(&bar, "loading experts", shard_parameters(m, &c->placement, 0), c->dtype);
    status =
        shard_open(&c->shard, &c->dev, m, ckpt, c->dtype, &c->placement, 0, show_progress, &bar);
    progress_close(&bar.progress);
    return status;
}

/* As load(), and say how fast that was. */
static int load_here(struct coordinator *c, const struct checkpoint *ckpt)
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

/* The groups of a layer's blocks where the device can read them; NULL where it has none. */
static const int32_t *share_groups(struct coordinator *c, const struct layer_placement *l)
{
    size_t bytes = (size_t)l->n * sizeof *l->group_of;
    if (l->n == 0)
        return NULL;
    int32_t *copy = dev_alloc_copy(&c->dev, l->group_of, bytes);
    dev_upload(&c->dev, copy, l->group_of, bytes);
    return copy;
}

static void share_placement(struct coordinator *c)
{
    size_t n = (size_t)c->config.n_layers;
    c->group_of = dev_alloc_host(&c->dev, n * sizeof *c->group_of);
    c->piece_at = dev_alloc_host(&c->dev, n * sizeof *c->piece_at);
    for (int l = 0; l < c->config.n_layers; l++) {
        c->group_of[l] = share_groups(c, &c->placement.layers[l]);
        c->piece_at[l] = share_groups(c, &c->placement.pieces[l]);
    }
}

/* What kv_bytes allows; kv_cache_open takes no more than all sequences can fill. However little
 * memory there seems to be, one sequence of full length is tried: pages are touched when needed. */
static int kv_blocks(struct coordinator *c, int64_t kv_bytes)
{
    const struct config *m = &c->config;
    size_t block =
        2 * (size_t)m->n_layers * kv_block_bytes(&c->dev, c->dtype, m->n_kv_heads, m->head_dim);
    uint64_t least = 1, blocks = (uint64_t)kv_bytes / block;
    if (kv_bytes == 0)
        return 0;
    if (kv_bytes < 0) {
        least = (uint64_t)(c->context + KV_BLOCK - 1) / KV_BLOCK;
        blocks = dev_free_bytes(&c->dev) / 2 / block;
    }
    blocks = blocks < INT_MAX ? blocks : INT_MAX;
    return (int)(blocks > least ? blocks : least);
}

static void trace_exchange(struct coordinator *c)
{
    for (int i = 0; i < c->n_exchanges; i++)
        root_trace(c->exchange[i], c->trace);
}

/* What depends on how rows travel. */
static void open_exchange(struct coordinator *c)
{
    const struct config *m = &c->config;
    struct state_limits limits = {c->chunk, c->logit_rows, c->transport != NULL, c->nccl};
    struct exchange_setup setup = {
        .host = wire_dev(c),
        .dev = c->nccl ? &c->dev : wire_dev(c),
        .transport = c->transport,
        .limits = {c->chunk, m->n_experts ? m->top_k : 0, m->n_experts, m->dim, c->dtype,
                   pieces_most(m)},
        .options = c->options,
        .nccl = c->nccl,
    };
    state_open(&c->state, &c->dev, m, c->dtype, &limits);
    c->n_exchanges = root_open(c->exchange, &setup);
    unembed_open(c);
    trace_exchange(c);
}

/* Every buffer that a step will need, sized once. */
static void allocate(struct coordinator *c, const struct coordinator_options *o)
{
    const struct config *m = &c->config;
    struct dev_limits most = {.type = c->dtype,
                              .rows = m->n_experts ? c->chunk * m->top_k : c->chunk,
                              .ffn_width = m->n_experts ? m->expert_dim : 0,
                              .pieces = pieces_most(m),
                              .piece_width = pieces_widest(m),
                              .piece_rows = c->chunk,
                              .dim = m->dim,
                              .n_heads = m->n_heads,
                              .head_dim = m->head_dim,
                              .n_experts = m->n_experts,
                              .context = c->context,
                              .vocab = m->vocab_size,
                              .logit_rows = c->logit_rows};
    open_exchange(c);
    kv_cache_open(&c->kv, &c->dev, m, c->dtype, o->max_sequences, c->context,
                  kv_blocks(c, o->kv_bytes));
    rope_open(&c->rope, &c->dev, m, c->context);
    picker_open(&c->picker, &c->dev, m->vocab_size, c->logit_rows, o->max_sequences);
    share_placement(c);
    dev_reserve(&c->dev, &most);
    if (is_staged(c))
        dev_reserve(wire_dev(c), &most);
}

static void choose_sizes(struct coordinator *c, const struct coordinator_options *o)
{
    const struct config *m = &c->config;
    int most = m->max_positions;
    c->dtype = o->dtype < 0 ? m->dtype : (enum dtype)o->dtype;
    c->context = o->context ? o->context : o->wanted && o->wanted < most ? o->wanted : most;
    if (c->context > most)
        warn("-c %d: this model knows positions up to %d", c->context, most);
    int64_t rows = (int64_t)c->context * o->max_sequences;
    c->chunk = o->chunk < rows ? o->chunk : (int)rows;
    c->logit_rows = o->logit_rows;
}

/* With a transport, a GPU's rows travel through its host's memory. */
static int open_device(struct coordinator *c, const struct coordinator_options *o, enum isa isa)
{
    if (o->device == DEVICE_CPU) {
        dev_open_cpu(&c->dev, isa, o->threads);
        return 0;
    }
    int status = dev_open_cuda(&c->dev, o->gpu, isa, o->threads);
    if (!status && c->transport)
        dev_open_host(&c->host, &c->dev);
    return status;
}

static void close_device(struct coordinator *c)
{
    root_leave(c->exchange, c->n_exchanges);
    weights_close(&c->weights);
    dev_close(&c->host);
    dev_close(&c->dev);
}

/* All ranks at the same time: once all have loaded. */
static int join_gpus(struct coordinator *c, const void *nccl_ids)
{
    int status = dev_wait(&c->dev);
    if (!status)
        status = root_join(c->exchange, c->n_exchanges, nccl_ids);
    return status == TRANSPORT_INTERRUPTED ? cluster_fault(c->transport) : status;
}

/* Where NCCL moves rows: an id for each lane. */
static int make_ids(const struct coordinator *c, const struct coordinator_options *o, char *ids,
                    struct cluster_terms *terms)
{
    int status = 0;
    terms->nccl_ids = ids;
    terms->n_nccl_ids = o->nccl && c->transport ? exchange_lanes(&o->exchange) : 0;
    for (int lane = 0; lane < terms->n_nccl_ids && !status; lane++)
        status = nccl_new_id(ids + (size_t)lane * NCCL_ID_BYTES);
    return status;
}

/* Weights of experts and pieces of which measuring the ranks is worth the time it takes. */
enum { WORTH_MEASURING = 256 << 20 };

static bool is_worth_measuring(const struct coordinator *c, const struct cluster_terms *terms)
{
    struct sizes sizes = sizes_of(&c->config);
    uint64_t n = (uint64_t)sizes.sparse_layers * (uint64_t)c->config.n_experts;
    uint64_t bytes = (n * sizes.expert + sizes.dense) * (uint64_t)dtype_bytes(c->dtype);
    return c->transport && terms->exchange.combine == COMBINE_ROWS && bytes > WORTH_MEASURING;
}

/* Of how many rows a step must be to go in two halves; 0: none does. */
static int halved_rows(enum overlap overlap)
{
    return overlap == OVERLAP_OFF ? 0 : overlap == OVERLAP_ON ? 2 : OVERLAP_AUTO_ROWS;
}

/* With COMBINE_SUM results depend on the placement, so that goes by the shapes of the model alone.
 */
static int place_balanced(struct coordinator *c, const struct coordinator_options *o,
                          const struct cluster_terms *terms, enum isa isa)
{
    struct transport *t = c->transport;
    struct placement_spec spec = o->placement;
    int n_ranks = t ? t->size : 1, status = 0;
    struct balance b = {.m = &c->config,
                        .type = c->dtype,
                        .load = o->expect,
                        .chunk = c->chunk,
                        .halved = halved_rows(terms->exchange.overlap),
                        .n_ranks = n_ranks};
    if (terms->exchange.combine == COMBINE_ROWS)
        spec.balance = &b;
    if (is_worth_measuring(c, terms)) {
        struct rank_speed *speeds = arena_alloc(&c->memory, (size_t)n_ranks * sizeof *speeds);
        status = cluster_measure(t, terms, isa, &c->dev, speeds);
        speeds[0].memory = fit_room(c, o);
        b.speeds = speeds;
    }
    return status ? status : placement_build(&c->placement, &c->memory, &c->config, n_ranks, &spec);
}

static int open_with(struct coordinator *c, const struct coordinator_options *o,
                     const struct checkpoint *ckpt)
{
    struct transport alone = {.size = 1}, *t = c->transport ? c->transport : &alone;
    const struct config *m = &c->config;
    struct cluster_terms terms = {.version = o->version,
                                  .dtype = c->dtype,
                                  .max_rows = c->chunk,
                                  .logit_rows = c->logit_rows,
                                  .profile = o->profile.on,
                                  .exchange = o->exchange};
    char nccl_ids[LANES * NCCL_ID_BYTES];
    unsigned common;
    enum isa isa;
    uint64_t worker_bytes;
    int status = weights_check(m, ckpt);
    if (!status && !placement_is_balanced(&o->placement)) // by a rule or a file: refused at once
        status = placement_build(&c->placement, &c->memory, m, t->size, &o->placement);
    if (!status)
        status = exchange_choose_wire(&terms.exchange, c->dtype);
    c->options = terms.exchange;
    if (!status && t->size > 1)
        status = checkpoint_digest(ckpt, &terms.digest);
    if (!status)
        status = cluster_greet(t, &terms, &common);
    if (!status)
        status = isa_choose(&isa, common);
    if (!status)
        status = make_ids(c, o, nccl_ids, &terms);
    if (status)
        return status;
    status = open_device(c, o, isa);
    if (!status && placement_is_balanced(&o->placement))
        status = place_balanced(c, o, &terms, isa);
    if (!status)
        status = fit_check(c, o);
    if (!status)
        status = cluster_set_up(t, &terms, isa, m, &c->placement);
    if (!status)
        status = load_here(c, ckpt);
    if (!status)
        status = cluster_await(t, &worker_bytes);
    if (!status)
        allocate(c, o);
    if (!status && terms.n_nccl_ids)
        status = join_gpus(c, nccl_ids);
    if (!status)
        status = dev_wait(&c->dev);
    if (!status)
        status = profile_open(&c->profile, c->transport, m->n_layers, &o->profile);
    if (status) {
        close_device(c);
        return status;
    }
    profile_time_by(c->profile, &c->dev);
    c->trace = c->profile ? &c->profile->log : NULL;
    trace_exchange(c);
    c->weight_bytes = c->weights.bytes + c->shard.bytes + worker_bytes;
    return 0;
}

int coordinator_open(struct coordinator *c, const struct coordinator_options *o,
                     struct transport *t)
{
    int64_t start = clock_ns();
    struct checkpoint *ckpt = NULL;
    memset(c, 0, sizeof *c);
    c->transport = t && t->size > 1 ? t : NULL;
    c->nccl = o->nccl && c->transport;
    pulse_bind(t ? t->pulse : NULL);
    pulse_loading(true);
    int status = config_load(&c->config, &c->defaults, o->model_dir);
    if (!status)
        choose_sizes(c, o);
    if (!status)
        status = checkpoint_open(&ckpt, o->model_dir);
    if (!status) {
        weights_untie(&c->config, ckpt);
        status = open_with(c, o, ckpt);
    }
    checkpoint_close(ckpt);
    if (status) {
        if (c->transport)
            cluster_stop(c->transport);
        arena_free(&c->memory);
    }
    pulse_loading(false);
    c->load_seconds = seconds_since(start);
    return status;
}

/* Rank 0 leaves the old exchange while workers do: NCCL may wait for all ranks of a host. */
int coordinator_change_exchange(struct coordinator *c, const struct coordinator_options *o)
{
    struct cluster_terms terms = {.dtype = c->dtype,
                                  .max_rows = c->chunk,
                                  .logit_rows = c->logit_rows,
                                  .profile = c->profile != NULL,
                                  .exchange = o->exchange};
    char nccl_ids[LANES * NCCL_ID_BYTES];
    uint64_t unused;
    int status = exchange_choose_wire(&terms.exchange, c->dtype);
    if (!status)
        status = make_ids(c, o, nccl_ids, &terms);
    if (!status)
        status = cluster_set_up(c->transport, &terms, c->dev.isa, &c->config, &c->placement);
    if (status)
        return status;
    root_leave(c->exchange, c->n_exchanges);
    c->options = terms.exchange;
    c->nccl = o->nccl;
    status = cluster_await(c->transport, &unused);
    if (!status)
        open_exchange(c);
    if (!status && terms.n_nccl_ids)
        status = join_gpus(c, nccl_ids);
    return status ? status : dev_wait(&c->dev);
}

int coordinator_wire_error(struct coordinator *c, double *error)
{
    struct wire_error all;
    int status = root_wire_error(c->exchange[0], &all);
    if (!status && c->transport && c->options.wire != WIRE_MODEL)
        status = cluster_wire_error(c->transport, &all);
    *error = all.squares > 0 ? sqrt(all.errors / all.squares) : 0;
    return status;
}

int coordinator_finish_profile(struct coordinator *c)
{
    return profile_finish(c->profile, root_counters(c->exchange[0]));
}

uint64_t coordinator_experts_hit(struct coordinator *c)
{
    struct state *s = &c->state;
    dev_download(&c->dev, s->hit_host, s->hit, sizeof *s->hit);
    dev_wait(&c->dev);
    return *s->hit_host;
}

void coordinator_close(struct coordinator *c)
{
    if (c->transport)
        cluster_stop(c->transport);
    profile_close(c->profile);
    close_device(c);
    arena_free(&c->memory);
}
