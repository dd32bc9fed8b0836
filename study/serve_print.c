
#include "base/json.h"
#include "commit.h"
#include "study/profile.h"
#include "study/serve.h"

enum { LINES = 4 };

static void lines_of(const struct quantiles *lines[LINES], const struct serve_report *r)
{
    lines[0] = &r->ttft;
    lines[1] = &r->tpot;
    lines[2] = &r->itl;
    lines[3] = &r->latency;
}

static double done_rate(const struct serve_report *r, const struct serve_options *o)
{
    return o->requests / r->seconds;
}

static double new_tokens_rate(const struct serve_report *r, const struct serve_options *o)
{
    return done_rate(r, o) * o->generate;
}

static double all_tokens_rate(const struct serve_report *r, const struct serve_options *o)
{
    return done_rate(r, o) * (o->prompt + o->generate);
}

static void print_md(const struct serve_report *r, const struct coordinator *c,
                     const struct serve_options *o, FILE *out)
{
    static const char *const names[LINES] = {"TTFT ms", "TPOT ms", "ITL ms", "latency ms"};
    const struct quantiles *lines[LINES];
    lines_of(lines, r);
    fprintf(out, "%s: %s, %d rank%s, commit %s\n", o->model_name,
            precision_text(&c->precision).text, c->placement.n_ranks,
            c->placement.n_ranks == 1 ? "" : "s", EPMOE_COMMIT);
    fprintf(out,
            "%d requests of %d tokens in and %d out, %.4g a second at random, at most %d at a "
            "time:\n%.4g a second done, %.1f tokens/s out, %.1f in and out, %.1f sequences a step, "
            "at most %d waiting\n\n",
            o->requests, o->prompt, o->generate, o->rate, r->at_a_time, done_rate(r, o),
            new_tokens_rate(r, o), all_tokens_rate(r, o), r->mean_batch, r->most_waiting);
    fprintf(out, "|            |       mean |        p50 |        p90 |        p99 |\n"
                 "|------------|-----------:|-----------:|-----------:|-----------:|\n");
    for (int i = 0; i < LINES; i++)
        fprintf(out, "| %-10s | %10.1f | %10.1f | %10.1f | %10.1f |\n", names[i],
                lines[i]->mean * 1e3, lines[i]->p50 * 1e3, lines[i]->p90 * 1e3,
                lines[i]->p99 * 1e3);
    fprintf(out,
            "\nTTFT and latency count from a request's arrival, waiting for a slot included.\n");
}

static void print_csv(const struct serve_report *r, const struct coordinator *c,
                      const struct serve_options *o, FILE *out)
{
    const struct quantiles *lines[LINES];
    lines_of(lines, r);
    if (!o->follows)
        fputs("rate,requests,prompt,generate,at_a_time,ranks,seconds,mean_batch,most_waiting,"
              "ttft_mean,ttft_p50,ttft_p90,ttft_p99,tpot_mean,tpot_p50,tpot_p90,tpot_p99,"
              "itl_mean,itl_p50,itl_p90,itl_p99,latency_mean,latency_p50,latency_p90,latency_p99,"
              "done_per_s,new_tokens_per_s,tokens_per_s\n",
              out);
    fprintf(out, "%.6g,%d,%d,%d,%d,%d,%.6g,%.6g,%d", o->rate, o->requests, o->prompt, o->generate,
            r->at_a_time, c->placement.n_ranks, r->seconds, r->mean_batch, r->most_waiting);
    for (int i = 0; i < LINES; i++)
        fprintf(out, ",%.6g,%.6g,%.6g,%.6g", lines[i]->mean, lines[i]->p50, lines[i]->p90,
                lines[i]->p99);
    fprintf(out, ",%.6g,%.6g,%.6g\n", done_rate(r, o), new_tokens_rate(r, o),
            all_tokens_rate(r, o));
}

static struct js *quantiles_json(const struct quantiles *q)
{
    struct js *object = js_new_object();
    js_set(object, "mean", js_new_real(q->mean));
    js_set(object, "p50", js_new_real(q->p50));
    js_set(object, "p90", js_new_real(q->p90));
    js_set(object, "p99", js_new_real(q->p99));
    return object;
}

static void print_json(const struct serve_report *r, const struct coordinator *c,
                       const struct serve_options *o, FILE *out)
{
    static const char *const names[LINES] = {"ttft_s", "tpot_s", "itl_s", "latency_s"};
    const struct quantiles *lines[LINES];
    struct js *root = js_new_object();
    lines_of(lines, r);
    js_set(root, "model", js_new_text(o->model_name));
    js_set(root, "commit", js_new_text(EPMOE_COMMIT));
    js_set(root, "requests_per_s", js_new_real(o->rate));
    js_set(root, "requests", js_new_int(o->requests));
    js_set(root, "prompt", js_new_int(o->prompt));
    js_set(root, "generate", js_new_int(o->generate));
    js_set(root, "at_a_time", js_new_int(r->at_a_time));
    js_set(root, "ranks", js_new_int(c->placement.n_ranks));
    js_set(root, "seconds", js_new_real(r->seconds));
    js_set(root, "done_per_s", js_new_real(done_rate(r, o)));
    js_set(root, "new_tokens_per_s", js_new_real(new_tokens_rate(r, o)));
    js_set(root, "tokens_per_s", js_new_real(all_tokens_rate(r, o)));
    js_set(root, "mean_batch", js_new_real(r->mean_batch));
    js_set(root, "most_waiting", js_new_int(r->most_waiting));
    for (int i = 0; i < LINES; i++)
        js_set(root, names[i], quantiles_json(lines[i]));
    if (c->profile)
        js_set(root, "profile", profile_json(c->profile));
    js_print(root, out, 2);
    js_free(root);
}

void serve_print(const struct serve_report *r, const struct coordinator *c,
                 const struct serve_options *o, enum bench_format format, FILE *out)
{
    if (format == BENCH_JSON)
        print_json(r, c, o, out);
    else if (format == BENCH_CSV)
        print_csv(r, c, o, out);
    else
        print_md(r, c, o, out);
}
