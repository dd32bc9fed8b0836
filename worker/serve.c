#include "worker/serve.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/pulse.h"
#include "exchange/worker.h"
#include "kernels/ops.h"
#include "model/hub.h"
#include "model/shard.h"
#include "proto/control.h"
#include "proto/phase.h"
#include "transport/nccl.h"

struct worker {
    struct transport *transport;
    const struct worker_options *options;
    struct arena memory;  // the placement
    struct arena message; // the control message at hand
    struct dev dev;       // what computes
    struct dev host;      // beside a GPU: its host, where rows come and go
    struct dev *wire_dev; // &dev or &host
    void *rows, *y;       // a GPU's copies of what the exchange has; NULL where it is the GPU's own
    int32_t *source;      // likewise
    int32_t *count;       // a GPU's copy; NULL on the CPU
    char *model_dir;
    struct config config;
    struct checkpoint *checkpoint;
    enum dtype dtype;
    struct placement placement;
    struct shard shard;
    struct worker_end *exchange[LANES];
    int n_exchanges; // how many are open: of a step, or of its halves
    int max_rows;
    bool ready; // all of it is set up
    struct stats stats;
    struct trace log, *trace; // trace: the log, once the setup asks for one
};

static int say_hello(struct worker *w)
{
    struct generation_defaults unused;
    struct control message = {.kind = CONTROL_HELLO};
    struct hello *hello = &message.hello;
    int status = hub_resolve(&w->model_dir, w->options->model);
    if (!status)
        status = config_load(&w->config, &unused, w->model_dir);
    if (!status)
        status = checkpoint_open(&w->checkpoint, w->model_dir);
    if (!status)
        status = weights_check(&w->config, w->checkpoint);
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
    if (setup->isa >= ISA_COUNT || !(isa_available() & 1u << setup->isa))
        return fail(STATUS_FAILED, "setup: expected an instruction set of this rank, found %u",
                    setup->isa);
    return 0;
}

