/* Fitting prices to measured times: known prices are found again from made-up measurements, exactly
 * without noise, and closely with it; and what is held out is not looked at. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "study/cost.h"
#include "tests/rig/cm.h"

enum { LAYERS = 3, RANKS = 4, MOST = 400 };

static const struct costs known = {{[COST_MESSAGE] = 3e-6,
                                    [COST_LAP] = 20e-6,
                                    [COST_OUT] = 1.1e-9,
                                    [COST_BACK] = 0.7e-9,
                                    [COST_NARROWED] = 0.4e-9,
                                    [COST_AFTER_WORK] = 9e-6,
                                    [COST_ROW] = 2e-6,
                                    [COST_EXPERT] = 15e-6,
                                    [COST_STEP] = 300e-6,
                                    [COST_HOME_ROW] = 40e-6,
                                    [COST_POSITION] = 30e-9,
                                    [COST_OUTPUT] = 90e-6}};

static uint32_t seed;
static double draw(double below)
{
    seed = seed * 1664525u + 1013904223u;
    return below * seed / 4294967296.0;
}

static void set_lap(struct costs *c, int laps, int rows, bool narrowed)
{
    c->of[COST_LAP] = laps;
    c->of[COST_MESSAGE] = laps * (6 + floor(draw(3)) * 6);
    c->of[COST_OUT] = laps * rows * 500 * (1 + draw(1));
    c->of[COST_BACK] = laps * rows * 500 * (1 + draw(1));
    c->of[COST_NARROWED] = narrowed ? c->of[COST_OUT] + c->of[COST_BACK] : 0;
}

static void set_home(struct costs *c, int rows, int position)
{
    c->of[COST_STEP] = 1;
    c->of[COST_HOME_ROW] = rows;
    c->of[COST_POSITION] = rows * (position + 1.0);
    c->of[COST_OUTPUT] = draw(1) < 0.5 ? 1 : rows;
}

static struct load loads[MOST][LAYERS][RANKS];

static void set_loads(struct setting *s, struct load (*of)[RANKS])
{
    for (int l = 0; l < LAYERS; l++)
        for (int r = 1; r < RANKS; r++)
            of[l][r] = (struct load){floor(draw(2.0 * s->rows)), 1 + floor(draw(9))};
    s->loads = &of[0][0];
    s->layers = LAYERS;
}

/* Settings of all kinds; times by the known prices, times 1 + up to `noise` either way. */
static int make(struct setting *s, double noise, int at_once)
{
    int n = 0;
    seed = 7;
    memset(s, 0, MOST * sizeof *s);
    for (int i = 0; i < MOST; i++, n++) {
        s[i] = (struct setting){.kind = (enum setting_kind)(i % SETTING_KINDS),
                                .rows = 1 << (i / 4 % 8),
                                .position = i / 4 % 5 * 100,
                                .ranks = RANKS,
                                .at_once = at_once,
                                .held_out = i / 4 % 3 == 2};
        struct costs *c = &s[i].counted;
        if (s[i].kind == SETTING_LAP)
            set_lap(c, 1, s[i].rows, i % 8 == 0);
        if (s[i].kind == SETTING_EXPERTS || s[i].kind == SETTING_ALONE) {
            c->of[COST_ROW] = LAYERS * 4.0 * s[i].rows;
            c->of[COST_EXPERT] = LAYERS * (1 + floor(draw(20)));
        }
        if (s[i].kind == SETTING_ALONE || s[i].kind == SETTING_STEP)
            set_home(c, s[i].rows, s[i].position);
        if (s[i].kind == SETTING_STEP) {
            set_lap(c, LAYERS, s[i].rows, i % 16 == 3);
            c->of[COST_AFTER_WORK] = LAYERS;
            set_loads(&s[i], loads[i]);
        }
        struct costs all = setting_counts(&s[i], &known);
        double t = costs_time(&all, &known);
        s[i].measured = t * (1 + noise * (draw(2) - 1));
        s[i].again = t * (1 + noise * (draw(2) - 1));
    }
    return n;
}

static void assert_near(double found, double expected, double share)
{
    if (fabs(found - expected) > share * expected)
        fail_msg("expected %g within %g %%, found %g", expected, share * 100, found);
}

static void finds_known_prices(void **state)
{
    static struct setting s[MOST];
    (void)state;
    for (int at_once = 0; at_once < 3; at_once++) {
        struct costs found;
        int n = make(s, 0, at_once);
        cost_fit(&found, s, n);
        for (int c = 0; c < COSTS; c++)
            assert_near(found.of[c], known.of[c], 1e-6);
        struct goodness g = goodness_of(s, n);
        assert_true(g.fitted_median < 1e-9 && g.held_out_most < 1e-9 && g.noise == 0 &&
                    g.r2 > 0.999999);
        assert_int_equal(g.fitted + g.held_out, n);
        assert_true(g.held_out > n / 4);
    }
}

