#include "coordinator/kv_cache.h"

#include "kernels/ops.h"

static int blocks_for(int positions)
{
    return (positions + KV_BLOCK - 1) / KV_BLOCK;
}

static void layers_open(struct kv_cache *kv, struct dev *d, const struct config *m, enum dtype type)
{
    size_t block = kv_block_bytes(d, type, m->n_kv_heads, m->head_dim);
    kv->layers = dev_alloc_host(d, (size_t)m->n_layers * sizeof *kv->layers);
    for (int l = 0; l < m->n_layers; l++)
        kv->layers[l] = (struct kv_layer){
            .type = type,
            .n_kv_heads = m->n_kv_heads,
            .head_dim = m->head_dim,
            .k = dev_alloc(d, block * (size_t)kv->n_blocks),
            .v = dev_alloc(d, block * (size_t)kv->n_blocks),
            .table = kv->table_device,
            .table_stride = kv->blocks_per_sequence,
        };
}

void kv_cache_open(struct kv_cache *kv, struct dev *d, const struct config *m, enum dtype type,
                   int max_sequences, int context, int blocks)
{
    *kv = (struct kv_cache){.max_sequences = max_sequences,
                            .blocks_per_sequence = blocks_for(context)};
    int most = max_sequences * kv->blocks_per_sequence;
    kv->n_blocks = blocks && blocks < most ? blocks : most;
    kv->table = dev_alloc_host(d, (size_t)most * sizeof *kv->table);
    kv->table_device = dev_alloc_copy(d, kv->table, (size_t)most * sizeof *kv->table);
    kv->taken = dev_alloc_host(d, (size_t)max_sequences * sizeof *kv->taken);
    kv->free_blocks = dev_alloc_host(d, (size_t)kv->n_blocks * sizeof *kv->free_blocks);
    for (int i = 0; i < most; i++)
        kv->table[i] = -1;
    for (int i = kv->n_blocks; i-- > 0;) // so that the first taken is block 0
        kv->free_blocks[kv->n_free++] = i;
    layers_open(kv, d, m, type);
}

void kv_cache_upload(struct kv_cache *kv, struct dev *d)
{
    size_t blocks = (size_t)kv->max_sequences * (size_t)kv->blocks_per_sequence;
    if (kv->changed)
        dev_upload(d, kv->table_device, kv->table, blocks * sizeof *kv->table);
    kv->changed = false;
}

bool kv_cache_extend(struct kv_cache *kv, int sequence, int n)
{
    int need = blocks_for(n), missing = need - kv->taken[sequence];
    if (missing <= 0)
        return true;
    if (need > kv->blocks_per_sequence || missing > kv->n_free)
        return false;
    int32_t *row = kv->table + (size_t)sequence * (size_t)kv->blocks_per_sequence;
    kv->changed = true;
    while (kv->taken[sequence] < need)
        row[kv->taken[sequence]++] = kv->free_blocks[--kv->n_free];
    return true;
}

int kv_cache_positions(const struct kv_cache *kv)
{
    int most = kv->n_blocks < kv->blocks_per_sequence ? kv->n_blocks : kv->blocks_per_sequence;
    return most * KV_BLOCK;
}

void kv_cache_release(struct kv_cache *kv, int sequence)
{
    int32_t *row = kv->table + (size_t)sequence * (size_t)kv->blocks_per_sequence;
    while (kv->taken[sequence] > 0) {
        int last = --kv->taken[sequence];
        kv->free_blocks[kv->n_free++] = row[last];
        row[last] = -1;
    }
}
