/* What a calibration prints. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/units.h"
#include "commit.h"
#include "study/calibrate.h"

/* The settings of a kind; of all kinds where it is SETTING_KINDS. */
static struct goodness goodness_of_kind(const struct calibration *c, enum setting_kind kind)
{
    struct setting *some = calloc((size_t)c->n + 1, sizeof *some);
    int n = 0;
    CHECK_MEMORY(some, "no memory for %d settings", c->n);
    for (int i = 0; i < c->n; i++)
        if (c->settings[i].kind == kind || kind == SETTING_KINDS)
            some[n++] = c->settings[i];
    struct goodness g = goodness_of(some, n);
    free(some);
    return g;
}

static void print_head(const struct fit *f, FILE *out)
{
    fprintf(out, "# epmoe calibrate, commit %s: %d ranks on %d host%s, %d at once, transport %s\n",
            EPMOE_COMMIT, f->ranks, f->hosts, f->hosts == 1 ? "" : "s", f->ranks_at_once,
            f->transport);
    fprintf(out, "# %s, %s, %d thread%s each; %s\n", f->processor, f->isa, f->threads,
            f->threads == 1 ? "" : "s", f->has_model ? f->model.name : "no model: laps only");
}

static void print_prices(const struct fit *f, FILE *out)
{
    fprintf(out, "#\n# %-32s %10s\n", "price", "seconds");
    for (int i = 0; i < COSTS && (f->has_model || i < COSTS_OF_LAPS); i++)
        fprintf(out, "  %-32s %10.3g\n", cost_key((enum cost)i), f->prices.of[i]);
}

static void print_kinds(const struct calibration *c, FILE *out)
{
    fprintf(out, "#\n# %-8s %8s %10s %8s %10s %10s %8s\n", "settings", "fitted", "median",
            "held out", "median", "most", "noise");
    for (int kind = 0; kind <= SETTING_KINDS; kind++) {
        struct goodness g = goodness_of_kind(c, (enum setting_kind)kind);
        const char *name =
            kind < SETTING_KINDS ? setting_kind_name((enum setting_kind)kind) : "all";
        if (g.held_out)
            fprintf(out, "  %-8s %8d %8.1f %% %8d %8.1f %% %8.1f %% %6.1f %%\n", name, g.fitted,
                    g.fitted_median * 100, g.held_out, g.held_out_median * 100,
                    g.held_out_most * 100, g.noise * 100);
        else if (g.fitted)
            fprintf(out, "  %-8s %8d %8.1f %% %8d %10s %10s %6.1f %%\n", name, g.fitted,
                    g.fitted_median * 100, 0, "-", "-", g.noise * 100);
    }
}

static void print_step(const struct setting *s, FILE *out)
{
    struct exchange_words w = exchange_words(&s->way);
    fprintf(out, "  %5d %5d %8d  %-9s %-5s %-7s %-5s %10s %10s %10s %8.1f %%\n", s->ranks, s->rows,
            s->position, w.strategy, w.dedup, w.combine, w.wire, seconds_text(s->measured).text,
            seconds_text(s->again).text, seconds_text(s->predicted).text, setting_error(s) * 100);
}

static void print_check(const struct calibration *c, FILE *out)
{
    fprintf(out, "#\n# steps that the fit has not seen\n");
    fprintf(out, "# %5s %5s %8s  %-9s %-5s %-7s %-5s %10s %10s %10s %10s\n", "ranks", "rows",
            "position", "strategy", "dedup", "combine", "wire", "measured", "again", "predicted",
            "error");
    for (int i = 0; i < c->n; i++)
        if (c->settings[i].kind == SETTING_STEP && c->settings[i].held_out)
            print_step(&c->settings[i], out);
}

static void print_errors(const char *what, const struct goodness *g, FILE *out)
{
    if (g->held_out)
        fprintf(out,
                "%s: median relative error %.1f %% of %d settings held out; noise floor %.1f %%\n",
                what, g->held_out_median * 100, g->held_out, g->noise * 100);
    else
        fprintf(out, "%s: error not known, as no setting was held out; noise floor %.1f %%\n", what,
                g->noise * 100);
}

void calibrate_print(const struct fit *f, const struct calibration *c, bool check, bool fitted,
                     FILE *out)
{
    struct goodness all = goodness_of_kind(c, SETTING_KINDS);
    struct goodness steps = goodness_of_kind(c, SETTING_STEP);
    print_head(f, out);
    if (!fitted)
        fprintf(out, "# prices are those of another run, of %d ranks: nothing here was fitted\n",
                f->ranks);
    print_prices(f, out);
    print_kinds(c, out);
    if (check)
        print_check(c, out);
    fprintf(out, "#\n");
    if (check)
        print_errors("steps of all ranks", &steps, out);
    print_errors("all", &all, out);
}
