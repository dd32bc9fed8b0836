/* The coordinator's parts: KV blocks, sampling, and sequences that share a step. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/forward.h"
#include "coordinator/sampler.h"
#include "launch/ranks.h"
#include "tests/cm.h"

static void blocks_are_taken_and_given_back(void **state)
{
    (void)state;
    struct config m = {.n_layers = 2, .n_kv_heads = 1, .head_dim = 8};
    struct kv_cache kv;
    struct dev d;
    dev_open_cpu(&d, ISA_PLAIN, 1);
    kv_cache_open(&kv, &d, &m, DTYPE_F32, 3, 200, 5); // 4 blocks a sequence at most, 5 in all
    assert_true(kv_cache_extend(&kv, 0, 64));
    assert_int_equal(kv.taken[0], 1);
    assert_true(kv_cache_extend(&kv, 0, 65));
    assert_int_equal(kv.taken[0], 2);
    assert_true(kv_cache_extend(&kv, 1, 192));
    assert_false(kv_cache_extend(&kv, 2, 1)); // none left
    assert_int_equal(kv.taken[2], 0);
    assert_false(kv_cache_extend(&kv, 0, 257)); // longer than the context
    kv_cache_release(&kv, 0);
    assert_int_equal(kv.n_free, 2);
    assert_int_equal(kv.table[0], -1);
    assert_true(kv_cache_extend(&kv, 2, 128));
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 3; j++) // no block has two owners
            assert_int_not_equal(kv.table[2 * 4 + i], kv.table[1 * 4 + j]);
    dev_close(&d);
}

static int32_t pick_once(const struct sampler_options *o, const float *logits, int n)
{
    struct sampler s;
    sampler_open(&s, o, n);
    int32_t token = sampler_pick(&s, logits);
    sampler_close(&s);
    return token;
}

static void greedy_takes_the_lowest_of_equals(void **state)
{
    (void)state;
    float logits[] = {-1, 3, 2, 3, NAN};
    struct sampler_options greedy = {.top_p = 1, .repetition_penalty = 1};
    struct sampler_options top_1 = {
        .temperature = 1, .top_p = 1, .repetition_penalty = 1, .top_k = 1};
    struct sampler_options narrow = {.temperature = 1, .top_p = 1e-9, .repetition_penalty = 1};
    for (uint64_t seed = 0; seed < 20; seed++) {
        top_1.seed = narrow.seed = seed;
        assert_int_equal(pick_once(&greedy, logits, 5), 1);
        assert_int_equal(pick_once(&top_1, logits, 5), 1);
        assert_int_equal(pick_once(&narrow, logits, 5), 1);
    }
}

static void broken_logits_do_not_break_the_sampler(void **state)
{
    (void)state;
    struct sampler_options o = {
        .temperature = 1, .top_p = 0.9, .repetition_penalty = 1.1, .top_k = 3};
    float all_nan[] = {NAN, NAN, NAN, NAN, NAN};
    float infinite[] = {-INFINITY, INFINITY, INFINITY, 0, NAN};
    int32_t token = pick_once(&o, all_nan, 5);
    assert_true(token >= 0 && token < 5);
    assert_int_equal(pick_once(&o, infinite, 5), 1);
}

/* 20,000 draws against the probabilities; three sigma of the rarest is under 0.01. */
static void draws_follow_the_distribution(void **state)
{
    (void)state;
    enum { N = 5, DRAWS = 20000 };
    float logits[N] = {0.5f, 2, -1, 1, 0};
    struct sampler_options o = {
        .temperature = 0.8, .top_p = 1, .repetition_penalty = 1, .seed = 42};
    int count[N] = {0}, again[N] = {0};
    double p[N], sum = 0;
    struct sampler s, t;
    sampler_open(&s, &o, N);
    sampler_open(&t, &o, N);
    for (int i = 0; i < DRAWS; i++) {
        count[sampler_pick(&s, logits)]++;
        again[sampler_pick(&t, logits)]++;
    }
    sampler_close(&s);
    sampler_close(&t);
    for (int i = 0; i < N; i++)
        sum += p[i] = exp(logits[i] / 0.8);
    for (int i = 0; i < N; i++)
        assert_true(fabs(count[i] / (double)DRAWS - p[i] / sum) < 0.012);
    assert_memory_equal(count, again, sizeof count); // the same seed
    o = (struct sampler_options){
        .temperature = 1, .top_p = 0.8, .repetition_penalty = 1, .top_k = 3};
    sampler_open(&s, &o, N);
    for (int i = 0; i < 2000; i++) {
        int32_t token = sampler_pick(&s, logits);
        assert_true(token == 1 ||
                    token == 3); // p(1) + p(3) of the three best is the first over 0.8
    }
    sampler_close(&s);
}

