/* The report of epmoe perplexity. */
#include <math.h>

#include "base/json.h"
#include "commit.h"
#include "study/perplexity.h"

static double mean(const struct perplexity_result *one)
{
    return one->nll / (double)one->scored;
}

static double tokens_per_s(const struct perplexity_result *one)
{
    return (double)one->fed / one->seconds;
}

static double same_best(const struct perplexity_result *one)
{
    return (double)one->same_best / (double)one->scored;
}

/* NaN where no row of the reference was kept. */
static double kl_mean(const struct perplexity_result *one)
{
    return one->kl_tokens ? one->kl / (double)one->kl_tokens : (double)NAN;
}

double perplexity_bits_per_byte(const struct perplexity_report *r,
                                const struct perplexity_result *one)
{
    double per_token = mean(one) / log(2);
    return r->bytes ? per_token * (double)r->options.n / (double)r->bytes : (double)NAN;
}

static bool was_compared(const struct perplexity_report *r)
{
    return r->n > 1;
}

/* ---- text ---- */

static void print_head(const struct perplexity_report *r, FILE *out)
{
    const struct perplexity_options *o = &r->options;
    fprintf(out, "# epmoe perplexity, commit %s: %s\n# %s: %d tokens", EPMOE_COMMIT, r->model,
            r->text ? r->text : "--tokens", o->n);
    if (r->bytes)
        fprintf(out, ", %zu bytes", r->bytes);
    fprintf(out, "; windows of %d, stride %d: %lld tokens scored\n", o->window, o->stride,
            (long long)r->results[0].scored);
    if (was_compared(r))
        fprintf(out, "# same best token as %s, and KL(%s || this) in nats, of %lld tokens\n",
                r->results[0].name, r->results[0].name, (long long)r->results[1].kl_tokens);
    fprintf(out, "# %-5s %12s %12s %12s %12s", "dtype", "perplexity", "nats/token", "bits/byte",
            "tokens/s");
    if (was_compared(r))
        fprintf(out, " %12s %12s", "same best", "KL mean");
    fprintf(out, "\n");
}

static void print_text(const struct perplexity_report *r, FILE *out)
{
    print_head(r, out);
    for (int i = 0; i < r->n; i++) {
        const struct perplexity_result *one = &r->results[i];
        fprintf(out, "  %-5s %12.4f %12.6f", one->name, exp(mean(one)), mean(one));
        if (r->bytes)
            fprintf(out, " %12.4f", perplexity_bits_per_byte(r, one));
        else
            fprintf(out, " %12s", "-");
        fprintf(out, " %12.1f", tokens_per_s(one));
        if (one->compared)
            fprintf(out, " %10.2f %% %12.3g", 100 * same_best(one), kl_mean(one));
        fprintf(out, "\n");
    }
}

/* ---- JSON ---- */

/* JSON has no infinity, which exp() of a very bad model is. */
static struct js *number_or_null(double v)
{
    return isfinite(v) ? js_new_real(v) : js_new_null();
}

static struct js *result_json(const struct perplexity_report *r,
                              const struct perplexity_result *one)
{
    struct js *v = js_new_object();
    js_set(v, "dtype", js_new_text(one->name));
    js_set(v, "perplexity", number_or_null(exp(mean(one))));
    js_set(v, "nats_per_token", js_new_real(mean(one)));
    js_set(v, "bits_per_byte", number_or_null(perplexity_bits_per_byte(r, one)));
    js_set(v, "tokens_scored", js_new_int(one->scored));
    js_set(v, "tokens_in", js_new_int(one->fed));
    js_set(v, "seconds", js_new_real(one->seconds));
    js_set(v, "tokens_per_s", js_new_real(tokens_per_s(one)));
    if (one->compared) {
        js_set(v, "same_best", js_new_real(same_best(one)));
        js_set(v, "kl_mean", number_or_null(kl_mean(one)));
        js_set(v, "kl_tokens", js_new_int(one->kl_tokens));
    }
    return v;
}

static void print_json(const struct perplexity_report *r, FILE *out)
{
    struct js *v = js_new_object(), *results = js_new_array();
    js_set(v, "command", js_new_text("perplexity"));
    js_set(v, "commit", js_new_text(EPMOE_COMMIT));
    js_set(v, "model", js_new_text(r->model));
    js_set(v, "text", r->text ? js_new_text(r->text) : js_new_null());
    js_set(v, "tokens", js_new_int(r->options.n));
    js_set(v, "bytes", r->bytes ? js_new_int((int64_t)r->bytes) : js_new_null());
    js_set(v, "window", js_new_int(r->options.window));
    js_set(v, "stride", js_new_int(r->options.stride));
    js_set(v, "reference", was_compared(r) ? js_new_text(r->results[0].name) : js_new_null());
    for (int i = 0; i < r->n; i++)
        js_push(results, result_json(r, &r->results[i]));
    js_set(v, "results", results);
    js_print(v, out, 2);
    js_free(v);
}

/* ---- CSV ---- */

/* What there is no number for stays empty. */
static void csv_number(FILE *out, double v)
{
    if (isfinite(v))
        fprintf(out, ",%.9g", v);
    else
        fputc(',', out);
}

static void print_csv(const struct perplexity_report *r, FILE *out)
{
    const struct perplexity_options *o = &r->options;
    fputs("dtype,perplexity,nats_per_token,bits_per_byte,tokens_scored,tokens_in,seconds,"
          "tokens_per_s,same_best,kl_mean,kl_tokens,tokens,bytes,window,stride\n",
          out);
    for (int i = 0; i < r->n; i++) {
        const struct perplexity_result *one = &r->results[i];
        fputs(one->name, out);
        csv_number(out, exp(mean(one)));
        csv_number(out, mean(one));
        csv_number(out, perplexity_bits_per_byte(r, one));
        fprintf(out, ",%lld,%lld,%.6g,%.6g", (long long)one->scored, (long long)one->fed,
                one->seconds, tokens_per_s(one));
        csv_number(out, one->compared ? same_best(one) : (double)NAN);
        csv_number(out, one->compared ? kl_mean(one) : (double)NAN);
        csv_number(out, one->compared ? (double)one->kl_tokens : (double)NAN);
        fprintf(out, ",%d,", o->n);
        if (r->bytes)
            fprintf(out, "%zu", r->bytes);
        fprintf(out, ",%d,%d\n", o->window, o->stride);
    }
}

void perplexity_print(const struct perplexity_report *r, enum perplexity_format format, FILE *out)
{
    if (format == PERPLEXITY_JSON)
        print_json(r, out);
    else if (format == PERPLEXITY_CSV)
        print_csv(r, out);
    else
        print_text(r, out);
}
