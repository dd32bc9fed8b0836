/* Rotary embedding of queries and keys, and writing keys and values into the cache (kv_block.h). */
#include <math.h>
#include <omp.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/kv_block.h"

enum { ROPE_ROWS = 16 };

/* Write a key as output `slot` of its block's matrix. */
static void put_key(enum dtype type, void *block, size_t slot, const void *key, size_t head_dim)
{
    size_t stride = (size_t)row_stride((int)head_dim) * PANEL;
    size_t first = slot / PANEL * stride, o = slot % PANEL;
    if (type == DTYPE_F32)
        for (size_t i = 0; i < head_dim; i++)
            ((float *)block)[first + i * PANEL + o] = ((const float *)key)[i];
    else
        for (size_t i = 0; i < head_dim; i++)
            ((uint16_t *)block)[first + panel_index(type, i, o)] = ((const uint16_t *)key)[i];
}

/* Write a value as input `slot` of its block's matrix. */
static void put_value(enum dtype type, void *block, size_t slot, const void *value, size_t head_dim)
{
    for (size_t i = 0; i < head_dim; i++) {
        size_t at = i / PANEL * KV_BLOCK * PANEL + panel_index(type, slot, i % PANEL);
        if (type == DTYPE_F32)
            ((float *)block)[at] = ((const float *)value)[i];
        else
            ((uint16_t *)block)[at] = ((const uint16_t *)value)[i];
    }
}

struct rope_call {
    const struct dev *d;
    const struct kv_layer *kv;
    const float *qkv;
    int ldqkv, n_heads;
    const struct head_norm *norm;
    const struct rope_table *rope;
    const struct positions *at;
    char *q;
};

/* A head of queries or keys after its norm, which is made in scratch; the head itself where there
 * is no norm. It begins at column `column` of all queries or all keys. Columns that are normed
 * together are read again for each of their heads: next to the product that made them that is
 * little. */
static const float *norm_head(const struct rope_call *c, const float *head, int column,
                              const float *weight, int width, float *scratch)
{
    const struct cpu_isa *isa = c->d->cpu;
    if (!weight)
        return head;
    int within = column % width;
    float inverse = inverse_rms(isa, head - within, width, c->norm->eps);
    isa->weigh(scratch, DTYPE_F32, head, inverse, weight + within, c->kv->head_dim);
    return scratch;
}

/* One head of one row. Heads are numbered through: first the query heads, then the key heads, then
 * the value heads. */
static void rope_head(const struct rope_call *c, int row, int head, char *scratch)
{
    const struct kv_layer *kv = c->kv;
    int hd = kv->head_dim, pos = c->at->pos[row], half = c->rope->half;
    const float *from = c->qkv + (size_t)row * (size_t)c->ldqkv + (size_t)head * (size_t)hd;
    size_t turn = (size_t)c->at->seq[row] * (size_t)c->rope->stride + (size_t)pos;
    const float *cosines = c->rope->cosines + turn * (size_t)half;
    const float *sines = c->rope->sines + turn * (size_t)half;
    void *rounded = scratch, *rotated = scratch + row_bytes(kv->type, hd);
    size_t slot = (size_t)(pos % KV_BLOCK), at = block_at(kv, c->at->seq[row], pos / KV_BLOCK);

    if (head < c->n_heads) {
        size_t bytes = row_bytes(kv->type, hd), used = (size_t)(hd * dtype_bytes(kv->type));
        char *q = c->q + ((size_t)row * (size_t)c->n_heads + (size_t)head) * bytes;
        from = norm_head(c, from, head * hd, c->norm->q, c->norm->q_width, rotated);
        c->d->cpu->rope(rotated, from, cosines, sines, half, 1 / sqrtf((float)hd));
        c->d->cpu->store(q, kv->type, rotated, hd);
        memset(q + used, 0, bytes - used);
    } else if (head < c->n_heads + kv->n_kv_heads) {
        int key = head - c->n_heads;
        at += (size_t)key * head_block_bytes(kv);
        from = norm_head(c, from, key * hd, c->norm->k, c->norm->k_width, rotated);
        c->d->cpu->rope(rotated, from, cosines, sines, half, 1);
        c->d->cpu->store(rounded, kv->type, rotated, hd);
        put_key(kv->type, (char *)kv->k + at, slot, rounded, (size_t)hd);
    } else {
        at += (size_t)(head - c->n_heads - kv->n_kv_heads) * head_block_bytes(kv);
        c->d->cpu->store(rounded, kv->type, from, hd);
        put_value(kv->type, (char *)kv->v + at, slot, rounded, (size_t)hd);
    }
}

/* What each thread of the team does: clear its share of the value blocks that begin, then take its
 * rows, ROPE_ROWS at a time and head by head. Positions that follow each other share cache lines of
 * a block, and are so written shortly after each other. */
static void rope_rows(const struct rope_call *c, int n, int thread, int threads)
{
    const struct kv_layer *kv = c->kv;
    size_t block = (size_t)kv->n_kv_heads * head_block_bytes(kv);
    for (int i = thread; i < n; i += threads)
        if (c->at->pos[i] % KV_BLOCK == 0)
            memset((char *)kv->v + block_at(kv, c->at->seq[i], c->at->pos[i] / KV_BLOCK), 0, block);
    if (threads > 1) {
#pragma omp barrier
    }
    int heads = c->n_heads + 2 * kv->n_kv_heads;
    char *scratch = attention_scratch(c->d, kv, thread);
    for (int first = thread * ROPE_ROWS; first < n; first += threads * ROPE_ROWS)
        for (int head = 0; head < heads; head++)
            for (int i = first; i < n && i < first + ROPE_ROWS; i++)
                rope_head(c, i, head, scratch);
}

void cpu_rope_append(struct dev *d, void *q, const struct kv_layer *kv, const float *qkv, int ldqkv,
                     const struct head_norm *norm, const struct rope_table *rope,
                     const struct positions *at, int n, int n_heads)
{
    struct rope_call call = {d, kv, qkv, ldqkv, n_heads, norm, rope, at, q};
    int threads = team_size(d, (double)n * ldqkv * sizeof(float));
    if (threads == 1) {
        rope_rows(&call, n, 0, 1);
        return;
    }
#pragma omp parallel num_threads(threads)
    rope_rows(&call, n, omp_get_thread_num(), omp_get_num_threads());
}
