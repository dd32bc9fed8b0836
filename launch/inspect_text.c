/* Prints an inspection as text. */
#include <inttypes.h>
#include <stdarg.h>

#include "base/units.h"
#include "launch/inspect.h"
#include "model/family.h"
#include "model/rope.h"

static void __attribute__((format(printf, 3, 4)))
line(FILE *out, const char *name, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(out, "%-14s", name);
    vfprintf(out, format, args);
    fputc('\n', out);
    va_end(args);
}

static void print_weights(const struct weight_files *w, FILE *out)
{
    if (w->missing == w->files) {
        line(out, "weights:", "not here");
        return;
    }
    if (w->missing) {
        line(out, "weights:", "not here: %d of %d files are missing", w->missing, w->files);
        return;
    }
    char types[48] = "";
    size_t n = 0;
    const enum quant kinds[] = {w->packed.matrices, w->packed.blocks};
    for (int k = 0; k < 2; k++)
        if (kinds[k] && (k == 0 || kinds[1] != kinds[0]))
            n += (size_t)snprintf(types + n, sizeof types - n, "%s%s", n ? " and " : "",
                                  quant_name(kinds[k]));
    for (int t = 0; t < 3; t++)
        if (w->types[t])
            n += (size_t)snprintf(types + n, sizeof types - n, "%s%s", n ? " and " : "",
                                  dtype_name((enum dtype)t));
    if (w->fp8)
        snprintf(types + n, sizeof types - n, "%sfp8", n ? " and " : "");
    line(out, "weights:", "%s, %s in %d file%s", types, bytes_text((double)w->bytes).text, w->files,
         w->files == 1 ? "" : "s");
}

static void print_experts(const struct config *m, FILE *out)
{
    char shared[64] = "no shared expert";
    if (!m->n_experts)
        return;
    if (m->shared_dim)
        snprintf(shared, sizeof shared, "a shared expert of width %d", m->shared_dim);
    line(out, "experts:", "%d a layer, top %d, width %d; %s", m->n_experts, m->top_k, m->expert_dim,
         shared);
}

static void print_context(const struct config *m, FILE *out)
{
    if (m->rope.type == ROPE_DEFAULT)
        line(out, "context:", "%d tokens", m->max_positions);
    else
        line(out, "context:", "%d tokens, positions scaled (%s, %g)", m->max_positions,
             rope_type_name(m->rope.type), m->rope.factor);
}

static void print_architecture(const struct inspection *i, FILE *out)
{
    static const char *const norms[] = {"", "; q and k normed by head", "; q and k normed"};
    const struct config *m = &i->plan.config;
    int dense = m->n_layers - i->plan.sizes.sparse_layers;
    line(out, "model:", "%s", i->name);
    line(out, "architecture:", "%s, %d layers (%d sparse, %d dense)", family_of(m)->type,
         m->n_layers, i->plan.sizes.sparse_layers, dense);
    line(out, "hidden:", "%d", m->dim);
    line(out, "attention:", "%d heads of %d, %d for keys and values%s", m->n_heads, m->head_dim,
         m->n_kv_heads, norms[m->qk_norm]);
    print_experts(m, out);
    if (dense)
        line(out, "dense MLP:", "width %d", m->ffn_dim);
    line(out, "vocabulary:", "%d, output matrix %s", m->vocab_size,
         m->tied ? "tied to the embedding" : "of its own");
    print_context(m, out);
    print_weights(&i->weights, out);
}

/* Two counts of active parameters: with the whole embedding, as models are advertised; and those
 * that are read for a token. */
static void print_parameters(const struct inspection *i, FILE *out)
{
    const struct sizes *s = &i->plan.sizes;
    uint64_t active = sizes_active_published(&i->plan.config);
    line(out, "parameters:", "%s (%" PRIu64 ")", count_text((double)s->total).text, s->total);
    line(out, "  active:", "%s a token (%" PRIu64 "), the whole embedding counted",
         count_text((double)active).text, active);
    line(out, "  read:", "%s a token (%" PRIu64 "), of the embedding one row: not counted",
         count_text((double)s->active).text, s->active);
}

/* The contexts that get a column: 1k, 8k and the model's most. */
static int contexts(const struct config *m, int columns[3])
{
    static const int usual[] = {1024, 8192};
    int n = 0;
    for (int k = 0; k < 2; k++)
        if (usual[k] < m->max_positions)
            columns[n++] = usual[k];
    columns[n++] = m->max_positions;
    return n;
}

