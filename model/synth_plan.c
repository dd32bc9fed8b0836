/* The presets: their configuration, and the tensors that follow from it. The configuration is
 * written as config.json and read by config_parse(), like that of any model, and the tensors are
 * listed by model/tensors.c. */
#include "model/synth_plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "model/family.h"
#include "model/tensors.h"

enum { MAX_KEYS = 20 };

/* A published model. What all presets have in common is in config_json(). */
struct preset {
    const char *name;
    enum architecture architecture;
    struct {
        const char *key;
        int value;
    } keys[MAX_KEYS];
    const char
        *more; // an object with what is not an integer, or is not as in config_json(); or NULL
};

static const struct preset presets[] = {
    {"qwen1.5-moe-a2.7b",
     ARCH_QWEN2_MOE,
     {{"vocab_size", 151936},
      {"bos_token_id", 151643},
      {"eos_token_id", 151643},
      {"hidden_size", 2048},
      {"intermediate_size", 5632},
      {"max_position_embeddings", 8192},
      {"max_window_layers", 21},
      {"num_attention_heads", 16},
      {"num_hidden_layers", 24},
      {"num_key_value_heads", 16},
      {"decoder_sparse_step", 1},
      {"moe_intermediate_size", 1408},
      {"shared_expert_intermediate_size", 5632},
      {"num_experts", 60},
      {"num_experts_per_tok", 4}},
     NULL},
    {"qwen1.5-7b",
     ARCH_QWEN2,
     {{"vocab_size", 151936},
      {"bos_token_id", 151643},
      {"eos_token_id", 151643},
      {"hidden_size", 4096},
      {"intermediate_size", 11008},
      {"max_position_embeddings", 32768},
      {"max_window_layers", 28},
      {"num_attention_heads", 32},
      {"num_hidden_layers", 32},
      {"num_key_value_heads", 32}},
     NULL},
    {"qwen2-57b-a14b",
     ARCH_QWEN2_MOE,
     {{"vocab_size", 151936},
      {"bos_token_id", 151643},
      {"eos_token_id", 151643},
      {"hidden_size", 3584},
      {"intermediate_size", 18944},
      {"max_position_embeddings", 131072},
      {"max_window_layers", 28},
      {"num_attention_heads", 28},
      {"num_hidden_layers", 28},
      {"num_key_value_heads", 4},
      {"decoder_sparse_step", 1},
      {"moe_intermediate_size", 2560},
      {"shared_expert_intermediate_size", 20480},
      {"num_experts", 64},
      {"num_experts_per_tok", 8}},
     "{\"sliding_window\":65536}"},
    {"qwen3-30b-a3b",
     ARCH_QWEN3_MOE,
     {{"vocab_size", 151936},
      {"bos_token_id", 151643},
      {"eos_token_id", 151645},
      {"head_dim", 128},
      {"hidden_size", 2048},
      {"intermediate_size", 6144},
      {"max_position_embeddings", 40960},
      {"max_window_layers", 48},
      {"num_attention_heads", 32},
      {"num_hidden_layers", 48},
      {"num_key_value_heads", 4},
      {"decoder_sparse_step", 1},
      {"moe_intermediate_size", 768},
      {"num_experts", 128},
      {"num_experts_per_tok", 8}},
     "{\"attention_bias\":false,\"mlp_only_layers\":[],\"norm_topk_prob\":true,"
     "\"sliding_window\":null}"},
    {"olmoe-1b-7b",
     ARCH_OLMOE,
     {{"vocab_size", 50304},
      {"eos_token_id", 50279},
      {"hidden_size", 2048},
      {"intermediate_size", 1024},
      {"max_position_embeddings", 4096},
      {"num_attention_heads", 16},
      {"num_hidden_layers", 16},
      {"num_key_value_heads", 16},
      {"num_experts", 64},
      {"num_experts_per_tok", 8}},
     "{\"attention_bias\":false,\"clip_qkv\":null,\"pad_token_id\":1,\"rms_norm_eps\":1e-05,"
     "\"rope_theta\":10000.0}"},
    {"mixtral-8x7b",
     ARCH_MIXTRAL,
     {{"vocab_size", 32000},
      {"bos_token_id", 1},
      {"eos_token_id", 2},
      {"hidden_size", 4096},
      {"intermediate_size", 14336},
      {"max_position_embeddings", 32768},
      {"num_attention_heads", 32},
      {"num_hidden_layers", 32},
      {"num_key_value_heads", 8},
      {"num_local_experts", 8},
      {"num_experts_per_tok", 2}},
     "{\"rms_norm_eps\":1e-05,\"sliding_window\":null}"},
    {"tiny-moe", // has every kind of tensor, in a few hundred kB
     ARCH_QWEN2_MOE,
     {{"vocab_size", 512},
      {"bos_token_id", 0},
      {"eos_token_id", 0},
      {"hidden_size", 64},
      {"intermediate_size", 96},
      {"max_position_embeddings", 1024},
      {"num_attention_heads", 4},
      {"num_hidden_layers", 2},
      {"num_key_value_heads", 2},
      {"decoder_sparse_step", 1},
      {"moe_intermediate_size", 32},
      {"shared_expert_intermediate_size", 48},
      {"num_experts", 6},
      {"num_experts_per_tok", 2}},
     NULL},
};

