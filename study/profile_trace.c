/* Writes logs as nested slices: a step contains layers, a layer contains phases. Each message to a
 * worker begins an arrow, which passes through the worker's compute and ends in combine. */
#include <stdlib.h>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "proto/trace.h"
#include "study/profile.h"

struct writer {
    const struct profile *p;
    FILE *out;
    int rank;
    uint64_t track;
    int64_t step; // the current step, counted from 1
    bool in_step;
    int index;       // the layer and half whose slice is open, or -1
    uint64_t *flows; // [ranks] the arrows of that slice; 0: the message was not sent yet
};

static uint64_t flow_of(const struct writer *w, const struct trace_event *e, int rank)
{
    uint64_t index = 2 * (uint64_t)e->layer + e->part;
    uint64_t span = (uint64_t)w->step * 2 * (uint64_t)w->p->n_layers + index;
    return span * (uint64_t)w->p->n_ranks + (uint64_t)rank;
}

static void close_layer(struct writer *w, int64_t ns)
{
    if (w->index >= 0)
        trace_write_end(w->out, w->track, ns);
    w->index = -1;
}

static void close_step(struct writer *w, int64_t ns)
{
    close_layer(w, ns);
    if (w->in_step)
        trace_write_end(w->out, w->track, ns);
    w->in_step = false;
}

static void open_step(struct writer *w, const struct trace_event *e)
{
    const char *name = w->rank > 0 ? "step" : e->part ? "decode" : "prefill";
    struct trace_slice slice = {name, "step", "rows", e->detail, NULL, 0, NULL, 0};
    close_step(w, e->ns);
    trace_write_begin(w->out, w->track, e->ns, &slice);
    w->in_step = true;
    w->step++;
}

static void enter_layer(struct writer *w, const struct trace_event *e)
{
    int index = e->layer < 0 ? -1 : 2 * e->layer + e->part;
    char name[40];
    if (index == w->index)
        return;
    close_layer(w, e->ns);
    if (index < 0)
        return;
    snprintf(name, sizeof name, "layer %d%s", e->layer, e->part ? ", second half" : "");
    struct trace_slice slice = {name, "layer", NULL, 0, NULL, 0, NULL, 0};
    trace_write_begin(w->out, w->track, e->ns, &slice);
    w->index = index;
}

/* With `padded` a layer may send and combine more than once. Its arrows begin at the first message
 * and end in the last combine. */
static bool is_last_combine(const struct trace_event *e)
{
    bool goes_on = e[1].phase == PHASE_WAIT || e[1].phase == PHASE_COMBINE;
    return !goes_on || e[1].layer != e->layer || e[1].part != e->part;
}

static void add_flows(struct writer *w, const struct trace_event *e, struct trace_slice *slice)
{
    uint64_t *flows = w->flows;
    if (w->rank > 0 && e->phase == PHASE_COMPUTE) {
        flows[0] = flow_of(w, e, w->rank);
        slice->flows = flows;
        slice->n_flows = 1;
    } else if (w->rank == 0 && e->phase == PHASE_WIRE_OUT) {
        uint64_t flow = flow_of(w, e, e->detail);
        slice->n_flows = e->detail && flow != flows[e->detail]; // detail 0: to all ranks
        flows[e->detail] = flow;
        slice->flows = &flows[e->detail];
    } else if (w->rank == 0 && e->phase == PHASE_COMBINE && is_last_combine(e)) {
        for (int rank = 1; rank < w->p->n_ranks; rank++)
            flows[rank] = flow_of(w, e, rank);
        slice->ends = flows + 1;
        slice->n_ends = (size_t)w->p->n_ranks - 1;
    }
}

static void write_phase(struct writer *w, const struct trace_event *e)
{
    struct trace_slice slice = {.name = phase_name((enum phase)e->phase), .category = "phase"};
    if (e->phase == PHASE_WIRE_OUT && (w->rank || e->detail))
        slice.number_name = "to rank";
    else if (e->phase == PHASE_COMPUTE)
        slice.number_name = "rows";
    slice.number = e->detail;
    add_flows(w, e, &slice);
    trace_write_begin(w->out, w->track, e->ns, &slice);
    trace_write_end(w->out, w->track, e[1].ns);
}

/* The time between steps has no slice, except for what profiling takes. Logits and sampling come
 * after the layers and are in the step's slice. */
static void write_event(struct writer *w, const struct trace_event *e)
{
    bool goes_on = e[1].phase == PHASE_LOGITS || e[1].phase == PHASE_SAMPLE;
    if (e->phase == PHASE_PROFILE || (e->phase == PHASE_OUTSIDE && !goes_on))
        close_step(w, e->ns);
    if (e->phase == PHASE_CONTROL)
        open_step(w, e);
    enter_layer(w, e);
    if (e->phase != PHASE_OUTSIDE)
        write_phase(w, e);
}

static void write_rank(const struct profile *p, FILE *out, int rank, uint64_t *flows)
{
    const struct rank_log *log = &p->kept[rank];
    struct writer w = {.p = p, .out = out, .rank = rank, .track = (uint64_t)rank + 1, .index = -1};
    char name[64];
    w.flows = flows;
    for (int r = 0; r < p->n_ranks; r++)
        flows[r] = 0;
    snprintf(name, sizeof name, "rank %d (%s)", rank, rank ? "experts" : "coordinator");
    trace_write_track(out, w.track, rank + 1, name, "phases");
    for (size_t i = 0; i + 1 < log->n; i++)
        write_event(&w, &log->events[i]);
    if (log->n)
        close_step(&w, log->events[log->n - 1].ns);
}

int profile_write_trace(const struct profile *p, const char *path)
{
    struct outfile f;
    int status = outfile_open(&f, path);
    if (status)
        return status;
    uint64_t *flows = calloc((size_t)p->n_ranks, sizeof *flows);
    CHECK_MEMORY(flows, "no memory for %d ranks", p->n_ranks);
    for (int rank = 0; rank < p->n_ranks; rank++)
        write_rank(p, f.stream, rank, flows);
    free(flows);
    if (!p->kept_all)
        warn("%s: only the first %zu marks of rank 0 are in it: the run was longer", path,
             p->kept[0].n);
    return outfile_commit(&f);
}
