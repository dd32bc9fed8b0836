#include "study/fit.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "model/found.h"
#include "study/json_table.h"
#include "study/origin.h"

enum { MAX_FIT_BYTES = 4 << 20, FORMAT = 1, MOST = 1 << 30 };
static const char kind[] = "epmoe fit";
static const double most_seconds = 1e6, most_count = 1e18;

/* ---- spans ---- */

struct fit_spans fit_spans_of(const struct setting *settings, int n)
{
    struct fit_spans all = {span_none, span_none, span_none, span_none, span_none};
    for (int i = 0; i < n; i++) {
        const struct setting *s = &settings[i];
        bool travels = s->kind == SETTING_LAP || s->kind == SETTING_STEP;
        span_widen(&all.rows, s->rows);
        if (s->kind == SETTING_ALONE || s->kind == SETTING_STEP)
            span_widen(&all.positions, s->position);
        if (!travels)
            continue;
        span_widen(&all.ranks, s->ranks);
        span_widen(&all.lap_bytes, s->lap_bytes);
        span_widen(&all.lap_messages, s->lap_messages);
    }
    struct span *each[] = {&all.ranks, &all.rows, &all.lap_bytes, &all.lap_messages,
                           &all.positions};
    for (size_t i = 0; i < sizeof each / sizeof *each; i++)
        if (each[i]->most < each[i]->least)
            *each[i] = (struct span){0, 0};
    return all;
}

/* ---- writing ---- */

static struct js *span_json(const struct span *s)
{
    struct js *v = js_new_array();
    js_push(v, js_new_real(s->least));
    js_push(v, js_new_real(s->most));
    return v;
}

static struct js *spans_json(const struct fit_spans *s)
{
    struct js *v = js_new_object();
    js_set(v, "ranks", span_json(&s->ranks));
    js_set(v, "rows", span_json(&s->rows));
    js_set(v, "lap_bytes", span_json(&s->lap_bytes));
    js_set(v, "lap_messages", span_json(&s->lap_messages));
    js_set(v, "positions", span_json(&s->positions));
    return v;
}

static struct js *machine_json(const struct fit *f)
{
    struct js *v = js_new_object();
    js_set(v, "processor", js_new_text(f->processor));
    js_set(v, "isa", js_new_text(f->isa));
    js_set(v, "cores", js_new_int(f->cores));
    js_set(v, "hosts", js_new_int(f->hosts));
    return v;
}

static struct js *model_json(const struct fit *f)
{
    const struct fit_model *m = &f->model;
    char digest[17];
    if (!f->has_model)
        return js_new_null();
    struct js *v = js_new_object();
    snprintf(digest, sizeof digest, "%016" PRIx64, m->digest);
    js_set(v, "name", js_new_text(m->name));
    js_set(v, "digest", js_new_text(digest));
    js_set(v, "layers", js_new_int(m->layers));
    js_set(v, "sparse_layers", js_new_int(m->sparse_layers));
    js_set(v, "hidden", js_new_int(m->hidden));
    js_set(v, "experts", js_new_int(m->experts));
    js_set(v, "top_k", js_new_int(m->top_k));
    js_set(v, "dtype", js_new_text(dtype_name(m->dtype)));
    js_set(v, "expert_parameters", js_new_real(m->expert_parameters));
    js_set(v, "home_parameters", js_new_real(m->home_parameters));
    js_set(v, "output_parameters", js_new_real(m->output_parameters));
    return v;
}

static struct js *prices_json(const struct fit *f)
{
    struct js *v = js_new_object();
    for (int c = 0; c < COSTS; c++)
        js_set(v, cost_key((enum cost)c),
               c < COSTS_OF_LAPS || f->has_model ? js_new_real(f->prices.of[c]) : js_new_null());
    return v;
}

static struct js *goodness_json(const struct goodness *g)
{
    struct js *v = js_new_object();
    js_set(v, "fitted", js_new_int(g->fitted));
    js_set(v, "held_out", js_new_int(g->held_out));
    js_set(v, "r2", js_new_real(g->r2));
    js_set(v, "fitted_median_relative_error", js_new_real(g->fitted_median));
    js_set(v, "held_out_median_relative_error", js_new_real(g->held_out_median));
    js_set(v, "held_out_most_relative_error", js_new_real(g->held_out_most));
    js_set(v, "noise_floor", js_new_real(g->noise));
    return v;
}

