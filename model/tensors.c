#include "model/tensors.h"

#include <stdio.h>
#include <string.h>

#include "model/family.h"

/* Which layers have the tensor. */
enum place {
    NO_LAYER, // it belongs to the model
    EVERY_LAYER,
    IF_BIAS,    // every layer of a model with qkv_bias
    IF_QK_NORM, // every layer of a model with norms of queries and keys
    SPARSE_LAYERS,
    IF_SHARED, // sparse layers of a model with a shared expert
    DENSE_LAYERS,
    EACH_EXPERT, // sparse layers, one an expert;
    FUSED,       // or one for all experts
    REFUSED      // none: it would change what the model computes
};

/* A size that the config tells. */
enum extent {
    NONE, // there is no such dimension
    ONE,
    VOCAB,
    DIM,
    QUERIES, // of all heads
    KEYS,
    NORMED_QUERIES, // as many as are normed together
    NORMED_KEYS,
    DENSE_DIM,
    SHARED_DIM,
    EXPERT_DIM,
    PAIRS, // gate and up of an expert
    EXPERTS
};

struct row {
    // of a layer's tensor: what follows the layer's number; * is the expert's
    const char *name;
    enum place place;
    unsigned char shape[3]; // enum extent
    enum tensor_part part;
};

#define EXPERT "mlp.experts.*."
#define SHARED "mlp.shared_expert."

static const struct row rows[TENSOR_KINDS] = {
    [TENSOR_EMBED] = {"model.embed_tokens.weight", NO_LAYER, {VOCAB, DIM}, PART_EMBED},

    [TENSOR_Q] = {"self_attn.q_proj.weight", EVERY_LAYER, {QUERIES, DIM}, PART_QKV},
    [TENSOR_Q_BIAS] = {"self_attn.q_proj.bias", IF_BIAS, {QUERIES}, PART_QKV_BIAS},
    [TENSOR_K] = {"self_attn.k_proj.weight", EVERY_LAYER, {KEYS, DIM}, PART_QKV},
    [TENSOR_K_BIAS] = {"self_attn.k_proj.bias", IF_BIAS, {KEYS}, PART_QKV_BIAS},
    [TENSOR_V] = {"self_attn.v_proj.weight", EVERY_LAYER, {KEYS, DIM}, PART_QKV},
    [TENSOR_V_BIAS] = {"self_attn.v_proj.bias", IF_BIAS, {KEYS}, PART_QKV_BIAS},
    [TENSOR_O] = {"self_attn.o_proj.weight", EVERY_LAYER, {DIM, QUERIES}, PART_O},
    [TENSOR_O_BIAS] = {"self_attn.o_proj.bias", REFUSED, {DIM}, PART_NONE},
    [TENSOR_Q_NORM] = {"self_attn.q_norm.weight", IF_QK_NORM, {NORMED_QUERIES}, PART_QK_NORM},
    [TENSOR_K_NORM] = {"self_attn.k_norm.weight", IF_QK_NORM, {NORMED_KEYS}, PART_QK_NORM},
    [TENSOR_ATTN_NORM] = {"input_layernorm.weight", EVERY_LAYER, {DIM}, PART_ATTN_NORM},
    [TENSOR_FFN_NORM] = {"post_attention_layernorm.weight", EVERY_LAYER, {DIM}, PART_FFN_NORM},

    [TENSOR_ROUTER] = {"mlp.gate.weight", SPARSE_LAYERS, {EXPERTS, DIM}, PART_ROUTER},
    [TENSOR_EXPERT_GATE] = {EXPERT "gate_proj.weight", EACH_EXPERT, {EXPERT_DIM, DIM}, PART_EXPERT},
    [TENSOR_EXPERT_UP] = {EXPERT "up_proj.weight", EACH_EXPERT, {EXPERT_DIM, DIM}, PART_EXPERT},
    [TENSOR_EXPERT_DOWN] = {EXPERT "down_proj.weight", EACH_EXPERT, {DIM, EXPERT_DIM}, PART_EXPERT},
    [TENSOR_FUSED_GATE_UP] = {"mlp.experts.gate_up_proj", FUSED, {EXPERTS, PAIRS, DIM}, PART_NONE},
    [TENSOR_FUSED_DOWN] = {"mlp.experts.down_proj", FUSED, {EXPERTS, DIM, EXPERT_DIM}, PART_NONE},
    [TENSOR_SHARED_GATE] = {SHARED "gate_proj.weight", IF_SHARED, {SHARED_DIM, DIM}, PART_DENSE},
    [TENSOR_SHARED_UP] = {SHARED "up_proj.weight", IF_SHARED, {SHARED_DIM, DIM}, PART_DENSE},
    [TENSOR_SHARED_DOWN] = {SHARED "down_proj.weight", IF_SHARED, {DIM, SHARED_DIM}, PART_DENSE},
    [TENSOR_SHARED_SCORE] = {"mlp.shared_expert_gate.weight", IF_SHARED, {ONE, DIM}, PART_ROUTER},
    [TENSOR_MLP_GATE] = {"mlp.gate_proj.weight", DENSE_LAYERS, {DENSE_DIM, DIM}, PART_DENSE},
    [TENSOR_MLP_UP] = {"mlp.up_proj.weight", DENSE_LAYERS, {DENSE_DIM, DIM}, PART_DENSE},
    [TENSOR_MLP_DOWN] = {"mlp.down_proj.weight", DENSE_LAYERS, {DIM, DENSE_DIM}, PART_DENSE},

    [TENSOR_FINAL_NORM] = {"model.norm.weight", NO_LAYER, {DIM}, PART_FINAL_NORM},
    [TENSOR_UNEMBED] = {"lm_head.weight", NO_LAYER, {VOCAB, DIM}, PART_UNEMBED},
};

