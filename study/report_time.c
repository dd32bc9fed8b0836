/* Where the time goes: rank 0's phases, layer by layer. */
#include "study/report_state.h"

#define MICROSECONDS                                                                               \
    {                                                                                              \
        1e-3, 1                                                                                    \
    }

const char *const report_steps[REPORT_STEPS] = {"decode", "prefill"};
const char *const report_titles[REPORT_STEPS] = {"Decode", "Prefill"};

/* What a layer's time consists of; the wait is shown as its three parts. */
static const struct column parts[] = {
    {"attention", "ranks/0/phases/attention", MICROSECONDS, COLUMN_PER, true},
    {"router", "ranks/0/phases/router", MICROSECONDS, COLUMN_PER, true},
    {"plan", "ranks/0/phases/plan", MICROSECONDS, COLUMN_PER, true},
    {"pack", "ranks/0/phases/pack", MICROSECONDS, COLUMN_PER, true},
    {"wire out", "ranks/0/phases/wire_out", MICROSECONDS, COLUMN_PER, true},
    {"shared", "ranks/0/phases/shared_expert", MICROSECONDS, COLUMN_PER, true},
    {"home", "ranks/0/phases/home_experts", MICROSECONDS, COLUMN_PER, true},
    {"wait: compute", "exchange/wait/compute", MICROSECONDS, COLUMN_PER, false},
    {"wait: skew", "exchange/wait/skew", MICROSECONDS, COLUMN_PER, false},
    {"wait: transfer", "exchange/wait/transfer", MICROSECONDS, COLUMN_PER, false},
    {"combine", "ranks/0/phases/combine", MICROSECONDS, COLUMN_PER, true},
    {"hidden", "exchange/hidden_ns", MICROSECONDS, COLUMN_PER, false},
};
enum { COLUMNS = sizeof parts / sizeof *parts, STACKED = COLUMNS - 1 }; // hidden is beside the rest
static const char *const colours[STACKED] = {"#3b7dd8", "#8fb8ee", "#7a7f87", "#b8930b",
                                             "#d2691e", "#2a9d6f", "#7cc9a5", "#7b52ab",
                                             "#b35cc4", "#c8434f", "#3aa6b9"};

static const struct column whole[] = {
    {"steps", "steps", {1, 0}, COLUMN_NUMBER, false},
    {"rows a step", "rows", {1, 1}, COLUMN_PER, false},
    {"us a step", "ns", MICROSECONDS, COLUMN_PER, false},
    {"exchange, % of the step", "exchange/share", {100, 1}, COLUMN_NUMBER, false},
    {"exposed us", "exchange/exposed_ns", MICROSECONDS, COLUMN_PER, false},
    {"hidden us", "exchange/hidden_ns", MICROSECONDS, COLUMN_PER, false},
    {"control us", "phases/control", MICROSECONDS, COLUMN_PER, true},
    {"embed us", "phases/embed", MICROSECONDS, COLUMN_PER, true},
    {"logits us", "phases/logits", MICROSECONDS, COLUMN_PER, true},
    {"sampling us", "phases/sampling", MICROSECONDS, COLUMN_PER, true},
    {"wire bytes out", "bytes/wire_sent", {1, 0}, COLUMN_PER, false},
    {"back", "bytes/wire_received", {1, 0}, COLUMN_PER, false},
    {"messages out", "bytes/messages_sent", {1, 1}, COLUMN_PER, false},
};

static bool has_steps(struct spot kind)
{
    return spot_number(spot_at(kind, "steps")) > 0;
}

static void write_whole(struct spot profile)
{
    FILE *page = profile.report->page;
    struct table t = {page, "", "steps", whole, sizeof whole / sizeof *whole, profile};
    table_begin(&t);
    for (int k = 0; k < REPORT_STEPS; k++) {
        struct spot kind = spot_at(profile, "%s", report_steps[k]);
        t.per = spot_at(kind, "steps");
        if (has_steps(kind))
            table_row(&t, report_steps[k], kind);
    }
    table_end(&t,
              "A step's time on rank 0. Exchange: packing, sending and waiting. Exposed: rank 0 "
              "waits; hidden: rows are away while it works. Control, embed, logits and sampling "
              "are outside the layers. A dash: it took no time.");
}

static double layer_us(struct spot layer, const struct column *part, double steps)
{
    struct spot s = spot_find(layer, "%s", part->path);
    return s.value ? spot_number(s) * 1e-3 / steps : 0;
}

static void write_bars(struct plot *p, struct spot kind, int n)
{
    double steps = spot_number(spot_at(kind, "steps"));
    fputs("$bars << END\n", p->script);
    for (int l = 0; l < n; l++) {
        struct spot layer = spot_at(kind, "layers/%d", l);
        fprintf(p->script, "%d", l);
        for (int i = 0; i < STACKED; i++)
            fprintf(p->script, " %.9g", layer_us(layer, &parts[i], steps));
        fputc('\n', p->script);
    }
    fputs("END\n", p->script);
}

static void draw_layers(struct spot kind, const char *name)
{
    struct plot p;
    char caption[300];
    int n = spot_count(spot_at(kind, "layers")), each = 1 + n / 16;
    plot_begin(&p, kind.report, PLOT_WIDTH, PLOT_HEIGHT + 40);
    fputs("set style data histograms\nset style histogram rowstacked\nset boxwidth 0.8\n"
          "set xlabel 'layer'\nset ylabel 'us a step'\nset yrange [0:*]\n",
          p.script);
    write_bars(&p, kind, n);
    fputs("plot ", p.script);
    for (int i = 0; i < STACKED; i++) {
        fprintf(p.script, "%s$bars using %d", i ? ", " : "", i + 2);
        if (i == 0)
            fprintf(p.script, ":xtic(int($1)%%%d==0?strcol(1):'')", each);
        fprintf(p.script, " lc rgb '%s' title '%s'", colours[i], parts[i].title);
    }
    snprintf(caption, sizeof caption,
             "%s: a bar is a layer, its height the time of a step on rank 0, its parts the phases "
             "from below in the order of the key. What would go with faster links is "
             "<i>wait: transfer</i> and <i>wire out</i>; with better balance, <i>wait: skew</i>.",
             name);
    fputc('\n', p.script);
    plot_end(&p, caption);
}

static void write_layers(struct spot kind, const char *name)
{
    char row[16];
    int n = spot_count(spot_at(kind, "layers"));
    struct table t = {kind.report->page, "layer", name, parts, COLUMNS, spot_at(kind, "steps")};
    table_begin(&t);
    for (int l = 0; l < n; l++) {
        snprintf(row, sizeof row, "%d", l);
        table_row(&t, row, spot_at(kind, "layers/%d", l));
    }
    table_end(&t, NULL);
    fprintf(kind.report->page, "<p class=\"how\">%s, microseconds a step on rank 0.</p>\n", name);
}

static void one_profile(struct spot profile)
{
    page_heading(profile, "Profile");
    write_whole(profile);
    fputs("<div class=\"figures\">\n", profile.report->page);
    for (int k = 0; k < REPORT_STEPS; k++)
        if (has_steps(spot_at(profile, "%s", report_steps[k])))
            draw_layers(spot_at(profile, "%s", report_steps[k]), report_titles[k]);
    fputs("</div>\n", profile.report->page);
    for (int k = 0; k < REPORT_STEPS; k++)
        if (has_steps(spot_at(profile, "%s", report_steps[k])))
            write_layers(spot_at(profile, "%s", report_steps[k]), report_titles[k]);
}

void report_time(struct report *r)
{
    each_profile(r, one_profile);
}
