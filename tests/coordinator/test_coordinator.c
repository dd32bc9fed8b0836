/* The coordinator's parts: KV blocks, and sequences that share a step. */
#include <stdlib.h>
#include <string.h>

#include "coordinator/forward.h"
#include "coordinator/unembed.h"
#include "launch/ranks.h"
#include "tests/rig/cm.h"

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

static void open_tiny(struct ranks *r, int ranks, int sequences)
{
    struct process p = {.local_size = 1};
    struct model_options o = model_options_default();
    struct session_needs needs = {sequences, 8, 100};
    o.model = SOURCE_DIR "/tests/golden/models/moe-60";
    o.threads = 1;
    o.ranks = ranks;
    unsetenv("EPMOE_ISA");
    assert_int_equal(ranks_open(r, &p, &o, &needs), 0);
}

/* Three sequences interleaved in shared steps give, each, the bytes it has alone. */
static void sequences_that_share_a_step_do_not_touch(void **state)
{
    (void)state;
    enum { N = 40, S = 3 };
    struct ranks shared, alone;
    open_tiny(&shared, 3, S);
    open_tiny(&alone, 1, 1);
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
               unembed_to_host(&shared.coordinator, last, S), S * bytes);
    }
    for (int s = 0; s < S; s++) {
        assert_true(kv_cache_extend(&alone.coordinator.kv, 0, N));
        for (int at = 0; at < N; at++) {
            int32_t token = (at * (7 + s) + s) % 60, seq = 0, pos = at, row = 0;
            assert_int_equal(forward(&alone.coordinator, &(struct batch){1, &token, &seq, &pos}),
                             0);
            const float *logits = unembed_to_host(&alone.coordinator, &row, 1);
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
        cmocka_unit_test(sequences_that_share_a_step_do_not_touch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
