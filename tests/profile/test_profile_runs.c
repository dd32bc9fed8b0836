/* Profiles of real runs: the sums account for the time, on processors and on a GPU, and what marks
 * cost. */
#include <math.h>
#include <stdlib.h>

#include "coordinator/scheduler.h"
#include "coordinator/unembed.h"
#include "launch/ranks.h"
#include "profile/fold.h"
#include "study/profile.h"
#include "tests/rig/cm.h"
#include "tests/rig/pairs.h"

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
    o.placement.text = "even"; // every rank has rows of its own
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
    assert_true(sent == root_counters(r.coordinator.exchange[0])->sent &&
                (sent > 0) == (ranks > 1));
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
    c->trace = p ? &p->log : NULL;
    for (int i = 0; i < c->n_exchanges; i++)
        root_trace(c->exchange[i], c->trace);
}

static int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* For the record: what rank 0's marks cost a decode step, with and without them step by step. In
 * builds whose times mean nothing a few steps are enough. */
static void what_marks_cost(void **state)
{
    enum { MOST_STEPS = 1000 };
    static int64_t ns[2][MOST_STEPS];
    int steps = pairs_only() ? 30 : MOST_STEPS;
    (void)state;
    for (int ranks = 1; ranks <= 3; ranks += 2) {
        struct ranks r;
        open_model(&r, SOURCE_DIR "/models/austen-moe", ranks, OVERLAP_OFF, true);
        struct coordinator *c = &r.coordinator;
        struct profile *p = c->profile;
        int32_t token = 1, seq = 0, row = 0;
        assert_true(kv_cache_extend(&c->kv, 0, 100));
        for (int i = 0; i < 2 * steps; i++) {
            int32_t pos = i / 2 % 100;
            set_marks(c, i % 2 ? p : NULL);
            int64_t start = clock_ns();
            assert_int_equal(forward(c, &(struct batch){1, &token, &seq, &pos}), 0);
            assert_non_null(unembed_to_host(c, &row, 1));
            ns[i % 2][i / 2] = clock_ns() - start;
        }
        set_marks(c, p);
        for (int on = 0; on < 2; on++)
            qsort(ns[on], (size_t)steps, sizeof **ns, ascending);
        double off = (double)ns[0][steps / 2], on = (double)ns[1][steps / 2];
        print_message(
            "           austen-moe, %d ranks: a step %.1f us, with marks %.1f: %+.2f %%\n", ranks,
            off * 1e-3, on * 1e-3, 100 * (on / off - 1));
        assert_true(p->log.n > (size_t)steps); // they were on
        ranks_close(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_are_accounted_for),
        cmocka_unit_test(runs_on_a_gpu_are_accounted_for),
        cmocka_unit_test(nothing_is_kept_unless_asked_for),
        cmocka_unit_test(what_marks_cost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
