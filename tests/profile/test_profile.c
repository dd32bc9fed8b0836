/* Profiles: marks, clocks, and how logs become sums. Of real runs: test_profile_runs.c.
 * Nothing here asserts how long anything takes. From outside: tests/program/profile.sh. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "coordinator/scheduler.h"
#include "launch/ranks.h"
#include "profile/fold.h"
#include "proto/control.h"
#include "study/profile.h"
#include "tests/rig/cm.h"

static void a_full_log_counts_what_it_drops(void **state)
{
    struct trace t;
    (void)state;
    trace_open(&t, phase_names, phase_step_most(1, 2));
    size_t room = t.capacity;
    assert_true(room >= 2 * phase_step_most(1, 2));
    for (size_t i = 0; i < room + 3; i++)
        trace_mark_detail(&t, PHASE_WAIT, (int)i);
    assert_true(t.n == room && t.dropped == 3);
    for (size_t i = 1; i < room; i++)
        assert_true(t.events[i].ns >= t.events[i - 1].ns);
    trace_restart(&t);
    assert_true(t.n == 1 && t.dropped == 0 && t.events[0].detail == (int)room - 1);
    trace_close(&t);
    trace_at(NULL, 3, 1); // no log, no marks
    trace_mark(NULL, PHASE_WAIT);
}

/* A device that got to each mark when `reached` says. */
static const int64_t reached[] = {50, 40, 70, 80, 90};
static int told, asked;

static void note_mark(void *of, const char *phase)
{
    assert_true(of == &told && phase == phase_names[PHASE_WAIT]);
    told++;
}

static int say_when(void *of, struct trace_event *events, size_t n)
{
    assert_true(of == &told);
    for (size_t i = 0; i < n; i++)
        events[i].ns = reached[asked++];
    return 0;
}

static void a_device_may_time_marks(void **state)
{
    (void)state;
    struct trace t;
    struct trace_timer timer = {&told, 2, note_mark, say_when};
    trace_open(&t, phase_names, phase_step_most(1, 1));
    trace_mark(&t, PHASE_OUTSIDE);
    t.events[0].ns = 45;
    trace_time_by(&t, &timer);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(trace_is_due(&t), i > 1 && i % 2 == 0);
        if (trace_is_due(&t))
            assert_int_equal(trace_settle(&t), 0);
        trace_mark(&t, PHASE_WAIT);
    }
    assert_int_equal(trace_settle(&t), 0);
    const int64_t expected[] = {45, 50, 50, 70, 80, 90}; // time does not go back
    for (int i = 0; i < 6; i++)
        assert_int_equal(t.events[i].ns, expected[i]);
    for (int i = 0; i < 3; i++)
        trace_mark(&t, PHASE_WAIT);
    assert_true(told == 7 && t.n == 8 && t.dropped == 1);
    trace_close(&t);
}

static void every_phase_has_a_name(void **state)
{
    (void)state;
    for (int a = 0; a < PHASE_COUNT; a++)
        for (int b = 0; b < a; b++)
            assert_string_not_equal(phase_name((enum phase)a), phase_name((enum phase)b));
    assert_string_equal(phase_name(PHASE_COUNT), "unknown");
}

static void clocks_drift_between_measurements(void **state)
{
    (void)state;
    struct rank_clock same = {{100, -5, 3}, {100, -5, 3}, {900, -1, 9}};
    assert_true(clock_offset(&same, 500) == 0 && clock_drift_ppm(&same) == 0);
    assert_true(clock_uncertainty(&same) == 5);
    struct rank_clock ahead = {
        {1000000, 4990, 5010}, {1000000, 4990, 5010}, {2000000, 5090, 5110}}; // 100 ppm
    assert_true(clock_offset(&ahead, 1000000) == 5000);
    assert_true(clock_offset(&ahead, 1500000) == 5050);
    assert_true(clock_offset(&ahead, 2000000) == 5100);
    assert_true(clock_drift_ppm(&ahead) > 99.99 && clock_drift_ppm(&ahead) < 100.01);
}

/* A worker that only answers, with a clock of its own and a log that was made up. */
struct fake {
    struct transport *end;
    int64_t ahead_ns;
    const struct trace_event *events;
    size_t n, a_message;
    pthread_t thread;
};

