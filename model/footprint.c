#include "model/footprint.h"

#include "kernels/ops.h"

/* As an arena hands it out. */
static uint64_t rounded(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static uint64_t matrix(const struct dev *d, enum dtype type, int n, int k)
{
    return rounded(matrix_bytes(d, type, n, k));
}

static uint64_t vector(int n)
{
    return rounded((size_t)n * sizeof(float));
}

static uint64_t ffn(const struct dev *d, enum dtype type, int dim, int width)
{
    return matrix(d, type, 2 * row_stride(width), dim) + matrix(d, type, dim, width);
}

static uint64_t attention_of(const struct dev *d, const struct config *m, enum dtype type)
{
    int heads = m->n_heads * m->head_dim, qkv = heads + 2 * m->n_kv_heads * m->head_dim;
    return matrix(d, type, qkv, m->dim) + (m->qkv_bias ? vector(qkv) : 0) +
           matrix(d, type, m->dim, heads) + 2 * vector(m->dim);
}

struct footprint footprint_of(const struct config *m, enum dtype type)
{
    struct footprint f = {0};
    struct dev d;
    dev_open_cpu(&d, ISA_PLAIN, 1); // all instruction sets pack alike
    for (int l = 0; l < m->n_layers; l++) {
        int width = m->sparse[l] ? m->shared_dim : m->ffn_dim;
        f.attention += attention_of(&d, m, type);
        f.dense += width ? ffn(&d, type, m->dim, width) : 0;
        if (m->sparse[l])
            f.router += matrix(&d, type, m->n_experts + (m->shared_dim ? 1 : 0), m->dim);
    }
    f.unembed = matrix(&d, type, m->vocab_size, m->dim) + vector(m->dim);
    f.expert = m->n_experts ? ffn(&d, type, m->dim, m->expert_dim) : 0;
    dev_close(&d);
    return f;
}

uint64_t kv_footprint(const struct config *m, enum dtype type, int context)
{
    struct dev d;
    dev_open_cpu(&d, ISA_PLAIN, 1);
    uint64_t block = kv_block_bytes(&d, type, m->n_kv_heads, m->head_dim);
    uint64_t blocks = ((uint64_t)context + KV_BLOCK - 1) / KV_BLOCK;
    dev_close(&d);
    return 2 * (uint64_t)m->n_layers * blocks * block;
}
