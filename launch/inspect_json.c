/* Prints an inspection as JSON. */
#include <math.h>
#include <string.h>

#include "base/json.h"
#include "launch/inspect.h"
#include "model/family.h"
#include "model/rope.h"

static const enum dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};

static void set_text(struct js *to, const char *key, const char *text)
{
    js_set(to, key, js_new_text(text));
}

static void set_int(struct js *to, const char *key, uint64_t v)
{
    js_set(to, key, js_new_int((int64_t)v));
}

static void set_architecture(struct js *to, const struct inspection *i)
{
    static const char *const norms[] = {"none", "head", "all"};
    const struct config *m = &i->plan.config;
    struct {
        const char *key;
        int value;
    } const ints[] = {
        {"layers", m->n_layers},
        {"sparse_layers", i->plan.sizes.sparse_layers},
        {"hidden", m->dim},
        {"heads", m->n_heads},
        {"kv_heads", m->n_kv_heads},
        {"head_dim", m->head_dim},
        {"experts", m->n_experts},
        {"top_k", m->top_k},
        {"expert_width", m->expert_dim},
        {"shared_width", m->shared_dim},
        {"dense_width", m->ffn_dim},
        {"vocabulary", m->vocab_size},
        {"context", m->max_positions},
    };
    set_text(to, "model", i->name);
    set_text(to, "architecture", family_of(m)->type);
    for (size_t k = 0; k < sizeof ints / sizeof *ints; k++)
        js_set(to, ints[k].key, js_new_int(ints[k].value));
    js_set(to, "tied", js_new_bool(m->tied));
    set_text(to, "qk_norm", norms[m->qk_norm]);
    set_text(to, "rope_type", rope_type_name(m->rope.type));
}

static struct js *weights_json(const struct weight_files *w)
{
    struct js *o = js_new_object(), *list = js_new_array();
    for (int t = 0; t < 3; t++)
        if (w->types[types[t]])
            js_push(list, js_new_string(dtype_name(types[t]), strlen(dtype_name(types[t]))));
    if (w->fp8)
        js_push(list, js_new_text("fp8"));
    js_set(o, "here", js_new_bool(w->missing == 0));
    js_set(o, "files", js_new_int(w->files));
    js_set(o, "missing_files", js_new_int(w->missing));
    set_int(o, "bytes", w->bytes);
    js_set(o, "types", list);
    return o;
}

static struct js *parameters_json(const struct inspection *i)
{
    struct js *o = js_new_object();
    set_int(o, "total", i->plan.sizes.total);
    set_int(o, "active", sizes_active_published(&i->plan.config));
    set_int(o, "read_per_token", i->plan.sizes.active);
    return o;
}

static void set_types(struct js *to, const struct inspection *i)
{
    struct js *weights = js_new_object(), *kv = js_new_object();
    for (enum quant q = QUANT_Q8; q < QUANT_COUNT; q++) {
        struct precision p = {i->plan.config.dtype, q, q};
        set_int(weights, quant_name(q),
                (uint64_t)sizes_weight_bytes(&i->plan.sizes, &i->plan.config, &p));
    }
    for (int t = 0; t < 3; t++) {
        set_int(weights, dtype_name(types[t]),
                i->plan.sizes.total * (uint64_t)dtype_bytes(types[t]));
        set_int(kv, dtype_name(types[t]), kv_bytes_per_token(&i->plan.config, types[t]));
    }
    js_set(to, "weight_bytes", weights);
    js_set(to, "kv_bytes_per_token", kv);
}

static struct js *rank_json(const struct inspection *i, int rank, uint64_t all)
{
    struct rank_share s = memory_plan_share(&i->plan, rank);
    const int32_t *outputs = i->plan.placement.output_first;
    struct js *o = js_new_object();
    js_set(o, "rank", js_new_int(rank));
    js_set(o, "experts", js_new_int(s.holding.experts));
    js_set(o, "pieces", js_new_int(s.holding.pieces));
    js_set(o, "outputs", js_new_int(outputs[rank + 1] - outputs[rank]));
    js_set(o, "fewest_of_a_layer", js_new_int(s.holding.least));
    js_set(o, "most_of_a_layer", js_new_int(s.holding.most));
    set_int(o, "expert_bytes", s.experts);
    set_int(o, "other_bytes", s.rest + s.pieces + s.outputs);
    set_int(o, "bytes", s.bytes);
    js_set(o, "share", js_new_real((double)s.bytes / (double)all));
    return o;
}

