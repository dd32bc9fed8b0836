/* What config.json and generation_config.json say: checked, complete, in our own words.
 * Both the transformers 4 form (rope_theta, torch_dtype) and the 5 form (rope_parameters,
 * layer_types, dtype) are read. A switch that is not honoured is refused by name. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"
#include "model/generation.h"

enum {
    MAX_LAYERS = 256,
    MAX_EXPERTS = 1024,
    MAX_EOS = 16,
    MAX_HEAD_DIM = 1024,
    MAX_POSITIONS = 1 << 24
};

/* See family.h. */
enum architecture {
    ARCH_QWEN2_MOE,
    ARCH_QWEN2,
    ARCH_QWEN3_MOE,
    ARCH_QWEN3,
    ARCH_OLMOE,
    ARCH_MIXTRAL,
    ARCHITECTURES
};

/* Which columns of the queries, and of the keys, are normed together before they are rotated. */
enum qk_norm { QK_NORM_NONE, QK_NORM_HEAD, QK_NORM_ALL };

enum rope_type { ROPE_DEFAULT, ROPE_LINEAR, ROPE_DYNAMIC, ROPE_YARN };

/* How positions are made to reach beyond those of training (rope.h). */
struct rope_scaling {
    enum rope_type type;
    double factor;
    int original;      // positions of training
    double fast, slow; // yarn: beta_fast and beta_slow
    double attention;  // yarn: cosines and sines are multiplied by it
    bool truncate;     // yarn: the ends of the ramp are whole pairs
};

struct config {
    enum architecture architecture;
    int dim;        // hidden_size
    int n_layers;   // num_hidden_layers
    int n_heads;    // num_attention_heads
    int n_kv_heads; // num_key_value_heads
    int head_dim;
    int vocab_size; // rows of the embedding; may exceed the tokenizer's
    int ffn_dim;    // intermediate_size, of dense layers
    int n_experts;  // 0: every layer is dense
    int top_k;
    int expert_dim; // moe_intermediate_size
    int shared_dim; // shared_expert_intermediate_size
    bool norm_topk; // norm_topk_prob
    bool qkv_bias;
    enum qk_norm qk_norm;
    bool tied;               // tie_word_embeddings
    bool sparse[MAX_LAYERS]; // this layer has experts
    float norm_eps;
    double rope_theta;
    struct rope_scaling rope;
    int max_positions; // max_position_embeddings, or as far as yarn reaches
    int window;        // no layer sees more than this much of the text; 0: every layer sees all
    enum dtype dtype;  // what the weights are said to be; f32 unless dtype_given
    bool dtype_given;
    int n_eos;
    int32_t eos[MAX_EOS]; // generation_config.json's; if it has none, config.json's
};

/* Read dir/config.json and, when there, dir/generation_config.json. 0, or STATUS_BAD_FILE after
 * fail() has named the file and the key, what was expected and what was found. */
int config_load(struct config *c, struct generation_defaults *g, const char *dir);

/* The same from text, for tests and fuzzing; `generation` may be NULL. */
int config_parse(struct config *c, struct generation_defaults *g, const char *text, size_t bytes,
                 const char *generation, size_t generation_bytes);
