/* Steps in two halves, worked out by hand: when each half leaves, arrives and comes back stands in
 * the comments. docs/projection.md has the formulas. */
#include <math.h>
#include <string.h>

#include "study/turns.h"
#include "tests/rig/cm.h"

enum { LAYERS = 3 };

static void assert_near(double found, double expected)
{
    if (!(fabs(found - expected) < 1e-12 * (1 + fabs(expected))))
        fail_msg("expected %.12g, found %.12g", expected, found);
}

static double time_of_equal(struct turn t, int layers, int halves)
{
    struct turn all[LAYERS * MOST_HALVES];
    for (int i = 0; i < layers * halves; i++)
        all[i] = t;
    return turns_time(all, layers, halves, true);
}

/* A whole step is everything, one thing after the other. */
static void whole_steps_add_up(void **state)
{
    const struct turn turns[LAYERS] = {{1, 2, 3, 4, 5}, {7, 0, 0, 0, 0}, {1, 1, 1, 8, 2}};
    (void)state;
    assert_near(turns_time(turns, LAYERS, 1, true), 15 + 7 + 13);
    assert_near(turns_time(turns, LAYERS, 1, false), 5 + 7 + 9);
    assert_near(time_of_equal((struct turn){1, 2, 3, 4, 5}, LAYERS, 1), 45);
}

/* Three layers, halves alike, and each of the bounds of the formula
 *     step = (layers - 1) max(2 m, r) + r + m
 * in its turn: r is what a half takes by itself in a layer, m the most that one of the four has to
 * do for it. */
static void equal_halves(void **state)
{
    (void)state;
    // coordinator, r = 8, m = 4: it works all the time, 6 x 4, then the last half's 1 + 2 + 1
    assert_near(time_of_equal((struct turn){3, 1, 1, 2, 1}, LAYERS, 2), 24 + 4);
    // workers, r = 8, m = 5: the first rows are there after 1 + 1, then 6 x 5, then 1 back
    assert_near(time_of_equal((struct turn){1, 0, 1, 5, 1}, LAYERS, 2), 2 + 30 + 1);
    // the wire back, r = 8, m = 5: the first results are ready after 3, then 6 x 5
    assert_near(time_of_equal((struct turn){1, 0, 1, 1, 5}, LAYERS, 2), 3 + 30);
    // the wire out, r = 8, m = 5: after 1, 6 x 5, then 1 + 1
    assert_near(time_of_equal((struct turn){1, 0, 5, 1, 1}, LAYERS, 2), 1 + 30 + 2);
    // a half's own way, r = 8, m = 3: 3 x 8 for the first, the other comes 3 later
    assert_near(time_of_equal((struct turn){1, 0, 3, 1, 3}, LAYERS, 2), 24 + 3);
    // one layer: the way of a half, and the other's most
    assert_near(time_of_equal((struct turn){1, 0, 3, 1, 3}, 1, 2), 8 + 3);
}

/* One layer. A: at home until 3, there at 7, worked on until 10, back at 11. B: at home until 4,
 * and there at 8, since the wire has A until 7; worked on from 10 to 12, back at 18. Without an
 * exchange A is at home until 2, worked on until 5; B at home until 3, and worked on from 5 to 7.
 */
static void different_halves(void **state)
{
    const struct turn turns[] = {{2, 1, 4, 3, 1}, {1, 0, 1, 2, 6}};
    (void)state;
    assert_near(turns_time(turns, 1, 2, true), 18);
    assert_near(turns_time(turns, 1, 2, false), 7);
}

/* Layers 0 and 2 have experts, layer 1 has none. A is back at 4. B leaves at 2, and its experts
 * take 10: back at 14. In layer 1 A is at home from 4 to 6, and B from 14 to 16. In layer 2 A
 * begins when B's turn has ended, at 16, and is back at 20; B begins at 17 and is back at 21. */
static void layers_without_experts(void **state)
{
    const struct turn one = {1, 0, 1, 1, 1}, long_one = {1, 0, 1, 10, 1}, dense = {2, 0, 0, 0, 0};
    const struct turn turns[] = {one, long_one, dense, dense, one, one};
    (void)state;
    assert_near(turns_time(turns, LAYERS, 2, true), 21);
    // A is worked on until 2, B until 12; in layer 1 until 4 and 14; then A until 16, and B until
    // 17
    assert_near(turns_time(turns, LAYERS, 2, false), 17);
}

/* Of made-up turns: halves are never slower than the same turns one after the other, and never
 * faster than what any one of the four, or any half by itself, has to do. */
static void within_bounds(void **state)
{
    uint32_t seed = 5;
    (void)state;
    for (int round = 0; round < 1000; round++) {
        struct turn turns[LAYERS * 2];
        double of[5] = {0}, half[2] = {0}, all = 0;
        for (int i = 0; i < LAYERS * 2; i++) {
            double v[5];
            for (int k = 0; k < 5; k++) {
                seed = seed * 1664525u + 1013904223u;
                v[k] = (double)(seed >> 24) * (double)(seed >> 31);
                of[k] += v[k];
                half[i % 2] += v[k];
                all += v[k];
            }
            turns[i] = (struct turn){v[0], v[1], v[2], v[3], v[4]};
        }
        double t = turns_time(turns, LAYERS, 2, true), bare = turns_time(turns, LAYERS, 2, false);
        assert_true(t <= all && t >= half[0] && t >= half[1]);
        assert_true(t >= of[0] + of[1] && t >= of[2] && t >= of[3] && t >= of[4]);
        assert_true(bare <= t && bare >= of[0] && bare >= of[3]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_steps_add_up), cmocka_unit_test(equal_halves),
        cmocka_unit_test(different_halves), cmocka_unit_test(layers_without_experts),
        cmocka_unit_test(within_bounds)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
