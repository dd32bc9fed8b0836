/* The report of a projection; docs/projection.md has every key and column. */
#include "base/json.h"
#include "base/units.h"
#include "commit.h"
#include "study/origin.h"
#include "study/project.h"

static const char *const kinds[REPLAY_KINDS] = {"decode", "prefill"};
static const char *const outsides[OUTSIDES] = {"ranks", "rows",     "positions",
                                               "bytes", "messages", "overlap"};
static const char *const overlaps[] = {"best", "off", "on"};
static const char sheet[] = "datasheet";
enum { WAY_WIDTH = 31 }; // the longest: "padded copies rows model halves"

static bool has_device(const struct project_options *o)
{
    return o->topology && o->topology->has_device;
}

static const char *home_source(const struct project_options *o)
{
    return has_device(o) ? sheet : "fit";
}

static const char *experts_source(const struct project_options *o)
{
    return o->runner ? "run" : home_source(o);
}

static const char *exchange_source(const struct project_options *o)
{
    return o->topology ? sheet : "fit";
}

static double share_of(double part, double all)
{
    return all > 0 ? part / all : 0;
}

/* "ranks+rows" of what lies outside, "-" for none; "" where nothing comes from a fit. */
struct outside_text {
    char text[64];
};

static struct outside_text outside_text(const struct projection *p, const struct project_options *o,
                                        const char *none)
{
    struct outside_text t = {""};
    size_t at = 0;
    if (!o->fit || has_device(o))
        return t;
    for (int i = 0; i < OUTSIDES; i++)
        if (p->outside[i])
            at += (size_t)snprintf(t.text + at, sizeof t.text - at, "%s%s", at ? "+" : "",
                                   outsides[i]);
    if (at == 0)
        snprintf(t.text, sizeof t.text, "%s", none);
    return t;
}

/* ---- for people ---- */

static void print_sources(const struct project_options *o, FILE *out)
{
    fprintf(out, "# counts are real: the exchange's own code made them for so many ranks\n");
    fprintf(out, "# wire time is modelled, from %s; experts: %s; home: %s\n",
            o->topology ? o->topology_path : o->fit_path,
            o->runner ? "run here, rank by rank" : home_source(o), home_source(o));
    if (o->topology)
        fprintf(out, "# %s: %s\n", o->topology->name, o->topology->source);
    if (o->fit && !has_device(o) && o->fit->good.held_out)
        fprintf(out,
                "# the fit is of %d ranks on %s; its error on settings it had not seen: median "
                "%.1f %%, noise %.1f %%\n",
                o->fit->ranks, o->fit->processor, o->fit->good.held_out_median * 100,
                o->fit->good.noise * 100);
}

static void print_head(const struct project_report *r, const struct project_options *o, FILE *out)
{
    const struct routing_head *h = &o->file->head;
    fprintf(out, "# epmoe project %s, commit %s\n", o->path, EPMOE_COMMIT);
    fprintf(out, "# %s: %d layers with experts, top %d of %d, rows of %d %s\n", h->model,
            o->file->n_sparse, h->top_k, h->n_experts, h->hidden, dtype_name(h->dtype));
    print_sources(o, out);
    for (int kind = 0; kind < REPLAY_KINDS; kind++)
        if (r->recorded[kind])
            fprintf(out, "# %s: %d of %d steps, %.0f rows\n", kinds[kind], r->taken[kind],
                    r->recorded[kind], r->rows[kind]);
    fprintf(out,
            "# %d coordinator%s; x: alone / step; wire: what the exchange adds to the step\n"
            "# halves: the step goes in two halves that take turns (--overlap on)\n#\n",
            o->coordinators, o->coordinators == 1 ? "" : "s");
    fprintf(out, "# %5s %7s %7s %10s %10s %6s %7s  %-11s %-*s %10s  %-*s %s\n", "ranks", "holders",
            "kind", "alone", "step", "wire", "x", "placement", WAY_WIDTH,
            "best way, no result changed", "step", WAY_WIDTH, "best of all", "extrapolated");
}

static void print_way(const struct exchange_options *way, FILE *out)
{
    char text[64];
    struct exchange_words w = exchange_words(way);
    snprintf(text, sizeof text, "%s %s %s %s%s", w.strategy,
             way->strategy == STRATEGY_ALLGATHER ? "-"
             : way->dedup == DEDUP_ON            ? "dedup"
                                                 : "copies",
             w.combine, w.wire, way->overlap == OVERLAP_ON ? " halves" : "");
    fprintf(out, "%-*s", WAY_WIDTH, text);
}

