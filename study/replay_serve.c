/* The ranks that hold experts, in a replay. */
#include "base/log.h"
#include "base/pulse.h"
#include "study/rally.h"
#include "study/replay_state.h"

struct server {
    struct transport *transport;
    const struct replay_options *o;
    struct arena memory; // of the placement
    struct placement placement;
    struct lap lap;
    struct traffic traffic; // of one lap
    bool open, filled;      // the lap is open; this way's first iteration is over
};

/* Every way has a Setup, and a lap of its own. */
static int set_up(void *of, const struct setup *setup)
{
    struct server *s = of;
    struct lap_setup lap = {.transport = s->transport, .limits = replay_limits(s->o)};
    const struct config *m = &s->o->layers;
    if (setup->n_layers != m->n_layers || setup->n_experts != m->n_experts || setup->n_pieces)
        return fail(STATUS_FAILED, "setup: expected %d layers of %d experts, found %d of %d",
                    m->n_layers, m->n_experts, setup->n_layers, setup->n_experts);
    arena_reset(&s->memory);
    int status = rally_understand(&lap, &s->placement, &s->memory, m, setup);
    if (status)
        return status;
    traffic_open(&s->traffic, lap.limits.rows, lap.limits.top_k, &s->memory);
    if (s->open)
        lap_close(&s->lap);
    status = lap_open(&s->lap, &lap);
    s->open = true;
    s->filled = false;
    return status ? status : rally_ready(s->transport, s->lap.where->bytes);
}

/* In a way's first iteration results are filled in, and rows compared. */
static int run_lap(struct server *s, const struct routing_step *step, int sparse_layer, int layer)
{
    const struct layer_placement *experts = &s->placement.layers[layer];
    if (s->filled)
        lap_expect(&s->lap, step->n_rows, s->o->file->head.top_k, experts);
    else {
        replay_traffic(&s->traffic, s->o->file, step, sparse_layer);
        lap_prepare(&s->lap, &s->traffic, experts);
    }
    if (!lap_travels(&s->lap))
        return 0;
    int status = lap_receive(&s->lap);
    if (!status && !s->filled && s->o->check)
        status = lap_check_rows(&s->lap);
    if (status)
        return status;
    if (!s->filled)
        lap_fill_results(&s->lap);
    pulse();
    return lap_give_back(&s->lap);
}

/* The whole file once, in lockstep with run_file() of rank 0. */
static int serve_file(void *of, int rows)
{
    struct server *s = of;
    const struct routing_file *f = s->o->file;
    (void)rows; // the file says them
    int status = s->open ? 0 : fail(STATUS_FAILED, "expected setup before a step, found none");
    for (int i = 0; i < f->n_steps && !status; i++)
        for (int l = 0, n = 0; l < f->head.n_layers && !status; l++)
            if (f->head.sparse[l])
                status = run_lap(s, &f->steps[i], n++, l);
    s->filled = true;
    return status;
}

int replay_serve(struct transport *t, const struct replay_options *o)
{
    struct server s = {.transport = t, .o = o};
    struct rally_worker worker = {.of = &s, .set_up = set_up, .step = serve_file};
    int status = rally_serve(t, &worker, o->version, replay_digest(o));
    if (s.open)
        lap_close(&s.lap);
    arena_free(&s.memory);
    return status;
}
