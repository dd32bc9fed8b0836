/* The cache of keys and values on the CPU. For each kv head, a block of keys is a packed matrix of
 * 64 outputs (keys) and head_dim inputs, and a block of values is a packed matrix of head_dim
 * outputs and 64 inputs (positions). */
#pragma once

#include "kernels/cpu/isa.h"

/* Of one head. */
static inline size_t head_block_bytes(const struct kv_layer *kv)
{
    return (size_t)(KV_BLOCK / PANEL) * panel_bytes(kv->type, kv->head_dim);
}

/* Where block number `block` of a sequence begins, in bytes from the start of kv->k or kv->v. */
static inline size_t block_at(const struct kv_layer *kv, int seq, int block)
{
    size_t index = (size_t)seq * (size_t)kv->table_stride + (size_t)block;
    return (size_t)kv->table[index] * (size_t)kv->n_kv_heads * head_block_bytes(kv);
}