const char *synth_presets(void)
{
    return "qwen1.5-moe-a2.7b|qwen1.5-7b|qwen2-57b-a14b|qwen3-30b-a3b|olmoe-1b-7b|mixtral-8x7b|"
           "tiny-moe";
}

static const char *transformers_name(enum dtype type)
{
    static const char *const names[] = {"float32", "float16", "bfloat16"};
    return names[type];
}

/* The value as a new one: a number, true, false, null or an empty list. */
static struct js *copy_of(const struct js *v)
{
    if (js_is_bool(v))
        return js_new_bool(js_bool(v));
    if (js_is_int(v))
        return js_new_int(js_int(v));
    if (js_is_number(v))
        return js_new_real(js_number(v));
    return js_is_array(v) ? js_new_array() : js_new_null();
}

static void set_more(struct js *root, const struct preset *p)
{
    struct js *more = p->more ? js_parse(p->more, strlen(p->more), p->name) : js_new_object();
    CHECK(more, "a preset is not JSON");
    for (struct js_entry e = js_first(more); e.key; e = js_next(more, e))
        js_set(root, e.key, copy_of(e.value));
    js_free(more);
}

/* config.json in the form of transformers 4, which the published models have. */
static struct js *config_json(const struct preset *p, const struct synth_options *o)
{
    const struct family *family = family_at(p->architecture);
    struct js *root = js_new_object(), *classes = js_new_array();
    bool has_window = family->windows != WINDOWS_ALL; // and a switch for it
    js_push(classes, js_new_text(family->class));
    js_set(root, "architectures", classes);
    js_set(root, "attention_dropout", js_new_real(0));
    js_set(root, "hidden_act", js_new_text("silu"));
    js_set(root, "initializer_range", js_new_real(0.02));
    js_set(root, "model_type", js_new_text(family->type));
    for (int i = 0; i < MAX_KEYS && p->keys[i].key; i++)
        js_set(root, p->keys[i].key, js_new_int(p->keys[i].value));
    if (o->layers)
        js_set(root, "num_hidden_layers", js_new_int(o->layers));
    js_set(root, "rms_norm_eps", js_new_real(1e-6));
    js_set(root, "rope_theta", js_new_real(1e6));
    if (has_window)
        js_set(root, "sliding_window", js_new_int(32768));
    js_set(root, "tie_word_embeddings", js_new_bool(false));
    js_set(root, "torch_dtype", js_new_text(transformers_name(o->type)));
    js_set(root, "transformers_version", js_new_text("4.39.0"));
    js_set(root, "use_cache", js_new_bool(true));
    if (has_window)
        js_set(root, "use_sliding_window", js_new_bool(false));
    if (family->has_experts) {
        if (!family->defaults.norm_topk) // else it is the family's, and no key says it
            js_set(root, "norm_topk_prob", js_new_bool(false));
        js_set(root, "output_router_logits", js_new_bool(false));
        js_set(root, "router_aux_loss_coef", js_new_real(0.001));
    }
    set_more(root, p);
    return root;
}

