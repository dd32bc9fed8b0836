/* Row invariance, end to end: the same logits, byte for byte, for any number of threads, any chunk
 * and any number of ranks (more workers than experts too), in f32 and bf16, on every instruction
 * set that this machine has. tests/mpi_bitwise.sh does the same over MPI. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/cm.h"
#include "tests/logits.h"

enum { N_TOKENS = 150 };

struct variant {
    int threads, chunk, ranks;
};

static const struct variant variants[] = {
    {2, 2048, 1}, {3, 2048, 1}, {1, 1, 1},  {2, 7, 1},    {1, 64, 1},   {1, 2048, 2},
    {1, 2048, 3}, {2, 33, 5},   {1, 50, 8}, {1, 2048, 9}, {1, 100, 70},
};

/* Tokens that any vocabulary of 64 and more has. */
static void fill(int32_t *tokens, int n)
{
    uint32_t x = 7;
    for (int i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        tokens[i] = (int32_t)(x >> 26);
    }
}

static void check(const char *dir, enum dtype dtype, const char *isa)
{
    int32_t tokens[N_TOKENS];
    int vocab;
    fill(tokens, N_TOKENS);
    struct logits_case t = {dir, isa, dtype, 1, 2048, 1, tokens, N_TOKENS};
    float *reference = logits_of(&t, &vocab);
    assert_non_null(reference);
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
        t.threads = variants[i].threads;
        t.chunk = variants[i].chunk;
        t.ranks = variants[i].ranks;
        float *logits = logits_of(&t, &vocab);
        assert_non_null(logits);
        size_t bytes = (size_t)N_TOKENS * (size_t)vocab * sizeof *logits;
        if (memcmp(logits, reference, bytes) != 0)
            fail_msg("%s %s %s: other bytes with -t %d --chunk %d --ranks %d", dir, isa,
                     dtype_name(dtype), t.threads, t.chunk, t.ranks);
        free(logits);
    }
    free(reference);
}

static void check_everywhere(const char *dir)
{
    static const char *const isas[] = {"plain", "avx2", "avx512", "amx"};
    static const enum dtype types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    for (int isa = 0; isa < ISA_COUNT; isa++) {
        if (!(isa_available() & 1u << isa)) {
            printf("skipped: no %s path here\n", isas[isa]);
            continue;
        }
        for (int i = 0; i < 3; i++)
            check(dir, types[i], isas[isa]);
    }
}

static void tiny_models(void **state)
{
    (void)state;
    check_everywhere(SOURCE_DIR "/tests/golden/models/moe-60");
    check_everywhere(SOURCE_DIR "/tests/golden/models/moe-sparse-step-2");
    check_everywhere(SOURCE_DIR "/tests/golden/models/dense-gqa");
}

static void shipped_model(void **state)
{
    (void)state;
    check(SOURCE_DIR "/models/austen-moe", DTYPE_BF16, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiny_models),
        cmocka_unit_test(shipped_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
