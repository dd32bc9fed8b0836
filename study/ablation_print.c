#include "base/json.h"
#include "commit.h"
#include "study/ablation.h"

/* How many times as fast a row is as the row before it; a dense model's, as the best of the others
 * with one sequence: the row before last. */
static double times(const struct ablation_report *r, int i, bool prefill)
{
    const struct ablation_row *row = &r->rows[i], *before = &r->rows[i - (row->dense ? 2 : 1)];
    return prefill ? row->prefill / before->prefill : row->decode / before->decode;
}

static void print_change(const struct ablation_report *r, int i, const char *dense_name, FILE *out)
{
    const struct ablation_row *row = &r->rows[i];
    char text[64];
    if (row->dense)
        snprintf(text, sizeof text, "(%s)", dense_name);
    else
        snprintf(text, sizeof text, "%s%s", i ? "+ " : "", row->change);
    fprintf(out, "| %-34s | %-4s | %-6s | %7d |", text, dtype_name(row->dtype), row->isa,
            row->threads);
}

/* A speed, and how many times that of the row before. */
static void print_speed(const struct ablation_report *r, int i, bool prefill, FILE *out)
{
    const struct ablation_row *row = &r->rows[i];
    char text[32] = "";
    if (i)
        snprintf(text, sizeof text, "%.2f", times(r, i, prefill));
    fprintf(out, " %10.2f | %6s |", prefill ? row->prefill : row->decode, text);
}

static void print_difference(const struct ablation_row *row, FILE *out)
{
    if (row->difference < 0)
        fprintf(out, " %8s |\n", "");
    else
        fprintf(out, " %8.1e |\n", row->difference);
}

static void print_md(const struct ablation_report *r, const struct ablation_options *o, FILE *out)
{
    fprintf(out, "%s, %d tokens in, %d out; %s, commit %s\n\n", o->model_name, o->prompt,
            o->generate, r->cpu, EPMOE_COMMIT);
    fputs("| one change after the other          | type | isa    | threads | prefill/s  |  times | "
          "decode/s   |  times |   differs |\n"
          "|------------------------------------|------|--------|--------:|-----------:|-------:|"
          "-----------:|-------:|---------:|\n",
          out);
    for (int i = 0; i < r->n; i++) {
        print_change(r, i, o->dense_name, out);
        print_speed(r, i, true, out);
        print_speed(r, i, false, out);
        print_difference(&r->rows[i], out);
    }
    fprintf(out,
            "\nTokens/s. times: as fast as the row before%s. The prompt goes in steps of %d rows "
            "until one step\nhas all of it. differs: the last logits from the first row's, as a "
            "share of their range.\n",
            o->dense_name ? "; of the dense model, as the last row of one sequence" : "",
            ABLATION_STEP_ROWS);
}

static void print_csv(const struct ablation_report *r, const struct ablation_options *o, FILE *out)
{
    fputs("change,model,dtype,isa,threads,step_rows,batch,prefill_tokens_per_s,"
          "decode_tokens_per_s,logits_difference\n",
          out);
    for (int i = 0; i < r->n; i++) {
        const struct ablation_row *row = &r->rows[i];
        fprintf(out, "\"%s\",\"%s\",%s,%s,%d,%d,%d,%.6g,%.6g,", row->change,
                row->dense ? o->dense_name : o->model_name, dtype_name(row->dtype), row->isa,
                row->threads, row->step_rows, row->batch, row->prefill, row->decode);
        fprintf(out, row->difference < 0 ? "\n" : "%.6g\n", row->difference);
    }
}

static struct js *row_json(const struct ablation_row *row, const struct ablation_options *o)
{
    struct js *object = js_new_object();
    js_set(object, "change", js_new_text(row->change));
    js_set(object, "model", js_new_text(row->dense ? o->dense_name : o->model_name));
    js_set(object, "dtype", js_new_text(dtype_name(row->dtype)));
    js_set(object, "isa", js_new_text(row->isa));
    js_set(object, "threads", js_new_int(row->threads));
    js_set(object, "step_rows", js_new_int(row->step_rows));
    js_set(object, "batch", js_new_int(row->batch));
    js_set(object, "prefill_tokens_per_s", js_new_real(row->prefill));
    js_set(object, "decode_tokens_per_s", js_new_real(row->decode));
    if (row->difference >= 0)
        js_set(object, "logits_difference", js_new_real(row->difference));
    return object;
}

static void print_json(const struct ablation_report *r, const struct ablation_options *o, FILE *out)
{
    struct js *root = js_new_object(), *rows = js_new_array();
    js_set(root, "cpu", js_new_text(r->cpu));
    js_set(root, "commit", js_new_text(EPMOE_COMMIT));
    js_set(root, "prompt", js_new_int(o->prompt));
    js_set(root, "generate", js_new_int(o->generate));
    for (int i = 0; i < r->n; i++)
        js_push(rows, row_json(&r->rows[i], o));
    js_set(root, "ablation", rows);
    js_print(root, out, 2);
    js_free(root);
}

void ablation_print(const struct ablation_report *r, const struct ablation_options *o,
                    enum bench_format format, FILE *out)
{
    static void (*const printers[])(const struct ablation_report *r,
                                    const struct ablation_options *o, FILE *out) = {
        [BENCH_MD] = print_md, [BENCH_JSON] = print_json, [BENCH_CSV] = print_csv};
    printers[format](r, o, out);
}
