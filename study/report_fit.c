/* What calibrate has fitted, and how well it predicts what the fit has not seen. */
#include <math.h>
#include <string.h>

#include "study/report_state.h"

#define COST(title, key, scale)                                                                    \
    {                                                                                              \
        title, "coefficients/" key, {scale, -3}, COLUMN_NUMBER, true                               \
    }

static const struct column prices[] = {
    COST("us a message", "alpha_s_per_message", 1e6),
    COST("us a lap", "lambda_s_per_lap", 1e6),
    COST("ns a byte out", "beta_out_s_per_byte", 1e9),
    COST("ns a byte back", "beta_back_s_per_byte", 1e9),
    COST("ns a narrowed byte", "nu_s_per_narrowed_byte", 1e9),
    COST("us a lap between work", "sigma_s_per_lap_between_work", 1e6),
    COST("us a row through an expert", "gamma_s_per_row", 1e6),
    COST("us an expert", "gamma_s_per_expert", 1e6),
    COST("at home: us a step", "home_s_per_step", 1e6),
    COST("us a row", "home_s_per_row", 1e6),
    COST("us a row and position", "home_s_per_row_position", 1e6),
    COST("us an output", "home_s_per_output", 1e6),
};
static const struct column goodness[] = {
    {"fitted", "goodness/fitted", {1, 0}, COLUMN_NUMBER, false},
    {"held out", "goodness/held_out", {1, 0}, COLUMN_NUMBER, false},
    {"R2", "goodness/r2", {1, 3}, COLUMN_NUMBER, true},
    {"fitted: median error, %",
     "goodness/fitted_median_relative_error",
     {100, 1},
     COLUMN_NUMBER,
     true},
    {"held out: median error, %",
     "goodness/held_out_median_relative_error",
     {100, 1},
     COLUMN_NUMBER,
     true},
    {"held out: most, %", "goodness/held_out_most_relative_error", {100, 1}, COLUMN_NUMBER, true},
    {"measured twice, %", "goodness/noise_floor", {100, 1}, COLUMN_NUMBER, true},
};
static const struct column settings[] = {
    {"setting", "kind", {1, 0}, COLUMN_TEXT, false},
    {"ranks", "ranks", {1, 0}, COLUMN_NUMBER, true},
    {"rows", "rows", {1, 0}, COLUMN_NUMBER, false},
    {"position", "position", {1, 0}, COLUMN_NUMBER, false},
    {"strategy", "strategy", {1, 0}, COLUMN_TEXT, true},
    {"dedup", "dedup", {1, 0}, COLUMN_TEXT, true},
    {"combine", "combine", {1, 0}, COLUMN_TEXT, true},
    {"wire", "wire", {1, 0}, COLUMN_TEXT, true},
    {"predicted us", "predicted_s", {1e6, 1}, COLUMN_NUMBER, false},
    {"measured us", "measured_s", {1e6, 1}, COLUMN_NUMBER, false},
    {"again us", "again_s", {1e6, 1}, COLUMN_NUMBER, false},
    {"error, %", "relative_error", {100, 1}, COLUMN_NUMBER, false},
};

static bool is_held_out(struct spot setting)
{
    return js_bool(spot_at(setting, "held_out").value);
}

/* Measured and predicted seconds of settings, those that were fitted or those held out. */
static int write_points(struct plot *p, struct spot list, bool held_out)
{
    int n = 0;
    fprintf(p->script, "$%s << END\n", held_out ? "held" : "fitted");
    for (int i = 0; i < spot_count(list); i++) {
        struct spot s = spot_at(list, "%d", i);
        if (is_held_out(s) != held_out)
            continue;
        double measured = spot_number(spot_at(s, "measured_s"));
        double again = spot_number(spot_at(s, "again_s"));
        fprintf(p->script, "%.9g %.9g\n", fmin(measured, again),
                spot_number(spot_at(s, "predicted_s")));
        n++;
    }
    fputs("END\n", p->script);
    return n;
}

