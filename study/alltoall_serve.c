/* The ranks that hold experts. */
#include "study/alltoall_state.h"

#include "base/log.h"
#include "base/pulse.h"
#include "study/rally.h"
#include "worker/answers.h"

struct server {
    struct transport *transport;
    const struct alltoall_options *o;
    struct arena memory; // of the routing and the placement
    struct placement placement;
    struct lap lap;
    struct trace log;
    int size;   // of the list, the next one
    bool ready; // the lap is open
    struct rally_worker worker;
};

static int set_up(void *of, const struct setup *setup)
{
    struct server *s = of;
    struct config one = alltoall_layer(s->o);
    struct lap_setup lap = {.transport = s->transport,
                            .limits = alltoall_limits(s->o),
                            .nccl = s->o->nccl,
                            .gpu = s->o->gpu};
    if (setup->n_nccl_ids != lap.nccl)
        return fail(STATUS_FAILED, "setup: expected %d NCCL ids, found %d", lap.nccl,
                    setup->n_nccl_ids);
    if (setup->n_layers != 1 || setup->n_experts != s->o->experts || setup->n_pieces != 0 ||
        s->ready)
        return fail(STATUS_FAILED, "setup: expected one layer of %d experts, once, found %d of %d",
                    s->o->experts, setup->n_layers, setup->n_experts);
    int status = rally_understand(&lap, &s->placement, &s->memory, &one, setup);
    if (status)
        return status;
    s->ready = true;
    status = lap_open(&s->lap, &lap);
    if (!status)
        status = rally_ready(s->transport, s->lap.where->bytes);
    return status || !lap.nccl ? status : lap_join(&s->lap, setup->nccl_ids);
}

/* One lap; apart: dispatch and combine are timed each by itself. */
static int run_lap(struct server *s, bool apart)
{
    int status = lap_receive(&s->lap);
    if (!status && apart) {
        trace_mark(&s->log, MARK_ARRIVED);
        status = rally_meet(s->transport);
        trace_mark(&s->log, MARK_LEAVES);
    }
    pulse();
    return status ? status : lap_give_back(&s->lap);
}

/* The first lap of a size: its results stay for all others. */
static int run_first(struct server *s)
{
    int status = lap_receive(&s->lap);
    if (status)
        return status;
    lap_fill_results(&s->lap);
    return lap_give_back(&s->lap);
}

static int run_checked(struct server *s)
{
    int status = lap_receive(&s->lap);
    if (!status)
        status = lap_check_rows(&s->lap);
    return status ? status : lap_give_back(&s->lap);
}

/* All laps of a size, in lockstep with time_size() of rank 0. */
static int serve_size(void *of, int rows)
{
    struct server *s = of;
    struct traffic traffic;
    const struct alltoall_options *o = s->o;
    if (!s->ready || s->size == o->n_sizes || rows != o->rows[s->size])
        return fail(STATUS_FAILED, "step: expected size %d of %d, found one of %d rows", s->size,
                    o->n_sizes, rows);
    s->size++;
    struct arena memory = {0};
    traffic_draw(&traffic, o->weights, o->experts, rows, o->top_k, o->seed, &memory);
    lap_prepare(&s->lap, &traffic, &s->placement.layers[0]);
    int laps = lap_travels(&s->lap) ? o->warmup + o->iterations : 0;
    int status = laps ? run_first(s) : 0;
    for (int i = 0; i < laps && !status; i++)
        status = run_lap(s, false);
    for (int i = 0; i < (laps ? o->iterations : 0) && !status; i++)
        status = run_lap(s, true);
    if (laps && o->check && !status)
        status = run_checked(s);
    arena_free(&memory);
    return status;
}

int alltoall_serve(struct transport *t, const struct alltoall_options *o)
{
    struct server s = {.transport = t, .o = o};
    trace_open(&s.log, phase_names, (size_t)(o->iterations + 1) * MARKS_OF_LAP);
    s.worker = (struct rally_worker){.of = &s, .set_up = set_up, .step = serve_size, .log = &s.log};
    int status = rally_serve(t, &s.worker, o->version, alltoall_digest(o));
    if (s.ready)
        lap_close(&s.lap);
    trace_close(&s.log);
    arena_free(&s.memory);
    return status;
}
