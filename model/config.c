/* config.json: every key that changes what the model computes is honoured or refused by name. A
 * config begins as its family's defaults, and each key that is there replaces one of them, checked
 * for kind and range, so that sizes made from it cannot overflow. */
#include "model/config.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "model/checkpoint.h"
#include "model/config_attention.h"
#include "model/config_quantization.h"
#include "model/config_source.h"
#include "model/family.h"
#include "model/found.h"
#include "model/known_keys.h"

enum { MAX_GENERATION_BYTES = 16 << 20 };

#define PLACE(field) offsetof(struct config, field)
#define IN(family)   (1 << (family))

enum {
    EVERY = (1 << ARCHITECTURES) - 1,
    QWEN2 = IN(ARCH_QWEN2_MOE) | IN(ARCH_QWEN2),
    DENSE_TOO = IN(ARCH_QWEN2_MOE) | IN(ARCH_QWEN3_MOE), // layers without experts are allowed
    EXPERTS_ONLY = IN(ARCH_OLMOE) | IN(ARCH_MIXTRAL),
    WITH_EXPERTS = DENSE_TOO | EXPERTS_ONLY,
    TWO_NAMES = IN(ARCH_QWEN3_MOE) | EXPERTS_ONLY // transformers takes num_local_experts, too
};

/* A key, and the families whose config.json has it. */
struct key {
    const char *name;
    size_t place;    // in struct config
    int families;    // sum of IN(family)
    int least, most; // of a whole number
};

/* The caps keep every product of two sizes far below 2^63. */
static const struct key size_keys[] = {
    {"vocab_size", PLACE(vocab_size), EVERY, 1, 1 << 24},
    {"hidden_size", PLACE(dim), EVERY, 1, 1 << 16},
    {"intermediate_size", PLACE(ffn_dim), EVERY & ~EXPERTS_ONLY, 1, 1 << 20},
    {"num_hidden_layers", PLACE(n_layers), EVERY, 1, MAX_LAYERS},
    {"num_attention_heads", PLACE(n_heads), EVERY, 1, 1 << 10},
    {"max_position_embeddings", PLACE(max_positions), EVERY, 1, MAX_POSITIONS},
};

static const struct key expert_keys[] = {
    {"num_experts", PLACE(n_experts), DENSE_TOO, 0, MAX_EXPERTS},
    {"num_experts", PLACE(n_experts), EXPERTS_ONLY, 1, MAX_EXPERTS},
    {"num_local_experts", PLACE(n_experts), TWO_NAMES &DENSE_TOO, 0, MAX_EXPERTS},
    {"num_local_experts", PLACE(n_experts), TWO_NAMES &EXPERTS_ONLY, 1, MAX_EXPERTS},
    {"num_experts_per_tok", PLACE(top_k), WITH_EXPERTS, 1, MAX_EXPERTS},
    {"moe_intermediate_size", PLACE(expert_dim), DENSE_TOO, 1, 1 << 20},
    {"intermediate_size", PLACE(expert_dim), EXPERTS_ONLY, 1, 1 << 20},
    {"shared_expert_intermediate_size", PLACE(shared_dim), IN(ARCH_QWEN2_MOE), 0, 1 << 20},
};

/* true or false */
static const struct key flag_keys[] = {
    {"qkv_bias", PLACE(qkv_bias), QWEN2, 0, 0},
    {"tie_word_embeddings", PLACE(tied), EVERY, 0, 0},
};

static const struct key expert_flag_keys[] = {
    {"norm_topk_prob", PLACE(norm_topk), WITH_EXPERTS & ~IN(ARCH_MIXTRAL), 0, 0},
};

#define COUNT(keys) (sizeof(keys) / sizeof *(keys))

static bool reads(const struct config *c, const struct key *k)
{
    return k->families & IN(c->architecture);
}

static int read_ints(const struct config_source *s, struct config *c, const struct key *keys,
                     size_t n)
{
    int status = 0;
    for (const struct key *k = keys; k < keys + n && !status; k++)
        if (reads(c, k))
            status = source_int(s, k->name, k->least, k->most, (int *)((char *)c + k->place));
    return status;
}

static int read_bools(const struct config_source *s, struct config *c, const struct key *keys,
                      size_t n)
{
    int status = 0;
    for (const struct key *k = keys; k < keys + n && !status; k++)
        if (reads(c, k))
            status = source_bool(s, k->name, (bool *)((char *)c + k->place));
    return status;
}

static int refuse_type(const struct config_source *s, const struct js *type)
{
    char known[FAMILY_LIST_BYTES];
    const char *lacks = js_is_string(type) ? family_lacks(js_string(type, NULL)) : NULL;
    family_list(known);
    if (!lacks)
        return source_expected(s, "model_type", known, type);
    return fail(STATUS_BAD_FILE,
                "%s: model_type: expected %s, found %s, which needs %s: not implemented", s->file,
                known, found(type).text, lacks);
}