/* The KV cache of what is quantised is in the checkpoint's type. */
static void print_type(const struct inspection *i, struct precision p, const int *columns, int n,
                       FILE *out)
{
    double kv = (double)kv_bytes_per_token(&i->plan.config, p.type);
    fprintf(out, "%-6s%12s%10.4g KiB", precision_text(&p).text,
            bytes_text(sizes_weight_bytes(&i->plan.sizes, &i->plan.config, &p)).text, kv / 1024);
    for (int k = 0; k < n; k++)
        fprintf(out, "%16s", bytes_text(kv * columns[k]).text);
    fputc('\n', out);
}

static void print_types(const struct inspection *i, FILE *out)
{
    static const enum dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    int columns[3], n = contexts(&i->plan.config, columns);
    fprintf(out, "\n%-6s%12s%14s", "type", "weights", "KV a token");
    for (int k = 0; k < n; k++) {
        char title[24];
        snprintf(title, sizeof title, "KV of %d", columns[k]);
        fprintf(out, "%16s", title);
    }
    fputc('\n', out);
    for (int t = 0; t < 3; t++)
        print_type(i, precision_of(types[t]), columns, n, out);
    for (enum quant q = QUANT_Q8; q < QUANT_COUNT; q++)
        print_type(i, (struct precision){i->plan.config.dtype, q, q}, columns, n, out);
}

/* "3", or "2-3". */
static struct unit_text range_text(int least, int most)
{
    struct unit_text t;
    if (least == most)
        snprintf(t.text, sizeof t.text, "%d", most);
    else
        snprintf(t.text, sizeof t.text, "%d-%d", least, most);
    return t;
}

static void print_rank(const struct inspection *i, int rank, double all, FILE *out)
{
    struct rank_share s = memory_plan_share(&i->plan, rank);
    fprintf(out, "%4d%17s%10d%14s%12s%12s%7.1f %%\n", rank,
            range_text(s.holding.least, s.holding.most).text, s.holding.experts,
            bytes_text((double)s.experts).text,
            bytes_text((double)(s.rest + s.pieces + s.outputs)).text,
            bytes_text((double)s.bytes).text, 100 * (double)s.bytes / all);
}

static void print_sum(const struct inspection *i, double all, FILE *out)
{
    struct rank_share first = memory_plan_share(&i->plan, 0);
    int copies = i->plan.placement.n_copies;
    int experts = i->plan.sizes.sparse_layers * i->plan.config.n_experts + copies;
    double bytes = (double)experts * (double)i->plan.footprint.expert;
    fprintf(out, "%4s%17d%10d%14s%12s%12s%7.1f %%\n", "all", i->plan.config.n_experts, experts,
            bytes_text(bytes).text,
            bytes_text((double)(first.rest + first.pieces + first.outputs)).text,
            bytes_text(all).text, 100.0);
    if (copies)
        fprintf(out, "\nof these experts %d are further copies, %s\n", copies,
                bytes_text((double)copies * (double)i->plan.footprint.expert).text);
}

static void print_rest(const struct inspection *i, FILE *out)
{
    const struct footprint *f = &i->plan.footprint;
    int sparse = i->plan.sizes.sparse_layers, dense = i->plan.config.n_layers - sparse;
    fprintf(out, "\nall else, on rank 0: attention %s", bytes_text((double)f->attention).text);
    if (sparse)
        fprintf(out, ", routers %s", bytes_text((double)f->router).text);
    if (f->dense)
        fprintf(out, ", %s %s",
                !sparse ? "MLPs"
                : dense ? "shared experts and MLPs"
                        : "shared experts",
                bytes_text((double)f->dense).text);
    fprintf(out, ",\noutput matrix %s", bytes_text((double)f->unembed).text);
    fprintf(out, ", embedding %s (stays in its file)",
            bytes_text((double)i->plan.embed_bytes).text);
    fprintf(out, ", KV cache %s\n", bytes_text((double)i->plan.kv_bytes).text);
}

static void print_ranks(const struct inspection *i, FILE *out)
{
    int n = i->plan.placement.n_ranks;
    double all = (double)memory_plan_bytes(&i->plan);
    fprintf(out, "\n%d rank%s, placement %s; memory as %s, with a KV cache of %d tokens:\n\n", n,
            n == 1 ? "" : "s", i->rule, precision_text(&i->plan.precision).text, i->plan.context);
    fprintf(out, "%4s%17s%10s%14s%12s%12s%9s\n", "rank", "experts a layer", "experts",
            "their bytes", "all else", "bytes", "share");
    for (int rank = 0; rank < n; rank++)
        print_rank(i, rank, all, out);
    if (n > 1)
        print_sum(i, all, out);
    print_rest(i, out);
}

