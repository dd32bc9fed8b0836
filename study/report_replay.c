/* All ways that rows can travel, on the same recorded rows. */
#include <math.h>
#include <string.h>

#include "study/report_state.h"

#define BYTES(title, path)                                                                         \
    {                                                                                              \
        title, path, {1, 0}, COLUMN_PER, false                                                     \
    }

static const struct column words[] = {{"strategy", "strategy", {1, 0}, COLUMN_TEXT, false},
                                      {"dedup", "dedup", {1, 0}, COLUMN_TEXT, false},
                                      {"combine", "combine", {1, 0}, COLUMN_TEXT, false},
                                      {"wire", "wire", {1, 0}, COLUMN_TEXT, false}};
static const struct column sums[] = {BYTES("bytes out a step", "out_bytes"),
                                     BYTES("bytes back", "back_bytes"),
                                     {"messages out", "messages_out", {1, 1}, COLUMN_PER, false},
                                     BYTES("logical bytes", "logical_bytes"),
                                     {"us a step", "ns_per_step", {1e-3, 1}, COLUMN_NUMBER, false}};
static const struct column errors[] = {
    {"combine", "combine", {1, 0}, COLUMN_TEXT, false},
    {"wire", "wire", {1, 0}, COLUMN_TEXT, false},
    {"KL mean", "kl_mean", {1, -3}, COLUMN_NUMBER, false},
    {"KL most", "kl_most", {1, -3}, COLUMN_NUMBER, false},
    {"same best, %", "same_best", {100, 2}, COLUMN_PER, false},
    {"most |delta|", "delta_most", {1, -3}, COLUMN_NUMBER, false},
    {"RMS of rows", "rows_rms", {1, -3}, COLUMN_NUMBER, false},
};
enum { WORDS = 4, SUMS = 5, COLUMNS = WORDS + SUMS };

static bool is_on(struct spot way, const char *key, const char *word)
{
    return strcmp(spot_text(spot_at(way, "%s", key)), word) == 0;
}

/* "exact, dedup, sum, int8" at a place on the vertical axis. */
static void write_label(struct plot *p, struct spot way, int place)
{
    char text[160];
    const char *strategy = spot_text(spot_at(way, "strategy"));
    const char *combine = spot_text(spot_at(way, "combine"));
    const char *wire = spot_text(spot_at(way, "wire"));
    snprintf(text, sizeof text, "%.*s%s, %.*s, %.*s", plot_room(strategy), strategy,
             is_on(way, "dedup", "on") ? ", dedup" : "", plot_room(combine), combine,
             plot_room(wire), wire);
    fputs(place ? ", " : "set ytics (", p->script);
    plot_text(p->script, text);
    fprintf(p->script, " %d", place);
}

/* A round distance between the marks of an axis that ends at `most`: three to five marks. */
static double distance(double most)
{
    double power = most > 0 ? pow(10, floor(log10(most))) : 1, times = most / power;
    return power * (times > 4 ? 2 : times > 2 ? 1 : 0.5);
}

static void draw_ways(struct spot ways, int k)
{
    struct plot p;
    char caption[256];
    const char *kind = report_steps[k];
    int n = spot_count(ways);
    double most = 0;
    plot_begin(&p, ways.report, PLOT_WIDTH, 90 + 17 * n);
    for (int i = 0; i < n; i++)
        write_label(&p, spot_at(ways, "%d", i), i);
    fputs(") nomirror\n$bars << END\n", p.script);
    for (int i = 0; i < n; i++) {
        double us = 1e-3 * spot_number(spot_at(ways, "%d/%s/ns_per_step", i, kind));
        fprintf(p.script, "%.9g %d\n", us, i);
        most = us > most ? us : most;
    }
    fprintf(p.script,
            "END\nset yrange [%g:-0.6]\nset xrange [0:*]\nset xlabel 'us a step'\n"
            "set grid noytics xtics lc rgb '#7a7f87' lw 0.4\nset xtics %g\nunset key\n"
            "set lmargin at screen 0.45\n",
            n - 0.4, distance(most));
    fprintf(p.script,
            "plot $bars using ($1/2):2:(0):1:($2-0.36):($2+0.36) with boxxyerror "
            "lc rgb '%s' notitle\n",
            plot_colour(k));
    snprintf(caption, sizeof caption,
             "%s: the exchange's time of a step, all layers, by each way; shorter is better. "
             "Experts compute nothing here.",
             report_titles[k]);
    plot_end(&p, caption);
}

static void write_ways(struct spot ways, struct spot steps, int k)
{
    struct report *r = ways.report;
    const char *kind = report_steps[k];
    struct column columns[COLUMNS];
    memcpy(columns, words, sizeof words);
    for (int i = 0; i < SUMS; i++) {
        char *path = arena_alloc(&r->memory, 64);
        snprintf(path, 64, "%s/%s", kind, sums[i].path);
        columns[WORDS + i] = sums[i];
        columns[WORDS + i].path = path;
    }
    struct table t = {r->page, NULL, kind, columns, COLUMNS, steps};
    table_begin(&t);
    for (int i = 0; i < spot_count(ways); i++)
        table_row(&t, NULL, spot_at(ways, "%d", i));
    table_end(&t, NULL);
    fprintf(r->page, "<p class=\"how\">%s, a step, all layers together; steps: ", report_titles[k]);
    page_number(steps, (struct unit){1, 0});
    fputs(". Logical: a row of the model's type out and back for each row and expert; the "
          "other bytes are what travelled.</p>\n",
          r->page);
}

static void write_errors(struct spot run)
{
    struct spot ways = spot_find(run, "errors/ways");
    if (!ways.value)
        return;
    struct table t = {run.report->page,
                      NULL,
                      "errors of the logits",
                      errors,
                      sizeof errors / sizeof *errors,
                      spot_at(run, "errors/rows")};
    table_begin(&t);
    for (int i = 0; i < spot_count(ways); i++)
        table_row(&t, NULL, spot_at(ways, "%d", i));
    table_end(&t, "What a narrower wire does to the logits, beside those by rows on the model's "
                  "own wire. KL in nats; same best: rows whose most probable token stays.");
}

static void one_run(struct spot run)
{
    FILE *page = run.report->page;
    struct spot ways = spot_at(run, "ways");
    page_heading(run, "Replay");
    fputs("<div class=\"figures\">\n", page);
    for (int k = 0; k < REPORT_STEPS; k++)
        if (spot_number(spot_at(run, "steps/%s/steps", report_steps[k])) > 0)
            draw_ways(ways, k);
    fputs("</div>\n", page);
    for (int k = 0; k < REPORT_STEPS; k++) {
        struct spot steps = spot_at(run, "steps/%s/steps", report_steps[k]);
        if (spot_number(steps) > 0)
            write_ways(ways, steps, k);
    }
    write_errors(run);
}

void report_replay(struct report *r)
{
    each_of(r, REPORT_REPLAY, one_run);
}
