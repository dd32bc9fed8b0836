#include "coordinator/coordinator.h"

#include <limits.h>
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/pulse.h"
#include "coordinator/cluster.h"
#include "coordinator/fit.h"
#include "coordinator/loading.h"
#include "coordinator/stage.h"
#include "coordinator/unembed.h"
#include "kernels/ops.h"
#include "model/pieces.h"

_Static_assert((int)CONTROL_NCCL_ID_BYTES == (int)NCCL_ID_BYTES, "Setup has no room for it");
_Static_assert((int)CONTROL_NCCL_MAX_IDS == (int)LANES, "Setup has no room for all");

/* The groups of a layer's blocks, with group_of copied to where the device can read it. */
static struct grouping share_groups(struct coordinator *c, const struct layer_placement *l)
{
    struct grouping g = placement_grouping(l);
    size_t bytes = (size_t)l->turns * (size_t)l->n * sizeof *l->group_of;
    if (l->n == 0)
        return g;
    int32_t *copy = dev_alloc_copy(&c->dev, l->group_of, bytes);
    dev_upload(&c->dev, copy, l->group_of, bytes);
    g.group_of = copy;
    return g;
}

static void share_placement(struct coordinator *c)
{
    size_t n = (size_t)c->config.n_layers;
    c->groups = dev_alloc_host(&c->dev, n * sizeof *c->groups);
    c->piece_at = dev_alloc_host(&c->dev, n * sizeof *c->piece_at);
    for (int l = 0; l < c->config.n_layers; l++) {
        c->groups[l] = share_groups(c, &c->placement.layers[l]);
        c->piece_at[l] = share_groups(c, &c->placement.pieces[l]).group_of;
    }
}

/* How many blocks kv_bytes allows; 0: all sequences at full length. With KV_HALF_OF_MEMORY there
 * are at least enough for one sequence at full length, even if less memory seems to be free, since
 * pages are touched only as positions are written. */