static int read_architecture(const struct config_source *s, struct config *c)
{
    const struct js *type = js_member(s->root, "model_type");
    int a = 0;
    while (a < ARCHITECTURES && !source_is_text(type, family_at((enum architecture)a)->type))
        a++;
    if (a == ARCHITECTURES)
        return refuse_type(s, type);
    const struct family *family = family_at((enum architecture)a);
    const struct js *names = source_value(s, "architectures");
    if (names && !js_is_array(names))
        return source_expected(s, "architectures", "a list", names);
    for (size_t i = 0; i < js_count(names); i++)
        if (!source_is_text(js_item(names, i), family->class))
            return source_expected(s, "architectures", family->class, js_item(names, i));
    *c = family->defaults;
    c->architecture = (enum architecture)a;
    return 0;
}

static int check_switches(const struct config_source *s, struct config *c)
{
    const struct family *family = family_of(c);
    const struct js *act = js_member(s->root, "hidden_act");
    char always[64];
    int status = config_check_quantization(s);
    if (!status)
        status = known_keys_check(s, KEYS_OF_CONFIG);
    if (status)
        return status;
    if (act && !source_is_text(act, "silu") && !source_is_text(act, "swish"))
        return source_expected(s, "hidden_act", "\"silu\"", act);
    snprintf(always, sizeof always, "true in a %s model", family->type);
    if (family->qkv_bias_required && !c->qkv_bias)
        return source_expected(s, "qkv_bias", always, js_member(s->root, "qkv_bias"));
    return 0;
}

static int read_sizes(const struct config_source *s, struct config *c)
{
    return read_ints(s, c, size_keys, COUNT(size_keys));
}

static int read_heads(const struct config_source *s, struct config *c)
{
    const struct js *kv = js_member(s->root, "num_key_value_heads");
    const struct js *head = source_value(s, "head_dim");
    if (js_is_null(kv) || (!kv && c->n_kv_heads == 0))
        c->n_kv_heads = c->n_heads;
    else if (kv && source_check_int(s, "num_key_value_heads", kv, 1, c->n_heads) != 0)
        return STATUS_BAD_FILE;
    else if (kv)
        c->n_kv_heads = (int)js_int(kv);
    if (c->n_heads % c->n_kv_heads != 0)
        return fail(STATUS_BAD_FILE,
                    "%s: num_key_value_heads: expected a divisor of num_attention_heads = %d, "
                    "found %d%s",
                    s->file, c->n_heads, c->n_kv_heads, kv ? "" : " (the default)");
    if (head && source_check_int(s, "head_dim", head, 2, MAX_HEAD_DIM) != 0)
        return STATUS_BAD_FILE;
    if (head)
        c->head_dim = (int)js_int(head);
    if (c->head_dim == 0 && c->dim % c->n_heads != 0)
        return fail(STATUS_BAD_FILE,
                    "%s: hidden_size: expected a multiple of num_attention_heads = %d, found %d",
                    s->file, c->n_heads, c->dim);
    if (c->head_dim == 0)
        c->head_dim = c->dim / c->n_heads;
    if (c->head_dim % 2 != 0 || c->head_dim > MAX_HEAD_DIM)
        return fail(STATUS_BAD_FILE, "%s: head_dim: expected an even number up to %d, found %d",
                    s->file, MAX_HEAD_DIM, c->head_dim);
    return 0;
}

/* Which layers have experts: every decoder_sparse_step-th, but for mlp_only_layers. */
static int read_sparse_layers(const struct config_source *s, struct config *c)
{
    int step = 1;
    bool said = family_of(c)->has_dense_layers;
    const struct js *dense = said ? source_value(s, "mlp_only_layers") : NULL;
    int status = said ? source_int(s, "decoder_sparse_step", 1, 1 << 20, &step) : 0;
    if (status)
        return status;
    if (dense && !js_is_array(dense))
        return source_expected(s, "mlp_only_layers", "a list", dense);
    for (int l = 0; l < c->n_layers; l++)
        c->sparse[l] = c->n_experts > 0 && (l + 1) % step == 0;
    for (size_t i = 0; i < js_count(dense); i++) {
        const struct js *layer = js_item(dense, i);
        if (source_check_int(s, "mlp_only_layers", layer, 0, 1 << 20) != 0)
            return STATUS_BAD_FILE;
        if (js_int(layer) < c->n_layers) // a shortened model may keep a longer list
            c->sparse[js_int(layer)] = false;
    }
    return 0;
}

/* The number of experts has two names. If both are there, the second has been read last. */
static int check_names_agree(const struct config_source *s, struct config *c)
{
    const struct js *first = js_member(s->root, "num_experts");
    bool both = first && js_member(s->root, "num_local_experts");
    if (!both || !(TWO_NAMES & IN(c->architecture)) || js_int(first) == c->n_experts)
        return 0;
    return fail(STATUS_BAD_FILE, "%s: num_experts: expected num_local_experts = %d, found %d",
                s->file, c->n_experts, (int)js_int(first));
}

static int read_expert_sizes(const struct config_source *s, struct config *c)
{
    return read_ints(s, c, expert_keys, COUNT(expert_keys));
}

static int read_expert_flags(const struct config_source *s, struct config *c)
{
    return read_bools(s, c, expert_flag_keys, COUNT(expert_flag_keys));
}

