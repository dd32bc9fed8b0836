/* Profiles: marks, clocks, how logs become sums, and that a real run's sums account for its time.
 * Nothing here asserts how long anything takes. From outside: tests/profile.sh. */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "coordinator/profile_fold.h"
#include "coordinator/scheduler.h"
#include "launch/ranks.h"
#include "proto/control.h"
#include "study/profile.h"
#include "tests/cm.h"

static void a_full_log_counts_what_it_drops(void **state)
{
    struct trace t;
    (void)state;
    trace_open(&t, 1, 2);
    size_t room = t.capacity;
    assert_true(room >= 2 * trace_step_most(1, 2));
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

static void note_mark(void *of, enum phase phase)
{
    assert_true(of == &told && phase == PHASE_WAIT);
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
    trace_open(&t, 1, 1);
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

/* ---- real runs ---- */

static enum device device; // what the models run on

static void open_model(struct ranks *r, const char *dir, int ranks, enum overlap overlap,
                       bool profiled)
{
    struct process p = {.local_size = 1};
    struct model_options o = model_options_default();
    struct session_needs needs = {3, 8, 100};
    o.model = dir;
    o.threads = 1;
    o.ranks = ranks;
    o.device = (int)device;
    o.overlap = (int)overlap;
    o.profile.table = profiled;
    assert_int_equal(ranks_open(r, &p, &o, &needs), 0);
}

struct picked {
    int32_t tokens[64];
    int n;
};

static bool keep_token(void *context, int32_t token)
{
    struct picked *p = context;
    p->tokens[p->n++] = token;
    return false;
}

/* Three requests together; returns the time that their steps took, by a clock outside them. */
static int64_t serve(struct coordinator *c, struct picked *picked)
{
    static const int32_t tokens[] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3};
    struct scheduler s;
    int64_t ns = 0;
    scheduler_open(&s, c);
    for (int i = 0; i < 3; i++) {
        struct request r = {.tokens = tokens,
                            .n = 4 + 5 * i,
                            .n_predict = 16,
                            .ignore_eos = true,
                            .sampler = {.top_p = 1, .repetition_penalty = 1},
                            .on_token = keep_token,
                            .context = &picked[i]};
        assert_true(scheduler_admit(&s, &r));
    }
    while (s.n_running) {
        int64_t start = clock_ns();
        assert_int_equal(scheduler_step(&s), 0);
        ns += clock_ns() - start;
    }
    scheduler_close(&s);
    return ns;
}

static void check_layer(const struct coordinator *c, enum step_kind kind, int layer)
{
    const struct profile *p = c->profile;
    const struct step_sums *s = &p->steps[kind];
    const struct exchange_times *x = &s->exchange[layer];
    uint64_t rows = 0, most = 0;
    for (int rank = 0; rank < p->n_ranks; rank++) {
        const struct rank_load *load = &s->loads[rank * p->n_layers + layer];
        rows += load->rows;
        most = load->rows > most ? load->rows : most;
        assert_true(load->experts <= load->rows);
    }
    uint64_t expected = c->config.sparse[layer] ? s->rows * (uint64_t)c->config.top_k : 0;
    if (device == DEVICE_CUDA && p->n_ranks == 1)
        expected = 0; // the host never sees the counts
    assert_true(rows == expected && s->layers[layer].rows_most >= most);
    assert_true(x->compute + x->skew + x->transfer ==
                profile_times(p, kind, 0, layer)->ns[PHASE_WAIT]);
    assert_true(x->compute >= 0 && x->skew >= 0 && x->transfer >= 0 && x->hidden >= 0);
    if (device == DEVICE_CPU) // a GPU may still be busy when the replies are there
        assert_true((x->transfer > 0) == (p->n_ranks > 1 && rows > 0));
}

/* Every nanosecond between the first mark and the last is some phase's. Returns how much of the
 * steps, by the clock around them, is in the account. */
static double check_account(const struct profile *p, int64_t first_ns, int64_t outer_ns)
{
    int64_t inside = p->profiling_ns;
    for (int kind = 0; kind < STEP_KINDS; kind++) {
        struct phase_times all = profile_rank_times(p, (enum step_kind)kind, 0);
        inside += phase_total(&all);
    }
    assert_true(inside + p->outside_ns == p->log.events[0].ns - first_ns);
    return (double)inside / (double)outer_ns;
}

static double check_run(const char *dir, int ranks, enum overlap overlap)
{
    struct picked found[3] = {{{0}, 0}}, expected[3] = {{{0}, 0}};
    struct ranks plain, r;
    open_model(&plain, dir, device == DEVICE_CPU ? 1 : ranks, OVERLAP_OFF, false);
    serve(&plain.coordinator, expected);
    ranks_close(&plain);
    open_model(&r, dir, ranks, overlap, true);
    struct profile *p = r.coordinator.profile;
    int64_t first = p->log.events[0].ns;
    p->log.capacity = 400; // collected every few steps, as in a long run
    int64_t outer = serve(&r.coordinator, found);
    assert_int_equal(coordinator_finish_profile(&r.coordinator), 0);
    assert_memory_equal(found, expected, sizeof found);
    assert_true(p->dropped == 0 && p->profiling_ns > 0);
    assert_true(p->steps[STEP_PREFILL].steps == 1 && p->steps[STEP_DECODE].steps == 15);
    assert_true(p->steps[STEP_PREFILL].rows == 4 + 9 + 14 && p->steps[STEP_DECODE].rows == 45);
    for (int kind = 0; kind < STEP_KINDS; kind++)
        for (int layer = 0; layer < p->n_layers; layer++)
            check_layer(&r.coordinator, (enum step_kind)kind, layer);
    uint64_t sent = p->steps[0].bytes.sent + p->steps[1].bytes.sent;
    assert_true(sent == r.coordinator.exchange[0].counters->sent && (sent > 0) == (ranks > 1));
    double share = check_account(p, first, outer);
    ranks_close(&r);
    return share;
}

/* A busy machine may take the core away between a step's mark and the clock around it, but not
 * every time. */
static void account_for(const char *dir, int ranks, enum overlap overlap)
{
    double best = 0;
    for (int i = 0; i < 5 && best < 0.95; i++)
        best = fmax(best, check_run(dir, ranks, overlap));
    print_message("           %s, %d ranks: phases are %.4f of the steps\n", strrchr(dir, '/') + 1,
                  ranks, best);
    assert_true(best >= 0.95);
}

static void runs_are_accounted_for(void **state)
{
    (void)state;
    account_for(SOURCE_DIR "/tests/golden/models/moe-60", 1, OVERLAP_OFF);
    account_for(SOURCE_DIR "/tests/golden/models/moe-60", 4, OVERLAP_OFF);
    account_for(SOURCE_DIR "/tests/golden/models/moe-60", 3, OVERLAP_ON);
    account_for(SOURCE_DIR "/tests/golden/models/moe-sparse-step-2", 3, OVERLAP_OFF);
    account_for(SOURCE_DIR "/tests/golden/models/moe-sparse-step-2", 9, OVERLAP_ON);
}

static void runs_on_a_gpu_are_accounted_for(void **state)
{
    (void)state;
    if (cuda_count() == 0)
        skip();
    device = DEVICE_CUDA;
    account_for(SOURCE_DIR "/tests/golden/models/moe-60", 1, OVERLAP_OFF);
    account_for(SOURCE_DIR "/tests/golden/models/moe-60", 3, OVERLAP_OFF);
    device = DEVICE_CPU;
}

static void nothing_is_kept_unless_asked_for(void **state)
{
    (void)state;
    struct ranks r;
    open_model(&r, SOURCE_DIR "/tests/golden/models/moe-60", 2, OVERLAP_OFF, false);
    assert_null(r.coordinator.profile);
    assert_null(r.coordinator.trace);
    assert_int_equal(coordinator_finish_profile(&r.coordinator), 0);
    ranks_close(&r);
}

/* Marks on or off: those of rank 0. */
static void set_marks(struct coordinator *c, struct profile *p)
{
    c->profile = p;
    c->trace = c->exchange[0].trace = c->exchange[1].trace = p ? &p->log : NULL;
}

static int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* For the record: what rank 0's marks cost a decode step, with and without them step by step. */
static void what_marks_cost(void **state)
{
    enum { STEPS = 1000 };
    static int64_t ns[2][STEPS];
    (void)state;
    for (int ranks = 1; ranks <= 3; ranks += 2) {
        struct ranks r;
        open_model(&r, SOURCE_DIR "/models/austen-moe", ranks, OVERLAP_OFF, true);
        struct coordinator *c = &r.coordinator;
        struct profile *p = c->profile;
        int32_t token = 1, seq = 0, row = 0;
        assert_true(kv_cache_extend(&c->kv, 0, 100));
        for (int i = 0; i < 2 * STEPS; i++) {
            int32_t pos = i / 2 % 100;
            set_marks(c, i % 2 ? p : NULL);
            int64_t start = clock_ns();
            assert_int_equal(forward(c, &(struct batch){1, &token, &seq, &pos}), 0);
            assert_non_null(forward_logits(c, &row, 1));
            ns[i % 2][i / 2] = clock_ns() - start;
        }
        set_marks(c, p);
        for (int on = 0; on < 2; on++)
            qsort(ns[on], STEPS, sizeof **ns, ascending);
        double off = (double)ns[0][STEPS / 2], on = (double)ns[1][STEPS / 2];
        print_message(
            "           austen-moe, %d ranks: a step %.1f us, with marks %.1f: %+.2f %%\n", ranks,
            off * 1e-3, on * 1e-3, 100 * (on / off - 1));
        assert_true(p->log.n > STEPS); // they were on
        ranks_close(&r);
    }
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
        cmocka_unit_test(runs_are_accounted_for),
        cmocka_unit_test(runs_on_a_gpu_are_accounted_for),
        cmocka_unit_test(nothing_is_kept_unless_asked_for),
        cmocka_unit_test(what_marks_cost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