/* How to run what was printed. */
static void print_command(const struct inspection *i, FILE *out)
{
    fprintf(out, "  epmoe run --device cuda --worker-device cpu --ranks %d --placement %s ",
            i->plan.placement.n_ranks, i->rule);
    if (i->home >= 0)
        fprintf(out, "--home %d ", i->home);
    fputs("…\n", out);
}

static void print_gpu(const struct inspection *i, FILE *out)
{
    struct gpu_plan g = gpu_plan_of(&i->plan, i->gpu_memory);
    int n = i->plan.placement.n_ranks;
    fprintf(out, "\nrank 0 on a GPU of %s: ", bytes_text((double)i->gpu_memory).text);
    fprintf(out, "%s, %s with %s of workspace\n", g.fits ? "fits" : "does not fit",
            bytes_text((double)g.bytes).text, bytes_text((double)g.workspace).text);
    fprintf(out, "a token reads %s of weights on the GPU", bytes_text(g.read_here).text);
    if (n > 1)
        fprintf(out, " and %s on the workers;\nup to %s of rows travel for it",
                bytes_text(g.read_there).text, bytes_text(g.rows).text);
    fputc('\n', out);
    if (g.fits && n > 1)
        print_command(i, out);
    else if (!g.fits)
        fprintf(out, "what would make room: a shorter context (-c), fewer experts at home\n");
}

static void print_speeds(const struct forecast *f, FILE *out)
{
    const struct workload *w = &f->balance.load;
    fprintf(out, "\nexpected, for prompts of %d tokens and %d new ones, %d at a time; ", w->prompt,
            w->generated, w->batch);
    if (f->file)
        fprintf(out, "ranks as fast as %s says:\n\n", f->file);
    else
        fprintf(out,
                "every rank taken to be as fast\nas this machine's processor with %d thread%s: "
                "%.4g GFLOP/s, reads %s/s:\n\n",
                f->threads, f->threads == 1 ? "" : "s", f->speeds[0].flops * 1e-9,
                bytes_text(f->speeds[0].bytes).text);
}

static void print_busy(const struct inspection *i, int rank, FILE *out)
{
    const struct forecast *f = &i->forecast;
    const struct placement *p = &i->plan.placement;
    struct holding h = placement_holding(p, rank);
    struct range pieces = forecast_pieces(p, rank);
    fprintf(out, "%4d%17s%16s%10d%14s%13s\n", rank, range_text(h.least, h.most).text,
            range_text(pieces.least, pieces.most).text,
            p->output_first[rank + 1] - p->output_first[rank],
            seconds_text(f->busy[BALANCE_PREFILL][rank]).text,
            seconds_text(f->busy[BALANCE_DECODE][rank]).text);
}

static void print_step(const char *phase, const struct balance_times *t, FILE *out)
{
    fprintf(out, "%s: a step of %d row%s %s, on rank 0 alone %s: %.2f times as fast, ", phase,
            t->rows, t->rows == 1 ? "" : "s", seconds_text(t->step).text,
            seconds_text(t->alone).text, t->alone / t->step);
    fprintf(out, "at most %.2f\n", t->alone / t->bound);
}

static void print_forecast(const struct inspection *i, FILE *out)
{
    const struct forecast *f = &i->forecast;
    print_speeds(f, out);
    fprintf(out, "%4s%17s%16s%10s%14s%13s\n", "rank", "experts a layer", "pieces a layer",
            "outputs", "busy: prefill", "decode");
    for (int rank = 0; rank < f->balance.n_ranks; rank++)
        print_busy(i, rank, out);
    fputc('\n', out);
    print_step("prefill", &f->times[BALANCE_PREFILL], out);
    print_step("decode", &f->times[BALANCE_DECODE], out);
}

void inspect_print(const struct inspection *i, FILE *out)
{
    print_architecture(i, out);
    print_parameters(i, out);
    print_types(i, out);
    print_ranks(i, out);
    if (i->forecast.made)
        print_forecast(i, out);
    if (i->gpu_memory)
        print_gpu(i, out);
}
