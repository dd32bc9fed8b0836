/* The beginning of a worker's life: greeting, loading, and everything that a step will need. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "kernels/ops.h"
#include "model/hub.h"
#include "model/memory_fit.h"
#include "model/pieces.h"
#include "proto/phase.h"
#include "transport/nccl.h"
#include "worker/worker.h"

/* Open the checkpoint; only its configuration and the tensors' headers are read. */
static int open_model(struct worker *w)
{
    struct generation_defaults unused;
    int status = hub_resolve(&w->model_dir, w->options->model);
    if (!status)
        status = config_load(&w->config, &unused, w->model_dir);
    if (!status)
        status = checkpoint_open(&w->checkpoint, w->model_dir);
    return status ? status : weights_check(&w->config, w->checkpoint);
}

int worker_greet(struct worker *w)
{
    struct control message = {.kind = CONTROL_HELLO};
    struct hello *hello = &message.hello;
    int status = open_model(w);
    if (!status)
        status = checkpoint_digest(w->checkpoint, &hello->digest);
    if (status)
        return status;
    hello->version = w->options->version;
    hello->host = w->transport->hosts[w->transport->rank];
    hello->device = w->options->device == DEVICE_CUDA ? "cuda" : "cpu";
    hello->isas = isa_available();
    return control_send(w->transport, 0, &message);
}

static int check_setup(const struct worker *w, const struct setup *setup)
{
    const struct config *m = &w->config;
    if (setup->n_layers != m->n_layers || setup->n_experts != m->n_experts)
        return fail(STATUS_FAILED, "setup: expected %d layers of %d experts, found %d of %d",
                    m->n_layers, m->n_experts, setup->n_layers, setup->n_experts);
    if (setup->n_pieces != pieces_total(m))
        return fail(STATUS_FAILED, "setup: expected ranks for %d pieces, found %d", pieces_total(m),
                    setup->n_pieces);
    struct packed_kind packed = checkpoint_packed(w->checkpoint);
    if ((packed.matrices && packed.matrices != setup->precision.matrices) ||
        (packed.blocks && packed.blocks != setup->precision.blocks))
        return fail(STATUS_FAILED,
                    "setup: expected weights in %s/%s as in the checkpoint, found %s",
                    quant_name(packed.matrices), quant_name(packed.blocks),
                    precision_text(&setup->precision).text);
    if (setup->n_nccl_ids && w->options->device == DEVICE_CPU)
        return fail(STATUS_USAGE, "--transport nccl: expected a GPU for each rank, found none");
    return 0;
}

int worker_open_device(struct worker *w, uint32_t agreed)
{
    enum isa isa = agreed;
    const struct worker_options *o = w->options;
    if (agreed >= ISA_COUNT || !(isa_available() & 1u << agreed))
        return fail(STATUS_FAILED, "setup: expected an instruction set of this rank, found %u",
                    agreed);
    if (w->dev.kernels && w->dev.isa != isa)
        return fail(STATUS_FAILED, "setup: expected the instruction set %s, found %s",
                    isa_name(w->dev.isa), isa_name(isa));
    if (w->dev.kernels)
        return 0;
    w->wire_dev = &w->dev;
    if (o->device == DEVICE_CPU) {
        dev_open_cpu(&w->dev, isa, o->threads);
        return 0;
    }
    int status = dev_open_cuda(&w->dev, o->gpu, isa, o->threads);
    if (status)
        return status;
    dev_open_host(&w->host, &w->dev);
    w->wire_dev = &w->host;
    return 0;
}

/* Allocate a GPU's copies of rows that arrive in the host's memory, and of its results. */
static void alloc_copies(struct worker *w, const struct setup *setup)
{
    const struct config *m = &w->config;
    size_t rows = (size_t)setup->max_rows, pairs = rows * (size_t)(m->n_experts ? m->top_k : 0);
    w->rows = w->y = NULL;
    w->z = NULL;
    w->source = NULL;
    if (w->wire_dev == &w->dev)
        return;
    if (!setup->n_nccl_ids) {
        w->source = dev_alloc(&w->dev, pairs * sizeof *w->source);
        w->rows = dev_alloc(&w->dev, (pairs + rows) * w->shard.row_bytes);
        w->y = dev_alloc(&w->dev, pairs * w->shard.row_bytes);
        w->z = dev_alloc(&w->dev, rows * (size_t)pieces_most(m) * w->shard.piece_bytes);
    }
    w->count = dev_alloc(&w->dev, (size_t)m->n_experts * sizeof *w->count);
}

