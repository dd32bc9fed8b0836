/* Marks timed by a GPU's events, phases named to NVTX, and no graph while they are; signs of
 * progress while it computes. */
#include <pthread.h>

#include "base/clock.h"
#include "base/pulse.h"
#include "base/trace.h"
#include "kernels/ops.h"
#include "proto/phase.h"
#include "tests/rig/cm.h"
#include "tests/rig/only.h"
#ifdef EPMOE_EMULATED
#include "nvtx3/nvToolsExt.h"
#endif

enum { ROOM = 8, N = 4096 };

static struct dev dev;
static struct trace log_of_run;
static float *x, *y;
static int32_t *zero;

static int open_all(void **state)
{
    (void)state;
    if (cuda_count() == 0)
        return 0;
    assert_int_equal(dev_open_cuda(&dev, 0, ISA_PLAIN, 1), 0);
    x = dev_alloc(&dev, N * sizeof *x);
    y = dev_alloc(&dev, N * sizeof *y);
    zero = dev_alloc(&dev, sizeof *zero);
    trace_open(&log_of_run, phase_names, phase_step_most(1, 1));
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    trace_close(&log_of_run);
    dev_close(&dev);
    return 0;
}

static void work(void)
{
    struct pending_residual pending = {
        .pieces = y, .piece_at = zero, .n_pieces = 1, .ld_pieces = N};
    add_norm(&dev, x, NULL, DTYPE_F32, &pending, NULL, 1, N, 0);
}

static void a_gpu_times_its_marks(void **state)
{
    (void)state;
    struct trace *t = &log_of_run;
    if (cuda_count() == 0)
        skip();
    trace_mark(t, PHASE_OUTSIDE); // by the host
    int64_t first = t->events[0].ns;
    trace_time_by(t, dev_time_marks(&dev, ROOM));
    for (int round = 0; round < 3; round++) {
        assert_false(trace_is_due(t));
        for (int i = 0; i < ROOM; i++) {
            trace_mark(t, (enum phase)(PHASE_ATTENTION + i));
            work();
        }
        assert_true(trace_is_due(t));
        trace_mark(t, PHASE_COMBINE); // no room
        assert_int_equal(t->dropped, round + 1);
        assert_int_equal(trace_settle(t), 0);
        int64_t now = clock_ns();
        assert_int_equal(t->n, 1 + (round + 1) * ROOM);
        for (size_t i = 1; i < t->n; i++)
            assert_true(t->events[i].ns >= t->events[i - 1].ns);
        // the clocks are apart by what a call takes at most; a second is no doubt
        assert_true(t->events[0].ns == first && t->events[1].ns > first);
        assert_true(t->events[t->n - 1].ns < now + 1000000000);
    }
    assert_int_equal(trace_settle(t), 0); // nothing new
    trace_restart(t);
    assert_true(t->n == 1 && t->settled == 1 && t->events[0].phase == PHASE_ATTENTION + ROOM - 1);
}

static void phases_are_ranges(void **state)
{
    (void)state;
#ifdef EPMOE_EMULATED
    struct emulated_ranges *r = emulated_ranges_here();
    int before = r->pushed;
    trace_mark(&log_of_run, PHASE_ROUTER);
    assert_string_equal(r->last, "router");
    trace_mark(&log_of_run, PHASE_HOME);
    assert_string_equal(r->last, "home experts");
    assert_true(r->pushed == before + 2 && r->popped == r->pushed - 1);
#else
    skip();
#endif
}

static void nothing_is_played_while_marks_are_timed(void **state)
{
    (void)state;
    if (cuda_count() == 0)
        skip();
    for (int i = 0; i < 4; i++) {
        assert_true(dev_graph_begin(&dev, 7)); // make the calls
        trace_mark(&log_of_run, PHASE_ATTENTION);
        work();
        dev_graph_end(&dev);
        assert_int_equal(trace_settle(&log_of_run), 0);
    }
}

static void loading_shows_progress(void **state)
{
    (void)state;
    enum { ROWS = 64, INPUTS = 32 };
    static float source[ROWS * INPUTS];
    struct pulse p = {0};
    if (cuda_count() == 0)
        skip();
    struct matrix w = {.type = DTYPE_F32, .n = ROWS, .k = INPUTS};
    w.data = dev_alloc(&dev, matrix_bytes(&dev, DTYPE_F32, QUANT_NONE, ROWS, INPUTS));
    pulse_bind(&p);
    matrix_pack(&dev, &w, 0, &(struct values){.data = source}, ROWS);
    pulse_bind(NULL);
    assert_true(p.count > 0);
    assert_int_equal(dev_wait(&dev), 0);
}

struct onlooker {
    struct pulse pulse;
    atomic_bool seen, over;
};

/* Another rank looks until it finds this one waiting for its GPU. */
static void *look(void *of)
{
    struct onlooker *o = of;
    while (!o->seen && !o->over)
        o->seen = o->pulse.device_since_ns != 0;
    return NULL;
}

static void a_wait_can_be_seen(void **state)
{
    (void)state;
    enum { MANY = 100000 };
    struct onlooker o = {0};
    pthread_t other;
    if (cuda_count() == 0)
        skip();
    pulse_bind(&o.pulse);
    assert_int_equal(pthread_create(&other, NULL, look, &o), 0);
    for (int i = 0; i < MANY && !o.seen; i++) {
        work();
        assert_int_equal(dev_wait(&dev), 0);
        assert_int_equal(o.pulse.device_since_ns, 0); // it is over
    }
    o.over = true;
    pthread_join(other, NULL);
    pulse_bind(NULL);
    assert_true(o.seen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_gpu_times_its_marks),
        cmocka_unit_test(phases_are_ranges),
        cmocka_unit_test(nothing_is_played_while_marks_are_timed),
        cmocka_unit_test(loading_shows_progress),
        cmocka_unit_test(a_wait_can_be_seen),
    };
    check_only();
    return cmocka_run_group_tests(tests, open_all, close_all);
}
