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
    bool changed;            // since the last kv_cache_upload()
    int32_t *free_blocks;    // a stack
    int *taken;              // [max_sequences] blocks of each
    int n_free, n_blocks, max_sequences, blocks_per_sequence;
    struct prefixes *prefixes; // NULL: no block outlives its sequence
};

/* Room for max_sequences of at most `context` positions each, `blocks` blocks in all (0: enough for
 * all sequences at full length). Memory is touched only as positions are written. */
void kv_cache_open(struct kv_cache *kv, struct dev *d, const struct config *m, enum dtype type,
                   int max_sequences, int context, int blocks);

/* Make positions [0, n) of a sequence writable: false when no block is left (nothing changes). */
bool kv_cache_extend(struct kv_cache *kv, int sequence, int n);
void kv_cache_upload(struct kv_cache *kv, struct dev *d); // before a step; see dev_upload()
int kv_cache_positions(const struct kv_cache *kv); // of one sequence, with all blocks its own
void kv_cache_release(struct kv_cache *kv, int sequence);

/* From now on full blocks outlive their sequences, as long as nobody wants their memory. No
 * sequence may be running. kv_cache_forget() ends that. */
void kv_cache_keep(struct kv_cache *kv);
void kv_cache_forget(struct kv_cache *kv);
/* Blocks that a sequence may take: free, or kept. */
int kv_cache_available(const struct kv_cache *kv);
/* As kv_cache_extend() for a new sequence with this prompt [n_prompt]: its first blocks are those
 * of earlier sequences with the same tokens, but at most so many that a token of the prompt is
 * left. *reused := positions that need not be computed. */
bool kv_cache_begin(struct kv_cache *kv, int sequence, const int32_t *prompt, int n_prompt, int n,
                    int *reused);
/* Positions [0, n) of a sequence are written, with these tokens: its full blocks may be reused. */
void kv_cache_written(struct kv_cache *kv, int sequence, const int32_t *tokens, int n);