static struct js *setting_json(const struct setting *s)
{
    static const char *const keys[] = {"strategy", "dedup", "combine", "wire"};
    struct exchange_words w = exchange_words(&s->way);
    const char *words[] = {w.strategy, w.dedup, w.combine, w.wire};
    bool travels = s->kind == SETTING_LAP || s->kind == SETTING_STEP;
    struct js *v = js_new_object();
    js_set(v, "kind", js_new_text(setting_kind_name(s->kind)));
    js_set(v, "ranks", js_new_int(s->ranks));
    js_set(v, "rows", js_new_int(s->rows));
    js_set(v, "position", js_new_int(s->position));
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        js_set(v, keys[i], travels ? js_new_text(words[i]) : js_new_null());
    js_set(v, "held_out", js_new_bool(s->held_out));
    js_set(v, "measured_s", js_new_real(s->measured));
    js_set(v, "again_s", js_new_real(s->again));
    js_set(v, "predicted_s", js_new_real(s->predicted));
    js_set(v, "relative_error", js_new_real(setting_error(s)));
    return v;
}

static struct js *fit_json(const struct fit *f, const struct setting *settings, int n)
{
    struct js *v = js_new_object(), *list = js_new_array();
    js_set(v, "kind", js_new_text(kind));
    js_set(v, "format", js_new_int(FORMAT));
    js_set(v, "version", js_new_text(f->version));
    js_set(v, "origin", origin_json());
    js_set(v, "machine", machine_json(f));
    js_set(v, "ranks", js_new_int(f->ranks));
    js_set(v, "threads", js_new_int(f->threads));
    js_set(v, "ranks_at_once", js_new_int(f->ranks_at_once));
    js_set(v, "transport", js_new_text(f->transport));
    js_set(v, "model", model_json(f));
    js_set(v, "coefficients", prices_json(f));
    js_set(v, "measured", spans_json(&f->spans));
    js_set(v, "goodness", goodness_json(&f->good));
    for (int i = 0; i < n; i++)
        js_push(list, setting_json(&settings[i]));
    js_set(v, "settings", list);
    return v;
}

int fit_write(const struct fit *f, const struct setting *settings, int n, const char *path)
{
    struct outfile out;
    int status = outfile_open(&out, path);
    if (status)
        return status;
    struct js *v = fit_json(f, settings, n);
    js_print(v, out.stream, 2);
    js_free(v);
    return outfile_commit(&out);
}

/* ---- reading ---- */

static int read_span(struct span *s, const struct js *list, const char *file, const char *key)
{
    double least = js_number(js_item(list, 0)), most = js_number(js_item(list, 1));
    bool numbers = js_is_number(js_item(list, 0)) && js_is_number(js_item(list, 1));
    if (js_count(list) != 2 || !numbers || !(least >= 0 && least <= most && most <= most_count))
        return fail(STATUS_BAD_FILE,
                    "%s: measured.%s: expected the least and the most, from 0 to 1e18, found a "
                    "list of %zu",
                    file, key, js_count(list));
    *s = (struct span){least, most};
    return 0;
}

static int read_spans(struct fit_spans *s, const struct js *object, const char *file,
                      struct arena *memory)
{
    const struct js *list[5] = {NULL};
    const struct json_key keys[] = {{.name = "ranks", .kind = JSON_LIST, .to = &list[0]},
                                    {.name = "rows", .kind = JSON_LIST, .to = &list[1]},
                                    {.name = "lap_bytes", .kind = JSON_LIST, .to = &list[2]},
                                    {.name = "lap_messages", .kind = JSON_LIST, .to = &list[3]},
                                    {.name = "positions", .kind = JSON_LIST, .to = &list[4]},
                                    {0}};
    struct span *to[5] = {&s->ranks, &s->rows, &s->lap_bytes, &s->lap_messages, &s->positions};
    int status = json_table_read(file, "measured.", object, keys, memory);
    for (int i = 0; i < 5 && !status; i++)
        status = read_span(to[i], list[i], file, keys[i].name);
    return status;
}