static struct js *rank_0_json(const struct inspection *i)
{
    struct js *o = js_new_object();
    set_int(o, "attention", i->plan.footprint.attention);
    set_int(o, "router", i->plan.footprint.router);
    set_int(o, "dense", i->plan.footprint.dense);
    set_int(o, "unembed", i->plan.footprint.unembed);
    set_int(o, "embed", i->plan.embed_bytes);
    set_int(o, "kv_cache", i->plan.kv_bytes);
    return o;
}

static struct js *gpu_json(const struct inspection *i)
{
    struct gpu_plan g = gpu_plan_of(&i->plan, i->gpu_memory);
    struct js *o = js_new_object();
    set_int(o, "memory_bytes", i->gpu_memory);
    set_int(o, "bytes", g.bytes);
    set_int(o, "workspace_bytes", g.workspace);
    js_set(o, "fits", js_new_bool(g.fits));
    set_int(o, "token_reads_on_gpu", (uint64_t)llround(g.read_here));
    set_int(o, "token_reads_on_workers", (uint64_t)llround(g.read_there));
    set_int(o, "token_rows_at_most", (uint64_t)llround(g.rows));
    return o;
}

static struct js *speed_json(const struct inspection *i, int rank)
{
    const struct forecast *f = &i->forecast;
    struct range pieces = forecast_pieces(&i->plan.placement, rank);
    struct js *o = js_new_object();
    js_set(o, "rank", js_new_int(rank));
    js_set(o, "flops", js_new_real(f->speeds[rank].flops));
    js_set(o, "read_bytes_per_s", js_new_real(f->speeds[rank].bytes));
    if (f->speeds[rank].memory)
        set_int(o, "memory_bytes", f->speeds[rank].memory);
    js_set(o, "fewest_pieces_of_a_layer", js_new_int(pieces.least));
    js_set(o, "most_pieces_of_a_layer", js_new_int(pieces.most));
    js_set(o, "prefill_busy_s", js_new_real(f->busy[BALANCE_PREFILL][rank]));
    js_set(o, "decode_busy_s", js_new_real(f->busy[BALANCE_DECODE][rank]));
    return o;
}

static struct js *step_json(const struct balance_times *t)
{
    struct js *o = js_new_object();
    js_set(o, "rows", js_new_int(t->rows));
    js_set(o, "step_s", js_new_real(t->step));
    js_set(o, "coordinator_s", js_new_real(t->own));
    js_set(o, "alone_s", js_new_real(t->alone));
    js_set(o, "least_s", js_new_real(t->bound));
    js_set(o, "speed_up", js_new_real(t->alone / t->step));
    js_set(o, "speed_up_at_most", js_new_real(t->alone / t->bound));
    return o;
}

static struct js *forecast_json(const struct inspection *i)
{
    const struct forecast *f = &i->forecast;
    const struct workload *w = &f->balance.load;
    struct js *o = js_new_object(), *ranks = js_new_array();
    js_set(o, "prompt", js_new_int(w->prompt));
    js_set(o, "new", js_new_int(w->generated));
    js_set(o, "batch", js_new_int(w->batch));
    set_text(o, "speeds", f->file ? f->file : "measured");
    for (int rank = 0; rank < f->balance.n_ranks; rank++)
        js_push(ranks, speed_json(i, rank));
    js_set(o, "ranks", ranks);
    js_set(o, "prefill", step_json(&f->times[BALANCE_PREFILL]));
    js_set(o, "decode", step_json(&f->times[BALANCE_DECODE]));
    return o;
}

static struct js *plan_json(const struct inspection *i)
{
    struct js *plan = js_new_object(), *ranks = js_new_array();
    uint64_t all = memory_plan_bytes(&i->plan);
    set_text(plan, "placement", i->rule);
    set_text(plan, "dtype", precision_text(&i->plan.precision).text);
    js_set(plan, "context", js_new_int(i->plan.context));
    set_int(plan, "bytes", all);
    js_set(plan, "other_bytes", rank_0_json(i));
    js_set(plan, "copies", js_new_int(i->plan.placement.n_copies));
    for (int rank = 0; rank < i->plan.placement.n_ranks; rank++)
        js_push(ranks, rank_json(i, rank, all));
    js_set(plan, "ranks", ranks);
    if (i->forecast.made)
        js_set(plan, "expected", forecast_json(i));
    return plan;
}

bool inspect_print_json(const struct inspection *i, FILE *out)
{
    struct js *o = js_new_object();
    set_architecture(o, i);
    js_set(o, "weights", weights_json(&i->weights));
    js_set(o, "parameters", parameters_json(i));
    set_types(o, i);
    js_set(o, "plan", plan_json(i));
    if (i->gpu_memory)
        js_set(o, "gpu", gpu_json(i));
    bool good = js_print(o, out, 2);
    js_free(o);
    return good;
}
