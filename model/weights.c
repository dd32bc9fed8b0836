#include "model/weights.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/pulse.h"
#include "kernels/ops.h"

enum { NAME_BYTES = 160 };

/* "model.layers.L.<what>" */
static const char *layer_name(char *name, int layer, const char *what)
{
    snprintf(name, NAME_BYTES, "model.layers.%d.%s", layer, what);
    return name;
}

static const char *expert_name(char *name, int layer, int expert, const char *what)
{
    snprintf(name, NAME_BYTES, "model.layers.%d.mlp.experts.%d.%s.weight", layer, expert, what);
    return name;
}

static const struct tensor *need(const struct checkpoint *c, const char *name, int64_t rows,
                                 int64_t columns)
{
    int64_t shape[2] = {rows, columns};
    return checkpoint_need(c, name, columns ? 2 : 1, shape);
}

static bool is_fused(const struct checkpoint *c, int layer)
{
    char name[NAME_BYTES];
    return checkpoint_find(c, layer_name(name, layer, "mlp.experts.gate_up_proj")) != NULL;
}

static int check_fused(const struct config *m, const struct checkpoint *c, int layer)
{
    char name[NAME_BYTES];
    int64_t up[3] = {m->n_experts, 2 * (int64_t)m->expert_dim, m->dim};
    int64_t down[3] = {m->n_experts, m->dim, m->expert_dim};
    if (!checkpoint_need(c, layer_name(name, layer, "mlp.experts.gate_up_proj"), 3, up) ||
        !checkpoint_need(c, layer_name(name, layer, "mlp.experts.down_proj"), 3, down))
        return STATUS_BAD_FILE;
    return 0;
}

static int check_experts(const struct config *m, const struct checkpoint *c, int layer)
{
    char name[NAME_BYTES];
    if (is_fused(c, layer))
        return check_fused(m, c, layer);
    for (int e = 0; e < m->n_experts; e++) {
        if (!need(c, expert_name(name, layer, e, "gate_proj"), m->expert_dim, m->dim) ||
            !need(c, expert_name(name, layer, e, "up_proj"), m->expert_dim, m->dim) ||
            !need(c, expert_name(name, layer, e, "down_proj"), m->dim, m->expert_dim))
            return STATUS_BAD_FILE;
    }
    // one expert too many means that the config is another model's
    if (checkpoint_find(c, expert_name(name, layer, m->n_experts, "gate_proj")))
        return fail(STATUS_BAD_FILE,
                    "config.json: expected num_experts to cover tensor %s, found %d", name,
                    m->n_experts);
    return 0;
}

static int check_mlp(const struct checkpoint *c, int layer, const char *prefix, int width, int dim)
{
    char what[64], name[NAME_BYTES];
    static const char *const parts[] = {"gate_proj", "up_proj", "down_proj"};
    for (int i = 0; i < 3; i++) {
        snprintf(what, sizeof what, "%s.%s.weight", prefix, parts[i]);
        if (!need(c, layer_name(name, layer, what), i == 2 ? dim : width, i == 2 ? width : dim))
            return STATUS_BAD_FILE;
    }
    return 0;
}

static int check_bias(const struct config *m, const struct checkpoint *c, int layer,
                      const char *what, int n)
{
    char name[NAME_BYTES];
    layer_name(name, layer, what);
    if (m->qkv_bias)
        return need(c, name, n, 0) ? 0 : STATUS_BAD_FILE;
    if (checkpoint_find(c, name))
        return fail(STATUS_BAD_FILE, "%s: expected no such tensor (qkv_bias is false), found one",
                    name);
    return 0;
}

