#include "study/cost.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "model/config.h"
#include "study/quantile.h"

static const char *const keys[COSTS] = {
    "alpha_s_per_message",  "lambda_s_per_lap",        "beta_out_s_per_byte",
    "beta_back_s_per_byte", "nu_s_per_narrowed_byte",  "sigma_s_per_lap_between_work",
    "gamma_s_per_row",      "gamma_s_per_expert",      "home_s_per_step",
    "home_s_per_row",       "home_s_per_row_position", "home_s_per_output"};

const char *cost_key(enum cost c)
{
    return keys[c];
}

const char *setting_kind_name(enum setting_kind k)
{
    static const char *const names[SETTING_KINDS] = {"lap", "experts", "alone", "step"};
    return names[k];
}

/* ---- which rank counts ---- */

void loads_add(struct load *loads, const struct traffic *t, const int32_t *rank_of, int experts)
{
    int32_t rows[MAX_EXPERTS] = {0};
    for (int i = 0; i < t->n * t->k; i++)
        rows[t->expert[i]]++;
    for (int e = 0; e < experts; e++) {
        struct load *l = &loads[rank_of ? rank_of[e] : 0];
        l->rows += rows[e];
        l->experts += rows[e] > 0;
    }
}

static struct load layer_counting(const struct load *loads, int ranks, int at_once,
                                  const struct costs *prices)
{
    struct load slowest = {0, 0}, all = {0, 0};
    for (int r = 0; r < ranks; r++) {
        all.rows += loads[r].rows;
        all.experts += loads[r].experts;
        if (load_time(&loads[r], prices) >= load_time(&slowest, prices))
            slowest = loads[r];
    }
    if (at_once == 0)
        return slowest;
    all.rows /= at_once;
    all.experts /= at_once;
    return load_time(&all, prices) > load_time(&slowest, prices) ? all : slowest;
}

struct load loads_counting(const struct load *loads, int layers, int ranks, int at_once,
                           const struct costs *prices)
{
    struct load sum = {0, 0};
    for (int l = 0; l < layers; l++) {
        struct load one = layer_counting(loads + (size_t)l * (size_t)ranks, ranks, at_once, prices);
        sum.rows += one.rows;
        sum.experts += one.experts;
    }
    return sum;
}

struct costs setting_counts(const struct setting *s, const struct costs *prices)
{
    struct costs counts = s->counted;
    if (s->loads) {
        struct load l = loads_counting(s->loads, s->layers, s->ranks, s->at_once, prices);
        counts.of[COST_ROW] += l.rows;
        counts.of[COST_EXPERT] += l.experts;
    }
    return counts;
}

/* ---- least squares with no value below 0 ---- */

/* z := the solution of the equations of the columns that are free, in place by elimination with
 * pivots; the other values are 0. A column that depends on the others gets 0. */
static void solve_free(double *z, const double *ata, const double *atb, const bool *is_free, int n)
{
    double m[COSTS][COSTS + 1];
    int at[COSTS], k = 0;
    for (int i = 0; i < n; i++) {
        z[i] = 0;
        if (is_free[i])
            at[k++] = i;
    }
    for (int i = 0; i < k; i++) {
        for (int j = 0; j < k; j++)
            m[i][j] = ata[at[i] * n + at[j]];
        m[i][k] = atb[at[i]];
    }
    for (int i = 0; i < k; i++) { // the matrix is symmetric and positive: the diagonal will do
        bool depends = m[i][i] <= 1e-13 * ata[at[i] * n + at[i]];
        for (int j = 0; j < k; j++) {
            double factor = j == i || depends ? 0 : m[j][i] / m[i][i];
            for (int c = i; c <= k && factor != 0; c++)
                m[j][c] -= factor * m[i][c];
        }
        if (depends)
            m[i][k] = 0;
    }
    for (int i = 0; i < k; i++)
        z[at[i]] = m[i][i] > 0 ? m[i][k] / m[i][i] : 0;
}

/* The column whose value wants to grow most, by its own scale; -1: none does. */
static int next_free(const double *x, const double *ata, const double *atb, const bool *is_free,
                     int n)
{
    int best = -1;
    double most = 1e-9;
    for (int i = 0; i < n; i++) {
        double slope = atb[i];
        for (int j = 0; j < n; j++)
            slope -= ata[i * n + j] * x[j];
        if (ata[i * n + i] > 0)
            slope /= sqrt(ata[i * n + i]);
        if (!is_free[i] && ata[i * n + i] > 0 && slope > most) {
            most = slope;
            best = i;
        }
    }
    return best;
}

/* Go from x towards z until the first free value would fall below 0, which is no longer free; true
 * if there was one. */
static bool stop_at_zero(double *x, const double *z, bool *is_free, int n)
{
    double step = 1;
    int first = -1;
    for (int i = 0; i < n; i++)
        if (is_free[i] && z[i] <= 0 && x[i] - z[i] > 0 && x[i] / (x[i] - z[i]) <= step) {
            step = x[i] / (x[i] - z[i]);
            first = i;
        } else if (is_free[i] && z[i] <= 0 && x[i] <= 0) {
            step = 0;
            first = i;
        }
    for (int i = 0; i < n; i++)
        if (is_free[i])
            x[i] += step * (z[i] - x[i]);
    if (first < 0)
        return false;
    x[first] = 0;
    is_free[first] = false;
    return true;
}

