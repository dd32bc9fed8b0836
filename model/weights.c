#include "model/weights.h"

#include <string.h>

#include "base/log.h"
#include "base/pulse.h"
#include "kernels/ops.h"
#include "model/packed.h"
#include "model/pieces.h"
#include "model/tensors.h"

static const struct tensor *find(const struct config *m, const struct checkpoint *c,
                                 enum tensor_kind kind, int layer, int expert)
{
    struct tensor_spec t = tensor_spec(m, kind, layer, expert);
    return checkpoint_find(c, t.name);
}

static bool is_fused(const struct config *m, const struct checkpoint *c, int layer)
{
    return find(m, c, TENSOR_FUSED_GATE_UP, layer, 0) != NULL;
}

static int need(const struct config *m, const struct checkpoint *c, enum tensor_kind kind,
                int layer, int expert)
{
    struct tensor_spec t = tensor_spec(m, kind, layer, expert);
    return checkpoint_need(c, t.name, t.n_dims, t.shape) ? 0 : STATUS_BAD_FILE;
}

/* Refuse a checkpoint with more layers than the config says: the config is another model's. */
static int check_layers(const struct config *m, const struct checkpoint *c)
{
    const struct tensor *t = find(m, c, TENSOR_ATTN_NORM, m->n_layers, 0);
    return t ? fail(STATUS_BAD_FILE,
                    "config.json: expected a number of layers that covers tensor %s, found %d",
                    t->name, m->n_layers)
             : 0;
}

/* Refuse tensors that would change the results if they were read. */
static int check_refused(const struct config *m, const struct checkpoint *c, int layer)
{
    for (int k = TENSOR_FIRST_OF_LAYER; k <= TENSOR_LAST_OF_LAYER; k++) {
        const char *refusal = tensor_refusal((enum tensor_kind)k);
        if (!refusal || tensor_is_here(m, (enum tensor_kind)k, layer))
            continue;
        const struct tensor *t = find(m, c, (enum tensor_kind)k, layer, 0);
        if (t)
            return fail(STATUS_BAD_FILE, "%s: expected no such tensor %s", t->name, refusal);
    }
    return 0;
}

/* Is a part packed already? Its own tensors are then not there. */
static bool is_packed(const struct checkpoint *c, enum tensor_part part)
{
    return packed_quant(checkpoint_packed(c), part) != QUANT_NONE;
}

/* Check the tensors that the parts of a layer are made of. */
static int check_parts(const struct config *m, const struct checkpoint *c, int layer)
{
    enum tensor_kind kinds[PART_TENSORS];
    int status = 0;
    for (int p = 0; p < PARTS; p++) {
        if (!part_is_of_layer((enum tensor_part)p))
            continue;
        int n = part_tensors(m, (enum tensor_part)p, layer, kinds);
        for (int i = 0; i < n && !status && !is_packed(c, (enum tensor_part)p); i++)
            status = need(m, c, kinds[i], layer, 0);
    }
    return status;
}

static int check_experts(const struct config *m, const struct checkpoint *c, int layer)
{
    int status = 0;
    if (is_fused(m, c, layer)) {
        status = need(m, c, TENSOR_FUSED_GATE_UP, layer, 0);
        return status ? status : need(m, c, TENSOR_FUSED_DOWN, layer, 0);
    }
    for (int e = 0; e < m->n_experts; e++)
        for (int k = TENSOR_EXPERT_GATE; k <= TENSOR_EXPERT_DOWN && !status; k++)
            status = need(m, c, (enum tensor_kind)k, layer, e);
    // one expert too many means that the config is another model's
    const struct tensor *t = find(m, c, TENSOR_EXPERT_GATE, layer, m->n_experts);
    if (!status && t)
        status = fail(STATUS_BAD_FILE,
                      "config.json: expected a number of experts that covers tensor %s, found %d",
                      t->name, m->n_experts);
    return status;
}

/* m->tied := false if the checkpoint has an output matrix of its own. */
static void untie(struct config *m, const struct checkpoint *c)
{
    struct config untied = *m;
    untied.tied = false;
    struct tensor_spec own = tensor_spec(&untied, TENSOR_UNEMBED, 0, 0);
    if (!m->tied || !checkpoint_find(c, own.name))
        return;
    note("%s: tie_word_embeddings is true, but there is a tensor \"%s\", which counts",
         checkpoint_dir(c), own.name);
    *m = untied;
}