/* Is there enough memory for what this rank will hold, and, if it is the first rank of its host,
 * for what all ranks there will hold? Rank 0 has asked that for ranks that are threads of its
 * process. */
static int check_memory(struct worker *w, const struct setup *setup)
{
    const struct transport *t = w->transport;
    struct memory_plan plan;
    bool *on_host = calloc((size_t)t->size, sizeof *on_host);
    CHECK_MEMORY(on_host, "no memory for %d ranks", t->size);
    int first = -1;
    for (int r = 0; r < t->size; r++) {
        on_host[r] = strcmp(t->hosts[r], t->hosts[t->rank]) == 0;
        first = first < 0 && on_host[r] ? r : first;
    }
    memory_plan_open(&plan, &w->config, setup->precision, 1);
    plan.placement = w->placement;
    struct memory_need need = memory_need_of(&plan, t->rank, 0, on_host);
    bool counted = w->dev.cuda || strcmp(t->name, "mpi") != 0;
    free(on_host);
    return counted ? 0 : memory_fit(&need, t->hosts[t->rank], first == t->rank);
}

static int open_device(struct worker *w, const struct setup *setup)
{
    return worker_open_device(w, setup->isa);
}

static int take_placement(struct worker *w, const struct setup *setup)
{
    const struct expert_copies copies = {setup->n_copies, setup->copy_cell, setup->copy_rank};
    int status = placement_from_ranks(&w->placement, &w->memory, &w->config, setup->rank_of,
                                      setup->piece_rank_of, w->transport->size);
    if (!status)
        status = placement_add_copies(&w->placement, &w->memory, &copies);
    return status ? status
                  : placement_take_outputs(&w->placement, &w->config, setup->output_first,
                                           setup->n_output_first);
}

static int load_shard(struct worker *w, const struct setup *setup)
{
    return shard_open(&w->shard, &w->dev, &w->config, w->checkpoint, setup->precision,
                      &w->placement, w->transport->rank, NULL, NULL);
}

static int load_outputs(struct worker *w, const struct setup *setup)
{
    const int32_t *first = w->placement.output_first + w->transport->rank;
    return weights_load_outputs(&w->logits.unembed, &w->dev, &w->config, w->checkpoint,
                                setup->precision, first[0], first[1] - first[0]);
}

static int load(struct worker *w, const struct setup *setup)
{
    static int (*const steps[])(struct worker *, const struct setup *) = {
        open_device, take_placement, check_memory, load_shard, load_outputs};
    int status = 0;
    w->precision = setup->precision;
    for (size_t i = 0; i < sizeof steps / sizeof *steps && !status; i++)
        status = steps[i](w, setup);
    return status;
}

static bool is_same(const struct layer_placement *l, const int32_t *rank_of)
{
    return l->n == 0 || memcmp(l->rank_of, rank_of, (size_t)l->n * sizeof *rank_of) == 0;
}

static bool are_same_copies(const struct placement *p, const struct setup *found)
{
    struct arena memory = {0};
    struct expert_copies own = placement_copies(p, &memory);
    size_t bytes = (size_t)own.n * sizeof *own.cell;
    bool same = own.n == found->n_copies &&
                (own.n == 0 || (memcmp(own.cell, found->copy_cell, bytes) == 0 &&
                                memcmp(own.rank, found->copy_rank, bytes) == 0));
    arena_free(&memory);
    return same;
}

