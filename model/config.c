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
#include "model/config_source.h"
#include "model/family.h"
#include "model/found.h"
#include "model/known_keys.h"

enum { MAX_GENERATION_BYTES = 16 << 20 };

#define PLACE(field) offsetof(struct config, field)
#define IN(family)   (1 << (family))

enum { EVERY = (1 << ARCHITECTURES) - 1, WITH_EXPERTS = IN(ARCH_QWEN2_MOE) };

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
    {"intermediate_size", PLACE(ffn_dim), EVERY, 1, 1 << 20},
    {"num_hidden_layers", PLACE(n_layers), EVERY, 1, MAX_LAYERS},
    {"num_attention_heads", PLACE(n_heads), EVERY, 1, 1 << 10},
    {"max_position_embeddings", PLACE(max_positions), EVERY, 1, 1 << 24},
};

static const struct key expert_keys[] = {
    {"num_experts", PLACE(n_experts), WITH_EXPERTS, 0, MAX_EXPERTS},
    {"num_experts_per_tok", PLACE(top_k), WITH_EXPERTS, 1, MAX_EXPERTS},
    {"moe_intermediate_size", PLACE(expert_dim), WITH_EXPERTS, 1, 1 << 20},
    {"shared_expert_intermediate_size", PLACE(shared_dim), WITH_EXPERTS, 0, 1 << 20},
};

/* true or false */
static const struct key flag_keys[] = {
    {"qkv_bias", PLACE(qkv_bias), EVERY, 0, 0},
    {"tie_word_embeddings", PLACE(tied), EVERY, 0, 0},
};

