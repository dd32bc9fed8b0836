#include <string.h>

#include "base/json.h"
#include "commit.h"
#include "model/family.h"
#include "model/sizes.h"
#include "study/bench.h"
#include "study/origin.h"
#include "study/profile.h"

static void name_of(char *text, size_t size, const struct bench_result *t)
{
    snprintf(text, size, "%s%d", t->kind, t->length);
}

static struct js *machine_json(const struct roof *roof)
{
    struct js *machine = js_new_object(), *limits = js_new_object();
    js_set(machine, "cpu", js_new_text(roof->cpu));
    if (roof->gpu[0])
        js_set(machine, "gpu", js_new_text(roof->gpu));
    js_set(machine, "isa", js_new_text(isa_name(roof->isa)));
    js_set(machine, "threads", js_new_int(roof->threads));
    js_set(limits, "flops", js_new_real(roof->flops));
    js_set(limits, "read_bytes_per_s", js_new_real(roof->read_bytes_per_s));
    js_set(machine, "roof", limits);
    return machine;
}

static struct js *model_json(const struct coordinator *c, const char *name)
{
    struct js *model = js_new_object();
    struct sizes s = sizes_of(&c->config);
    js_set(model, "name", js_new_text(name));
    js_set(model, "architecture", js_new_text(family_of(&c->config)->type));
    js_set(model, "layers", js_new_int(c->config.n_layers));
    js_set(model, "parameters", js_new_int((int64_t)s.total));
    js_set(model, "active_parameters", js_new_int((int64_t)s.active));
    js_set(model, "dtype", js_new_text(precision_text(&c->precision).text));
    js_set(model, "weight_bytes", js_new_int((int64_t)c->weight_bytes));
    return model;
}

static struct js *result_json(const struct bench_result *t)
{
    char name[32];
    struct js *result = js_new_object(), *speed = js_new_object();
    name_of(name, sizeof name, t);
    js_set(result, "test", js_new_text(name));
    js_set(result, "batch", js_new_int(t->batch));
    js_set(result, "ranks", js_new_int(t->ranks));
    js_set(speed, "median", js_new_real(t->median));
    js_set(speed, "mean", js_new_real(t->mean));
    js_set(speed, "sd", js_new_real(t->sd));
    js_set(result, "tokens_per_s", speed);
    js_set(result, strcmp(t->kind, "pp") == 0 ? "ttft_s" : "tpot_s", js_new_real(t->seconds));
    js_set(result, "roof_tokens_per_s", js_new_real(t->roof));
    js_set(result, "roof_fraction", js_new_real(t->roof_share));
    js_set(result, "bound", js_new_text(t->bound));
    js_set(result, "wire_bytes_per_token", js_new_real(t->wire_bytes));
    js_set(result, "last_s", js_new_real(t->last_s));
    js_set(result, "exposed_s", js_new_real(t->exposed_s));
    js_set(result, "hidden_s", js_new_real(t->hidden_s));
    return result;
}

static struct js *exchange_json(const struct bench_report *r, const struct coordinator *c)
{
    struct js *exchange = js_new_object();
    struct exchange_words words = exchange_words(&c->options);
    js_set(exchange, "strategy", js_new_text(words.strategy));
    js_set(exchange, "dedup", js_new_text(words.dedup));
    js_set(exchange, "combine", js_new_text(words.combine));
    js_set(exchange, "wire", js_new_text(words.wire));
    js_set(exchange, "overlap", js_new_text(words.overlap));
    js_set(exchange, "wire_rms_error", js_new_real(r->wire_error));
    return exchange;
}

static void print_json(const struct bench_report *r, const struct coordinator *c,
                       const struct bench_options *o, FILE *out)
{
    struct js *root = js_new_object(), *results = js_new_array();
    js_set(root, "machine", machine_json(&r->roof));
    js_set(root, "model", model_json(c, o->model_name));
    js_set(root, "exchange", exchange_json(r, c));
    js_set(root, "commit", js_new_text(EPMOE_COMMIT));
    js_set(root, "origin", origin_json());
    for (int i = 0; i < r->n_results; i++)
        js_push(results, result_json(&r->results[i]));
    js_set(root, "results", results);
    js_set(root, "load_s", js_new_real(c->load_seconds));
    js_set(root, "peak_bytes", js_new_int((int64_t)r->peak_bytes));
    if (c->profile)
        js_set(root, "profile", profile_json(c->profile));
    js_print(root, out, 2);
    js_free(root);
}

/* Print the exchange's figures, if rows travel, or are narrowed as if they did. */
static void print_exchange(const struct bench_report *r, const struct coordinator *c, FILE *out)
{
    struct exchange_words words = exchange_words(&c->options);
    if (c->transport || c->options.wire != WIRE_MODEL)
        fprintf(out, "strategy %s, dedup %s, combine %s, wire %s (RMS error %.3g), overlap %s\n",
                words.strategy, words.dedup, words.combine, words.wire, r->wire_error,
                words.overlap);
    for (int i = 0; i < r->n_results && c->transport; i++) {
        const struct bench_result *t = &r->results[i];
        fprintf(out,
                "%s%d, batch %d: %.0f bytes a token travelled; of %.1f ms, rows were away for "
                "%.1f ms exposed, %.1f ms hidden\n",
                t->kind, t->length, t->batch, t->wire_bytes, t->last_s * 1e3, t->exposed_s * 1e3,
                t->hidden_s * 1e3);
    }
    fprintf(out, "\n");
}