int weights_check(struct config *m, const struct checkpoint *c)
{
    static const enum tensor_kind once[] = {TENSOR_EMBED, TENSOR_FINAL_NORM, TENSOR_UNEMBED};
    int n = is_packed(c, PART_UNEMBED) ? 2 : 3, status = packed_check(m, c);
    untie(m, c);
    for (int i = 0; i < n && !status; i++)
        status = need(m, c, once[i], 0, 0);
    if (!status)
        status = check_layers(m, c);
    for (int l = 0; l < m->n_layers && !status; l++) {
        status = check_refused(m, c, l);
        if (!status)
            status = check_parts(m, c, l);
        if (!status && m->sparse[l] && !is_packed(c, PART_EXPERT))
            status = check_experts(m, c, l);
    }
    return status;
}

/* What loading one model needs at every step. */
struct loader {
    struct dev *d;
    const struct config *m;
    const struct checkpoint *c;
    struct precision precision;
    load_progress progress;
    void *context;
    uint64_t parameters; // packed so far
};

static void report(struct loader *o, uint64_t parameters)
{
    o->parameters += parameters;
    pulse();
    if (o->progress)
        o->progress(o->context, o->parameters);
}

static void matrix_new(struct dev *d, struct matrix *w, enum dtype type, enum quant quant, int n,
                       int k)
{
    *w = (struct matrix){.type = type, .n = n, .k = k, .quant = quant};
    w->data = dev_alloc(d, matrix_bytes(d, type, quant, n, k));
}

/* Rows [first, …) of w := the tensor. */
static int pack(struct loader *o, struct matrix *w, int first, const struct tensor *t)
{
    struct mapping map;
    struct values source;
    int status = mapping_values(&map, &source, o->c, t, 0, t->bytes);
    if (status)
        return status;
    matrix_pack(o->d, w, first, &source, (int)t->shape[0]);
    mapping_close(&map);
    report(o, t->bytes / (uint64_t)dtype_bytes(t->type));
    return 0;
}

/* Load a part that is a matrix. Routers decide where rows go, and are small, so they are not
 * quantised. */
static int load_matrix(struct loader *o, struct matrix *w, enum tensor_part part, int layer)
{
    enum tensor_kind kinds[PART_TENSORS];
    struct part_size size = part_size(o->m, part, layer);
    int n = part_tensors(o->m, part, layer, kinds), first = 0, status = 0;
    if (is_packed(o->c, part)) {
        struct packed_matrix p = packed_part(o->m, checkpoint_packed(o->c), part, layer);
        report(o, (uint64_t)size.n * (uint64_t)size.k);
        return packed_map(w, o->d, o->precision.type, o->c, &p, 0, p.n);
    }
    enum quant quant = part == PART_ROUTER ? QUANT_NONE : o->precision.matrices;
    matrix_new(o->d, w, o->precision.type, quant, size.n, size.k);
    for (int i = 0; i < n && !status; i++) {
        const struct tensor *t = find(o->m, o->c, kinds[i], layer, 0);
        status = pack(o, w, first, t);
        first += (int)t->shape[0];
    }
    return status;
}

/* A vector as f32: norms and biases. Its values are rounded to the model's type first, as a
 * checkpoint converted to that type would hold them. */
static int widen(struct loader *o, float *to, const struct tensor *t)
{
    struct mapping map;
    int status = mapping_open(&map, o->c, t, 0, t->bytes);
    if (status)
        return status;
    for (int64_t i = 0; i < t->shape[0]; i++)
        to[i] = dtype_round(o->precision.type, dtype_load(t->type, map.data, (size_t)i));
    mapping_close(&map);
    report(o, t->bytes / (uint64_t)dtype_bytes(t->type));
    return 0;
}

/* Copy what the host has made to the device; returns the device's copy. */
static const void *share(struct dev *d, void *host, size_t bytes)
{
    void *copy = dev_alloc_copy(d, host, bytes);
    dev_upload(d, copy, host, bytes);
    return copy;
}

/* Where the device can read the values: on the CPU those of a file stay mapped, a GPU gets a copy.
 */
static const void *hold(struct dev *d, const struct values *source, size_t bytes)
{
    void *host = (void *)(uintptr_t)source->data;
    void *to = host ? dev_alloc_copy(d, host, bytes) : dev_alloc(d, bytes);
    fill_values(d, to, source, bytes / (size_t)dtype_bytes(source->type));
    return to;
}

/* *to := a part that is a vector; NULL if this layer has none. */
static int load_vector(struct loader *o, const float **to, enum tensor_part part, int layer)
{
    enum tensor_kind kinds[PART_TENSORS];
    size_t bytes = (size_t)part_size(o->m, part, layer).n * sizeof(float);
    int n = part_tensors(o->m, part, layer, kinds), first = 0, status = 0;
    if (n == 0)
        return 0;
    float *host = dev_alloc_host(o->d, bytes);
    for (int i = 0; i < n && !status; i++) {
        const struct tensor *t = find(o->m, o->c, kinds[i], layer, 0);
        status = widen(o, host + first, t);
        first += (int)t->shape[0];
    }
    *to = share(o->d, host, bytes);
    return status;
}