static const struct key expert_flag_keys[] = {
    {"norm_topk_prob", PLACE(norm_topk), WITH_EXPERTS, 0, 0},
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

static int read_architecture(const struct config_source *s, struct config *c)
{
    const struct js *type = js_member(s->root, "model_type");
    char known[FAMILY_LIST_BYTES];
    int a = 0;
    while (a < ARCHITECTURES && !source_is_text(type, family_at((enum architecture)a)->type))
        a++;
    family_list(known);
    if (a == ARCHITECTURES)
        return source_expected(s, "model_type", known, type);
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
    int status = known_keys_check(s, KEYS_OF_CONFIG);
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
    if (js_is_null(kv))
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
    if (head && source_check_int(s, "head_dim", head, 2, 1 << 10) != 0)
        return STATUS_BAD_FILE;
    if (!head && c->dim % c->n_heads != 0)
        return fail(STATUS_BAD_FILE,
                    "%s: hidden_size: expected a multiple of num_attention_heads = %d, found %d",
                    s->file, c->n_heads, c->dim);
    c->head_dim = head ? (int)js_int(head) : c->dim / c->n_heads;
    if (c->head_dim % 2 != 0 || c->head_dim > 1 << 10)
        return fail(STATUS_BAD_FILE, "%s: head_dim: expected an even number up to %d, found %d",
                    s->file, 1 << 10, c->head_dim);
    return 0;
}

/* The dictionary of the 5 form, or rope_scaling of the 4 form, which wins when it says anything. */
static int read_rope_dictionary(const struct config_source *s, const char *name,
                                const struct js *rope, struct config *c)
{
    static const char *const nested[] = {"full_attention", "sliding_attention"};
    char key[64];
    if (!js_is_object(rope))
        return source_expected(s, name, "an object", rope);
    struct config_source inside = {rope, s->file};
    const struct js *type = source_value(&inside, "rope_type");
    snprintf(key, sizeof key, "%s.%s", name, type ? "rope_type" : "type");
    if (!type)
        type = source_value(&inside, "type");
    if (type && !source_is_text(type, "default"))
        return source_expected(s, key, "\"default\"", type);
    for (size_t i = 0; i < sizeof nested / sizeof *nested; i++) {
        snprintf(key, sizeof key, "%s.%s", name, nested[i]);
        if (js_member(rope, nested[i]))
            return source_expected(s, key, "none (one rope for all layers)",
                                   js_member(rope, nested[i]));
    }
    snprintf(key, sizeof key, "%s.partial_rotary_factor", name);
    double factor = 1;
    int status = source_real(s, key, source_value(&inside, "partial_rotary_factor"), 1, 1, &factor);
    snprintf(key, sizeof key, "%s.rope_theta", name);
    return status
               ? status
               : source_real(s, key, source_value(&inside, "rope_theta"), 1, 1e12, &c->rope_theta);
}

static int read_rope(const struct config_source *s, struct config *c)
{
    double factor = 1;
    const char *name = "rope_scaling";
    const struct js *rope = source_value(s, name);
    if (!rope || (js_is_object(rope) && js_count(rope) == 0)) {
        name = "rope_parameters";
        rope = source_value(s, name);
    }
    const struct js *theta = js_member(s->root, "rope_theta");
    if (js_is_null(theta) && js_is_number(js_member(rope, "rope_theta")))
        theta = NULL; // the dictionary's counts
    int status = source_real(s, "rope_theta", theta, 1, 1e12, &c->rope_theta);
    if (!status)
        status = source_real(s, "partial_rotary_factor", source_value(s, "partial_rotary_factor"),
                             1, 1, &factor);
    return status || !rope ? status : read_rope_dictionary(s, name, rope, c);
}

/* layer_types of the 5 form: one word a layer, and all of them full attention. */
static int check_layer_types(const struct config_source *s, struct config *c)
{
    const struct js *types = source_value(s, "layer_types");
    if (!types)
        return 0;
    if (!js_is_array(types))
        return source_expected(s, "layer_types", "a list", types);
    if (js_count(types) != (size_t)c->n_layers)
        return fail(STATUS_BAD_FILE,
                    "%s: layer_types: expected num_hidden_layers = %d entries, found %zu", s->file,
                    c->n_layers, js_count(types));
    for (size_t i = 0; i < js_count(types); i++) {
        const struct js *type = js_item(types, i);
        if (!source_is_text(type, "full_attention") && !source_is_text(type, "attention"))
            return source_expected(s, "layer_types", "\"full_attention\"", type);
    }
    return 0;
}

/* Refuse a model some layer of which sees only a window of the text. As in transformers,
 * layer_types says which do; without it they follow from max_window_layers, of which the two
 * families make opposite use: up to it every other layer slides, or all from it on. */
static int check_windows(const struct config_source *s, struct config *c)
{
    bool on = false, slides = false;
    int first = 28, window = 4096;
    int status = source_bool(s, "use_sliding_window", &on);
    if (status || !on || source_value(s, "layer_types"))
        return status;
    status = source_int(s, "max_window_layers", 0, 1 << 20, &first);
    if (!status && source_value(s, "sliding_window"))
        status = source_int(s, "sliding_window", 0, 1 << 30, &window);
    if (family_of(c)->has_experts)
        slides = first > 0;
    else
        slides = first < c->n_layers && !js_is_null(js_member(s->root, "sliding_window"));
    if (!status && slides)
        status = fail(STATUS_BAD_FILE,
                      "%s: use_sliding_window: expected false, or max_window_layers so that no "
                      "layer slides, found true with max_window_layers = %d",
                      s->file, first);
    return status;
}

/* Which layers have experts: every decoder_sparse_step-th, but for mlp_only_layers. */
static int read_sparse_layers(const struct config_source *s, struct config *c)
{
    int step = 1;
    const struct js *dense = source_value(s, "mlp_only_layers");
    int status = source_int(s, "decoder_sparse_step", 1, 1 << 20, &step);
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

static int read_experts(const struct config_source *s, struct config *c)
{
    if (!family_of(c)->has_experts)
        return 0;
    int status = read_ints(s, c, expert_keys, COUNT(expert_keys));
    if (!status)
        status = read_bools(s, c, expert_flag_keys, COUNT(expert_flag_keys));
    if (!status)
        status = read_sparse_layers(s, c);
    if (!status && c->n_experts > 0 && c->top_k > c->n_experts)
        status = fail(STATUS_BAD_FILE,
                      "%s: num_experts_per_tok: expected at most num_experts = %d, found %d",
                      s->file, c->n_experts, c->top_k);
    return status;
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
    static int (*const steps[])(const struct config_source *, struct config *) = {
        read_architecture, read_sizes, read_heads,          read_flags_and_eps,
        check_switches,    read_rope,  check_layer_types,   check_windows,
        read_experts,      read_dtype, generation_read_eos,
    };
    int status = 0;
    for (size_t i = 0; i < sizeof steps / sizeof *steps && !status; i++)
        status = steps[i](s, c);
    return status;
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