static struct js *generation_json(const struct js *config)
{
    struct js *root = js_new_object();
    const struct js *begin = js_member(config, "bos_token_id");
    if (begin)
        js_set(root, "bos_token_id", js_new_int(js_int(begin)));
    js_set(root, "do_sample", js_new_bool(false));
    js_set(root, "eos_token_id", js_new_int(js_int(js_member(config, "eos_token_id"))));
    js_set(root, "max_new_tokens", js_new_int(2048));
    js_set(root, "transformers_version", js_new_text("4.39.0"));
    return root;
}

static void add(void *plan, const struct tensor_spec *t)
{
    struct synth_plan *p = plan;
    if (p->count == p->room) {
        p->room = p->room ? p->room * 2 : 1024;
        p->tensors = realloc(p->tensors, p->room * sizeof *p->tensors);
        CHECK_MEMORY(p->tensors, "no memory for %zu tensors", p->room);
    }
    uint64_t elements = (uint64_t)t->shape[0] * (uint64_t)(t->n_dims > 1 ? t->shape[1] : 1);
    p->tensors[p->count++] = (struct synth_tensor){
        .name = arena_strdup(&p->memory, t->name),
        .n_dims = t->n_dims,
        .shape = {t->shape[0], t->shape[1]},
        .bytes = elements * (uint64_t)dtype_bytes(p->type),
    };
    p->elements += elements;
    p->bytes += p->tensors[p->count - 1].bytes;
}

static void add_once(struct synth_plan *p, const struct config *c, enum tensor_kind kind)
{
    struct tensor_spec t = tensor_spec(c, kind, 0, 0);
    add(p, &t);
}

static void add_all(struct synth_plan *p, const struct config *c)
{
    add_once(p, c, TENSOR_EMBED);
    for (int l = 0; l < c->n_layers; l++)
        tensors_each(c, l, add, p);
    add_once(p, c, TENSOR_FINAL_NORM);
    if (!c->tied)
        add_once(p, c, TENSOR_UNEMBED);
}

/* Assign tensors to files in order; a tensor that does not fit begins a new file. */
static void assign_files(struct synth_plan *p, uint64_t shard_bytes)
{
    uint64_t filled = 0;
    int file = 0;
    for (size_t i = 0; i < p->count; i++) {
        if (filled && filled + p->tensors[i].bytes > shard_bytes) {
            file++;
            filled = 0;
        }
        filled += p->tensors[i].bytes;
        p->tensors[i].file = file;
    }
    p->n_files = file + 1;
}

static const struct preset *find_preset(const char *name)
{
    for (size_t i = 0; i < sizeof presets / sizeof *presets; i++)
        if (strcmp(presets[i].name, name) == 0)
            return &presets[i];
    return NULL;
}

static void read_back(struct config *c, const struct js *config)
{
    char *text = NULL;
    size_t bytes = 0;
    struct generation_defaults unused;
    FILE *memory = open_memstream(&text, &bytes);
    bool printed = memory && js_print(config, memory, 0);
    CHECK_MEMORY(printed && fclose(memory) == 0, "no memory for a text");
    int status = config_parse(c, &unused, text, bytes, NULL, 0);
    CHECK(status == 0, "a preset is not a model");
    free(text);
}

int synth_plan_open(struct synth_plan *p, const struct synth_options *o)
{
    struct config c;
    const struct preset *preset = find_preset(o->preset);
    if (!preset)
        return fail(STATUS_USAGE, "synth: preset: expected %s, found \"%s\"", synth_presets(),
                    o->preset);
    if (o->layers < 0 || o->layers > MAX_LAYERS)
        return fail(STATUS_USAGE, "synth: layers: expected 1 to %d, found %d", MAX_LAYERS,
                    o->layers);
    *p = (struct synth_plan){.type = o->type};
    p->config = config_json(preset, o);
    p->generation = generation_json(p->config);
    read_back(&c, p->config);
    add_all(p, &c);
    assign_files(p, o->shard_bytes ? o->shard_bytes : (uint64_t)4 << 30);
    return 0;
}

void synth_plan_close(struct synth_plan *p)
{
    js_free(p->config);
    js_free(p->generation);
    free(p->tensors);
    arena_free(&p->memory);
}