static void draw_points(struct spot list)
{
    struct plot p;
    plot_begin(&p, list.report, PLOT_WIDTH, PLOT_HEIGHT + 60);
    fputs("set logscale xy\nset format x '%.0s %cs'\nset format y '%.0s %cs'\n"
          "set xlabel 'measured'\nset ylabel 'predicted'\nset size square\n",
          p.script);
    int fitted = write_points(&p, list, false), held = write_points(&p, list, true);
    fputs("plot x lc rgb '#7a7f87' dt 2 title 'equal'", p.script);
    if (fitted)
        fprintf(p.script, ", $fitted using 1:2 with points pt 7 ps 0.4 lc rgb '%s' title 'fitted'",
                plot_colour(0));
    if (held)
        fprintf(p.script, ", $held using 1:2 with points pt 7 ps 0.7 lc rgb '%s' title 'held out'",
                plot_colour(1));
    fputc('\n', p.script);
    plot_end(&p, "Predicted time against measured time (the lesser of both turns), both on "
                 "logarithmic scales. On the broken line a prediction is right; above it, too "
                 "slow. Points held out were not seen by the fit, so they say what it is worth.");
}

static void write_row(struct spot fit, const struct column *columns, int n, const char *caption)
{
    struct table t = {
        .page = fit.report->page, .region = "calibration", .columns = columns, .n = n};
    table_begin(&t);
    table_row(&t, NULL, fit);
    table_end(&t, caption);
}

static void one_fit(struct spot fit)
{
    FILE *page = fit.report->page;
    struct spot list = spot_at(fit, "settings");
    struct table t = {.page = page,
                      .region = "held out settings",
                      .columns = settings,
                      .n = sizeof settings / sizeof *settings};
    page_heading(fit, "Calibration");
    if (spot_count(list) > 0) {
        fputs("<div class=\"figures\">\n", page);
        draw_points(list);
        fputs("</div>\n", page);
    }
    write_row(fit, goodness, sizeof goodness / sizeof *goodness,
              "How many settings were fitted and held out, and how far predictions are off. "
              "Measured twice: how far the same setting is from itself, below which no prediction "
              "can be judged.");
    write_row(fit, prices, sizeof prices / sizeof *prices, "What each part of a step costs.");
    table_begin(&t);
    for (int i = 0; i < spot_count(list); i++)
        if (is_held_out(spot_at(list, "%d", i)))
            table_row(&t, NULL, spot_at(list, "%d", i));
    table_end(
        &t,
        "The settings that the fit has not seen. lap: an exchange by itself; alone: a step with "
        "all on rank 0; experts: the experts of such a step; step: of all ranks. Error: "
        "predicted less measured, over measured.");
}

void report_fit(struct report *r)
{
    each_of(r, REPORT_FIT, one_fit);
}

/* ---- the fit in the figure of alltoall ---- */

/* Messages back are not counted there: each rank that gives back anything does so in as many
 * messages as went to each rank. */
static double messages_of(struct spot size)
{
    struct spot ranks = spot_at(size, "ranks");
    int sent = 0, received = 0;
    for (int i = 0; i < spot_count(ranks); i++) {
        sent += spot_number(spot_at(ranks, "%d/sent_to", i)) > 0;
        received += spot_number(spot_at(ranks, "%d/received_from", i)) > 0;
    }
    double out = spot_number(spot_at(size, "messages_out"));
    return sent ? out + out * received / sent : out;
}

static double lap_seconds(struct spot prices_of, struct spot size, bool narrow)
{
    static const char *const keys[] = {"lambda_s_per_lap", "alpha_s_per_message",
                                       "beta_out_s_per_byte", "beta_back_s_per_byte",
                                       "nu_s_per_narrowed_byte"};
    double out = spot_number(spot_at(size, "out_bytes"));
    double back = spot_number(spot_at(size, "back_bytes"));
    double counts[] = {1, messages_of(size), out, back, narrow ? out + back : 0}, sum = 0;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        sum += counts[i] * spot_number(spot_at(prices_of, "%s", keys[i]));
    return sum;
}

bool report_fit_laps(struct plot *p, struct spot run)
{
    struct report *r = run.report;
    int i = 0;
    while (i < r->n && r->files[i].kind != REPORT_FIT)
        i++;
    if (i == r->n)
        return false;
    struct spot prices_of = spot_at(spot_root(r, &r->files[i]), "coefficients");
    struct spot sizes = spot_at(run, "sizes");
    bool narrow = strcmp(spot_text(spot_at(run, "wire")), "model") != 0;
    fputs("$fit << END\n", p->script);
    for (int k = 0; k < spot_count(sizes); k++)
        fprintf(p->script, "%.9g %.9g\n", spot_number(spot_at(sizes, "%d/size_bytes", k)),
                lap_seconds(prices_of, spot_at(sizes, "%d", k), narrow));
    fputs("END\n", p->script);
    return true;
}
