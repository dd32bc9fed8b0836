#include "model/family.h"

#include <stdio.h>
#include <string.h>

#define BLOCK "block_sparse_moe."

static const struct family families[ARCHITECTURES] = {
    [ARCH_QWEN2_MOE] = {.type = "qwen2_moe",
                        .class = "Qwen2MoeForCausalLM",
                        .has_experts = true,
                        .has_dense_layers = true,
                        .windows = WINDOWS_BEFORE,
                        .defaults = {.vocab_size = 151936,
                                     .dim = 2048,
                                     .ffn_dim = 5632,
                                     .n_layers = 24,
                                     .n_heads = 16,
                                     .n_kv_heads = 16,
                                     .max_positions = 32768,
                                     .n_experts = 60,
                                     .top_k = 4,
                                     .expert_dim = 1408,
                                     .shared_dim = 5632,
                                     .qkv_bias = true,
                                     .norm_eps = 1e-6f,
                                     .rope_theta = 10000}},
    [ARCH_QWEN2] = {.type = "qwen2",
                    .class = "Qwen2ForCausalLM",
                    .qkv_bias_required = true,
                    .windows = WINDOWS_FROM,
                    .defaults = {.vocab_size = 151936,
                                 .dim = 4096,
                                 .ffn_dim = 22016,
                                 .n_layers = 32,
                                 .n_heads = 32,
                                 .n_kv_heads = 32,
                                 .max_positions = 32768,
                                 .qkv_bias = true,
                                 .norm_eps = 1e-6f,
                                 .rope_theta = 10000}},
    [ARCH_QWEN3_MOE] = {.type = "qwen3_moe",
                        .class = "Qwen3MoeForCausalLM",
                        .has_experts = true,
                        .has_dense_layers = true,
                        .windows = WINDOWS_IF_ON,
                        .defaults = {.vocab_size = 151936,
                                     .dim = 2048,
                                     .ffn_dim = 6144,
                                     .n_layers = 24,
                                     .n_heads = 32,
                                     .n_kv_heads = 4,
                                     .max_positions = 32768,
                                     .n_experts = 128,
                                     .top_k = 8,
                                     .expert_dim = 768,
                                     .qk_norm = QK_NORM_HEAD,
                                     .norm_eps = 1e-6f,
                                     .rope_theta = 10000}},
    [ARCH_QWEN3] = {.type = "qwen3",
                    .class = "Qwen3ForCausalLM",
                    .windows = WINDOWS_FROM,
                    .defaults = {.vocab_size = 151936,
                                 .dim = 4096,
                                 .ffn_dim = 22016,
                                 .n_layers = 32,
                                 .n_heads = 32,
                                 .n_kv_heads = 32,
                                 .head_dim = 128,
                                 .max_positions = 32768,
                                 .qk_norm = QK_NORM_HEAD,
                                 .norm_eps = 1e-6f,
                                 .rope_theta = 10000}},
    [ARCH_OLMOE] = {.type = "olmoe",
                    .class = "OlmoeForCausalLM",
                    .has_experts = true,
                    .windows = WINDOWS_ALL,
                    .defaults = {.vocab_size = 50304,
                                 .dim = 2048,
                                 .n_layers = 16,
                                 .n_heads = 16, // num_key_value_heads: as many
                                 .max_positions = 4096,
                                 .n_experts = 64,
                                 .top_k = 8,
                                 .expert_dim = 2048,
                                 .qk_norm = QK_NORM_ALL,
                                 .norm_eps = 1e-5f,
                                 .rope_theta = 10000}},
    [ARCH_MIXTRAL] = {.type = "mixtral",
                      .class = "MixtralForCausalLM",
                      .has_experts = true,
                      .windows = WINDOWS_ALL,
                      .defaults = {.vocab_size = 32000,
                                   .dim = 4096,
                                   .n_layers = 32,
                                   .n_heads = 32,
                                   .n_kv_heads = 8,
                                   .max_positions = 131072,
                                   .n_experts = 8,
                                   .top_k = 2,
                                   .expert_dim = 14336,
                                   .norm_topk = true,
                                   .norm_eps = 1e-5f,
                                   .rope_theta = 1e6},
                      .renames = {{TENSOR_ROUTER, BLOCK "gate.weight"},
                                  {TENSOR_EXPERT_GATE, BLOCK "experts.*.w1.weight"},
                                  {TENSOR_EXPERT_UP, BLOCK "experts.*.w3.weight"},
                                  {TENSOR_EXPERT_DOWN, BLOCK "experts.*.w2.weight"}}},
};

/* Families whose models people have, and what they need that nobody has written. */
static const struct {
    const char *type, *lacks;
} unknown[] = {
    {"deepseek_v2", "multi-head latent attention"},
    {"deepseek_v3", "multi-head latent attention"},
    {"gpt_oss", "attention sinks and sliding windows"},
    {"qwen3_next", "linear attention"},
};

const char *family_lacks(const char *type)
{
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        if (strcmp(unknown[i].type, type) == 0)
            return unknown[i].lacks;
    return NULL;
}

const struct family *family_at(enum architecture architecture)
{
    return &families[architecture];
}

const struct family *family_of(const struct config *m)
{
    return family_at(m->architecture);
}

void family_list(char text[FAMILY_LIST_BYTES])
{
    size_t n = 0;
    for (int i = 0; i < ARCHITECTURES; i++)
        n += (size_t)snprintf(text + n, FAMILY_LIST_BYTES - n, "%s\"%s\"",
                              i == 0                   ? ""
                              : i == ARCHITECTURES - 1 ? " or "
                                                       : ", ",
                              families[i].type);
}