static const struct {
    enum part_form form;
    bool of_layer;
} parts[PARTS] = {
    [PART_EMBED] = {FORM_TABLE, false},       [PART_ATTN_NORM] = {FORM_VECTOR, true},
    [PART_QKV] = {FORM_MATRIX, true},         [PART_QKV_BIAS] = {FORM_VECTOR, true},
    [PART_QK_NORM] = {FORM_VECTOR, true},     [PART_O] = {FORM_MATRIX, true},
    [PART_FFN_NORM] = {FORM_VECTOR, true},    [PART_ROUTER] = {FORM_MATRIX, true},
    [PART_DENSE] = {FORM_FFN, true},          [PART_EXPERT] = {FORM_FFN, false},
    [PART_FINAL_NORM] = {FORM_VECTOR, false}, [PART_UNEMBED] = {FORM_MATRIX, false},
};

static int size_of(const struct config *m, enum extent extent)
{
    bool by_head = m->qk_norm == QK_NORM_HEAD;
    const int sizes[] = {
        [ONE] = 1,
        [VOCAB] = m->vocab_size,
        [DIM] = m->dim,
        [QUERIES] = m->n_heads * m->head_dim,
        [KEYS] = m->n_kv_heads * m->head_dim,
        [NORMED_QUERIES] = (by_head ? 1 : m->n_heads) * m->head_dim,
        [NORMED_KEYS] = (by_head ? 1 : m->n_kv_heads) * m->head_dim,
        [DENSE_DIM] = m->ffn_dim,
        [SHARED_DIM] = m->shared_dim,
        [EXPERT_DIM] = m->expert_dim,
        [PAIRS] = 2 * m->expert_dim,
        [EXPERTS] = m->n_experts,
    };
    return sizes[extent];
}

/* The family's own name, or the usual one. */
static const char *name_of(const struct config *m, enum tensor_kind kind)
{
    const struct rename *renames = family_of(m)->renames;
    for (int i = 0; i < FAMILY_RENAMES && renames[i].name; i++)
        if (renames[i].kind == kind)
            return renames[i].name;
    return rows[kind].name;
}

static void write_name(char name[TENSOR_NAME_BYTES], const char *pattern, enum place place,
                       int layer, int expert)
{
    const char *star = strchr(pattern, '*');
    int plain = (int)(star ? (size_t)(star - pattern) : strlen(pattern));
    size_t n = 0;
    if (place != NO_LAYER)
        n = (size_t)snprintf(name, TENSOR_NAME_BYTES, "model.layers.%d.", layer);
    n += (size_t)snprintf(name + n, TENSOR_NAME_BYTES - n, "%.*s", plain, pattern);
    if (star)
        snprintf(name + n, TENSOR_NAME_BYTES - n, "%d%s", expert, star + 1);
}

