#include "coordinator/kv_cache.h"

#include <stdlib.h>

#include "base/check.h"
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

static int32_t *row_of(const struct kv_cache *kv, int sequence)
{
    return kv->table + (size_t)sequence * (size_t)kv->blocks_per_sequence;
}

int kv_cache_available(const struct kv_cache *kv)
{
    return kv->n_free + (kv->prefixes ? kv->prefixes->n_idle : 0);
}

static int32_t take_block(struct kv_cache *kv)
{
    int32_t block = kv->n_free ? kv->free_blocks[--kv->n_free] : prefixes_evict(kv->prefixes);
    if (kv->prefixes)
        prefixes_take(kv->prefixes, block);
    return block;
}

bool kv_cache_extend(struct kv_cache *kv, int sequence, int n)
{
    int need = blocks_for(n), missing = need - kv->taken[sequence];
    if (missing <= 0)
        return true;
    if (need > kv->blocks_per_sequence || missing > kv_cache_available(kv))
        return false;
    int32_t *row = row_of(kv, sequence);
    kv->changed = true;
    while (kv->taken[sequence] < need)
        row[kv->taken[sequence]++] = take_block(kv);
    return true;
}

int kv_cache_positions(const struct kv_cache *kv)
{
    int most = kv->n_blocks < kv->blocks_per_sequence ? kv->n_blocks : kv->blocks_per_sequence;
    return most * KV_BLOCK;
}

/* The last block is given back first, so that kept blocks are evicted before those that lead to
 * them (prefix.h). */
void kv_cache_release(struct kv_cache *kv, int sequence)
{
    int32_t *row = row_of(kv, sequence);
    while (kv->taken[sequence] > 0) {
        int last = --kv->taken[sequence];
        if (!kv->prefixes || !prefixes_give(kv->prefixes, row[last]))
            kv->free_blocks[kv->n_free++] = row[last];
        row[last] = -1;
    }
}

void kv_cache_keep(struct kv_cache *kv)
{
    kv->prefixes = malloc(sizeof *kv->prefixes);
    CHECK_MEMORY(kv->prefixes, "no memory for prefixes");
    prefixes_open(kv->prefixes, kv->n_blocks);
}

void kv_cache_forget(struct kv_cache *kv)
{
    while (kv->prefixes && kv->prefixes->n_idle)
        kv->free_blocks[kv->n_free++] = prefixes_evict(kv->prefixes);
    if (kv->prefixes)
        prefixes_close(kv->prefixes);
    free(kv->prefixes);
    kv->prefixes = NULL;
}

bool kv_cache_begin(struct kv_cache *kv, int sequence, const int32_t *prompt, int n_prompt, int n,
                    int *reused)
{
    struct prefixes *p = kv->prefixes;
    int32_t *row = row_of(kv, sequence);
    uint64_t before = 0;
    int found = 0;
    for (int32_t block; p && (found + 1) * KV_BLOCK < n_prompt; found++) {
        block = prefixes_find(p, before, prompt + found * KV_BLOCK);
        if (block < 0)
            break;
        prefixes_take(p, block);
        before = p->blocks[block].serial;
        row[found] = block;
    }
    kv->taken[sequence] = found;
    kv->changed = kv->changed || found;
    *reused = found * KV_BLOCK;
    if (kv_cache_extend(kv, sequence, n))
        return true;
    kv_cache_release(kv, sequence);
    return false;
}

void kv_cache_written(struct kv_cache *kv, int sequence, const int32_t *tokens, int n)
{
    struct prefixes *p = kv->prefixes;
    const int32_t *row = row_of(kv, sequence);
    uint64_t before = 0;
    for (int i = 0; p && (i + 1) * KV_BLOCK <= n; i++) {
        int32_t same =
            p->blocks[row[i]].serial ? row[i] : prefixes_find(p, before, tokens + i * KV_BLOCK);
        if (same < 0)
            prefixes_name(p, same = row[i], before, tokens + i * KV_BLOCK);
        before = p->blocks[same].serial;
    }
}