static void repetition_is_penalised_on_both_sides_of_zero(void **state)
{
    (void)state;
    float logits[] = {2.0f, 1.5f, -1.0f, -1.2f};
    struct sampler_options o = {.top_p = 1, .repetition_penalty = 1.5};
    struct sampler s;
    sampler_open(&s, &o, 4);
    sampler_see(&s, 0);                            // 2 / 1.5 < 1.5
    assert_int_equal(sampler_pick(&s, logits), 1); // and 1 is seen from now on: 1.0 < 1.33
    assert_int_equal(sampler_pick(&s, logits), 0);
    float negative[] = {-1.0f, -1.2f, -9, -9};
    sampler_see(&s, 0); // -1 * 1.5 < -1.2 ... but 1 was seen too: -1.8
    assert_int_equal(sampler_pick(&s, negative), 0);
    sampler_close(&s);
}

static struct ranks open_tiny(int ranks, int sequences)
{
    struct ranks r;
    struct process p = {.local_size = 1};
    struct model_options o = model_options_default();
    struct session_needs needs = {sequences, 8, 100};
    o.model = SOURCE_DIR "/tests/golden/models/moe-60";
    o.threads = 1;
    o.ranks = ranks;
    unsetenv("EPMOE_ISA");
    assert_int_equal(ranks_open(&r, &p, &o, &needs), 0);
    return r;
}

/* Three sequences interleaved in shared steps give, each, the bytes it has alone. */
static void sequences_that_share_a_step_do_not_touch(void **state)
{
    (void)state;
    enum { N = 40, S = 3 };
    struct ranks shared = open_tiny(3, S), alone = open_tiny(1, 1);
    size_t bytes = (size_t)shared.coordinator.config.vocab_size * sizeof(float);
    for (int s = 0; s < S; s++)
        assert_true(kv_cache_extend(&shared.coordinator.kv, s, N));
    float *together = malloc(N * S * bytes);
    for (int at = 0; at < N; at += 4) { // four positions of each sequence a step
        int32_t tokens[12], seq[12], pos[12], last[S];
        for (int i = 0; i < 12; i++) {
            seq[i] = i / 4;
            pos[i] = at + i % 4;
            tokens[i] = (pos[i] * (7 + seq[i]) + seq[i]) % 60;
        }
        for (int s = 0; s < S; s++)
            last[s] = s * 4 + 3;
        assert_int_equal(forward(&shared.coordinator, &(struct batch){12, tokens, seq, pos}), 0);
        memcpy((char *)together + (size_t)at * S * bytes,
               forward_logits(&shared.coordinator, last, S), S * bytes);
    }
    for (int s = 0; s < S; s++) {
        assert_true(kv_cache_extend(&alone.coordinator.kv, 0, N));
        for (int at = 0; at < N; at++) {
            int32_t token = (at * (7 + s) + s) % 60, seq = 0, pos = at, row = 0;
            assert_int_equal(forward(&alone.coordinator, &(struct batch){1, &token, &seq, &pos}),
                             0);
            const float *logits = forward_logits(&alone.coordinator, &row, 1);
            if (at % 4 == 3)
                assert_memory_equal(
                    logits, (char *)together + ((size_t)(at - 3) * S + (size_t)s) * bytes, bytes);
        }
        kv_cache_release(&alone.coordinator.kv, 0);
    }
    free(together);
    ranks_close(&shared);
    ranks_close(&alone);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_taken_and_given_back),
        cmocka_unit_test(greedy_takes_the_lowest_of_equals),
        cmocka_unit_test(broken_logits_do_not_break_the_sampler),
        cmocka_unit_test(draws_follow_the_distribution),
        cmocka_unit_test(repetition_is_penalised_on_both_sides_of_zero),
        cmocka_unit_test(sequences_that_share_a_step_do_not_touch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