static int open_device(struct worker *w, const struct setup *setup)
{
    enum isa isa = setup->isa;
    const struct worker_options *o = w->options;
    w->wire_dev = &w->dev;
    if (o->device == DEVICE_CPU) {
        if (setup->n_nccl_ids)
            return fail(STATUS_USAGE, "--transport nccl: expected a GPU for each rank, found none");
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

/* Rows that arrive in the host's memory are copied to a GPU, and its results back. */
static void alloc_copies(struct worker *w, const struct setup *setup)
{
    size_t pairs = (size_t)setup->max_rows * (size_t)w->config.top_k;
    w->rows = w->y = NULL;
    w->source = NULL;
    if (w->wire_dev == &w->dev)
        return;
    if (!setup->n_nccl_ids) {
        w->source = dev_alloc(&w->dev, pairs * sizeof *w->source);
        w->rows = dev_alloc(&w->dev, pairs * w->shard.row_bytes);
        w->y = dev_alloc(&w->dev, pairs * w->shard.row_bytes);
    }
    w->count = dev_alloc(&w->dev, (size_t)w->config.n_experts * sizeof *w->count);
}

static int load(struct worker *w, const struct setup *setup)
{
    const struct config *m = &w->config;
    struct transport *t = w->transport;
    int status = open_device(w, setup);
    if (!status)
        status = placement_from_ranks(&w->placement, &w->memory, setup->rank_of, m->n_layers,
                                      m->n_experts, t->size);
    if (!status)
        status = shard_open(&w->shard, &w->dev, m, w->checkpoint, setup->dtype, &w->placement,
                            t->rank, NULL, NULL);
    w->dtype = setup->dtype;
    return status;
}

/* A later Setup changes how rows travel, and nothing else. */
static int check_again(const struct worker *w, const struct setup *setup)
{
    const struct config *m = &w->config;
    bool same = setup->dtype == w->dtype && setup->isa == w->dev.isa;
    for (int l = 0; l < m->n_layers && same; l++)
        for (int e = 0; e < m->n_experts && w->config.sparse[l] && same; e++)
            same = setup->rank_of[l * m->n_experts + e] == w->placement.layers[l].rank_of[e];
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

/* Everything that a step will need, sized once. */
static int open_exchange(struct worker *w, const struct setup *setup,
                         const struct exchange_options *options)
{
    const struct config *m = &w->config;
    struct exchange_setup exchange = {
        .host = w->wire_dev,
        .dev = setup->n_nccl_ids ? &w->dev : w->wire_dev,
        .transport = w->transport,
        .limits = {setup->max_rows, m->top_k, m->n_experts, m->dim, setup->dtype},
        .options = *options,
        .nccl = setup->n_nccl_ids > 0,
    };
    w->n_exchanges = worker_end_open(w->exchange, &exchange);
    if (setup->profile && !w->trace)
        open_log(w);
    for (int i = 0; i < w->n_exchanges; i++)
        worker_end_trace(w->exchange[i], w->trace);
    w->max_rows = setup->max_rows;
    struct dev_limits most = {.type = setup->dtype,
                              .rows = setup->max_rows * m->top_k,
                              .ffn_width = m->expert_dim,
                              .dim = m->dim,
                              .n_heads = m->n_heads,
                              .head_dim = m->head_dim,
                              .n_experts = m->n_experts};
    dev_reserve(&w->dev, &most);
    if (w->wire_dev != &w->dev)
        dev_reserve(w->wire_dev, &most);
    alloc_copies(w, setup);
    if (setup->n_nccl_ids && setup->n_nccl_ids != w->n_exchanges)
        return fail(STATUS_FAILED, "setup: expected %d ids of NCCL's, found %d", w->n_exchanges,
                    setup->n_nccl_ids);
    return dev_wait(&w->dev);
}

static int set_up(struct worker *w, const struct setup *setup)
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

/* Rows work->y := the experts' outputs, by way of the GPU if there is one. */
static int run_experts(struct worker *w, int layer, const struct exchange_work *work)
{
    struct dev *d = &w->dev;
    struct ffn_job job = shard_job(&w->shard, layer);
    job.y = w->y ? w->y : work->y;
    job.x = w->rows ? w->rows : work->rows;
    job.source = work->source && w->source ? w->source : work->source;
    job.count = w->count ? w->count : work->count;
    job.n = work->n;
    if (w->rows)
        dev_upload(d, w->rows, work->rows, (size_t)work->n_rows * w->shard.row_bytes);
    if (work->source && w->source)
        dev_upload(d, w->source, work->source, (size_t)work->n * sizeof *w->source);
    if (w->count)
        dev_upload(d, w->count, work->count,
                   (size_t)w->shard.layers[layer].n_experts * sizeof *w->count);
    run_ffn(d, &job, 1);
    if (w->y)
        dev_download(d, work->y, w->y, (size_t)work->n * w->shard.row_bytes);
    return dev_wait(d);
}

/* The rows of one half, or of all, through the experts of a layer that are here. */
static int serve_layer(struct worker *w, int l, struct worker_end *x, int n_rows)
{
    const struct layer_placement *at = &w->placement.layers[l];
    const struct exchange_layer layer = {at->group_of, at->rank_first};
    const struct exchange_work *work;
    trace_at(w->trace, l, worker_end_lane(x));
    int status = worker_end_receive(x, &layer, n_rows, &work);
    if (status)
        return status;
    pulse_layer(l);
    int64_t start = clock_ns();
    trace_mark_detail(w->trace, PHASE_COMPUTE, work->n);
    status = run_experts(w, l, work);
    if (status)
        return status;
    w->stats.compute_ns += (uint64_t)(clock_ns() - start);
    w->stats.rows += (uint64_t)work->n;
    return worker_end_return(x);
}

static int check_step(const struct worker *w, const struct step *step)
{
    int second = w->n_exchanges > 1 ? exchange_second_half(step->n_rows) : 0;
    if (step->n_rows > w->max_rows)
        return fail(STATUS_FAILED, "step: expected at most %d rows, found %d", w->max_rows,
                    step->n_rows);
    if (step->second != second)
        return fail(STATUS_FAILED, "step: expected %d of %d rows in the second half, found %d",
                    second, step->n_rows, step->second);
    return 0;
}

/* One step, layer by layer, half by half, in lockstep with the coordinator's forward(): the
 * position in this loop is the protocol, so no message says which layer or half it is. */
static int serve_step(struct worker *w, const struct step *step)
{
    int rows[LANES] = {step->n_rows - step->second, step->second};
    int n_halves = step->second ? LANES : 1;
    int status = w->trace && trace_is_due(w->trace) ? trace_settle(w->trace) : 0;
    trace_mark_detail(w->trace, PHASE_CONTROL, step->n_rows);
    if (!status)
        status = check_step(w, step);
    pulse_step(step->n_rows);
    for (int l = 0; l < w->config.n_layers; l++)
        for (int i = 0; i < n_halves && w->config.sparse[l] && !status; i++)
            status = serve_layer(w, l, w->exchange[i], rows[i]);
    for (int i = 0; i < n_halves && !status; i++)
        status = worker_end_finish(w->exchange[i]);
    if (!status) {
        w->stats.steps++;
        pulse_finished();
    }
    trace_at(w->trace, -1, 0);
    trace_mark(w->trace, PHASE_OUTSIDE);
    return status;
}

static int answer_stats(struct worker *w)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    w->stats.peak_bytes = (uint64_t)usage.ru_maxrss * 1024;
    if (w->n_exchanges) { // it has been set up
        struct wire_error narrow;
        int status = worker_end_wire_error(w->exchange[0], &narrow);
        if (status)
            return status;
        w->stats.squares = narrow.squares;
        w->stats.errors = narrow.errors;
    }
    struct control answer = {.kind = CONTROL_STATS, .stats = w->stats};
    return control_send(w->transport, 0, &answer);
}

static int answer_clock(struct worker *w, int64_t heard_ns)
{
    struct control answer = {.kind = CONTROL_CLOCK,
                             .clock = {(uint64_t)heard_ns, (uint64_t)clock_ns()}};
    return control_send(w->transport, 0, &answer);
}

/* The log in messages of bearable size; then it starts anew. */
static int answer_records(struct worker *w)
{
    size_t done = 0, n;
    int status = trace_settle(&w->log);
    if (status)
        return status;
    do {
        size_t left = w->log.n - done;
        n = left < CONTROL_MAX_MARKS ? left : CONTROL_MAX_MARKS;
        struct control answer = {.kind = CONTROL_RECORDS,
                                 .records = {n ? w->log.events + done : NULL, n, left - n,
                                             left == n ? w->log.dropped : 0}};
        status = control_send(w->transport, 0, &answer);
        done += n;
    } while (done < w->log.n && !status);
    trace_restart(&w->log);
    return status;
}

/* The next message, whenever it comes: between two steps a user may think for hours. */
static int next_message(struct worker *w, struct control *message)
{
    arena_reset(&w->message);
    w->transport->patient = true;
    int status = control_recv(w->transport, 0, message, &w->message);
    w->transport->patient = false;
    return status;
}

static int serve(struct worker *w)
{
    pulse_loading(true); // until Ready, but for the wait for Setup
    int status = say_hello(w);
    struct control message = {0};
    while (!status && message.kind != CONTROL_STOP) {
        status = next_message(w, &message);
        if (status)
            return status;
        switch (message.kind) {
        case CONTROL_SETUP:
            status = set_up(w, &message.setup);
            pulse_loading(false);
            if (status == TRANSPORT_INTERRUPTED)
                status = 0; // the coordinator gave up: hear what it has to say
            break;
        case CONTROL_STEP:
            status = serve_step(w, &message.step);
            if (status == TRANSPORT_INTERRUPTED)
                status = 0; // the coordinator gave the step up: hear what it has to say
            break;
        case CONTROL_STATS:
            status = answer_stats(w);
            break;
        case CONTROL_CLOCK:
            status = answer_clock(w, clock_ns());
            break;
        case CONTROL_RECORDS:
            status = answer_records(w);
            break;
        case CONTROL_STOP:
            break;
        default:
            status = fail(STATUS_FAILED, "expected setup, step, stats or stop, found message %d",
                          message.kind);
        }
    }
    return status;
}

/* Tell the coordinator why, then stay until it has stopped everyone: whoever leaves first decides
 * the exit code of the whole run. A rank whose GPU fails at work is lost, for all its words. */
static void give_up(struct worker *w, int status)
{
    bool dead = w->ready && dev_wait(&w->dev) != 0;
    struct control fault = {.kind = CONTROL_FAULT,
                            .fault = {dead ? STATUS_LOST_RANK : status, error_text()}};
    struct control message = {0};
    if (control_send(w->transport, 0, &fault) != 0)
        return;
    while (message.kind != CONTROL_STOP && next_message(w, &message) == 0)
        ;
}

int worker_serve(struct transport *t, const struct worker_options *o)
{
    struct worker w = {.transport = t, .options = o};
    error_capture(true);
    pulse_bind(t->pulse);
    int status = serve(&w);
    if (status && status != STATUS_LOST_RANK)
        give_up(&w, status);
    checkpoint_close(w.checkpoint);
    worker_end_leave(w.exchange, w.n_exchanges);
    dev_close(&w.host);
    dev_close(&w.dev);
    trace_close(&w.log);
    arena_free(&w.memory);
    arena_free(&w.message);
    free(w.model_dir);
    return status;
}
