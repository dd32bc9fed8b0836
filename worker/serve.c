#include "worker/serve.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/pulse.h"
#include "kernels/ops.h"
#include "model/speed.h"
#include "proto/phase.h"
#include "worker/answers.h"
#include "worker/worker.h"

/* Copy the work's rows, sources and counts to a GPU, as far as they are not there. */
static void bring_work(struct worker *w, int layer, const struct exchange_work *work)
{
    struct dev *d = &w->dev;
    if (w->rows)
        dev_upload(d, w->rows, work->rows, (size_t)work->n_rows * w->shard.row_bytes);
    if (work->source && w->source)
        dev_upload(d, w->source, work->source, (size_t)work->n * sizeof *w->source);
    if (w->count)
        dev_upload(d, w->count, work->count,
                   (size_t)w->shard.layers[layer].experts.n * sizeof *w->count);
}

static struct ffn_job experts_job(const struct worker *w, int layer,
                                  const struct exchange_work *work)
{
    struct ffn_job job = shard_experts_job(&w->shard, layer);
    job.y = w->y ? w->y : work->y;
    job.x = w->rows ? w->rows : work->rows;
    job.source = work->source && w->source ? w->source : work->source;
    job.count = w->count ? w->count : work->count;
    job.n = work->n;
    return job;
}

static struct ffn_job pieces_job(const struct worker *w, int layer, int n_rows,
                                 const struct exchange_work *work)
{
    struct ffn_job job = shard_pieces_job(&w->shard, layer);
    size_t all = (size_t)((const char *)work->all - (const char *)work->rows);
    job.y = w->z ? w->z : work->z;
    job.x = w->rows ? (const char *)w->rows + all : work->all;
    job.n = n_rows;
    return job;
}

/* Run a step's n_rows rows through this rank's experts and pieces: work->y and work->z := the
 * outputs, copied from the GPU if there is one. */
static int run_blocks(struct worker *w, int layer, int n_rows, const struct exchange_work *work)
{
    struct dev *d = &w->dev;
    bring_work(w, layer, work);
    const struct ffn_job jobs[2] = {pieces_job(w, layer, n_rows, work),
                                    experts_job(w, layer, work)};
    int together = n_rows <= d->joint_ffn_max_rows ? 2 : 1;
    for (int i = 0; i < 2; i += together)
        run_ffn(d, jobs + i, together);
    if (w->y)
        dev_download(d, work->y, w->y, (size_t)work->n * w->shard.row_bytes);
    if (w->z)
        dev_download(d, work->z, w->z, (size_t)work->n_piece_rows * w->shard.piece_bytes);
    return dev_wait(d);
}

/* Serve one layer for the rows of a half, or of the whole step: receive, compute, give back. */
static int serve_layer(struct worker *w, int l, struct worker_end *x, int n_rows)
{
    const struct layer_placement *experts = &w->placement.layers[l];
    const struct exchange_layer layer = {placement_grouping(experts), experts->rank_first,
                                         w->placement.pieces[l].rank_first,
                                         w->config.sparse[l] ? w->config.top_k : 0};
    const struct exchange_work *work;
    trace_at(w->trace, l, worker_end_lane(x));
    int status = worker_end_receive(x, &layer, n_rows, &work);
    if (status)
        return status;
    pulse_layer(l);
    int64_t start = clock_ns();
    trace_mark_detail(w->trace, PHASE_COMPUTE, work->n + work->n_piece_rows);
    status = run_blocks(w, l, n_rows, work);
    if (status)
        return status;
    w->stats.compute_ns += (uint64_t)(clock_ns() - start);
    w->stats.rows += (uint64_t)(work->n + work->n_piece_rows);
    return worker_end_return(x);
}

static int check_step(const struct worker *w, const struct step *step)
{
    int second = w->n_exchanges > 1 ? exchange_second_half(&w->exchange_options, step->n_rows) : 0;
    if (step->n_rows > w->max_rows)
        return fail(STATUS_FAILED, "step: expected at most %d rows, found %d", w->max_rows,
                    step->n_rows);
    if (step->second != second)
        return fail(STATUS_FAILED, "step: expected %d of %d rows in the second half, found %d",
                    second, step->n_rows, step->second);
    return 0;
}

/* Serve one step. Layers and halves come in the same order as in the coordinator's forward(), so no
 * message says which layer or half it is for. */
static int serve_step(struct worker *w, const struct step *step)
{
    int rows[LANES] = {step->n_rows - step->second, step->second};
    int n_halves = step->second ? LANES : 1;
    int status = w->trace && trace_is_due(w->trace) ? trace_settle(w->trace) : 0;
    trace_mark_detail(w->trace, PHASE_CONTROL, step->n_rows);
    if (!status)
        status = check_step(w, step);
    pulse_step(step->n_rows);
    for (int l = 0; l < w->config.n_layers && !status; l++)
        for (int i = 0; i < n_halves && placement_leaves_home(&w->placement, l) && !status; i++)
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

static int answer_speed(struct worker *w, const struct speed *asked)
{
    int status = worker_open_device(w, asked->isa);
    if (status)
        return status;
    int sharing = w->dev.cuda ? 1 : transport_ranks_here(w->transport);
    struct rank_speed s = rank_speed_measure(&w->dev, asked->precision, sharing);
    struct control answer = {.kind = CONTROL_SPEED,
                             .speed = {asked->isa, asked->precision, s.flops, s.bytes, s.memory}};
    return control_send(w->transport, 0, &answer);
}

static int serve(struct worker *w)
{
    pulse_loading(true); // until the first Setup has been answered
    int status = worker_greet(w);
    struct control message = {0};
    while (!status && message.kind != CONTROL_STOP) {
        status = answers_next(w->transport, &message, &w->message);
        if (status)
            return status;
        switch (message.kind) {
        case CONTROL_SETUP:
            status = worker_set_up(w, &message.setup);
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
        case CONTROL_SPEED:
            status = answer_speed(w, &message.speed);
            break;
        case CONTROL_LOGITS:
            status = worker_logits_serve(&w->logits, &message.logits);
            if (status == TRANSPORT_INTERRUPTED)
                status = 0;
            break;
        case CONTROL_CLOCK:
            status = answers_clock(w->transport, clock_ns());
            break;
        case CONTROL_RECORDS:
            status = answers_records(w->transport, &w->log);
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

/* Tell rank 0 the error. If this rank's GPU has failed, the code is STATUS_LOST_RANK, whatever the
 * error was: the run ends as if the rank had died. */
static void give_up(struct worker *w, int status)
{
    bool dead = w->ready && dev_wait(&w->dev) != 0;
    answers_give_up(w->transport, dead ? STATUS_LOST_RANK : status, &w->message);
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
