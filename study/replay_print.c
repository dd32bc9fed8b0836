/* The report of a replay. */
#include "base/json.h"
#include "commit.h"
#include "study/origin.h"
#include "study/replay.h"

static const char *const kinds[REPLAY_KINDS] = {"decode", "prefill"};

static double per_step(const struct replay_report *r, int kind, double sum)
{
    return r->steps[kind] ? sum / r->steps[kind] : 0;
}

static void print_errors(const struct wire_errors *e, FILE *out)
{
    fprintf(out, "#\n# the logits of %d rows, beside those by rows on the model's own wire\n",
            e->rows);
    fprintf(out, "# %-7s %-5s %12s %12s %12s %12s %12s\n", "combine", "wire", "KL mean", "KL most",
            "same best", "most |delta|", "RMS of rows");
    for (int i = 0; i < e->n_ways; i++) {
        const struct wire_errors_way *w = &e->ways[i];
        struct exchange_words words =
            exchange_words(&(struct exchange_options){.combine = w->combine, .wire = w->wire});
        fprintf(out, "  %-7s %-5s %12.3g %12.3g %10.2f %% %12.3g %12.3g\n", words.combine,
                words.wire, w->kl_mean, w->kl_most, 100.0 * w->same_best / e->rows, w->delta_most,
                w->rows_rms);
    }
}

static void print_ways(const struct replay_report *r, int kind, FILE *out)
{
    fprintf(out, "#\n# %s\n# %-9s %-5s %-7s %-5s %15s %15s %12s\n", kinds[kind], "strategy",
            "dedup", "combine", "wire", "out", "back", "us");
    for (int i = 0; i < r->n_ways; i++) {
        const struct replay_way *w = &r->ways[i];
        struct exchange_words words = exchange_words(&w->options);
        fprintf(out, "  %-9s %-5s %-7s %-5s %15.0f %15.0f %12.1f\n", words.strategy, words.dedup,
                words.combine, words.wire, per_step(r, kind, (double)w->sums[kind].out),
                per_step(r, kind, (double)w->sums[kind].back),
                per_step(r, kind, w->sums[kind].ns) * 1e-3);
    }
}

static void print_text(const struct replay_report *r, const struct replay_options *o,
                       const struct wire_errors *errors, FILE *out)
{
    const struct routing_head *h = &o->file->head;
    fprintf(out, "# epmoe replay %s, commit %s: %d rank%s, transport %s, %s\n", o->path,
            EPMOE_COMMIT, r->n_ranks, r->n_ranks == 1 ? "" : "s", r->transport, isa_name(r->isa));
    fprintf(out, "# %s: %d layers with experts, top %d of %d\n# rows of %d %s; placement %s\n",
            h->model, o->file->n_sparse, h->top_k, h->n_experts, h->hidden, dtype_name(h->dtype),
            o->placed);
    for (int kind = 0; kind < REPLAY_KINDS; kind++)
        fprintf(out, "# %s: %d steps, %llu rows\n", kinds[kind], r->steps[kind],
                (unsigned long long)r->rows[kind]);
    fprintf(out, "# bytes and us of a step, all layers together; us: median of %d iterations\n",
            o->iterations);
    for (int kind = 0; kind < REPLAY_KINDS; kind++)
        if (r->steps[kind])
            print_ways(r, kind, out);
    if (errors)
        print_errors(errors, out);
}

static struct js *sums_json(const struct replay_report *r, const struct replay_way *w, int kind)
{
    const struct replay_sums *s = &w->sums[kind];
    struct js *v = js_new_object();
    js_set(v, "out_bytes", js_new_int((int64_t)s->out));
    js_set(v, "back_bytes", js_new_int((int64_t)s->back));
    js_set(v, "messages_out", js_new_int((int64_t)s->messages));
    js_set(v, "logical_bytes", js_new_int((int64_t)s->logical));
    js_set(v, "local_bytes", js_new_int((int64_t)s->local));
    js_set(v, "ns", js_new_real(s->ns));
    js_set(v, "ns_per_step", js_new_real(per_step(r, kind, s->ns)));
    return v;
}

static struct js *way_json(const struct replay_report *r, const struct replay_way *w)
{
    struct js *v = js_new_object();
    struct exchange_words words = exchange_words(&w->options);
    js_set(v, "strategy", js_new_text(words.strategy));
    js_set(v, "dedup", js_new_text(words.dedup));
    js_set(v, "combine", js_new_text(words.combine));
    js_set(v, "wire", js_new_text(words.wire));
    for (int kind = 0; kind < REPLAY_KINDS; kind++)
        js_set(v, kinds[kind], sums_json(r, w, kind));
    return v;
}

