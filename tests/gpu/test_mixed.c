/* Ranks of mixed kinds: a GPU as coordinator, processors as workers. Against one process on the
 * processor, in f32: max |delta| <= 1e-5 of the logits' range, for every strategy, dedup, combine
 * and overlap. Kinds of ranks round differently, each within the bounds of kernels/cases.h. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/rig/cm.h"
#include "tests/rig/logits.h"

enum { N_TOKENS = 9, CHUNK = 7, WORKERS_ON_CPU = 1 + DEVICE_CPU };

static float *run(const char *dir, int ranks, long home, const struct exchange_options *x,
                  int *vocab)
{
    int32_t tokens[N_TOKENS];
    for (int i = 0; i < N_TOKENS; i++)
        tokens[i] = (i * 29 + 5) % 64;
    struct logits_case t = {.dir = dir,
                            .dtype = DTYPE_F32,
                            .threads = 1,
                            .chunk = CHUNK,
                            .ranks = ranks,
                            .tokens = tokens,
                            .n = N_TOKENS,
                            .placement = {.home = home, .home_given = home > 0},
                            .device = ranks > 1 ? DEVICE_CUDA : DEVICE_CPU,
                            .worker_device = WORKERS_ON_CPU};
    float *logits = logits_over(&t, x, vocab);
    assert_non_null(logits);
    return logits;
}

/* max |a - b| over the range of b */
static double largest_delta(const float *a, const float *b, size_t n)
{
    double largest = 0, low = INFINITY, high = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        double delta = fabs((double)a[i] - (double)b[i]);
        largest = delta > largest || isnan(delta) ? delta : largest;
        low = fmin(low, (double)b[i]);
        high = fmax(high, (double)b[i]);
    }
    return largest / (high - low);
}

static void check_model(const char *dir, int ranks, long home)
{
    int vocab;
    struct exchange_options usual = {0};
    float *alone = run(dir, 1, 0, &usual, &vocab);
    double worst = 0;
    for (int i = 0; i < STRATEGY_COUNT * COMBINE_COUNT * DEDUP_COUNT; i++) {
        struct exchange_options x = {.strategy = (enum strategy)(i % STRATEGY_COUNT),
                                     .combine = (enum combine)(i / STRATEGY_COUNT % COMBINE_COUNT),
                                     .dedup = (enum dedup)(i / STRATEGY_COUNT / COMBINE_COUNT),
                                     .overlap = (enum overlap)(i % OVERLAP_AUTO)};
        float *mixed = run(dir, ranks, home, &x, &vocab);
        double delta = largest_delta(mixed, alone, N_TOKENS * (size_t)vocab);
        worst = isnan(delta) || delta > worst ? delta : worst;
        free(mixed);
    }
    free(alone);
    print_message("           %s, %d ranks: %.2g of the range\n", dir + sizeof SOURCE_DIR, ranks,
                  worst);
    assert_true(worst <= 1e-5);
}

static void mixed_ranks(void **state)
{
    (void)state;
    check_model(SOURCE_DIR "/tests/golden/models/moe-60", 3, 13);
    check_model(SOURCE_DIR "/tests/golden/models/moe-sparse-step-2", 2, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(mixed_ranks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