static void finds_them_in_noise(void **state)
{
    static struct setting s[MOST];
    struct costs found;
    (void)state;
    int n = make(s, 0.04, 2);
    cost_fit(&found, s, n);
    for (int c = 0; c < COSTS; c++)
        assert_near(found.of[c], known.of[c],
                    c == COST_MESSAGE || c == COST_AFTER_WORK ? 0.5 : 0.25);
    struct goodness g = goodness_of(s, n);
    assert_true(g.fitted_median < 0.04 && g.held_out_median < 0.04);
    assert_true(g.noise > 0.005 && g.noise < 0.04);
}

/* Times of held-out settings have no part in the prices, but in what is said of them. */
static void does_not_see_held_out(void **state)
{
    static struct setting s[MOST];
    struct costs found;
    (void)state;
    int n = make(s, 0, 2);
    for (int i = 0; i < n; i++)
        if (s[i].held_out)
            s[i].measured = s[i].again = 2 * s[i].measured;
    cost_fit(&found, s, n);
    for (int c = 0; c < COSTS; c++)
        assert_near(found.of[c], known.of[c], 1e-6);
    struct goodness g = goodness_of(s, n);
    assert_near(g.held_out_median, 0.5, 1e-6);
    assert_true(g.fitted_median < 1e-9);
}

/* min (x + y - 1)^2 + (x - y - 3)^2 has y = -1; with none below 0 it is x = 2, y = 0. */
static void nothing_is_below_zero(void **state)
{
    const double ata[] = {2, 0, 0, 2}, atb[] = {4, -2};
    double x[2];
    (void)state;
    least_squares(x, ata, atb, 2);
    assert_true(fabs(x[0] - 2) < 1e-12 && x[1] == 0);
    /* columns (1 1 1), (1 2 3), b (0 1 2): unbounded -1 and 1; bounded y = b . c / c . c = 8 / 14
     */
    const double ata2[] = {3, 6, 6, 14}, atb2[] = {3, 8};
    least_squares(x, ata2, atb2, 2);
    assert_true(x[0] == 0 && fabs(x[1] - 8.0 / 14) < 1e-12);
}

/* Of made-up problems with columns that are much alike, most of which want some values below 0:
 * where x is 0 the sum of squares does not fall if it grows, and elsewhere it does not change,
 * which no other x fulfils. */
static void best_is_found(void **state)
{
    enum { UNKNOWNS = 5, ROWS = 9 };
    int at_zero = 0;
    (void)state;
    seed = 11;
    for (int round = 0; round < 500; round++) {
        double a[ROWS][UNKNOWNS], b[ROWS], ata[UNKNOWNS * UNKNOWNS] = {0}, atb[UNKNOWNS] = {0};
        double x[UNKNOWNS];
        for (int r = 0; r < ROWS; r++) {
            b[r] = 0.7 + draw(0.6);
            for (int i = 0; i < UNKNOWNS; i++)
                a[r][i] = 0.7 + draw(0.6);
        }
        for (int r = 0; r < ROWS; r++)
            for (int i = 0; i < UNKNOWNS; i++) {
                atb[i] += a[r][i] * b[r];
                for (int j = 0; j < UNKNOWNS; j++)
                    ata[i * UNKNOWNS + j] += a[r][i] * a[r][j];
            }
        least_squares(x, ata, atb, UNKNOWNS);
        for (int i = 0; i < UNKNOWNS; i++) {
            double slope = atb[i];
            for (int j = 0; j < UNKNOWNS; j++)
                slope -= ata[i * UNKNOWNS + j] * x[j];
            assert_true(x[i] >= 0 && slope < 1e-7 && (x[i] <= 0 || slope > -1e-7));
            at_zero += x[i] <= 0;
        }
    }
    assert_true(at_zero > 500 && at_zero < 2000);
}

/* A column that is there twice, and one of zeros, leave a solution. */
static void dependent_columns(void **state)
{
    const double ata[] = {2, 2, 0, 2, 2, 0, 0, 0, 0}, atb[] = {6, 6, 0};
    double x[3];
    (void)state;
    least_squares(x, ata, atb, 3);
    assert_true(fabs(x[0] + x[1] - 3) < 1e-9 && x[2] == 0);
}

static void slowest_rank_counts(void **state)
{
    const struct costs prices = {{[COST_ROW] = 1, [COST_EXPERT] = 10}};
    const struct load two[2][3] = {{{0, 0}, {30, 1}, {5, 4}}, {{0, 0}, {7, 1}, {2, 1}}};
    (void)state;
    struct load l = loads_counting(&two[0][0], 2, 3, 0, &prices);
    assert_true(l.rows == 5 + 7 && l.experts == 4 + 1); // 45 against 40, 17 against 12
    l = loads_counting(&two[0][0], 2, 3, 1, &prices);   // all of them, one after the other
    assert_true(l.rows == 35 + 9 && l.experts == 5 + 2);
    l = loads_counting(&two[0][0], 2, 3, 2, &prices); // 42.5 against 45: the slowest
    assert_true(l.rows == 5 + 7 && l.experts == 4 + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_known_prices),    cmocka_unit_test(finds_them_in_noise),
        cmocka_unit_test(does_not_see_held_out), cmocka_unit_test(nothing_is_below_zero),
        cmocka_unit_test(best_is_found),         cmocka_unit_test(dependent_columns),
        cmocka_unit_test(slowest_rank_counts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
