/* Which experts have copies, and on which ranks, if place was asked for any. */
#include "study/report_state.h"

static void write_ranks(struct spot ranks)
{
    FILE *page = ranks.report->page;
    for (int i = 0; i < spot_count(ranks); i++) {
        fputs(i ? ", " : "", page);
        page_number(spot_at(ranks, "%d", i), (struct unit){1, 0});
    }
}

/* The rows of an expert, which a damaged file may name wrongly: then they are missing. */
static struct spot heat_of(struct spot layer, struct spot expert)
{
    struct spot heat = spot_at(layer, "heat");
    double e = spot_number(expert);
    int n = spot_count(heat);
    return spot_at(heat, "%d", e >= 0 && e < n ? (int)e : n);
}

static void write_expert(struct spot layer, int number, struct spot entry)
{
    FILE *page = layer.report->page;
    struct spot expert = spot_at(entry, "expert");
    fprintf(page, "<tr><th scope=\"row\">%d</th><td>", number);
    page_number(expert, (struct unit){1, 0});
    fputs("</td><td>", page);
    page_number(heat_of(layer, expert), (struct unit){1, 0});
    fputs("</td><td class=\"text\">", page);
    write_ranks(spot_at(entry, "ranks"));
    fputs("</td></tr>\n", page);
}

void report_copies(struct spot place)
{
    static const struct column columns[] = {{"expert", NULL, {1, 0}, COLUMN_NUMBER, false},
                                            {"rows", NULL, {1, 0}, COLUMN_NUMBER, false},
                                            {"ranks", NULL, {1, 0}, COLUMN_TEXT, false}};
    FILE *page = place.report->page;
    struct table t = {.page = page,
                      .label = "layer",
                      .region = "experts with copies",
                      .columns = columns,
                      .n = sizeof columns / sizeof *columns};
    struct spot layers = spot_at(place, "layers");
    if (!spot_find(place, "replicas").value)
        return;
    table_begin(&t);
    for (int l = 0; l < spot_count(layers); l++) {
        struct spot list = spot_at(layers, "%d/experts_with_copies", l);
        for (int i = 0; i < spot_count(list); i++)
            write_expert(spot_at(layers, "%d", l), l, spot_at(list, "%d", i));
    }
    table_end(&t, NULL);
    fputs("<p class=\"how\">Experts with copies, ", page);
    page_number(spot_at(place, "copies"), (struct unit){1, 0});
    fputs(" further ones in all, at most ", page);
    page_number(spot_at(place, "replicas"), (struct unit){1, 0});
    fputs(" in a layer. Of a step's rows the first goes to the first of the ranks, the next to the "
          "next, in turn; the expert's rows here are those of all of them.</p>\n",
          page);
}