static int read_prices(struct fit *f, const struct js *object, const char *file,
                       struct arena *memory)
{
    struct json_key keys[COSTS + 1] = {{0}};
    for (int c = 0; c < COSTS; c++)
        keys[c] = (struct json_key){.name = cost_key((enum cost)c),
                                    .kind = JSON_REAL,
                                    .to = &f->prices.of[c],
                                    .most = most_seconds,
                                    .optional = c >= COSTS_OF_LAPS && !f->has_model};
    return json_table_read(file, "coefficients.", object, keys, memory);
}

static int read_digest(uint64_t *digest, const char *text, const char *file)
{
    size_t digits = strspn(text, "0123456789abcdef");
    if (digits != 16 || text[digits])
        return fail(STATUS_BAD_FILE,
                    "%s: model.digest: expected 16 hexadecimal digits, found \"%.40s\"", file,
                    text);
    *digest = strtoull(text, NULL, 16);
    return 0;
}

static int read_dtype(enum dtype *type, const char *text, const char *file)
{
    for (int t = 0; t <= DTYPE_BF16; t++)
        if (strcmp(text, dtype_name((enum dtype)t)) == 0) {
            *type = (enum dtype)t;
            return 0;
        }
    return fail(STATUS_BAD_FILE, "%s: model.dtype: expected f32, f16 or bf16, found \"%.40s\"",
                file, text);
}

static int read_model(struct fit_model *m, const struct js *object, const char *file,
                      struct arena *memory)
{
    const char *digest = "", *dtype = "";
    const struct json_key keys[] = {
        {.name = "name", .kind = JSON_TEXT, .to = &m->name},
        {.name = "digest", .kind = JSON_TEXT, .to = &digest},
        {.name = "layers", .kind = JSON_WHOLE, .to = &m->layers, .least = 1, .most = MOST},
        {.name = "sparse_layers",
         .kind = JSON_WHOLE,
         .to = &m->sparse_layers,
         .least = 1,
         .most = MOST},
        {.name = "hidden", .kind = JSON_WHOLE, .to = &m->hidden, .least = 1, .most = MOST},
        {.name = "experts", .kind = JSON_WHOLE, .to = &m->experts, .least = 1, .most = MOST},
        {.name = "top_k", .kind = JSON_WHOLE, .to = &m->top_k, .least = 1, .most = MOST},
        {.name = "dtype", .kind = JSON_TEXT, .to = &dtype},
        {.name = "expert_parameters",
         .kind = JSON_REAL,
         .to = &m->expert_parameters,
         .most = most_count},
        {.name = "home_parameters",
         .kind = JSON_REAL,
         .to = &m->home_parameters,
         .most = most_count},
        {.name = "output_parameters",
         .kind = JSON_REAL,
         .to = &m->output_parameters,
         .most = most_count},
        {0}};
    int status = json_table_read(file, "model.", object, keys, memory);
    if (!status)
        status = read_digest(&m->digest, digest, file);
    return status ? status : read_dtype(&m->dtype, dtype, file);
}

static int read_machine(struct fit *f, const struct js *object, const char *file,
                        struct arena *memory)
{
    const struct json_key keys[] = {
        {.name = "processor", .kind = JSON_TEXT, .to = &f->processor},
        {.name = "isa", .kind = JSON_TEXT, .to = &f->isa},
        {.name = "cores", .kind = JSON_WHOLE, .to = &f->cores, .least = 1, .most = MOST},
        {.name = "hosts", .kind = JSON_WHOLE, .to = &f->hosts, .least = 1, .most = MOST},
        {0}};
    return json_table_read(file, "machine.", object, keys, memory);
}

/* `epmoe report` shows the origin. Here it is only checked. */
static int check_origin(const struct js *object, const char *file, struct arena *memory)
{
    const struct json_key keys[] = {{.name = "command_line", .kind = JSON_TEXT, .optional = true},
                                    {.name = "version", .kind = JSON_TEXT},
                                    {.name = "cpu", .kind = JSON_TEXT},
                                    {0}};
    return json_table_read(file, "origin.", object, keys, memory);
}