static void answer_records(const struct fake *f)
{
    size_t done = 0;
    do {
        size_t left = f->n - done, n = left < f->a_message ? left : f->a_message;
        struct control answer = {.kind = CONTROL_RECORDS,
                                 .records = {f->events + done, n, left - n, n == left ? 2 : 0}};
        control_send(f->end, 0, &answer);
        done += n;
    } while (done < f->n);
}

static void *fake_worker(void *argument)
{
    const struct fake *f = argument;
    struct arena arena = {0};
    struct control message = {0};
    error_capture(true);
    while (message.kind != CONTROL_STOP && control_recv(f->end, 0, &message, &arena) == 0) {
        int64_t now = clock_ns() + f->ahead_ns;
        struct control answer = {.kind = CONTROL_CLOCK,
                                 .clock = {(uint64_t)now, (uint64_t)(clock_ns() + f->ahead_ns)}};
        if (message.kind == CONTROL_CLOCK)
            control_send(f->end, 0, &answer);
        else if (message.kind == CONTROL_RECORDS)
            answer_records(f);
    }
    arena_free(&arena);
    return NULL;
}

enum { WORKERS = 2 };

struct scene {
    struct transport ends[WORKERS + 1];
    struct fake fakes[WORKERS];
    struct profile *profile;
};

static void open_scene(struct scene *s, int layers, int64_t ahead_ns,
                       const struct trace_event *const *logs, const size_t *n)
{
    transport_open_local(s->ends, WORKERS + 1);
    for (int i = 0; i < WORKERS; i++) {
        s->fakes[i] = (struct fake){&s->ends[i + 1], ahead_ns * (i + 1), logs[i], n[i], 5, 0};
        assert_int_equal(pthread_create(&s->fakes[i].thread, NULL, fake_worker, &s->fakes[i]), 0);
    }
    assert_int_equal(profile_open(&s->profile, &s->ends[0], layers,
                                  &(struct profile_options){.on = true, .keep = true}),
                     0);
}

static void close_scene(struct scene *s)
{
    struct control stop = {.kind = CONTROL_STOP};
    profile_close(s->profile);
    for (int i = 0; i < WORKERS; i++) {
        control_send(&s->ends[0], i + 1, &stop);
        pthread_join(s->fakes[i].thread, NULL);
        transport_close(&s->ends[i + 1]);
    }
    transport_close(&s->ends[0]);
}

/* What the bounds promise holds whatever the machine does meanwhile. */
static void clocks_are_within_their_bounds(void **state)
{
    static const struct trace_event *const logs[WORKERS] = {NULL, NULL};
    static const size_t n[WORKERS] = {0, 0};
    static const int64_t ahead[] = {0, 3600000000000, -1000000000};
    (void)state;
    for (size_t i = 0; i < sizeof ahead / sizeof *ahead; i++) {
        struct scene s;
        open_scene(&s, 1, ahead[i], logs, n);
        for (int again = 0; again < 2; again++) {
            for (int rank = 1; rank <= WORKERS; rank++) {
                const struct rank_clock *c = &s.profile->clocks[rank];
                int64_t truth = ahead[i] * rank;
                assert_true(c->last.low <= truth && truth <= c->last.high);
                if (ahead[i] == 0)
                    assert_true(clock_offset(c, c->last.at_ns) == 0);
            }
            assert_int_equal(clocks_measure(&s.ends[0], s.profile->clocks), 0);
        }
        close_scene(&s);
    }
}

/* One decode step of 2 layers, both halves of the second, told by hand.
 *
 *  rank 0  0 control 10 attention 20 wire out 30 shared 50 wait 100 combine 110
 *  rank 1      receives at 32, computes 35..45, replies at 46
 *  rank 2      receives at 33, computes 40..80, replies at 85: the last
 * The wait [50, 100): rank 2 computes 40 ns, the mean is 25, so that from 65 on it is skew:
 * compute 50..65 = 15, skew 65..80 = 15, transfer 20. Hidden: 30..50 = 20. */
