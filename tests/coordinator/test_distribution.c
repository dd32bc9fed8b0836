/* log_sum, best_token and divergence, against distributions whose values are known. */
#include <math.h>

#include "coordinator/distribution.h"
#include "tests/rig/cm.h"

static void assert_near(double found, double expected)
{
    if (!(fabs(found - expected) <= 1e-12 * (1 + fabs(expected))))
        fail_msg("expected %.17g, found %.17g", expected, found);
}

/* A constant that is added to all logits is added to the sum, however large: nothing overflows. */
static void test_log_sum(void **state)
{
    (void)state;
    static const float shifts[] = {0, 3, -700, 3e4f, -3e4f};
    for (size_t i = 0; i < sizeof shifts / sizeof *shifts; i++) {
        float same[4] = {shifts[i], shifts[i], shifts[i], shifts[i]};
        float one[3] = {shifts[i], -INFINITY, shifts[i] - 2000};
        assert_near(log_sum(same, 4), shifts[i] + log(4));
        assert_near(log_sum(one, 3), shifts[i]);
    }
    // exp(-20) is beside 1 below what f32 can tell, and above what double can
    assert_true(fabs(log_sum((float[2]){0, -20}, 2) - log1p(exp(-20))) < 1e-15);
}

static void test_no_numbers(void **state)
{
    (void)state;
    for (int at = 0; at < 3; at++) {
        float nan[3] = {1, 2, 3}, inf[3] = {1, 2, 3};
        nan[at] = NAN;
        inf[at] = INFINITY;
        assert_false(isfinite(log_sum(nan, 3)));
        assert_false(isfinite(log_sum(inf, 3)));
    }
    assert_false(isfinite(log_sum((float[2]){-INFINITY, -INFINITY}, 2)));
}

static void test_best(void **state)
{
    (void)state;
    assert_int_equal(best_token((float[4]){-3, -1, -1, -2}, 4), 1);
    assert_int_equal(best_token((float[1]){-3}, 1), 0);
}

/* p = (1/2, 1/4, 1/4), q = (1/4, 1/4, 1/2): KL(p || q) = log(2) / 2 - log(2) / 4. Both rows have a
 * constant added, which changes no distribution. A token that p has not adds nothing; one that only
 * q has not makes it infinite. */
static void test_divergence(void **state)
{
    (void)state;
    const float two = (float)log(2), none = -INFINITY;
    float p[3] = {5, 5 - two, 5 - two}, q[3] = {-9 - two, -9 - two, -9}, half[3] = {0, 0, none};
    assert_true(fabs(divergence(p, q, 3) - log(2) / 4) < 1e-6);
    assert_true(divergence(p, p, 3) == 0);
    assert_true(fabs(divergence(half, q, 3) - (log(2) * 2 - log(2))) < 1e-6);
    assert_true(isinf(divergence(q, half, 3)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_log_sum),
        cmocka_unit_test(test_no_numbers),
        cmocka_unit_test(test_best),
        cmocka_unit_test(test_divergence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