void least_squares(double *x, const double *ata, const double *atb, int n)
{
    bool is_free[COSTS] = {false};
    double z[COSTS];
    CHECK(n <= COSTS, "%d unknowns, room for %d", n, COSTS);
    memset(x, 0, (size_t)n * sizeof *x);
    for (int round = 0; round < 3 * COSTS; round++) {
        int i = next_free(x, ata, atb, is_free, n);
        if (i < 0)
            return;
        is_free[i] = true;
        do
            solve_free(z, ata, atb, is_free, n);
        while (stop_at_zero(x, z, is_free, n));
    }
}

/* ---- prices ---- */

/* What an error is held against: the mean of the logarithms of the measured time and of what was
 * predicted before, so that twice too much and half of it weigh the same; at most 4 times off the
 * measured one. */
static double weigh(const struct setting *s, const struct costs *counts, const struct costs *prices)
{
    double t = setting_seconds(s), ratio = costs_time(counts, prices) / t;
    return t * sqrt(fmin(fmax(ratio, 1.0 / 16), 16));
}

/* One setting's equation, over `against`; columns are scaled so that bytes and steps are of one
 * size. */
static void add_equation(double *ata, double *atb, const struct costs *counts, double seconds,
                         double against, const double *scale)
{
    double a[COSTS];
    for (int i = 0; i < COSTS; i++)
        a[i] = counts->of[i] * scale[i] / against;
    for (int i = 0; i < COSTS; i++) {
        for (int j = 0; j < COSTS; j++)
            ata[i * COSTS + j] += a[i] * a[j];
        atb[i] += a[i] * seconds / against;
    }
}

static bool counts_for(const struct setting *s, bool with_steps)
{
    return !s->held_out && (with_steps || s->kind != SETTING_STEP) && setting_seconds(s) > 0;
}

/* scale := 1 over each column's largest share of a second's work. */
static void scale_columns(double *scale, const struct setting *settings, int n,
                          const struct costs *prices, bool with_steps)
{
    double most[COSTS] = {0};
    for (int i = 0; i < n; i++) {
        struct costs counts = setting_counts(&settings[i], prices);
        for (int c = 0; c < COSTS && counts_for(&settings[i], with_steps); c++)
            most[c] = fmax(most[c], counts.of[c] / setting_seconds(&settings[i]));
    }
    for (int c = 0; c < COSTS; c++)
        scale[c] = most[c] > 0 ? 1 / most[c] : 0;
}

static void fit_once(struct costs *prices, const struct setting *settings, int n, bool with_steps)
{
    double ata[COSTS * COSTS] = {0}, atb[COSTS] = {0}, scale[COSTS];
    scale_columns(scale, settings, n, prices, with_steps);
    for (int i = 0; i < n; i++) {
        struct costs counts = setting_counts(&settings[i], prices);
        if (counts_for(&settings[i], with_steps))
            add_equation(ata, atb, &counts, setting_seconds(&settings[i]),
                         weigh(&settings[i], &counts, prices), scale);
    }
    least_squares(prices->of, ata, atb, COSTS);
    for (int c = 0; c < COSTS; c++)
        prices->of[c] *= scale[c];
}

/* Which rank of a step is the slowest depends on the prices: they come from all else first, then
 * from everything, a few times over. */
void cost_fit(struct costs *prices, struct setting *settings, int n)
{
    enum { ROUNDS = 6 };
    *prices = (struct costs){{0}};
    for (int i = 0; i < ROUNDS; i++)
        fit_once(prices, settings, n, false);
    for (int i = 0; i < ROUNDS; i++)
        fit_once(prices, settings, n, true);
    cost_predict(settings, n, prices);
}

void cost_predict(struct setting *settings, int n, const struct costs *prices)
{
    for (int i = 0; i < n; i++) {
        struct costs counts = setting_counts(&settings[i], prices);
        settings[i].predicted = costs_time(&counts, prices);
    }
}

/* ---- how good they are ---- */

static double median_or_zero(double *values, int n)
{
    return n ? median(values, n) : 0;
}

/* Of the best single constant c with relative errors (c - t) / t. */
static double squares_of_constant(const struct setting *settings, int n)
{
    double one = 0, two = 0, squares = 0;
    for (int i = 0; i < n; i++) {
        double t = setting_seconds(&settings[i]);
        one += settings[i].held_out ? 0 : 1 / t;
        two += settings[i].held_out ? 0 : 1 / (t * t);
    }
    double constant = two > 0 ? one / two : 0;
    for (int i = 0; i < n; i++)
        squares += settings[i].held_out ? 0 : pow(constant / setting_seconds(&settings[i]) - 1, 2);
    return squares;
}

struct goodness goodness_of(const struct setting *settings, int n)
{
    struct goodness g = {0};
    double *errors[2], *noise = calloc((size_t)n + 1, sizeof *noise), squares = 0;
    errors[0] = calloc((size_t)n + 1, sizeof **errors);
    errors[1] = calloc((size_t)n + 1, sizeof **errors);
    CHECK_MEMORY(noise && errors[0] && errors[1], "no memory for %d errors", n);
    for (int i = 0; i < n; i++) {
        const struct setting *s = &settings[i];
        double error = fabs(setting_error(s));
        errors[s->held_out][s->held_out ? g.held_out++ : g.fitted++] = error;
        squares += s->held_out ? 0 : error * error;
        g.held_out_most = s->held_out && error > g.held_out_most ? error : g.held_out_most;
        noise[i] = 2 * fabs(s->measured - s->again) / (s->measured + s->again);
    }
    double constant = squares_of_constant(settings, n);
    g.r2 = constant > 0 ? 1 - squares / constant : 0;
    g.fitted_median = median_or_zero(errors[0], g.fitted);
    g.held_out_median = median_or_zero(errors[1], g.held_out);
    g.noise = median_or_zero(noise, n);
    free(errors[0]);
    free(errors[1]);
    free(noise);
    return g;
}