static int check_top_k(const struct config_source *s, struct config *c)
{
    return c->n_experts == 0 || c->top_k <= c->n_experts
               ? 0
               : fail(STATUS_BAD_FILE,
                      "%s: num_experts_per_tok: expected at most num_experts = %d, found %d",
                      s->file, c->n_experts, c->top_k);
}

typedef int read_step(const struct config_source *s, struct config *c);

static int take_steps(read_step *const *steps, size_t n, const struct config_source *s,
                      struct config *c)
{
    int status = 0;
    for (size_t i = 0; i < n && !status; i++)
        status = steps[i](s, c);
    return status;
}

static int read_experts(const struct config_source *s, struct config *c)
{
    static read_step *const steps[] = {read_expert_sizes, check_names_agree, read_expert_flags,
                                       read_sparse_layers, check_top_k};
    return family_of(c)->has_experts ? take_steps(steps, COUNT(steps), s, c) : 0;
}

static int read_dtype(const struct config_source *s, struct config *c)
{
    static const struct {
        const char *name;
        enum dtype type;
    } names[] = {{"float32", DTYPE_F32},
                 {"float16", DTYPE_F16},
                 {"bfloat16", DTYPE_BF16},
                 {"float", DTYPE_F32},
                 {"half", DTYPE_F16}}; // torch has these names, too
    const char *key = source_value(s, "dtype") ? "dtype" : "torch_dtype"; // the 5 form wins
    const struct js *v = source_value(s, key);
    c->dtype = DTYPE_F32;
    c->dtype_given = v != NULL;
    if (!v)
        return 0;
    for (size_t i = 0; i < COUNT(names); i++) {
        if (source_is_text(v, names[i].name)) {
            c->dtype = names[i].type;
            return 0;
        }
    }
    return source_expected(s, key, "\"float32\", \"float16\" or \"bfloat16\"", v);
}

static int read_flags_and_eps(const struct config_source *s, struct config *c)
{
    double eps = (double)c->norm_eps;
    int status =
        source_real(s, "rms_norm_eps", js_member(s->root, "rms_norm_eps"), 1e-15, 0.1, &eps);
    c->norm_eps = (float)eps;
    return status ? status : read_bools(s, c, flag_keys, COUNT(flag_keys));
}

static int read_config(const struct config_source *s, struct config *c)
{
    static read_step *const steps[] = {
        read_architecture, read_sizes,          read_heads,          read_flags_and_eps,
        check_switches,    config_read_rope,    config_read_windows, read_experts,
        read_dtype,        generation_read_eos,
    };
    return take_steps(steps, COUNT(steps), s, c);
}

static int parse_object(struct js **root, const char *text, size_t bytes, const char *name)
{
    *root = js_parse(text, bytes, name);
    if (!*root)
        return STATUS_BAD_FILE;
    if (js_is_object(*root))
        return 0;
    return fail(STATUS_BAD_FILE, "%s: expected an object, found %s", name, found(*root).text);
}

/* A file's text and the name that errors give it; NULL text: there is no such file. */
struct named_text {
    const char *name, *text;
    size_t bytes;
};

/* Outputs are written only when all is good. */
static int parse_both(struct config *c, struct generation_defaults *g, struct named_text config,
                      struct named_text generation)
{
    struct config made = {0};
    struct generation_defaults defaults = generation_unsaid();
    struct js *root = NULL, *root2 = NULL;
    int status = parse_object(&root, config.text, config.bytes, config.name);
    if (!status)
        status = read_config(&(struct config_source){root, config.name}, &made);
    if (!status && generation.text)
        status = parse_object(&root2, generation.text, generation.bytes, generation.name);
    if (!status) // without the file, config.json says it, as in older checkpoints
        status = generation_read(root2 ? &(struct config_source){root2, generation.name}
                                       : &(struct config_source){root, config.name},
                                 &made, &defaults);
    js_free(root);
    js_free(root2);
    if (status)
        return status;
    *c = made;
    *g = defaults;
    return 0;
}

int config_parse(struct config *c, struct generation_defaults *g, const char *text, size_t bytes,
                 const char *generation, size_t generation_bytes)
{
    return parse_both(c, g, (struct named_text){"config.json", text, bytes},
                      (struct named_text){"generation_config.json", generation, generation_bytes});
}

int config_load(struct config *c, struct generation_defaults *g, const char *dir)
{
    char *path = path_join(dir, "config.json"), *path2 = path_join(dir, "generation_config.json");
    char *text2 = NULL;
    size_t bytes = 0, bytes2 = 0;
    char *text = checkpoint_config(dir, &bytes);
    int status = text ? 0 : STATUS_BAD_FILE;
    if (!status && file_exists(path2)) {
        text2 = file_read(path2, MAX_GENERATION_BYTES, &bytes2);
        status = text2 ? 0 : STATUS_BAD_FILE;
    }
    if (!status)
        status = parse_both(c, g, (struct named_text){path, text, bytes},
                            (struct named_text){path2, text2, bytes2});
    free(text);
    free(text2);
    free(path);
    free(path2);
    return status;
}
