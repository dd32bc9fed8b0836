#include "model/sizes.h"

static uint64_t layer_params(const struct config *m, bool sparse)
{
    uint64_t dim = (uint64_t)m->dim, heads = (uint64_t)m->n_heads * (uint64_t)m->head_dim;
    uint64_t qkv = heads + 2 * (uint64_t)m->n_kv_heads * (uint64_t)m->head_dim;
    uint64_t width = (uint64_t)(sparse ? m->shared_dim : m->ffn_dim);
    uint64_t n = 2 * dim + qkv * dim + heads * dim + 3 * dim * width;
    n += m->qkv_bias ? qkv : 0;
    if (sparse)
        n += dim * ((uint64_t)m->n_experts + (m->shared_dim ? 1 : 0));
    return n;
}

struct sizes sizes_of(const struct config *m)
{
    struct sizes s = {0};
    s.embed = (uint64_t)m->vocab_size * (uint64_t)m->dim;
    s.unembed = s.embed;
    s.expert = 3 * (uint64_t)m->dim * (uint64_t)m->expert_dim;
    for (int l = 0; l < m->n_layers; l++) {
        s.layers += layer_params(m, m->sparse[l]);
        s.sparse_layers += m->sparse[l];
    }
    uint64_t sparse = (uint64_t)s.sparse_layers, final_norm = (uint64_t)m->dim;
    s.total = s.embed + (m->tied ? 0 : s.unembed) + s.layers + final_norm +
              sparse * (uint64_t)m->n_experts * s.expert;
    s.active = s.unembed + s.layers + final_norm + sparse * (uint64_t)m->top_k * s.expert;
    return s;
}

uint64_t sizes_active_published(const struct config *m)
{
    struct sizes s = sizes_of(m);
    return s.active + (m->tied ? 0 : s.embed);
}

double attention_flops(const struct config *m, int before, int n)
{
    double keys = (double)n * before + (double)n * (n + 1) / 2; // summed over the new positions
    return 4.0 * keys * m->n_heads * m->head_dim * m->n_layers; // q k^T and p v, 2 FLOPs each
}

uint64_t kv_bytes_per_token(const struct config *m, enum dtype type)
{
    return 2ull * (uint64_t)m->n_layers * (uint64_t)m->n_kv_heads * (uint64_t)m->head_dim *
           (uint64_t)dtype_bytes(type);
}