static int check_attention(const struct config *m, const struct checkpoint *c, int layer)
{
    char name[NAME_BYTES];
    int q = m->n_heads * m->head_dim, kv = m->n_kv_heads * m->head_dim;
    if (!need(c, layer_name(name, layer, "input_layernorm.weight"), m->dim, 0) ||
        !need(c, layer_name(name, layer, "post_attention_layernorm.weight"), m->dim, 0) ||
        !need(c, layer_name(name, layer, "self_attn.q_proj.weight"), q, m->dim) ||
        !need(c, layer_name(name, layer, "self_attn.k_proj.weight"), kv, m->dim) ||
        !need(c, layer_name(name, layer, "self_attn.v_proj.weight"), kv, m->dim) ||
        !need(c, layer_name(name, layer, "self_attn.o_proj.weight"), m->dim, q))
        return STATUS_BAD_FILE;
    static const char *const refused[] = {"self_attn.o_proj.bias", "self_attn.q_norm.weight",
                                          "self_attn.k_norm.weight"};
    for (int i = 0; i < 3; i++)
        if (checkpoint_find(c, layer_name(name, layer, refused[i])))
            return fail(STATUS_BAD_FILE, "%s: expected no such tensor in this architecture", name);
    if (check_bias(m, c, layer, "self_attn.q_proj.bias", q) ||
        check_bias(m, c, layer, "self_attn.k_proj.bias", kv) ||
        check_bias(m, c, layer, "self_attn.v_proj.bias", kv))
        return STATUS_BAD_FILE;
    return 0;
}

static int check_sparse(const struct config *m, const struct checkpoint *c, int layer)
{
    char name[NAME_BYTES];
    if (!need(c, layer_name(name, layer, "mlp.gate.weight"), m->n_experts, m->dim))
        return STATUS_BAD_FILE;
    if (m->shared_dim) {
        if (!need(c, layer_name(name, layer, "mlp.shared_expert_gate.weight"), 1, m->dim) ||
            check_mlp(c, layer, "mlp.shared_expert", m->shared_dim, m->dim))
            return STATUS_BAD_FILE;
    }
    return check_experts(m, c, layer);
}

int weights_check(const struct config *m, const struct checkpoint *c)
{
    if (!need(c, "model.embed_tokens.weight", m->vocab_size, m->dim) ||
        !need(c, "model.norm.weight", m->dim, 0) ||
        (!m->tied && !need(c, "lm_head.weight", m->vocab_size, m->dim)))
        return STATUS_BAD_FILE;
    for (int l = 0; l < m->n_layers; l++) {
        int status = check_attention(m, c, l);
        if (!status)
            status =
                m->sparse[l] ? check_sparse(m, c, l) : check_mlp(c, l, "mlp", m->ffn_dim, m->dim);
        if (status)
            return status;
    }
    return 0;
}

/* What loading one model needs at every step. */
struct loader {
    struct dev *d;
    const struct config *m;
    const struct checkpoint *c;
    enum dtype type;
    load_progress progress;
    void *context;
    uint64_t bytes; // packed so far
};

static void report(struct loader *o, const struct tensor *t)
{
    o->bytes += t->bytes;
    pulse();
    if (o->progress)
        o->progress(o->context, o->bytes);
}

static void matrix_new(struct dev *d, struct matrix *w, enum dtype type, int n, int k)
{
    *w = (struct matrix){.type = type, .n = n, .k = k};
    w->data = dev_alloc(d, matrix_bytes(d, type, n, k));
}

/* Rows [first, …) of w := the tensor. */
static int pack(struct loader *o, struct matrix *w, int first, const char *name)
{
    const struct tensor *t = checkpoint_find(o->c, name);
    struct mapping map;
    struct values source;
    int status = mapping_values(&map, &source, o->c, t, 0, t->bytes);
    if (status)
        return status;
    matrix_pack(o->d, w, first, &source, (int)t->shape[0]);
    mapping_close(&map);
    report(o, t);
    return 0;
}

/* A vector as f32: norms and biases. Its values are rounded to the model's type first, as a
 * checkpoint converted to that type would hold them. */
static int vector(struct loader *o, float *to, const char *name)
{
    const struct tensor *t = checkpoint_find(o->c, name);
    struct mapping map;
    int status = mapping_open(&map, o->c, t, 0, t->bytes);
    if (status)
        return status;
    for (int64_t i = 0; i < t->shape[0]; i++)
        to[i] = dtype_round(o->type, dtype_load(t->type, map.data, (size_t)i));
    mapping_close(&map);
    report(o, t);
    return 0;
}

/* What the host has made, for the device to read. */
static const void *share(struct dev *d, void *host, size_t bytes)
{
    void *twin = dev_twin(d, host, bytes);
    dev_upload(d, twin, host, bytes);
    return twin;
}