/* Check that a later Setup changes only how rows travel. */
static int check_again(const struct worker *w, const struct setup *setup)
{
    const struct config *m = &w->config;
    bool same = same_precision(&setup->precision, &w->precision) && setup->isa == w->dev.isa &&
                are_same_copies(&w->placement, setup);
    const int32_t *piece_rank_of = setup->piece_rank_of;
    for (int l = 0; l < m->n_layers && same; l++) {
        same = is_same(&w->placement.layers[l], setup->rank_of + l * m->n_experts) &&
               is_same(&w->placement.pieces[l], piece_rank_of);
        piece_rank_of += w->placement.pieces[l].n;
    }
    return same ? 0
                : fail(STATUS_FAILED, "setup: expected the type, instruction set and placement of "
                                      "the first, found others");
}

static void open_log(struct worker *w)
{
    int layers = w->config.n_layers, ranks = w->transport->size;
    trace_open(&w->log, phase_names, phase_step_most(layers, ranks));
    trace_time_by(&w->log, dev_time_marks(&w->dev, 2 * phase_step_most(layers, ranks)));
    w->trace = &w->log;
}

/* Open the exchange, and allocate everything that a step will need. */
static int open_exchange(struct worker *w, const struct setup *setup,
                         const struct exchange_options *options)
{
    const struct config *m = &w->config;
    struct exchange_setup exchange = {
        .host = w->wire_dev,
        .dev = setup->n_nccl_ids ? &w->dev : w->wire_dev,
        .transport = w->transport,
        .limits = {setup->max_rows, m->n_experts ? m->top_k : 0, m->n_experts, m->dim,
                   setup->precision.type, pieces_most(m), w->placement.groups_most},
        .options = *options,
        .nccl = setup->n_nccl_ids > 0,
    };
    w->exchange_options = *options;
    w->n_exchanges = worker_end_open(w->exchange, &exchange);
    if (setup->profile && !w->trace)
        open_log(w);
    for (int i = 0; i < w->n_exchanges; i++)
        worker_end_trace(w->exchange[i], w->trace);
    w->max_rows = setup->max_rows;
    struct dev_limits most = {.type = setup->precision.type,
                              .rows = m->n_experts ? setup->max_rows * m->top_k : setup->max_rows,
                              .ffn_width = m->n_experts ? m->expert_dim : 0,
                              .pieces = pieces_most(m),
                              .piece_width = pieces_widest(m),
                              .piece_rows = setup->max_rows,
                              .dim = m->dim,
                              .n_heads = m->n_heads,
                              .head_dim = m->head_dim,
                              .n_experts = m->n_experts,
                              .vocab = w->logits.unembed.n,
                              .logit_rows = setup->logit_rows,
                              .quantised = is_quantised(&setup->precision)};
    dev_reserve(&w->dev, &most);
    if (w->wire_dev != &w->dev)
        dev_reserve(w->wire_dev, &most);
    alloc_copies(w, setup);
    worker_logits_open(&w->logits, &w->dev,
                       &(struct outputs_setup){.host = w->wire_dev,
                                               .transport = w->transport,
                                               .first = w->placement.output_first,
                                               .rows = setup->logit_rows,
                                               .row_bytes = w->shard.row_bytes});
    if (setup->n_nccl_ids && setup->n_nccl_ids != w->n_exchanges)
        return fail(STATUS_FAILED, "setup: expected %d ids of NCCL's, found %d", w->n_exchanges,
                    setup->n_nccl_ids);
    return dev_wait(&w->dev);
}

int worker_set_up(struct worker *w, const struct setup *setup)
{
    int64_t start = clock_ns();
    struct exchange_words words = {setup->strategy, setup->combine, setup->dedup, setup->wire,
                                   setup->overlap};
    struct exchange_options options;
    int status = check_setup(w, setup);
    if (!status)
        status = exchange_understand(&options, &words);
    if (!status)
        status = w->ready ? check_again(w, setup) : load(w, setup);
    if (status)
        return status;
    worker_end_leave(w->exchange, w->n_exchanges);
    status = open_exchange(w, setup, &options);
    if (status)
        return status;
    struct control ready = {
        .kind = CONTROL_READY,
        .ready = {w->shard.bytes, (uint32_t)w->shard.n_experts, seconds_since(start)}};
    status = control_send(w->transport, 0, &ready);
    if (!status)
        status = worker_end_join(w->exchange, w->n_exchanges, setup->nccl_ids);
    w->ready = !status;
    return status;
}