static struct js *errors_json(const struct wire_errors *e)
{
    struct js *v = js_new_object(), *ways = js_new_array();
    js_set(v, "rows", js_new_int(e->rows));
    for (int i = 0; i < e->n_ways; i++) {
        const struct wire_errors_way *w = &e->ways[i];
        struct exchange_words words =
            exchange_words(&(struct exchange_options){.combine = w->combine, .wire = w->wire});
        struct js *one = js_new_object();
        js_set(one, "combine", js_new_text(words.combine));
        js_set(one, "wire", js_new_text(words.wire));
        js_set(one, "kl_mean", js_new_real(w->kl_mean));
        js_set(one, "kl_most", js_new_real(w->kl_most));
        js_set(one, "same_best", js_new_int(w->same_best));
        js_set(one, "delta_most", js_new_real(w->delta_most));
        js_set(one, "rows_rms", js_new_real(w->rows_rms));
        js_push(ways, one);
    }
    js_set(v, "ways", ways);
    return v;
}

static void print_json(const struct replay_report *r, const struct replay_options *o,
                       const struct wire_errors *errors, FILE *out)
{
    const struct routing_head *h = &o->file->head;
    struct js *v = js_new_object(), *steps = js_new_object(), *ways = js_new_array();
    js_set(v, "command", js_new_text("replay"));
    js_set(v, "commit", js_new_text(EPMOE_COMMIT));
    js_set(v, "origin", origin_json());
    js_set(v, "routing", js_new_text(o->path));
    js_set(v, "model", js_new_text(h->model));
    js_set(v, "n_ranks", js_new_int(r->n_ranks));
    js_set(v, "transport", js_new_text(r->transport));
    js_set(v, "isa", js_new_text(isa_name(r->isa)));
    js_set(v, "placement", js_new_text(o->placed));
    js_set(v, "layers", js_new_int(o->file->n_sparse));
    js_set(v, "experts", js_new_int(h->n_experts));
    js_set(v, "top_k", js_new_int(h->top_k));
    js_set(v, "hidden", js_new_int(h->hidden));
    js_set(v, "dtype", js_new_text(dtype_name(h->dtype)));
    js_set(v, "iterations", js_new_int(o->iterations));
    js_set(v, "checked", js_new_bool(o->check));
    for (int kind = 0; kind < REPLAY_KINDS; kind++) {
        struct js *one = js_new_object();
        js_set(one, "steps", js_new_int(r->steps[kind]));
        js_set(one, "rows", js_new_int((int64_t)r->rows[kind]));
        js_set(steps, kinds[kind], one);
    }
    js_set(v, "steps", steps);
    for (int i = 0; i < r->n_ways; i++)
        js_push(ways, way_json(r, &r->ways[i]));
    js_set(v, "ways", ways);
    if (errors)
        js_set(v, "errors", errors_json(errors));
    js_print(v, out, 2);
    js_free(v);
}

static void print_csv(const struct replay_report *r, FILE *out)
{
    fputs("strategy,dedup,combine,wire,kind,steps,rows,out_bytes,back_bytes,messages_out,"
          "logical_bytes,local_bytes,ns_per_step\n",
          out);
    for (int i = 0; i < r->n_ways; i++)
        for (int kind = 0; kind < REPLAY_KINDS; kind++) {
            const struct replay_sums *s = &r->ways[i].sums[kind];
            struct exchange_words w = exchange_words(&r->ways[i].options);
            fprintf(out, "%s,%s,%s,%s,%s,%d,%llu,%llu,%llu,%llu,%llu,%llu,%.6g\n", w.strategy,
                    w.dedup, w.combine, w.wire, kinds[kind], r->steps[kind],
                    (unsigned long long)r->rows[kind], (unsigned long long)s->out,
                    (unsigned long long)s->back, (unsigned long long)s->messages,
                    (unsigned long long)s->logical, (unsigned long long)s->local,
                    per_step(r, kind, s->ns));
        }
}

void replay_print(const struct replay_report *r, const struct replay_options *o,
                  const struct wire_errors *errors, enum alltoall_format format, FILE *out)
{
    if (format == ALLTOALL_JSON)
        print_json(r, o, errors, out);
    else if (format == ALLTOALL_CSV)
        print_csv(r, out);
    else
        print_text(r, o, errors, out);
}
