/* How evenly ranks are loaded: rows and activated experts of each, from profiles and from place. */
#include "study/report_state.h"

/* Where the loads of a layer's ranks stand: BEFORE/rank/AFTER, and the busiest over the mean. */
struct load {
    const char *title, *before, *after, *ratio;
};
static const struct load measured[] = {{"rows", "ranks/", "/rows", "max_over_mean/rows"},
                                       {"experts", "ranks/", "/experts", "max_over_mean/experts"}};

/* The columns of a table of loads: one for each rank, then the ratio. */
static struct column *rank_columns(struct report *r, const struct load *load, int ranks, bool per)
{
    enum { TITLE = 24, PATH = 64 };
    struct column *columns = arena_alloc(&r->memory, (size_t)(ranks + 1) * sizeof *columns);
    for (int rank = 0; rank < ranks; rank++) {
        char *title = arena_alloc(&r->memory, TITLE), *path = arena_alloc(&r->memory, PATH);
        snprintf(title, TITLE, "rank %d", rank);
        snprintf(path, PATH, "%s%d%s", load->before, rank, load->after);
        columns[rank] =
            (struct column){title, path, {1, per ? 1 : 0}, per ? COLUMN_PER : COLUMN_NUMBER, false};
    }
    columns[ranks] = (struct column){"max/mean", load->ratio, {1, 2}, COLUMN_NUMBER, false};
    return columns;
}

/* A table of layers by ranks; per: divide loads by this number of steps, if there is one. */
static void write_loads(struct spot layers, const struct load *load, int ranks, struct spot per,
                        const char *what)
{
    struct report *r = layers.report;
    char row[16];
    struct table t = {.page = r->page,
                      .label = "layer",
                      .region = load->title,
                      .columns = rank_columns(r, load, ranks, per.value),
                      .n = ranks + 1,
                      .per = per};
    table_begin(&t);
    for (int l = 0; l < spot_count(layers); l++) {
        snprintf(row, sizeof row, "%d", l);
        table_row(&t, row, spot_at(layers, "%d", l));
    }
    table_end(&t, NULL);
    fprintf(r->page,
            "<p class=\"how\">%s: %s of each rank%s. max/mean: the busiest rank's over "
            "the mean of those that hold experts, step by step; 1 is even.</p>\n",
            what, load->title, per.value ? ", a mean step" : "");
}

/* A bar for each rank, in which layers are stacked. */
static void draw_loads(struct spot layers, const struct load *load, int ranks, double steps,
                       const char *what)
{
    struct plot p;
    char caption[300];
    int n = spot_count(layers);
    plot_begin(&p, layers.report, PLOT_WIDTH, 300);
    fprintf(p.script,
            "set style data histograms\nset style histogram rowstacked\nset boxwidth 0.8\n"
            "set xlabel 'rank'\nset ylabel '%s a step'\nset yrange [0:*]\nunset key\n"
            "$bars << END\n",
            load->title);
    for (int rank = 0; rank < ranks; rank++) {
        fprintf(p.script, "%d", rank);
        for (int l = 0; l < n; l++)
            fprintf(p.script, " %.9g",
                    spot_number(spot_at(layers, "%d/%s%d%s", l, load->before, rank, load->after)) /
                        steps);
        fputc('\n', p.script);
    }
    fprintf(p.script,
            "END\nplot for [i=2:%d] $bars using i:xtic(int($1)%%%d==0?strcol(1):'') "
            "lc rgb (i%%2 ? '#8fb8ee' : '#3b7dd8') notitle\n",
            n + 1, 1 + ranks / 16);
    snprintf(caption, sizeof caption,
             "%s, %s: a bar is a rank, its bands the layers from below. Bars of one height are not "
             "enough: in each layer the busiest rank makes the others wait.",
             what, load->title);
    plot_end(&p, caption);
}

static void one_profile(struct spot profile)
{
    struct report *r = profile.report;
    if (spot_number(spot_at(profile, "ranks")) < 2)
        return;
    page_heading(profile, "Measured");
    for (int k = 0; k < REPORT_STEPS; k++) {
        struct spot layers = spot_at(profile, "%s/layers", report_steps[k]);
        struct spot steps = spot_at(profile, "%s/steps", report_steps[k]);
        if (!(spot_number(steps) > 0))
            continue;
        int ranks = spot_count(spot_at(layers, "0/ranks"));
        fputs("<div class=\"figures\">\n", r->page);
        for (int i = 0; i < 2; i++)
            draw_loads(layers, &measured[i], ranks, spot_number(steps), report_titles[k]);
        fputs("</div>\n", r->page);
        for (int i = 0; i < 2; i++)
            write_loads(layers, &measured[i], ranks, steps, report_titles[k]);
    }
}