static int read_goodness(struct goodness *g, const struct js *object, const char *file,
                         struct arena *memory)
{
    const struct json_key keys[] = {
        {.name = "fitted", .kind = JSON_WHOLE, .to = &g->fitted, .most = MOST},
        {.name = "held_out", .kind = JSON_WHOLE, .to = &g->held_out, .most = MOST},
        {.name = "r2", .kind = JSON_REAL, .to = &g->r2, .least = -1e18, .most = 1},
        {.name = "fitted_median_relative_error",
         .kind = JSON_REAL,
         .to = &g->fitted_median,
         .most = most_count},
        {.name = "held_out_median_relative_error",
         .kind = JSON_REAL,
         .to = &g->held_out_median,
         .most = most_count},
        {.name = "held_out_most_relative_error",
         .kind = JSON_REAL,
         .to = &g->held_out_most,
         .most = most_count},
        {.name = "noise_floor", .kind = JSON_REAL, .to = &g->noise, .most = most_count},
        {0}};
    return json_table_read(file, "goodness.", object, keys, memory);
}

/* The objects of the file, as its root names them. */
struct parts {
    const struct js *origin, *machine, *model, *prices, *measured, *goodness, *settings;
};

static int read_root(struct fit *f, struct parts *p, const struct js *root, const char *file,
                     struct arena *memory)
{
    const char *what = "";
    const struct json_key keys[] = {
        {.name = "kind", .kind = JSON_TEXT, .to = &what},
        {.name = "format", .kind = JSON_WHOLE, .least = FORMAT, .most = FORMAT},
        {.name = "version", .kind = JSON_TEXT, .to = &f->version},
        {.name = "origin", .kind = JSON_OBJECT, .to = &p->origin, .optional = true},
        {.name = "machine", .kind = JSON_OBJECT, .to = &p->machine},
        {.name = "ranks", .kind = JSON_WHOLE, .to = &f->ranks, .least = 1, .most = MOST},
        {.name = "threads", .kind = JSON_WHOLE, .to = &f->threads, .least = 1, .most = MOST},
        {.name = "ranks_at_once",
         .kind = JSON_WHOLE,
         .to = &f->ranks_at_once,
         .least = 1,
         .most = MOST},
        {.name = "transport", .kind = JSON_TEXT, .to = &f->transport},
        {.name = "model", .kind = JSON_OBJECT, .to = &p->model, .optional = true},
        {.name = "coefficients", .kind = JSON_OBJECT, .to = &p->prices},
        {.name = "measured", .kind = JSON_OBJECT, .to = &p->measured},
        {.name = "goodness", .kind = JSON_OBJECT, .to = &p->goodness},
        {.name = "settings", .kind = JSON_LIST, .to = &p->settings},
        {0}};
    const struct js *given = js_member(root, "kind");
    if (!js_is_string(given) || strcmp(js_string(given, NULL), kind) != 0)
        return fail(STATUS_BAD_FILE,
                    "%s: kind: expected \"%s\", as epmoe calibrate writes it, found %s", file, kind,
                    given ? found(given).text : "none");
    return json_table_read(file, "", root, keys, memory);
}

static int read_parts(void *to, const struct js *root, const char *file, struct arena *memory)
{
    struct fit *f = to;
    struct parts p = {0};
    *f = (struct fit){0};
    int status = read_root(f, &p, root, file, memory);
    if (status)
        return status;
    f->has_model = p.model;
    if (p.origin)
        status = check_origin(p.origin, file, memory);
    if (!status)
        status = read_machine(f, p.machine, file, memory);
    if (!status && p.model)
        status = read_model(&f->model, p.model, file, memory);
    if (!status)
        status = read_prices(f, p.prices, file, memory);
    if (!status)
        status = read_spans(&f->spans, p.measured, file, memory);
    return status ? status : read_goodness(&f->good, p.goodness, file, memory);
}

int fit_parse(struct fit *f, const char *text, size_t bytes, const char *name, struct arena *memory)
{
    return json_read_text(f, read_parts, text, bytes, name, memory);
}

int fit_read(struct fit *f, const char *path, struct arena *memory)
{
    return json_read_file(f, read_parts, path, MAX_FIT_BYTES, memory);
}
