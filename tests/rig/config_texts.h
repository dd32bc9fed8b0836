/* A valid config.json as transformers 4 and 5 write it, and functions that parse it with one key
 * changed. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "model/config.h"
#include "tests/rig/cm.h"

/* In the form of transformers 4, as models are published, but small. */
static const char moe4[] =
    "{\"architectures\":[\"Qwen2MoeForCausalLM\"],\"attention_dropout\":0.0,\"bos_token_id\":643,"
    "\"eos_token_id\":645,\"hidden_act\":\"silu\",\"hidden_size\":64,\"initializer_range\":0.02,"
    "\"intermediate_size\":96,\"max_position_embeddings\":8192,\"max_window_layers\":21,"
    "\"model_type\":\"qwen2_moe\",\"num_attention_heads\":4,\"num_hidden_layers\":6,"
    "\"num_key_value_heads\":2,\"rms_norm_eps\":1e-05,\"rope_theta\":1000000.0,"
    "\"sliding_window\":32768,\"tie_word_embeddings\":false,\"torch_dtype\":\"bfloat16\","
    "\"transformers_version\":\"4.39.0.dev0\",\"use_cache\":true,\"use_sliding_window\":false,"
    "\"vocab_size\":1000,\"decoder_sparse_step\":1,\"moe_intermediate_size\":32,"
    "\"shared_expert_intermediate_size\":48,\"num_experts_per_tok\":4,\"num_experts\":8,"
    "\"norm_topk_prob\":false,\"output_router_logits\":false,\"router_aux_loss_coef\":0.001}";

/* The same model as transformers 5 saves it. */
static const char moe5[] =
    "{\"architectures\":[\"Qwen2MoeForCausalLM\"],\"attention_dropout\":0.0,\"bos_token_id\":643,"
    "\"decoder_sparse_step\":1,\"dtype\":\"bfloat16\",\"eos_token_id\":645,\"hidden_act\":\"silu\","
    "\"hidden_size\":64,\"initializer_range\":0.02,\"intermediate_size\":96,\"layer_types\":["
    "\"full_attention\",\"full_attention\",\"full_attention\",\"full_attention\","
    "\"full_attention\",\"full_attention\"],\"max_position_embeddings\":8192,"
    "\"max_window_layers\":21,\"mlp_only_layers\":[],\"model_type\":\"qwen2_moe\","
    "\"moe_intermediate_size\":32,\"norm_topk_prob\":false,\"num_attention_heads\":4,"
    "\"num_experts\":8,\"num_experts_per_tok\":4,\"num_hidden_layers\":6,"
    "\"num_key_value_heads\":2,\"output_router_logits\":false,\"pad_token_id\":null,"
    "\"qkv_bias\":true,\"rms_norm_eps\":1e-05,\"rope_parameters\":{\"rope_theta\":1000000.0,"
    "\"rope_type\":\"default\"},\"router_aux_loss_coef\":0.001,"
    "\"shared_expert_intermediate_size\":48,\"sliding_window\":0,\"tie_word_embeddings\":false,"
    "\"transformers_version\":\"5.23.0\",\"use_cache\":true,\"use_sliding_window\":false,"
    "\"vocab_size\":1000}";

static struct config parsed;
static struct generation_defaults defaults;

static inline int parse(const char *text, const char *generation)
{
    memset(&parsed, 0, sizeof parsed); // padding too: some tests compare all bytes
    return config_parse(&parsed, &defaults, text, strlen(text), generation,
                        generation ? strlen(generation) : 0);
}

/* The text with one key set to this JSON. */
static inline char *with(const char *text, const char *key, const char *value)
{
    char *out = NULL;
    size_t bytes = 0;
    struct js *root = js_parse(text, strlen(text), "good");
    struct js *v = js_parse(value, strlen(value), value);
    assert_non_null(root);
    assert_non_null(v);
    js_set(root, key, v);
    FILE *memory = open_memstream(&out, &bytes);
    assert_true(js_print(root, memory, 0));
    fclose(memory);
    js_free(root);
    return out;
}

static inline int parse_with(const char *text, const char *key, const char *value)
{
    char *changed = with(text, key, value);
    int status = parse(changed, NULL);
    free(changed);
    return status;
}

static inline void expect_error(int status, const char *part)
{
    if (status != STATUS_BAD_FILE || !strstr(error_text(), part))
        print_error("expected an error with: %s\nfound status %d: %s\n", part, status,
                    error_text());
    assert_int_equal(status, STATUS_BAD_FILE);
    assert_non_null(strstr(error_text(), part));
    assert_null(strchr(error_text(), '\n'));
}
