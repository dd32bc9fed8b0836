#include "model/family.h"

#include <stdio.h>

static const struct family families[ARCHITECTURES] = {
    [ARCH_QWEN2_MOE] = {.type = "qwen2_moe",
                        .class = "Qwen2MoeForCausalLM",
                        .has_experts = true,
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
};

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