static void print_text(const struct project_report *r, const struct project_options *o, FILE *out)
{
    print_head(r, o, out);
    for (int i = 0; i < r->n; i++) {
        const struct projection *p = &r->list[i];
        const struct project_way *best = &p->ways[p->best], *all = &p->ways[p->best_of_all];
        double step = best->step;
        fprintf(out, "  %5d %7d %7s %10s %10s %4.0f %% %7.2f  %-11s ", p->ranks, p->holders,
                kinds[p->kind], seconds_text(p->alone).text, seconds_text(step).text,
                100 * share_of(project_exposed_exchange(best), step), share_of(p->alone, step),
                p->placement);
        print_way(&best->options, out);
        fprintf(out, " %10s  ", seconds_text(all->step).text);
        print_way(&all->options, out);
        fprintf(out, " %s\n", outside_text(p, o, "-").text);
    }
}

/* ---- for programs ---- */

static struct js *way_json(const struct projection *p, const struct project_way *way)
{
    struct js *v = js_new_object();
    struct exchange_words w = exchange_words(&way->options);
    double exposed = project_exposed_exchange(way);
    js_set(v, "strategy", js_new_text(w.strategy));
    js_set(v, "dedup", js_new_text(w.dedup));
    js_set(v, "combine", js_new_text(w.combine));
    js_set(v, "wire", js_new_text(w.wire));
    js_set(v, "overlap", js_new_text(w.overlap));
    js_set(v, "step_s", js_new_real(way->step));
    js_set(v, "home_s", js_new_real(way->home));
    js_set(v, "experts_s", js_new_real(way->experts));
    js_set(v, "exchange_s", js_new_real(way->exchange));
    js_set(v, "experts_exposed_s", js_new_real(project_exposed_experts(way)));
    js_set(v, "exchange_exposed_s", js_new_real(exposed));
    js_set(v, "exchange_share", js_new_real(share_of(exposed, way->step)));
    js_set(v, "speed_up", js_new_real(share_of(p->alone, way->step)));
    js_set(v, "out_bytes", js_new_real(way->out));
    js_set(v, "back_bytes", js_new_real(way->back));
    js_set(v, "messages_out", js_new_real(way->messages_out));
    js_set(v, "messages_back", js_new_real(way->messages_back));
    js_set(v, "busiest_out_bytes", js_new_real(way->busiest_out));
    return v;
}

static struct js *ranks_json(const struct projection *p, const struct project_options *o)
{
    struct js *list = js_new_array();
    for (int rank = 0; rank < p->ranks; rank++) {
        const struct project_rank *r = &p->per_rank[rank];
        struct js *v = js_new_object();
        js_set(v, "rank", js_new_int(rank));
        js_set(v, "role", js_new_text(rank < o->coordinators ? "coordinator" : "worker"));
        js_set(v, "sent_bytes", js_new_real(r->sent));
        js_set(v, "received_bytes", js_new_real(r->received));
        js_set(v, "rows", js_new_real(r->rows));
        js_set(v, "experts", js_new_real(r->experts));
        js_set(v, "experts_s", js_new_real(r->seconds));
        js_push(list, v);
    }
    return list;
}

static struct js *outside_json(const struct projection *p, const struct project_options *o)
{
    if (!o->fit || has_device(o))
        return js_new_null();
    struct js *list = js_new_array();
    for (int i = 0; i < OUTSIDES; i++)
        if (p->outside[i])
            js_push(list, js_new_text(outsides[i]));
    return list;
}

static struct js *projection_json(const struct projection *p, const struct project_options *o)
{
    struct js *v = js_new_object(), *ways = js_new_array();
    js_set(v, "ranks", js_new_int(p->ranks));
    js_set(v, "coordinators", js_new_int(o->coordinators));
    js_set(v, "workers", js_new_int(p->workers));
    js_set(v, "workers_with_experts", js_new_int(p->holders));
    js_set(v, "kind", js_new_text(kinds[p->kind]));
    js_set(v, "rows", js_new_real(p->rows));
    js_set(v, "alone_s", js_new_real(p->alone));
    js_set(v, "placement", js_new_text(p->placement));
    js_set(v, "best", way_json(p, &p->ways[p->best]));
    js_set(v, "best_of_all", way_json(p, &p->ways[p->best_of_all]));
    for (int i = 0; i < p->n_ways; i++)
        js_push(ways, way_json(p, &p->ways[i]));
    js_set(v, "ways", ways);
    js_set(v, "per_rank", ranks_json(p, o));
    js_set(v, "extrapolated", outside_json(p, o));
    return v;
}

static struct js *text_or_null(const char *text)
{
    return text ? js_new_text(text) : js_new_null();
}

static struct js *model_json(const struct project_options *o)
{
    const struct routing_head *h = &o->file->head;
    struct js *v = js_new_object();
    js_set(v, "name", js_new_text(h->model));
    js_set(v, "layers", js_new_int(h->n_layers));
    js_set(v, "sparse_layers", js_new_int(o->file->n_sparse));
    js_set(v, "hidden", js_new_int(h->hidden));
    js_set(v, "experts", js_new_int(h->n_experts));
    js_set(v, "top_k", js_new_int(h->top_k));
    js_set(v, "dtype", js_new_text(dtype_name(h->dtype)));
    return v;
}