static void print_md(const struct bench_report *r, const struct coordinator *c,
                     const struct bench_options *o, FILE *out)
{
    struct sizes s = sizes_of(&c->config);
    fprintf(out, "%s: %d layers, %.2f B parameters (%.2f B active), %s, commit %s\n", o->model_name,
            c->config.n_layers, (double)s.total * 1e-9, (double)s.active * 1e-9,
            precision_text(&c->precision).text, EPMOE_COMMIT);
    if (r->roof.gpu[0])
        fprintf(out, "CUDA %s; ", r->roof.gpu);
    fprintf(out, "%s, %s, %d thread%s: roof %.0f GFLOP/s, %.1f GB/s read%s\n", r->roof.cpu,
            isa_name(r->roof.isa), r->roof.threads, r->roof.threads == 1 ? "" : "s",
            r->roof.flops * 1e-9, r->roof.read_bytes_per_s * 1e-9,
            r->roof.gpu[0] ? " (the GPU's)" : "");
    if (o->workers && c->placement.n_ranks > 1)
        fprintf(out, "workers compute on %s, which the roof leaves out\n", o->workers);
    fprintf(out, "loaded in %.2f s, peak memory %.2f GB%s\n", c->load_seconds,
            (double)r->peak_bytes * 1e-9, r->roof.gpu[0] || o->workers ? " (the host's)" : "");
    print_exchange(r, c, out);
    fprintf(out,
            "| test   | batch | ranks |     tokens/s     | TTFT/TPOT ms |    roof | of roof |\n"
            "|--------|------:|------:|-----------------:|-------------:|--------:|--------:|\n");
    for (int i = 0; i < r->n_results; i++) {
        const struct bench_result *t = &r->results[i];
        char name[32];
        name_of(name, sizeof name, t);
        fprintf(out, "| %-6s | %5d | %5d | %8.1f ± %5.1f | %12.2f | %7.1f | %3.0f %% %s\n", name,
                t->batch, t->ranks, t->median, t->sd, t->seconds * 1e3, t->roof,
                100 * t->roof_share, strcmp(t->bound, "bytes") == 0 ? "B |" : "F |");
    }
    fprintf(out,
            "\ntokens/s: median ± standard deviation. Roof: B read bandwidth binds, F FLOP/s.\n");
}

/* A text may hold commas and quotes. */
static void csv_text(FILE *out, const char *value)
{
    fputs(",\"", out);
    for (; *value; value++)
        fprintf(out, *value == '"' ? "\"\"" : "%c", *value);
    fputc('"', out);
}

/* What is the same for all results of a run. */
static void csv_run(const struct bench_report *r, const struct coordinator *c,
                    const struct bench_options *o, FILE *out)
{
    struct exchange_words words = exchange_words(&c->options);
    struct precision_words precision = precision_text(&c->precision);
    const char *texts[] = {o->model_name,  precision.text, EPMOE_COMMIT,
                           r->roof.cpu,    r->roof.gpu,    isa_name(r->roof.isa),
                           words.strategy, words.dedup,    words.combine,
                           words.wire,     words.overlap};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        csv_text(out, texts[i]);
    fprintf(out, ",%d,%.6g,%.6g,%.6g,%llu,%.6g\n", r->roof.threads, r->roof.flops,
            r->roof.read_bytes_per_s, c->load_seconds, (unsigned long long)r->peak_bytes,
            r->wire_error);
}

static void print_csv(const struct bench_report *r, const struct coordinator *c,
                      const struct bench_options *o, FILE *out)
{
    if (!o->follows)
        fputs("test,batch,ranks,tokens_per_s,mean,sd,seconds,roof_tokens_per_s,bound,roof_fraction,"
              "wire_bytes_per_token,last_s,exposed_s,hidden_s,"
              "model,dtype,commit,cpu,gpu,isa,strategy,dedup,combine,wire,overlap,"
              "threads,roof_flops,roof_read_bytes_per_s,load_s,peak_bytes,wire_rms_error\n",
              out);
    for (int i = 0; i < r->n_results; i++) {
        const struct bench_result *t = &r->results[i];
        fprintf(out, "%s%d,%d,%d,%.6g,%.6g,%.6g,%.6g,%.6g,%s,%.6g,%.6g,%.6g,%.6g,%.6g", t->kind,
                t->length, t->batch, t->ranks, t->median, t->mean, t->sd, t->seconds, t->roof,
                t->bound, t->roof_share, t->wire_bytes, t->last_s, t->exposed_s, t->hidden_s);
        csv_run(r, c, o, out);
    }
}

void bench_print(const struct bench_report *r, const struct coordinator *c,
                 const struct bench_options *o, enum bench_format format, FILE *out)
{
    if (format == BENCH_JSON)
        print_json(r, c, o, out);
    else if (format == BENCH_CSV)
        print_csv(r, c, o, out);
    else
        print_md(r, c, o, out);
}
