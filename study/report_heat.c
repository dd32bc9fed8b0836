/* Which experts the recorded rows went to. */
#include "study/report_state.h"

static int experts_of(struct spot layers)
{
    int most = 0;
    for (int l = 0; l < spot_count(layers); l++) {
        int n = spot_count(spot_at(layers, "%d/heat", l));
        most = n > most ? n : most;
    }
    return most;
}

static void draw_heat(struct spot layers)
{
    struct plot p;
    int n = spot_count(layers);
    plot_begin(&p, layers.report, 640, 110 + 12 * (n < 40 ? n : 40));
    fputs("set palette defined (0 '#440154', 0.25 '#3b528b', 0.5 '#21918c', 0.75 '#5ec962', "
          "1 '#fde725')\nunset grid\nset border 0\nset xlabel 'expert'\nset ylabel 'layer'\n"
          "set cblabel 'rows'\nset cbrange [0:*]\nset cbtics autofreq\nset yrange [*:*] reverse\n"
          "set autoscale fix\n$heat << END\n",
          p.script);
    for (int l = 0; l < n; l++) {
        for (int e = 0; e < spot_count(spot_at(layers, "%d/heat", l)); e++)
            fprintf(p.script, "%.9g ", spot_number(spot_at(layers, "%d/heat/%d", l, e)));
        fputc('\n', p.script);
    }
    fprintf(p.script, "END\nset ytics %d\nplot $heat matrix with image pixels notitle\n",
            1 + n / 16);
    plot_end(&p, "A line is a layer, a column an expert, its colour the rows that the router sent "
                 "it. Even use would be one colour; bright cells are the busiest experts, which a "
                 "placement should put on different ranks.");
}

/* A column for each layer; experts are the rows, since there are more of them. */
static struct column *layer_columns(struct report *r, int n)
{
    enum { TITLE = 24 };
    struct column *columns = arena_alloc(&r->memory, (size_t)n * sizeof *columns + 1);
    for (int l = 0; l < n; l++) {
        char *title = arena_alloc(&r->memory, TITLE);
        snprintf(title, TITLE, "layer %d", l);
        columns[l].title = title;
    }
    return columns;
}

static void write_heat(struct spot layers)
{
    struct report *r = layers.report;
    int n = spot_count(layers), experts = experts_of(layers);
    struct table t = {.page = r->page,
                      .label = "expert",
                      .region = "rows of each expert",
                      .columns = layer_columns(r, n),
                      .n = n};
    table_begin(&t);
    for (int e = 0; e < experts; e++) {
        fprintf(r->page, "<tr><th scope=\"row\">%d</th>", e);
        for (int l = 0; l < n; l++) {
            fputs("<td>", r->page);
            page_number(spot_at(layers, "%d/heat/%d", l, e), (struct unit){1, 0});
            fputs("</td>", r->page);
        }
        fputs("</tr>\n", r->page);
    }
    table_end(&t, "The rows that went to each expert, all steps together.");
}

static void one_place(struct spot place)
{
    struct spot layers = spot_at(place, "layers");
    page_heading(place, "Rows of each expert");
    fputs("<div class=\"broad\">\n", place.report->page);
    draw_heat(layers);
    fputs("</div>\n", place.report->page);
    write_heat(layers);
}

void report_heat(struct report *r)
{
    each_of(r, REPORT_PLACE, one_place);
}