/* The values where the device can read them: on the CPU, those of a file stay there. */
static const void *hold(struct dev *d, const struct values *source, size_t bytes)
{
    void *host = (void *)(uintptr_t)source->data;
    void *to = host ? dev_twin(d, host, bytes) : dev_alloc(d, bytes);
    fill_values(d, to, source, bytes / (size_t)dtype_bytes(source->type));
    return to;
}

static int norm(struct loader *o, const float **to, const char *name)
{
    size_t bytes = (size_t)o->m->dim * sizeof(float);
    float *w = dev_alloc_host(o->d, bytes);
    int status = vector(o, w, name);
    *to = share(o->d, w, bytes);
    return status;
}

static int load_qkv(struct loader *o, struct matrix *w, int layer)
{
    static const char *const names[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"};
    const struct config *m = o->m;
    int q = m->n_heads * m->head_dim, kv = m->n_kv_heads * m->head_dim;
    int first[3] = {0, q, q + kv};
    matrix_new(o->d, w, o->type, q + 2 * kv, m->dim);
    size_t bias_bytes = (size_t)w->n * sizeof(float);
    float *bias = m->qkv_bias ? dev_alloc_host(o->d, bias_bytes) : NULL;
    for (int i = 0; i < 3; i++) {
        char what[64], name[NAME_BYTES];
        snprintf(what, sizeof what, "%s.weight", names[i]);
        int status = pack(o, w, first[i], layer_name(name, layer, what));
        snprintf(what, sizeof what, "%s.bias", names[i]);
        if (!status && bias)
            status = vector(o, bias + first[i], layer_name(name, layer, what));
        if (status)
            return status;
    }
    w->bias = bias ? share(o->d, bias, bias_bytes) : NULL;
    return 0;
}

static void ffn_new(struct dev *d, struct ffn *f, enum dtype type, int dim, int width)
{
    matrix_new(d, &f->gate_up, type, 2 * row_stride(width), dim);
    matrix_new(d, &f->down, type, dim, width);
}

/* gate and up rows from their bytes in the file, then down. */
static int pack_ffn(struct dev *d, struct ffn *f, const struct checkpoint *c,
                    const struct tensor *const t[3], const uint64_t first[3], int width)
{
    struct mapping map[3];
    struct values source[3];
    int opened = 0, status = 0;
    uint64_t rows = (uint64_t)width * (uint64_t)f->gate_up.k;
    for (; opened < 3 && !status; opened++)
        status = mapping_values(&map[opened], &source[opened], c, t[opened], first[opened],
                                rows * (uint64_t)dtype_bytes(t[opened]->type));
    if (!status) {
        matrix_pack_pair(d, &f->gate_up, &source[0], &source[1], width);
        matrix_pack(d, &f->down, 0, &source[2], f->down.n);
    } else {
        opened--;
    }
    while (opened-- > 0)
        mapping_close(&map[opened]);
    return status;
}

static int same_types(const struct tensor *gate, const struct tensor *up)
{
    if (gate->type == up->type)
        return 0;
    return fail(STATUS_BAD_FILE, "%s: expected the type of %s (%s), found %s", up->name, gate->name,
                gate->type_name, up->type_name);
}

static int load_mlp(struct loader *o, struct ffn *f, int layer, const char *prefix, int width)
{
    static const char *const parts[] = {"gate_proj", "up_proj", "down_proj"};
    const struct tensor *t[3];
    for (int i = 0; i < 3; i++) {
        char what[64], name[NAME_BYTES];
        snprintf(what, sizeof what, "%s.%s.weight", prefix, parts[i]);
        t[i] = checkpoint_find(o->c, layer_name(name, layer, what));
    }
    if (same_types(t[0], t[1]))
        return STATUS_BAD_FILE;
    ffn_new(o->d, f, o->type, o->m->dim, width);
    int status = pack_ffn(o->d, f, o->c, t, (const uint64_t[3]){0}, width);
    for (int i = 0; i < 3 && !status; i++)
        report(o, t[i]);
    return status;
}

int weights_load_expert(struct ffn *f, struct dev *d, const struct config *m,
                        const struct checkpoint *c, enum dtype type, int layer, int expert)
{
    static const char *const parts[] = {"gate_proj", "up_proj", "down_proj"};
    char name[NAME_BYTES];
    const struct tensor *t[3];
    uint64_t first[3] = {0};
    if (is_fused(c, layer)) {
        t[0] = t[1] = checkpoint_find(c, layer_name(name, layer, "mlp.experts.gate_up_proj"));
        t[2] = checkpoint_find(c, layer_name(name, layer, "mlp.experts.down_proj"));
        uint64_t matrix = (uint64_t)m->expert_dim * (uint64_t)m->dim * (uint64_t)expert;
        first[0] = 2 * matrix * (uint64_t)dtype_bytes(t[0]->type);
        first[1] = first[0] + t[0]->bytes / (uint64_t)m->n_experts / 2;
        first[2] = matrix * (uint64_t)dtype_bytes(t[2]->type);
    } else {
        for (int i = 0; i < 3; i++)
            t[i] = checkpoint_find(c, expert_name(name, layer, expert, parts[i]));
    }
    if (same_types(t[0], t[1]))
        return STATUS_BAD_FILE;
    ffn_new(d, f, type, m->dim, m->expert_dim);
    return pack_ffn(d, f, c, t, first, m->expert_dim);
}

static int load_router(struct loader *o, struct layer_weights *w, int layer)
{
    const struct config *m = o->m;
    char name[NAME_BYTES];
    matrix_new(o->d, &w->router, o->type, m->n_experts + (m->shared_dim ? 1 : 0), m->dim);
    int status = pack(o, &w->router, 0, layer_name(name, layer, "mlp.gate.weight"));
    if (!status && m->shared_dim)
        status = pack(o, &w->router, m->n_experts,
                      layer_name(name, layer, "mlp.shared_expert_gate.weight"));
    return status;
}

static int load_layer(struct loader *o, struct layer_weights *w, int layer)
{
    const struct config *m = o->m;
    char name[NAME_BYTES];
    w->sparse = m->sparse[layer];
    w->has_dense = !w->sparse || m->shared_dim > 0;
    matrix_new(o->d, &w->o, o->type, m->dim, m->n_heads * m->head_dim);
    int status = norm(o, &w->attn_norm, layer_name(name, layer, "input_layernorm.weight"));
    if (!status)
        status = norm(o, &w->ffn_norm, layer_name(name, layer, "post_attention_layernorm.weight"));
    if (!status)
        status = load_qkv(o, &w->qkv, layer);
    if (!status)
        status = pack(o, &w->o, 0, layer_name(name, layer, "self_attn.o_proj.weight"));
    if (!status && w->sparse)
        status = load_router(o, w, layer);
    if (!status && w->has_dense)
        status = load_mlp(o, &w->dense_block, layer, w->sparse ? "mlp.shared_expert" : "mlp",
                          w->sparse ? m->shared_dim : m->ffn_dim);
    w->dense = (struct ffn_list){.ffns = &w->dense_block, .n = w->has_dense};
    if (!status && w->has_dense)
        ffn_list_open(o->d, &w->dense);
    return status;
}

int weights_open(struct weights *w, struct dev *d, const struct config *m,
                 const struct checkpoint *c, enum dtype type, load_progress progress, void *context)
{
    struct loader o = {d, m, c, type, progress, context, 0};
    memset(w, 0, sizeof *w);
    const struct tensor *embed = checkpoint_find(c, "model.embed_tokens.weight");
    struct values table;
    w->embed_type = embed->type;
    w->layers = dev_alloc_host(d, (size_t)m->n_layers * sizeof *w->layers);
    int status = mapping_values(&w->embed_map, &table, c, embed, 0, embed->bytes);
    if (!status)
        w->embed = hold(d, &table, embed->bytes);
    uint64_t before = d->bytes;
    matrix_new(d, &w->unembed, type, m->vocab_size, m->dim);
    for (int l = 0; l < m->n_layers && !status; l++)
        status = load_layer(&o, &w->layers[l], l);
    if (!status)
        status = norm(&o, &w->final_norm, "model.norm.weight");
    if (!status)
        status = pack(&o, &w->unembed, 0, m->tied ? embed->name : "lm_head.weight");
    if (status)
        weights_close(w);
    w->bytes = d->bytes - before;
    return status;
}

void weights_close(struct weights *w)
{
    if (w->embed_map.base)
        mapping_close(&w->embed_map);
    memset(w, 0, sizeof *w);
}