static struct js *steps_json(const struct project_report *r)
{
    struct js *v = js_new_object();
    for (int kind = 0; kind < REPLAY_KINDS; kind++) {
        struct js *one = js_new_object();
        js_set(one, "recorded", js_new_int(r->recorded[kind]));
        js_set(one, "taken", js_new_int(r->taken[kind]));
        js_set(one, "rows", js_new_real(r->rows[kind]));
        js_set(v, kinds[kind], one);
    }
    return v;
}

static void print_json(const struct project_report *r, const struct project_options *o, FILE *out)
{
    struct js *v = js_new_object(), *list = js_new_array();
    bool fitted = o->fit && !has_device(o);
    js_set(v, "command", js_new_text("project"));
    js_set(v, "commit", js_new_text(EPMOE_COMMIT));
    js_set(v, "origin", origin_json());
    js_set(v, "routing", js_new_text(o->path));
    js_set(v, "fit", text_or_null(o->fit_path));
    js_set(v, "topology", text_or_null(o->topology_path));
    js_set(v, "counts", js_new_text("counted"));
    js_set(v, "wire_time", js_new_text("modelled"));
    js_set(v, "experts_time", js_new_text(experts_source(o)));
    js_set(v, "home_time", js_new_text(home_source(o)));
    js_set(v, "exchange_time", js_new_text(exchange_source(o)));
    js_set(v, "relative_error",
           fitted && o->fit->good.held_out ? js_new_real(o->fit->good.held_out_median)
                                           : js_new_null());
    js_set(v, "model", model_json(o));
    js_set(v, "coordinators", js_new_int(o->coordinators));
    js_set(v, "overlap", js_new_text(overlaps[o->overlap]));
    js_set(v, "steps", steps_json(r));
    for (int i = 0; i < r->n; i++)
        js_push(list, projection_json(&r->list[i], o));
    js_set(v, "projections", list);
    js_print(v, out, 2);
    js_free(v);
}

static void csv_way(const struct projection *p, const struct project_way *way, FILE *out)
{
    struct exchange_words w = exchange_words(&way->options);
    double exposed = project_exposed_exchange(way);
    fprintf(out, ",%s,%s,%s,%s,%s", w.strategy, w.dedup, w.combine, w.wire, w.overlap);
    fprintf(out, ",%.9g,%.9g,%.9g,%.9g,%.9g,%.9g", way->step, way->home, way->experts,
            way->exchange, project_exposed_experts(way), exposed);
    fprintf(out, ",%.6g,%.6g,%.9g,%.9g,%.9g,%.9g,%.9g", share_of(exposed, way->step),
            share_of(p->alone, way->step), way->out, way->back, way->messages_out,
            way->messages_back, way->busiest_out);
}

static void csv_columns(const char *prefix, FILE *out)
{
    static const char *const columns[] = {"strategy",
                                          "dedup",
                                          "combine",
                                          "wire",
                                          "overlap",
                                          "step_s",
                                          "home_s",
                                          "experts_s",
                                          "exchange_s",
                                          "experts_exposed_s",
                                          "exchange_exposed_s",
                                          "exchange_share",
                                          "speed_up",
                                          "out_bytes",
                                          "back_bytes",
                                          "messages_out",
                                          "messages_back",
                                          "busiest_out_bytes"};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        fprintf(out, ",%s%s", prefix, columns[i]);
}

static void print_csv(const struct project_report *r, const struct project_options *o, FILE *out)
{
    fputs("ranks,coordinators,workers,workers_with_experts,kind,rows,alone_s,placement", out);
    csv_columns("", out);
    csv_columns("all_", out);
    fputs(",extrapolated,experts_time,home_time,exchange_time,wire_time\n", out);
    for (int i = 0; i < r->n; i++) {
        const struct projection *p = &r->list[i];
        fprintf(out, "%d,%d,%d,%d,%s,%.9g,%.9g,%s", p->ranks, o->coordinators, p->workers,
                p->holders, kinds[p->kind], p->rows, p->alone, p->placement);
        csv_way(p, &p->ways[p->best], out);
        csv_way(p, &p->ways[p->best_of_all], out);
        fprintf(out, ",%s,%s,%s,%s,modelled\n", outside_text(p, o, "").text, experts_source(o),
                home_source(o), exchange_source(o));
    }
}

void project_print(const struct project_report *r, const struct project_options *o,
                   enum alltoall_format format, FILE *out)
{
    if (format == ALLTOALL_JSON)
        print_json(r, o, out);
    else if (format == ALLTOALL_CSV)
        print_csv(r, o, out);
    else
        print_text(r, o, out);
}