static int kv_blocks(struct coordinator *c, int64_t kv_bytes)
{
    const struct config *m = &c->config;
    size_t block = 2 * (size_t)m->n_layers *
                   kv_block_bytes(&c->dev, c->precision.type, m->n_kv_heads, m->head_dim);
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

/* Open what depends on how rows travel: the state's buffers, the exchange, the buffers of
 * unembed(). */
static void open_exchange(struct coordinator *c)
{
    const struct config *m = &c->config;
    int groups = c->placement.groups_most;
    struct state_limits limits = {c->chunk, c->logit_rows, c->transport != NULL, c->nccl, groups};
    struct exchange_setup setup = {
        .host = wire_dev(c),
        .dev = c->nccl ? &c->dev : wire_dev(c),
        .transport = c->transport,
        .limits = {c->chunk, m->n_experts ? m->top_k : 0, m->n_experts, m->dim, c->precision.type,
                   pieces_most(m), groups},
        .options = c->options,
        .nccl = c->nccl,
    };
    state_open(&c->state, &c->dev, m, c->precision.type, &limits);
    c->n_exchanges = root_open(c->exchange, &setup);
    unembed_open(c);
    trace_exchange(c);
}

/* Every buffer that a step will need, sized once. */
static void allocate(struct coordinator *c, const struct coordinator_options *o)
{
    const struct config *m = &c->config;
    struct dev_limits most = {.type = c->precision.type,
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
                              .logit_rows = c->logit_rows,
                              .quantised = is_quantised(&c->precision)};
    open_exchange(c);
    kv_cache_open(&c->kv, &c->dev, m, c->precision.type, o->max_sequences, c->context,
                  kv_blocks(c, o->kv_bytes));
    rope_tables_open(&c->rope, &c->dev, m, c->context, o->max_sequences);
    picker_open(&c->picker, &c->dev, m->vocab_size, c->logit_rows, o->max_sequences);
    share_placement(c);
    dev_reserve(&c->dev, &most);
    if (is_staged(c))
        dev_reserve(wire_dev(c), &most);
}

/* c->precision := what the options say, or for a quantised checkpoint what the checkpoint has; then
 * options that ask for another type or quantisation are refused. */
static int choose_precision(struct coordinator *c, const struct coordinator_options *o,
                            const struct checkpoint *ckpt)
{
    struct precision *p = &c->precision;
    struct packed_kind packed = checkpoint_packed(ckpt);
    *p = (struct precision){o->dtype < 0 ? c->config.dtype : (enum dtype)o->dtype, o->quant,
                            o->expert_quant ? o->expert_quant : o->quant};
    if (packed.matrices || packed.blocks) {
        struct precision found = {c->config.dtype, packed.matrices, packed.blocks};
        if (o->dtype >= 0 || is_quantised(p))
            return fail(STATUS_USAGE,
                        "expected neither --dtype nor --expert-dtype with a checkpoint that is "
                        "quantised (%s)",
                        precision_text(&found).text);
        *p = found;
    }
    return 0;
}

/* Choose context, chunk and logit_rows. STATUS_USAGE if the context exceeds the model's attention
 * window. */
static int choose_sizes(struct coordinator *c, const struct coordinator_options *o)
{
    const struct config *m = &c->config;
    int most = m->max_positions;
    c->context = o->context ? o->context : o->wanted && o->wanted < most ? o->wanted : most;
    if (m->window && c->context > m->window)
        return fail(STATUS_USAGE, "-c %d: expected at most %d, the model's sliding_window",
                    c->context, m->window);
    if (c->context > most)
        warn("-c %d: this model knows positions up to %d", c->context, most);
    int64_t rows = (int64_t)c->context * o->max_sequences;
    c->chunk = o->chunk < rows ? o->chunk : (int)rows;
    c->logit_rows = o->logit_rows;
    return 0;
}

/* With other ranks, messages leave from the memory of a GPU's host, and rows too unless NCCL moves
 * them. */
static int open_device(struct coordinator *c, const struct coordinator_options *o, enum isa isa)
{
    if (o->device == DEVICE_CPU) {
        dev_open_cpu(&c->dev, isa, o->threads);
        if (o->eager)
            dev_make_eager(&c->dev, EAGER_GROUPED);
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

/* Bring up NCCL's communicators, which all ranks do at the same time, once all have loaded. */
static int join_gpus(struct coordinator *c, const void *nccl_ids)
{
    int status = dev_wait(&c->dev);
    if (!status)
        status = root_join(c->exchange, c->n_exchanges, nccl_ids);
    return status == TRANSPORT_INTERRUPTED ? cluster_fault(c->transport) : status;
}

/* If NCCL moves rows: make an id for each lane in terms->nccl_ids, which has room for LANES. */
static int make_ids(const struct coordinator *c, const struct coordinator_options *o,
                    struct cluster_terms *terms)
{
    int status = 0;
    terms->n_nccl_ids = o->nccl && c->transport ? exchange_lanes(&o->exchange) : 0;
    for (int lane = 0; lane < terms->n_nccl_ids && !status; lane++)
        status = nccl_new_id(terms->nccl_ids + (size_t)lane * NCCL_ID_BYTES);
    return status;
}

/* What the steps of coordinator_open() share. */
struct opening {
    struct coordinator *c;
    const struct coordinator_options *o;
    const struct checkpoint *ckpt;
    struct transport alone; // of size 1
    struct transport *t;    // the coordinator's, or &alone
    struct cluster_terms terms;
    char nccl_ids[LANES * NCCL_ID_BYTES];
    unsigned common; // instruction sets that all ranks have
    enum isa isa;
    uint64_t worker_bytes; // of weights, on all workers
};

static int check_weights(struct opening *s)
{
    return weights_check(&s->c->config, s->ckpt);
}

/* With copies, which ranks compute a row's experts depends on the row's place in its step. With
 * COMBINE_SUM each rank adds up its own outputs, so rounding would then depend on that place. */
static int check_copies(const struct opening *s)
{
    int copies = s->c->placement.n_copies;
    if (copies == 0 || s->o->exchange.combine == COMBINE_ROWS)
        return 0;
    return fail(STATUS_USAGE,
                "--combine sum: expected a placement without copies of experts, found %d in %s: "
                "sums would differ with what else is in a step; take --combine rows",
                copies, s->o->placement.text);
}

/* Build a placement by a rule or from a file, so that errors in it are told before a device opens.
 */
static int place_by_rule(struct opening *s)
{
    if (placement_is_balanced(&s->o->placement))
        return 0;
    int status = placement_build(&s->c->placement, &s->c->memory, &s->c->config, s->t->size,
                                 &s->o->placement);
    return status ? status : check_copies(s);
}

static int choose_wire(struct opening *s)
{
    int status = exchange_choose_wire(&s->terms.exchange, s->c->precision.type);
    s->c->options = s->terms.exchange;
    return status;
}

static int take_digest(struct opening *s)
{
    bool wanted = s->t->size > 1 || s->o->record;
    return wanted ? checkpoint_digest(s->ckpt, &s->terms.digest) : 0;
}

static int greet(struct opening *s)
{
    return cluster_greet(s->t, &s->terms, &s->common);
}

static int choose_isa(struct opening *s)
{
    return isa_choose(&s->isa, s->common);
}

static int make_all_ids(struct opening *s)
{
    return make_ids(s->c, s->o, &s->terms);
}

static bool is_worth_measuring(const struct coordinator *c, const struct cluster_terms *terms)
{
    return c->transport && terms->exchange.combine == COMBINE_ROWS &&
           rank_speed_matters(&c->config, c->precision);
}

/* The fewest rows of a step that goes in two halves; 0: no step does. */
static int halved_rows(enum overlap overlap)
{
    return overlap == OVERLAP_OFF ? 0 : overlap == OVERLAP_ON ? 2 : OVERLAP_AUTO_ROWS;
}

/* With COMBINE_SUM results depend on the placement, so then the placement is made from the model's
 * shapes alone, not from measured speeds or the expected workload. */
static int place_balanced(struct opening *s)
{
    struct coordinator *c = s->c;
    struct placement_spec spec = s->o->placement;
    int n_ranks = s->t->size, status = 0;
    struct balance b = {.m = &c->config,
                        .precision = c->precision,
                        .load = s->o->expect,
                        .chunk = s->o->chunk,
                        .halved = halved_rows(s->terms.exchange.overlap),
                        .n_ranks = n_ranks};
    if (!placement_is_balanced(&spec))
        return 0;
    if (s->terms.exchange.combine == COMBINE_ROWS)
        spec.balance = &b;
    if (is_worth_measuring(c, &s->terms)) {
        struct rank_speed *speeds = arena_alloc(&c->memory, (size_t)n_ranks * sizeof *speeds);
        status = cluster_measure(s->t, &s->terms, s->isa, &c->dev, speeds);
        speeds[0].memory = fit_room(c, s->o);
        b.speeds = speeds;
    }
    return status ? status : placement_build(&c->placement, &c->memory, &c->config, n_ranks, &spec);
}

static int check_fit(struct opening *s)
{
    return fit_check(s->c, s->o);
}

static int set_up_workers(struct opening *s)
{
    return cluster_set_up(s->t, &s->terms, s->isa, &s->c->config, &s->c->placement);
}

static int load_all(struct opening *s)
{
    int status = coordinator_load(s->c, s->ckpt);
    return status ? status : cluster_await(s->t, &s->worker_bytes);
}

static int allocate_all(struct opening *s)
{
    allocate(s->c, s->o);
    int status = s->terms.n_nccl_ids ? join_gpus(s->c, s->nccl_ids) : 0;
    return status ? status : dev_wait(&s->c->dev);
}

static int open_profile(struct opening *s)
{
    struct coordinator *c = s->c;
    int status = profile_open(&c->profile, c->transport, c->config.n_layers, &s->o->profile);
    if (status)
        return status;
    profile_time_by(c->profile, &c->dev);
    c->trace = c->profile ? &c->profile->log : NULL;
    trace_exchange(c);
    return 0;
}

static int open_record(struct opening *s)
{
    struct coordinator *c = s->c;
    struct record_setup setup = {.path = s->o->record,
                                 .version = s->o->version,
                                 .model = s->o->model_name,
                                 .digest = s->terms.digest,
                                 .config = &c->config,
                                 .dtype = c->precision.type,
                                 .rows = c->chunk};
    return record_open(&c->record, &setup);
}

typedef int (*opening_step)(struct opening *);

static int take_steps(struct opening *s, const opening_step *steps, size_t n)
{
    int status = 0;
    for (size_t i = 0; i < n && !status; i++)
        status = steps[i](s);
    return status;
}

/* The ranks agree, then each opens its device and loads. */
static int open_with(struct coordinator *c, const struct coordinator_options *o,
                     const struct checkpoint *ckpt)
{
    static const opening_step agree[] = {check_weights, place_by_rule, choose_wire, take_digest,
                                         greet,         choose_isa,    make_all_ids};
    static const opening_step build[] = {place_balanced, check_fit,    set_up_workers, load_all,
                                         allocate_all,   open_profile, open_record};
    struct opening s = {.c = c, .o = o, .ckpt = ckpt, .alone = {.size = 1}};
    s.t = c->transport ? c->transport : &s.alone;
    s.terms = (struct cluster_terms){.version = o->version,
                                     .precision = c->precision,
                                     .max_rows = c->chunk,
                                     .logit_rows = c->logit_rows,
                                     .profile = o->profile.on,
                                     .exchange = o->exchange,
                                     .nccl_ids = s.nccl_ids};
    int status = take_steps(&s, agree, sizeof agree / sizeof *agree);
    if (status)
        return status;
    status = open_device(c, o, s.isa);
    if (!status)
        status = take_steps(&s, build, sizeof build / sizeof *build);
    if (status) {
        profile_close(c->profile);
        close_device(c);
    }
    c->weight_bytes = c->weights.bytes + c->shard.bytes + s.worker_bytes;
    return status;
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
        status = choose_sizes(c, o);
    if (!status)
        status = checkpoint_open(&ckpt, o->model_dir);
    if (!status)
        status = choose_precision(c, o, ckpt);
    if (!status)
        status = open_with(c, o, ckpt);
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

/* Rank 0 leaves the old exchange while the workers leave theirs, since NCCL may wait for all ranks
 * of a host. */
int coordinator_change_exchange(struct coordinator *c, const struct coordinator_options *o)
{
    struct cluster_terms terms = {.precision = c->precision,
                                  .max_rows = c->chunk,
                                  .logit_rows = c->logit_rows,
                                  .profile = c->profile != NULL,
                                  .exchange = o->exchange};
    char nccl_ids[LANES * NCCL_ID_BYTES];
    terms.nccl_ids = nccl_ids;
    uint64_t unused;
    int status = exchange_choose_wire(&terms.exchange, c->precision.type);
    if (!status)
        status = make_ids(c, o, &terms);
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
    record_close(c->record);
    close_device(c);
    arena_free(&c->memory);
}
