/* What bench has measured, and how much faster more ranks are. */
#include <string.h>

#include "study/report_state.h"

static const struct column columns[] = {
    {"test", "test", {1, 0}, COLUMN_TEXT, false},
    {"sequences", "batch", {1, 0}, COLUMN_NUMBER, false},
    {"ranks", "ranks", {1, 0}, COLUMN_NUMBER, false},
    {"tokens/s", "tokens_per_s/median", {1, 1}, COLUMN_NUMBER, false},
    {"deviation", "tokens_per_s/sd", {1, 1}, COLUMN_NUMBER, false},
    {"times the first", "tokens_per_s/median", {1, 2}, COLUMN_PER, false},
    {"roof, tokens/s", "roof_tokens_per_s", {1, 1}, COLUMN_NUMBER, false},
    {"roof, times the first", "roof_tokens_per_s", {1, 2}, COLUMN_PER, false},
    {"% of roof", "roof_fraction", {100, 0}, COLUMN_NUMBER, false},
    {"roof is of", "bound", {1, 0}, COLUMN_TEXT, false},
    {"TTFT ms", "ttft_s", {1e3, 2}, COLUMN_NUMBER, true},
    {"TPOT ms", "tpot_s", {1e3, 2}, COLUMN_NUMBER, true},
    {"wire bytes a token", "wire_bytes_per_token", {1, 0}, COLUMN_NUMBER, false},
    {"exposed ms", "exposed_s", {1e3, 2}, COLUMN_NUMBER, false},
    {"hidden ms", "hidden_s", {1e3, 2}, COLUMN_NUMBER, false},
};

/* The runs of a file: of a list each item, else the file itself. */
static int count_runs(struct spot file)
{
    return js_is_array(file.value) ? spot_count(file) : 1;
}

static struct spot run_at(struct spot file, int i)
{
    return js_is_array(file.value) ? spot_at(file, "%d", i) : file;
}

static bool is_same(struct spot a, struct spot b)
{
    return strcmp(spot_text(spot_at(a, "test")), spot_text(spot_at(b, "test"))) == 0 &&
           spot_number(spot_at(a, "batch")) == spot_number(spot_at(b, "batch"));
}

/* A test's result in a run; its value is NULL if the run has not done the test. */
static struct spot result_of(struct spot run, struct spot test)
{
    struct spot results = spot_at(run, "results");
    for (int i = 0; i < spot_count(results); i++)
        if (is_same(spot_at(results, "%d", i), test))
            return spot_at(results, "%d", i);
    return (struct spot){.report = run.report, .file = run.file};
}

/* ranks, times as fast as the first run, the roof likewise. */
static void write_lines(struct plot *p, struct spot file, struct spot test, int number)
{
    double first = spot_number(spot_at(test, "tokens_per_s/median"));
    fprintf(p->script, "$test%d << END\n", number);
    for (int i = 0; i < count_runs(file); i++) {
        struct spot result = result_of(run_at(file, i), test);
        if (result.value && first > 0)
            fprintf(p->script, "%.9g %.9g %.9g\n", spot_number(spot_at(result, "ranks")),
                    spot_number(spot_at(result, "tokens_per_s/median")) / first,
                    spot_number(spot_at(result, "roof_tokens_per_s")) / first);
    }
    fputs("END\n", p->script);
}

static void draw_speed_up(struct spot file)
{
    struct plot p;
    struct spot tests = spot_at(run_at(file, 0), "results");
    int n = spot_count(tests);
    plot_begin(&p, file.report, PLOT_WIDTH, PLOT_HEIGHT + 20 * n);
    fputs("set xlabel 'ranks'\nset ylabel 'times as fast as the first run'\nset yrange [0:*]\n"
          "set xtics 1\nset key maxcols 2\n",
          p.script);
    for (int i = 0; i < n; i++)
        write_lines(&p, file, spot_at(tests, "%d", i), i);
    for (int i = 0; i < n; i++) {
        struct spot test = spot_at(tests, "%d", i);
        char title[96], roof[120];
        const char *name = spot_text(spot_at(test, "test"));
        snprintf(title, sizeof title, "%.*s, batch %.0f", plot_room(name), name,
                 spot_number(spot_at(test, "batch")));
        snprintf(roof, sizeof roof, "%s: its roof", title);
        fprintf(p.script,
                "%s$test%d using 1:2 with linespoints pt 7 ps 0.5 lw 2 lc rgb '%s' title ",
                i ? ", " : "plot ", i, plot_colour(i));
        plot_text(p.script, title);
        fprintf(p.script, ", $test%d using 1:3 with lines dt 2 lw 1.5 lc rgb '%s' title ", i,
                plot_colour(i));
        plot_text(p.script, roof);
    }
    fputc('\n', p.script);
    plot_end(&p, "Tokens a second over those of the first run, against ranks. The broken line of "
                 "the same colour is its bound: the roof that bench measured in each run, what the "
                 "arithmetic or the memory of rank 0's host allows, whichever is less. Ranks that "
                 "share one host share its roof; hosts beside it are not in it.");
}

static void write_results(struct spot file)
{
    struct spot first = spot_at(run_at(file, 0), "results");
    struct table t = {.page = file.report->page,
                      .region = "speed",
                      .columns = columns,
                      .n = sizeof columns / sizeof *columns};
    table_begin(&t);
    for (int test = 0; test < spot_count(first); test++)
        for (int i = 0; i < count_runs(file); i++) {
            struct spot one = spot_at(first, "%d", test), result = result_of(run_at(file, i), one);
            t.per = spot_at(one, "tokens_per_s/median");
            if (result.value)
                table_row(&t, NULL, result);
        }
    table_end(&t, "Medians over repetitions. pp: tokens of the prompt, TTFT the time to the first "
                  "token; tg: generated tokens, TPOT the time of one. Exposed and hidden: of the "
                  "last repetition, the time that rows were away while rank 0 waited, or worked.");
}

void report_speed(struct report *r)
{
    for (int i = 0; i < r->n; i++) {
        struct spot file = spot_root(r, &r->files[i]);
        if (r->files[i].kind != REPORT_BENCH)
            continue;
        page_heading(file, "Speed");
        if (count_runs(file) > 1) {
            fputs("<div class=\"figures\">\n", r->page);
            draw_speed_up(file);
            fputs("</div>\n", r->page);
        }
        write_results(file);
    }
}
