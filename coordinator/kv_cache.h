/* Keys and values of the sequences in flight, in blocks of KV_BLOCK positions that sequences take
 * as they grow and give back when they end. One block table serves all layers. */
#pragma once

#include "coordinator/prefix.h"
#include "kernels/device.h"
#include "model/config.h"

struct kv_cache {
    struct kv_layer *layers; // [n_layers], sharing `table`
    int32_t *table;          // [max_sequences][blocks_per_sequence], -1: not taken
    int32_t *table_device;   // the device's
    bool changed;            // `table`, since the last kv_cache_upload()
    int32_t *free_blocks;    // [n_free] a stack
    int *taken;              // [max_sequences] how many blocks each sequence has
    int n_free, n_blocks, max_sequences, blocks_per_sequence;
    struct prefixes *prefixes; // NULL: no block outlives its sequence
};

/* Room for max_sequences of at most `context` positions each, `blocks` blocks in all (0: enough for
 * all sequences at full length). Memory is touched only as positions are written. */
void kv_cache_open(struct kv_cache *kv, struct dev *d, const struct config *m, enum dtype type,
                   int max_sequences, int context, int blocks);

/* Take blocks until the sequence has room for positions [0, n). False: there are too few blocks, or
 * n exceeds the context; then nothing has changed. */
bool kv_cache_extend(struct kv_cache *kv, int sequence, int n);
/* Before each step: copy the block table to the device, if it has changed. */
void kv_cache_upload(struct kv_cache *kv, struct dev *d);
/* How many positions the longest possible sequence can have, if no other takes a block. */
int kv_cache_positions(const struct kv_cache *kv);
/* Give all blocks of a sequence back. */
void kv_cache_release(struct kv_cache *kv, int sequence);

/* From now on full blocks outlive their sequences until their memory is wanted. No sequence may be
 * running. kv_cache_forget() ends that and frees the blocks that were kept. */
void kv_cache_keep(struct kv_cache *kv);
void kv_cache_forget(struct kv_cache *kv);
/* How many blocks sequences may still take: those that are free, and those that no sequence uses
 * but that were kept. */
int kv_cache_available(const struct kv_cache *kv);
/* Begin a sequence with this prompt [n_prompt], with room for positions [0, n). Its first blocks
 * are kept ones whose tokens are the prompt's; *reused := their positions, which need not be
 * computed. At least one token of the prompt is left to compute. False: as kv_cache_extend(). */
bool kv_cache_begin(struct kv_cache *kv, int sequence, const int32_t *prompt, int n_prompt, int n,
                    int *reused);
/* Positions [0, n) of a sequence have been written, for these tokens [n]: let other sequences reuse
 * its full blocks. Does nothing unless blocks are kept. */
void kv_cache_written(struct kv_cache *kv, int sequence, const int32_t *tokens, int n);