/* ---- what place predicts ---- */

static const struct column predicted[] = {
    {"decode, experts: even", "even/decode/experts_over_mean", {1, 2}, COLUMN_NUMBER, false},
    {"placed", "placed/decode/experts_over_mean", {1, 2}, COLUMN_NUMBER, false},
    {"decode, rows: even", "even/decode/rows_over_mean", {1, 2}, COLUMN_NUMBER, false},
    {"placed", "placed/decode/rows_over_mean", {1, 2}, COLUMN_NUMBER, false},
    {"prefill, experts: even", "even/prefill/experts_over_mean", {1, 2}, COLUMN_NUMBER, false},
    {"placed", "placed/prefill/experts_over_mean", {1, 2}, COLUMN_NUMBER, false},
    {"prefill, rows: even", "even/prefill/rows_over_mean", {1, 2}, COLUMN_NUMBER, false},
    {"placed", "placed/prefill/rows_over_mean", {1, 2}, COLUMN_NUMBER, false},
};

static void draw_ratio(struct spot layers, int column, const char *what)
{
    struct plot p;
    char caption[256];
    int n = spot_count(layers);
    plot_begin(&p, layers.report, PLOT_WIDTH, 300);
    fprintf(p.script, "set style data histograms\nset style histogram clustered gap 1\n"
                      "set xlabel 'layer'\nset ylabel 'busiest rank over mean'\nset yrange [0:*]\n"
                      "$bars << END\n");
    for (int l = 0; l < n; l++)
        fprintf(p.script, "%d %.9g %.9g\n", l,
                spot_number(spot_at(layers, "%d/%s", l, predicted[column].path)),
                spot_number(spot_at(layers, "%d/%s", l, predicted[column + 1].path)));
    fprintf(p.script,
            "END\nplot 1 lc rgb '#7a7f87' dt 2 notitle, "
            "$bars using 2:xtic(int($1)%%%d==0?strcol(1):'') lc rgb '%s' title 'even', "
            "$bars using 3 lc rgb '%s' title 'placed'\n",
            1 + n / 16, plot_colour(0), plot_colour(1));
    snprintf(caption, sizeof caption,
             "%s: the busiest rank's over the mean, by layer, for an even placement and the "
             "computed one. 1, the broken line, is even; at 2 the others wait half of the time.",
             what);
    plot_end(&p, caption);
}

static void one_place(struct spot place)
{
    struct report *r = place.report;
    static const struct load loads[] = {
        {"experts in decode", "placed/decode/experts/", "", "placed/decode/experts_over_mean"},
        {"rows in prefill", "placed/prefill/rows/", "", "placed/prefill/rows_over_mean"}};
    struct spot layers = spot_at(place, "layers");
    struct table t = {
        r->page,        "layer", "balance", predicted, sizeof predicted / sizeof *predicted,
        {.value = NULL}};
    char row[16];
    page_heading(place, "Predicted from recorded routing");
    fputs("<div class=\"figures\">\n", r->page);
    draw_ratio(layers, 0, "Experts activated in decode");
    draw_ratio(layers, 6, "Rows in prefill");
    fputs("</div>\n", r->page);
    table_begin(&t);
    for (int l = 0; l < spot_count(layers); l++) {
        snprintf(row, sizeof row, "%d", l);
        table_row(&t, row, spot_at(layers, "%d", l));
    }
    table_row(&t, "all", place);
    table_end(&t,
              "The busiest rank's load over the mean of those that hold experts, step by step.");
    for (int i = 0; i < 2; i++)
        write_loads(layers, &loads[i], spot_count(spot_at(layers, "0/placed/decode/rows")),
                    (struct spot){.value = NULL}, "As placed, all steps");
    report_copies(place);
}

void report_ranks(struct report *r)
{
    each_of(r, REPORT_PLACE, one_place);
    each_profile(r, one_profile);
}
