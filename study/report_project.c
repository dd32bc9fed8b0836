/* What project predicts of other numbers of ranks. */
#include <string.h>

#include "study/report_state.h"

#define MS(title, path)                                                                            \
    {                                                                                              \
        title, path, {1e3, 3}, COLUMN_NUMBER, false                                                \
    }

static const struct column columns[] = {
    {"ranks", "ranks", {1, 0}, COLUMN_NUMBER, false},
    {"workers", "workers", {1, 0}, COLUMN_NUMBER, false},
    {"with experts", "workers_with_experts", {1, 0}, COLUMN_NUMBER, false},
    {"rows a step", "rows", {1, 1}, COLUMN_NUMBER, false},
    {"placement", "placement", {1, 0}, COLUMN_TEXT, false},
    MS("alone ms", "alone_s"),
    MS("step ms", "best/step_s"),
    MS("home ms", "best/home_s"),
    MS("experts ms", "best/experts_s"),
    MS("exchange ms", "best/exchange_s"),
    MS("exposed: experts ms", "best/experts_exposed_s"),
    MS("exposed: exchange ms", "best/exchange_exposed_s"),
    {"exchange, %", "best/exchange_share", {100, 1}, COLUMN_NUMBER, false},
    {"times as fast", "best/speed_up", {1, 2}, COLUMN_NUMBER, false},
    {"best way", "best/strategy", {1, 0}, COLUMN_TEXT, false},
    {"dedup", "best/dedup", {1, 0}, COLUMN_TEXT, false},
    {"overlap", "best/overlap", {1, 0}, COLUMN_TEXT, false},
    {"bytes out", "best/out_bytes", {1, 0}, COLUMN_NUMBER, false},
    {"bytes back", "best/back_bytes", {1, 0}, COLUMN_NUMBER, false},
    {"of all ways: times as fast", "best_of_all/speed_up", {1, 2}, COLUMN_NUMBER, false},
    {"combine", "best_of_all/combine", {1, 0}, COLUMN_TEXT, false},
    {"wire", "best_of_all/wire", {1, 0}, COLUMN_TEXT, false},
    {"overlap", "best_of_all/overlap", {1, 0}, COLUMN_TEXT, false},
};

static bool is_kind(struct spot entry, const char *kind)
{
    return strcmp(spot_text(spot_at(entry, "kind")), kind) == 0;
}

static int count_of(struct spot list, const char *kind)
{
    int n = 0;
    for (int i = 0; i < spot_count(list); i++)
        n += is_kind(spot_at(list, "%d", i), kind);
    return n;
}

/* ranks, then the values at the paths. */
static void write_lines(struct plot *p, struct spot list, const char *kind,
                        const char *const *paths, int n)
{
    fputs("$many << END\n", p->script);
    for (int i = 0; i < spot_count(list); i++) {
        struct spot entry = spot_at(list, "%d", i);
        if (!is_kind(entry, kind))
            continue;
        fprintf(p->script, "%.9g", spot_number(spot_at(entry, "ranks")));
        for (int k = 0; k < n; k++)
            fprintf(p->script, " %.9g", spot_number(spot_at(entry, "%s", paths[k])));
        fputc('\n', p->script);
    }
    fputs("END\n", p->script);
}

static void draw_steps(struct spot list, int k)
{
    static const char *const paths[] = {"best/home_s", "best/experts_exposed_s",
                                        "best/exchange_exposed_s"};
    struct plot p;
    char caption[400];
    plot_begin(&p, list.report, PLOT_WIDTH, PLOT_HEIGHT);
    fputs("set style data histograms\nset style histogram rowstacked\nset boxwidth 0.8\n"
          "set xlabel 'ranks'\nset ylabel 'ms a step'\nset yrange [0:*]\n",
          p.script);
    write_lines(&p, list, report_steps[k], paths, 3);
    fprintf(p.script,
            "plot $many using ($2*1e3):xtic(1) lc rgb '%s' title 'home', "
            "'' using ($3*1e3) lc rgb '%s' title 'experts', "
            "'' using ($4*1e3) lc rgb '%s' title 'exchange'\n",
            plot_colour(0), plot_colour(2), plot_colour(6));
    snprintf(
        caption, sizeof caption,
        "%s: a mean step's time by ranks: what rank 0 does itself, and what of the slowest ranks' "
        "experts and of the exchange is not hidden behind the other half of the step. Where the "
        "exchange grows faster than the experts' part shrinks, more ranks are no use.",
        report_titles[k]);
    plot_end(&p, caption);
}