static const struct trace_event own_log[] = {
    {0, 3, -1, PHASE_CONTROL, 1},    {10, 0, 0, PHASE_ATTENTION, 0}, {20, 1, 0, PHASE_WIRE_OUT, 0},
    {25, 2, 0, PHASE_WIRE_OUT, 0},   {30, 0, 0, PHASE_SHARED, 0},    {50, 0, 0, PHASE_WAIT, 0},
    {100, 0, 0, PHASE_COMBINE, 0},   {110, 1, 1, PHASE_WIRE_OUT, 0}, {112, 2, 1, PHASE_WIRE_OUT, 0},
    {120, 0, 1, PHASE_ATTENTION, 1}, {130, 1, 1, PHASE_WIRE_OUT, 1}, {135, 2, 1, PHASE_WIRE_OUT, 1},
    {140, 0, 1, PHASE_WAIT, 0},      {170, 0, 1, PHASE_COMBINE, 0},  {180, 0, 1, PHASE_HOME, 1},
    {190, 0, 1, PHASE_WAIT, 1},      {200, 0, 1, PHASE_COMBINE, 1},  {210, 0, -1, PHASE_LOGITS, 0},
    {230, 0, -1, PHASE_OUTSIDE, 0},
};
/* Layer 1: the first half is away from 120, its last reply is at 160, and rank 0 works until 140:
 * hidden 20. The second is away from 140, replied at 185, but rank 0 waits until 170 for the first:
 * hidden 170..185 = 15. */
static const struct trace_event log_1[] = {
    {-20, 0, -1, PHASE_OUTSIDE, 0}, {2, 3, -1, PHASE_CONTROL, 0},   {4, 0, 0, PHASE_AWAIT, 0},
    {32, 0, 0, PHASE_UNPACK, 0},    {35, 6, 0, PHASE_COMPUTE, 0},   {45, 0, 0, PHASE_PACK, 0},
    {46, 0, 0, PHASE_WIRE_OUT, 0},  {48, 0, 1, PHASE_AWAIT, 0},     {125, 1, 1, PHASE_COMPUTE, 0},
    {155, 0, 1, PHASE_PACK, 0},     {160, 0, 1, PHASE_WIRE_OUT, 0}, {161, 0, 1, PHASE_AWAIT, 1},
    {165, 1, 1, PHASE_COMPUTE, 1},  {175, 0, 1, PHASE_PACK, 1},     {185, 0, 1, PHASE_WIRE_OUT, 1},
    {186, 0, -1, PHASE_OUTSIDE, 0},
};
static const struct trace_event log_2[] = {
    {-30, 0, -1, PHASE_OUTSIDE, 0}, {1, 3, -1, PHASE_CONTROL, 0},   {5, 0, 0, PHASE_AWAIT, 0},
    {33, 0, 0, PHASE_UNPACK, 0},    {40, 6, 0, PHASE_COMPUTE, 0},   {80, 0, 0, PHASE_PACK, 0},
    {85, 0, 0, PHASE_WIRE_OUT, 0},  {87, 0, 1, PHASE_AWAIT, 0},     {125, 1, 1, PHASE_COMPUTE, 0},
    {155, 0, 1, PHASE_PACK, 0},     {156, 0, 1, PHASE_WIRE_OUT, 0}, {161, 0, 1, PHASE_AWAIT, 1},
    {165, 1, 1, PHASE_COMPUTE, 1},  {175, 0, 1, PHASE_PACK, 1},     {176, 0, 1, PHASE_WIRE_OUT, 1},
    {186, 0, -1, PHASE_OUTSIDE, 0},
};
enum {
    N_OWN = sizeof own_log / sizeof *own_log,
    N_1 = sizeof log_1 / sizeof *log_1,
    N_2 = sizeof log_2 / sizeof *log_2
};

/* The log, later by so much. */
static struct trace_event *shifted(const struct trace_event *log, size_t n, int64_t ns)
{
    struct trace_event *copy = malloc(n * sizeof *copy);
    assert_non_null(copy);
    for (size_t i = 0; i < n; i++) {
        copy[i] = log[i];
        copy[i].ns += ns;
    }
    return copy;
}

static void expect_times(const struct profile *p, int rank, int layer, enum phase phase,
                         int64_t expected)
{
    int64_t found = profile_times(p, STEP_DECODE, rank, layer)->ns[phase];
    if (found != expected)
        fail_msg("rank %d, layer %d, %s: expected %lld ns, found %lld", rank, layer,
                 phase_name(phase), (long long)expected, (long long)found);
}