static void ffn_new(struct dev *d, struct ffn *f, struct precision p, int dim, int width)
{
    matrix_new(d, &f->gate_up, p.type, p.blocks, 2 * row_stride(width), dim);
    matrix_new(d, &f->down, p.type, p.blocks, dim, width);
}

/* What a block, or a piece of one, is made of: in each of gate, up and down where its bytes begin
 * and how many they span; of down so many columns, and elements from one row to the next. */
struct ffn_source {
    const struct tensor *t[3];
    uint64_t first[3], bytes[3];
    int width, stride;
};

static int pack_ffn(struct dev *d, struct ffn *f, const struct checkpoint *c,
                    const struct ffn_source *s)
{
    struct mapping map[3];
    struct values source[3];
    int opened = 0, status = 0;
    for (; opened < 3 && !status; opened++)
        status = mapping_values(&map[opened], &source[opened], c, s->t[opened], s->first[opened],
                                s->bytes[opened]);
    if (!status) {
        source[2].columns = s->width;
        source[2].stride = s->stride;
        matrix_pack_pair(d, &f->gate_up, &source[0], &source[1], s->width);
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

/* Hidden values [first, first + width) of a block whose `down` has rows of `stride`. */
static void source_part(struct ffn_source *s, const struct config *m, int first, int width,
                        int stride)
{
    s->width = width;
    s->stride = stride;
    for (int i = 0; i < 3; i++) {
        uint64_t element = (uint64_t)dtype_bytes(s->t[i]->type), dim = (uint64_t)m->dim;
        uint64_t skip = (uint64_t)first * (i < 2 ? dim : 1);
        uint64_t span =
            i < 2 ? (uint64_t)width * dim : (dim - 1) * (uint64_t)stride + (uint64_t)width;
        s->first[i] += skip * element;
        s->bytes[i] = span * element;
    }
}

/* Both matrices of a block that is packed already. */
static int map_block(struct ffn *f, struct dev *d, const struct config *m,
                     const struct checkpoint *c, struct precision p, enum packed_block block,
                     int layer, int number)
{
    struct packed_kind kind = checkpoint_packed(c);
    struct packed_matrix gate_up = packed_block(m, kind, block, layer, number, false);
    struct packed_matrix down = packed_block(m, kind, block, layer, number, true);
    pulse();
    int status = packed_map(&f->gate_up, d, p.type, c, &gate_up, 0, gate_up.n);
    return status ? status : packed_map(&f->down, d, p.type, c, &down, 0, down.n);
}

int weights_load_piece(struct ffn *f, struct dev *d, const struct config *m,
                       const struct checkpoint *c, struct precision p, int layer, int piece)
{
    enum tensor_kind kinds[PART_TENSORS];
    struct ffn_source s = {0};
    struct pieces cut = pieces_of(m, layer);
    if (is_packed(c, PART_DENSE))
        return map_block(f, d, m, c, p, PACKED_PIECE, layer, piece);
    part_tensors(m, PART_DENSE, layer, kinds);
    for (int i = 0; i < 3; i++)
        s.t[i] = find(m, c, kinds[i], layer, 0);
    if (same_types(s.t[0], s.t[1]))
        return STATUS_BAD_FILE;
    source_part(&s, m, piece * cut.width, piece_values(m, layer, piece),
                part_size(m, PART_DENSE, layer).n);
    ffn_new(d, f, p, m->dim, cut.width);
    pulse();
    return pack_ffn(d, f, c, &s);
}

int weights_load_expert(struct ffn *f, struct dev *d, const struct config *m,
                        const struct checkpoint *c, struct precision p, int layer, int expert)
{
    struct ffn_source s = {0};
    struct part_size size = part_size(m, PART_EXPERT, layer);
    if (is_packed(c, PART_EXPERT))
        return map_block(f, d, m, c, p, PACKED_EXPERT, layer, expert);
    if (is_fused(m, c, layer)) {
        s.t[0] = s.t[1] = find(m, c, TENSOR_FUSED_GATE_UP, layer, 0);
        s.t[2] = find(m, c, TENSOR_FUSED_DOWN, layer, 0);
        uint64_t matrix = tensor_elements(m, TENSOR_EXPERT_GATE) * (uint64_t)expert;
        s.first[0] = 2 * matrix * (uint64_t)dtype_bytes(s.t[0]->type);
        s.first[1] = s.first[0] + s.t[0]->bytes / (uint64_t)m->n_experts / 2;
        s.first[2] = matrix * (uint64_t)dtype_bytes(s.t[2]->type);
    } else {
        for (int i = 0; i < 3; i++)
            s.t[i] = find(m, c, (enum tensor_kind)(TENSOR_EXPERT_GATE + i), layer, expert);
    }
    if (same_types(s.t[0], s.t[1]))
        return STATUS_BAD_FILE;
    source_part(&s, m, 0, size.n, size.n);
    ffn_new(d, f, p, size.k, size.n);
    return pack_ffn(d, f, c, &s);
}

/* The norms of queries, then those of keys. */
static int load_head_norm(struct loader *o, struct head_norm *norm, int layer)
{
    int status = load_vector(o, &norm->q, PART_QK_NORM, layer);
    if (status || !norm->q)
        return status;
    norm->q_width = (int)tensor_elements(o->m, TENSOR_Q_NORM);
    norm->k_width = (int)tensor_elements(o->m, TENSOR_K_NORM);
    norm->k = norm->q + norm->q_width;
    norm->eps = o->m->norm_eps;
    return 0;
}

/* qkv's bias comes after qkv, which would overwrite it. */
static int load_layer(struct loader *o, struct layer_weights *w, int layer)
{
    const struct {
        enum tensor_part part;
        struct matrix *matrix;
        const float **vector; // if matrix is NULL
    } parts[] = {{PART_QKV, &w->qkv, NULL},
                 {PART_O, &w->o, NULL},
                 {PART_ATTN_NORM, NULL, &w->attn_norm},
                 {PART_FFN_NORM, NULL, &w->ffn_norm},
                 {PART_QKV_BIAS, NULL, &w->qkv.bias}};
    int status = 0;
    w->sparse = o->m->sparse[layer];
    for (size_t i = 0; i < sizeof parts / sizeof *parts && !status; i++)
        status = parts[i].matrix ? load_matrix(o, parts[i].matrix, parts[i].part, layer)
                                 : load_vector(o, parts[i].vector, parts[i].part, layer);
    if (!status && w->sparse)
        status = load_matrix(o, &w->router, PART_ROUTER, layer);
    return status ? status : load_head_norm(o, &w->head_norm, layer);
}

int weights_load_part(struct matrix *w, struct dev *d, const struct config *m,
                      const struct checkpoint *c, struct precision p, enum tensor_part part,
                      int layer)
{
    struct loader o = {.d = d, .m = m, .c = c, .precision = p};
    return load_matrix(&o, w, part, layer);
}

int weights_load_outputs(struct matrix *w, struct dev *d, const struct config *m,
                         const struct checkpoint *c, struct precision p, int first, int n)
{
    struct packed_matrix packed = packed_outputs(m, checkpoint_packed(c));
    if (is_packed(c, PART_UNEMBED))
        return packed_map(w, d, p.type, c, &packed, first, n);
    const struct tensor *t = find(m, c, TENSOR_UNEMBED, 0, 0);
    uint64_t row = (uint64_t)m->dim * (uint64_t)dtype_bytes(t->type);
    struct mapping map;
    struct values source;
    matrix_new(d, w, p.type, p.matrices, n, m->dim);
    if (n == 0)
        return 0;
    int status = mapping_values(&map, &source, c, t, (uint64_t)first * row, (uint64_t)n * row);
    if (status)
        return status;
    matrix_pack(d, w, 0, &source, n);
    mapping_close(&map);
    pulse();
    return 0;
}

int weights_open(struct weights *w, struct dev *d, const struct config *m,
                 const struct checkpoint *c, struct precision p, int outputs,
                 load_progress progress, void *context)
{
    struct loader o = {d, m, c, p, progress, context, 0};
    memset(w, 0, sizeof *w);
    const struct tensor *embed = find(m, c, TENSOR_EMBED, 0, 0);
    struct values table;
    w->embed_type = embed->type;
    w->layers = dev_alloc_host(d, (size_t)m->n_layers * sizeof *w->layers);
    int status = mapping_values(&w->embed_map, &table, c, embed, 0, embed->bytes);
    if (!status)
        w->embed = hold(d, &table, embed->bytes);
    uint64_t before = d->bytes;
    for (int l = 0; l < m->n_layers && !status; l++)
        status = load_layer(&o, &w->layers[l], l);
    if (!status)
        status = load_vector(&o, &w->final_norm, PART_FINAL_NORM, 0);
    if (!status)
        status = weights_load_outputs(&w->unembed, d, m, c, p, 0, outputs);
    if (!status)
        report(&o, (uint64_t)outputs * (uint64_t)m->dim);
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