struct tensor_spec tensor_spec(const struct config *m, enum tensor_kind kind, int layer, int expert)
{
    if (kind == TENSOR_UNEMBED && m->tied)
        kind = TENSOR_EMBED;
    const struct row *row = &rows[kind];
    struct tensor_spec t = {.kind = kind, .layer = layer, .expert = expert};
    write_name(t.name, name_of(m, kind), row->place, layer, expert);
    for (; t.n_dims < 3 && row->shape[t.n_dims] != NONE; t.n_dims++)
        t.shape[t.n_dims] = size_of(m, row->shape[t.n_dims]);
    return t;
}

uint64_t tensor_elements(const struct config *m, enum tensor_kind kind)
{
    uint64_t n = 1;
    for (int i = 0; i < 3 && rows[kind].shape[i] != NONE; i++)
        n *= (uint64_t)size_of(m, rows[kind].shape[i]);
    return n;
}

bool tensor_is_here(const struct config *m, enum tensor_kind kind, int layer)
{
    bool sparse = m->sparse[layer];
    const bool here[] = {
        [NO_LAYER] = false,       [EVERY_LAYER] = true,
        [IF_BIAS] = m->qkv_bias,  [IF_QK_NORM] = m->qk_norm != QK_NORM_NONE,
        [SPARSE_LAYERS] = sparse, [IF_SHARED] = sparse && m->shared_dim > 0,
        [DENSE_LAYERS] = !sparse, [EACH_EXPERT] = sparse,
        [FUSED] = sparse,         [REFUSED] = false,
    };
    return here[rows[kind].place];
}

const char *tensor_refusal(enum tensor_kind kind)
{
    static const char *const refusals[REFUSED + 1] = {
        [IF_BIAS] = "(by config.json, q, k and v have no biases), found one",
        [IF_QK_NORM] = "in this architecture",
        [SPARSE_LAYERS] = "(by config.json, the layer has no experts), found one",
        [IF_SHARED] = "(by config.json, the layer has no shared expert), found one",
        [DENSE_LAYERS] = "(by config.json, the layer has experts in place of an MLP), found one",
        [REFUSED] = "in this architecture",
    };
    return refusals[rows[kind].place];
}

typedef void (*visit)(void *context, const struct tensor_spec *t);

static void each_of_experts(const struct config *m, int layer, visit each, void *context)
{
    for (int e = 0; e < m->n_experts; e++)
        for (int k = TENSOR_EXPERT_GATE; k <= TENSOR_EXPERT_DOWN; k++) {
            struct tensor_spec t = tensor_spec(m, (enum tensor_kind)k, layer, e);
            each(context, &t);
        }
}

void tensors_each(const struct config *m, int layer, visit each, void *context)
{
    for (int k = TENSOR_FIRST_OF_LAYER; k <= TENSOR_LAST_OF_LAYER; k++) {
        enum place place = rows[k].place;
        if (!tensor_is_here(m, (enum tensor_kind)k, layer) || place == FUSED)
            continue;
        struct tensor_spec t = tensor_spec(m, (enum tensor_kind)k, layer, 0);
        if (place != EACH_EXPERT)
            each(context, &t);
        else if (k == TENSOR_EXPERT_GATE)
            each_of_experts(m, layer, each, context);
    }
}

enum part_form part_form(enum tensor_part part)
{
    return parts[part].form;
}

bool part_is_of_layer(enum tensor_part part)
{
    return parts[part].of_layer;
}

int part_tensors(const struct config *m, enum tensor_part part, int layer,
                 enum tensor_kind kinds[PART_TENSORS])
{
    int n = 0;
    for (int k = 0; k < TENSOR_KINDS; k++)
        if (rows[k].part == part &&
            (!parts[part].of_layer || tensor_is_here(m, (enum tensor_kind)k, layer)))
            kinds[n++] = (enum tensor_kind)k;
    return n;
}

struct part_size part_size(const struct config *m, enum tensor_part part, int layer)
{
    enum tensor_kind kinds[PART_TENSORS];
    int n = part_tensors(m, part, layer, kinds);
    struct part_size size = {0, 1};
    for (int i = 0; i < (part_form(part) == FORM_FFN && n ? 1 : n); i++) {
        const unsigned char *shape = rows[kinds[i]].shape;
        size.n += size_of(m, shape[0]);
        size.k = shape[1] == NONE ? 1 : size_of(m, shape[1]);
    }
    return size;
}