static void draw_speed_up(struct spot list, int k)
{
    static const char *const paths[] = {"best/speed_up", "best_of_all/speed_up"};
    struct plot p;
    char caption[300];
    plot_begin(&p, list.report, PLOT_WIDTH, PLOT_HEIGHT);
    fputs("set logscale x 2\nset xlabel 'ranks'\nset ylabel 'times as fast as one rank'\n"
          "set yrange [0:*]\n",
          p.script);
    write_lines(&p, list, report_steps[k], paths, 2);
    fprintf(p.script,
            "plot 1 lc rgb '#7a7f87' dt 2 title 'one rank', "
            "$many using 1:2 with linespoints pt 7 ps 0.5 lw 2 lc rgb '%s' title 'same results', "
            "$many using 1:3 with linespoints pt 7 ps 0.5 lw 2 dt 3 lc rgb '%s' title 'any way'\n",
            plot_colour(0), plot_colour(1));
    snprintf(caption, sizeof caption,
             "%s: how many times as fast as one rank with everything, by the best way that changes "
             "no result, and by the best of all ways. Below the broken line ranks slow it down.",
             report_titles[k]);
    plot_end(&p, caption);
}

/* The words of a list, if there are any. */
static void write_extrapolated(struct spot entry)
{
    struct spot list = spot_find(entry, "extrapolated");
    FILE *page = entry.report->page;
    if (!list.value || js_is_null(list.value) || spot_count(list) == 0)
        return;
    fputs("<li>", page);
    page_number(spot_at(entry, "ranks"), (struct unit){1, 0});
    fputs(" ranks:", page);
    for (int i = 0; i < spot_count(list); i++) {
        fputs(i ? ", " : " ", page);
        page_text(page, spot_text(spot_at(list, "%d", i)));
    }
    fputs("</li>\n", page);
}

static void one_kind(struct spot list, int k)
{
    const char *kind = report_steps[k];
    FILE *page = list.report->page;
    struct table t = {
        .page = page, .region = kind, .columns = columns, .n = sizeof columns / sizeof *columns};
    fputs("<div class=\"figures\">\n", page);
    draw_steps(list, k);
    draw_speed_up(list, k);
    fputs("</div>\n", page);
    table_begin(&t);
    for (int i = 0; i < spot_count(list); i++)
        if (is_kind(spot_at(list, "%d", i), kind))
            table_row(&t, NULL, spot_at(list, "%d", i));
    table_end(&t, NULL);
    fprintf(page,
            "<p class=\"how\">%s, a mean step. Outside of what was calibrated:</p>\n<ul "
            "class=\"how\">\n",
            report_titles[k]);
    for (int i = 0; i < spot_count(list); i++)
        if (is_kind(spot_at(list, "%d", i), kind))
            write_extrapolated(spot_at(list, "%d", i));
    fputs("</ul>\n", page);
}

static void write_origin(struct spot run)
{
    static const char *const words[][2] = {
        {"experts", "experts_time"}, {"home", "home_time"}, {"exchange", "exchange_time"}};
    FILE *page = run.report->page;
    fputs("<p>Bytes, messages, rows and experts are counted, the wire's time is modelled.", page);
    for (int i = 0; i < 3; i++) {
        fprintf(page, " Time of %s: by ", words[i][0]);
        page_text(page, spot_text(spot_at(run, "%s", words[i][1])));
        fputc('.', page);
    }
    struct spot error = spot_find(run, "relative_error");
    if (error.value && !js_is_null(error.value)) {
        fputs(" The fit is off by ", page);
        page_number(error, (struct unit){100, 1});
        fputs(" % where it could be tried.", page);
    }
    fputs("</p>\n", page);
}

static void one_run(struct spot run)
{
    struct spot list = spot_at(run, "projections");
    page_heading(run, "Projection");
    write_origin(run);
    for (int k = 0; k < REPORT_STEPS; k++)
        if (count_of(list, report_steps[k]))
            one_kind(list, k);
}

void report_project(struct report *r)
{
    each_of(r, REPORT_PROJECT, one_run);
}
