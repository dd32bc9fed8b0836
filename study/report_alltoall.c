/* The exchange of a layer by itself: time and bandwidth against the size of a step. */
#include "study/report_state.h"

#define US(title, path)                                                                            \
    {                                                                                              \
        title, path, {1e-3, 2}, COLUMN_NUMBER, false                                               \
    }
#define RATE(title, path)                                                                          \
    {                                                                                              \
        title, path, {1e-9, -3}, COLUMN_NUMBER, false                                              \
    }
#define COUNT(title, path)                                                                         \
    {                                                                                              \
        title, path, {1, 0}, COLUMN_NUMBER, false                                                  \
    }

static const struct column columns[] = {
    COUNT("size, bytes", "size_bytes"),
    COUNT("tokens", "tokens"),
    COUNT("bytes out", "out_bytes"),
    COUNT("bytes back", "back_bytes"),
    US("dispatch us", "dispatch/median_ns"),
    US("p99 us", "dispatch/p99_ns"),
    RATE("GB/s", "dispatch/bytes_per_s"),
    US("combine us", "combine/median_ns"),
    US("p99 us", "combine/p99_ns"),
    RATE("GB/s", "combine/bytes_per_s"),
    US("round trip us", "round_trip/median_ns"),
    US("p99 us", "round_trip/p99_ns"),
    RATE("GB/s", "round_trip/bytes_per_s"),
    COUNT("last rank", "last_rank"),
    {"compared", "checked", {1, 0}, COLUMN_FLAG, false},
};
static const char *const laps[] = {"dispatch", "combine", "round_trip"};
static const char *const titles[] = {"dispatch", "combine", "round trip"};
enum { LAPS = 3 };

/* Lines of size, and the figure `key` of each lap times scale. */
static void write_lines(struct plot *p, struct spot sizes, const char *key, double scale)
{
    fputs("$laps << END\n", p->script);
    for (int i = 0; i < spot_count(sizes); i++) {
        struct spot s = spot_at(sizes, "%d", i);
        fprintf(p->script, "%.9g", spot_number(spot_at(s, "size_bytes")));
        for (int k = 0; k < LAPS; k++)
            fprintf(p->script, " %.9g", scale * spot_number(spot_at(s, "%s/%s", laps[k], key)));
        fputc('\n', p->script);
    }
    fputs("END\n", p->script);
}

static void plot_lines(struct plot *p)
{
    for (int k = 0; k < LAPS; k++)
        fprintf(p->script,
                "%s$laps using 1:%d with linespoints pt 7 ps 0.5 lw 2 lc rgb '%s' "
                "title '%s'",
                k ? ", " : "plot ", k + 2, plot_colour(k), titles[k]);
}

static void draw_times(struct spot run)
{
    struct plot p;
    plot_begin(&p, run.report, PLOT_WIDTH, PLOT_HEIGHT);
    fputs("set logscale xy\nset format x '%.0s %cB'\nset format y '%.0s %cs'\n"
          "set xlabel 'size of a step'\nset ylabel 'time of a lap'\n",
          p.script);
    write_lines(&p, spot_at(run, "sizes"), "median_ns", 1e-9);
    bool fit = report_fit_laps(&p, run);
    plot_lines(&p);
    fprintf(p.script, "%s\n",
            fit ? ", $fit using 1:2 with lines dt 2 lw 1.5 lc rgb '#7a7f87' title 'fit'" : "");
    plot_end(&p, fit ? "Median time against the size of a step, both on logarithmic scales. Where "
                       "a line is flat, messages cost; where it rises as fast as the size, bytes "
                       "do. The broken line is what the calibration predicts of the round trip."
                     : "Median time against the size of a step, both on logarithmic scales. Where "
                       "a line is flat, messages cost; where it rises as fast as the size, bytes "
                       "do. A file of calibrate would add its fit.");
}

static void draw_rates(struct spot run)
{
    struct plot p;
    plot_begin(&p, run.report, PLOT_WIDTH, PLOT_HEIGHT);
    fputs("set logscale x\nset format x '%.0s %cB'\nset yrange [0:*]\n"
          "set xlabel 'size of a step'\nset ylabel 'GB/s'\n",
          p.script);
    write_lines(&p, spot_at(run, "sizes"), "bytes_per_s", 1e-9);
    plot_lines(&p);
    fputc('\n', p.script);
    plot_end(&p, "Bytes that rank 0 sent, received, or both, over the time: its own link's "
                 "bandwidth as the exchange uses it. A round trip adds up both directions.");
}

static void write_settings(struct spot run)
{
    FILE *page = run.report->page;
    static const char *const words[] = {"transport", "isa",   "dtype",   "skew", "placement",
                                        "strategy",  "dedup", "combine", "wire"};
    fputs("<p class=\"how\">", page);
    page_number(spot_at(run, "n_ranks"), (struct unit){1, 0});
    fputs(" ranks, rows of ", page);
    page_number(spot_at(run, "hidden"), (struct unit){1, 0});
    fputs(" values to ", page);
    page_number(spot_at(run, "top_k"), (struct unit){1, 0});
    fputs(" of ", page);
    page_number(spot_at(run, "experts"), (struct unit){1, 0});
    fputs(" experts", page);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        fprintf(page, "; %s ", words[i]);
        page_text(page, spot_text(spot_at(run, "%s", words[i])));
    }
    fputs(".</p>\n", page);
}

static void one_run(struct spot run)
{
    struct report *r = run.report;
    struct spot sizes = spot_at(run, "sizes");
    struct table t = {.page = r->page,
                      .region = "laps by size",
                      .columns = columns,
                      .n = sizeof columns / sizeof *columns};
    page_heading(run, "Laps");
    write_settings(run);
    fputs("<div class=\"figures\">\n", r->page);
    draw_times(run);
    draw_rates(run);
    fputs("</div>\n", r->page);
    table_begin(&t);
    for (int i = 0; i < spot_count(sizes); i++)
        table_row(&t, NULL, spot_at(sizes, "%d", i));
    table_end(&t, "Times are of the slowest rank, medians and 99th percentiles over laps. Dispatch "
                  "and combine are timed in laps with a halt between them, so their sum is more "
                  "than the round trip. Compared: all that arrived was, value by value.");
}

void report_alltoall(struct report *r)
{
    each_of(r, REPORT_ALLTOALL, one_run);
}