static void expect_exchange(const struct profile *p, int layer, struct exchange_times expected)
{
    const struct exchange_times *x = &p->steps[STEP_DECODE].exchange[layer];
    if (memcmp(x, &expected, sizeof expected) != 0)
        fail_msg("layer %d: found compute %lld, skew %lld, transfer %lld, hidden %lld", layer,
                 (long long)x->compute, (long long)x->skew, (long long)x->transfer,
                 (long long)x->hidden);
}

static void check_story(const struct profile *p)
{
    assert_true(p->steps[STEP_DECODE].steps == 1 && p->steps[STEP_DECODE].rows == 3);
    assert_true(p->steps[STEP_PREFILL].steps == 0);
    expect_times(p, 0, 0, PHASE_WIRE_OUT, 10);
    expect_times(p, 0, 0, PHASE_WAIT, 50);
    expect_times(p, 0, 1, PHASE_WAIT, 40);
    expect_times(p, 0, 1, PHASE_WIRE_OUT, 20);
    expect_times(p, 0, 2, PHASE_CONTROL, 10);
    expect_times(p, 0, 2, PHASE_LOGITS, 20);
    expect_times(p, 1, 0, PHASE_COMPUTE, 10);
    expect_times(p, 2, 0, PHASE_COMPUTE, 40);
    expect_times(p, 2, 0, PHASE_AWAIT, 28);
    expect_times(p, 2, 1, PHASE_COMPUTE, 40);
    expect_times(p, 1, 2, PHASE_CONTROL, 2);
    expect_times(p, 1, 2, PHASE_OUTSIDE, 0); // between steps
    expect_exchange(p, 0, (struct exchange_times){15, 15, 20, 20});
    // [140, 170): computing to 155; [190, 200): all have replied
    expect_exchange(p, 1, (struct exchange_times){15, 0, 25, 20 + 15});
    struct phase_times all = profile_rank_times(p, STEP_DECODE, 0);
    assert_true(phase_total(&all) == 230);
}

static void logs_become_sums(void **state)
{
    struct scene s;
    (void)state;
    int64_t start = clock_ns();
    struct trace_event *own = shifted(own_log, N_OWN, start), *one = shifted(log_1, N_1, start),
                       *two = shifted(log_2, N_2, start);
    open_scene(&s, 2, 0, (const struct trace_event *const[]){one, two}, (size_t[]){N_1, N_2});
    struct trace *log = &s.profile->log;
    memcpy(log->events, own, sizeof own_log);
    log->n = N_OWN;
    struct pair_bytes with[1 + WORKERS] = {{0, 0}, {5, 7}};
    assert_int_equal(
        profile_finish(s.profile, &(struct exchange_counters){.sent = 5, .with = with}), 0);
    check_story(s.profile);
    assert_memory_equal(s.profile->steps[STEP_PREFILL].with, with, sizeof with);
    assert_true(s.profile->dropped == 2 * WORKERS);
    assert_true(s.profile->kept_all && s.profile->kept[2].n == N_2);
    close_scene(&s);
    free(own);
    free(one);
    free(two);
}

/* Layers that the model lacks. */
static void a_log_of_another_model_is_refused(void **state)
{
    struct scene s;
    (void)state;
    open_scene(&s, 1, 0, (const struct trace_event *const[]){log_1 + 1, log_2 + 1},
               (size_t[]){N_1 - 1, N_2 - 1});
    error_capture(true);
    struct pair_bytes with[1 + WORKERS] = {{0, 0}};
    assert_int_equal(profile_finish(s.profile, &(struct exchange_counters){.with = with}),
                     STATUS_FAILED);
    assert_string_equal(error_text(), "rank 1: Records: expected layers below 1, found 1");
    error_capture(false);
    close_scene(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_log_counts_what_it_drops),
        cmocka_unit_test(a_device_may_time_marks),
        cmocka_unit_test(every_phase_has_a_name),
        cmocka_unit_test(clocks_drift_between_measurements),
        cmocka_unit_test(clocks_are_within_their_bounds),
        cmocka_unit_test(logs_become_sums),
        cmocka_unit_test(a_log_of_another_model_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
