/* The coordinator's part of a model: everything but experts and the pieces of dense blocks
 * (model/shard.h has those).
 * weights_check() checks every tensor's name, shape and type before a byte is read; loading packs
 * each matrix into the device's layout, so the mapping of the file is given back as it goes. */
#pragma once

#include "kernels/device.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/tensors.h"

struct layer_weights {
    const float *attn_norm, *ffn_norm; // [dim]
    struct matrix qkv;                 // [(n_heads + 2 n_kv_heads) * head_dim][dim], maybe a bias
    struct head_norm head_norm;        // of queries and keys; weights are NULL where there are none
    struct matrix o;                   // [dim][n_heads * head_dim]
    struct matrix router;              // sparse: [n_experts + 1][dim], the last row is the shared
                                       // expert's gate (absent without a shared expert)
    bool sparse;
};

struct weights {
    struct mapping embed_map; // the embedding stays in the file,
    const void *embed;        // or is the device's copy of it
    enum dtype embed_type;
    struct layer_weights *layers; // [n_layers]
    const float *final_norm;      // [dim]
    struct matrix unembed;        // [this rank's outputs][dim], the first ones of the vocabulary
    uint64_t bytes;               // packed
};

/* Called during loading with the number of parameters packed so far; may be NULL. */
typedef void (*load_progress)(void *context, uint64_t parameters);

/* Does the checkpoint have all tensors that the config requires, in the right shapes? 0 or
 * STATUS_BAD_FILE. Only headers are read. Call it before m is used: m->tied becomes false if the
 * checkpoint has an output matrix of its own though config.json ties it to the embedding. As in
 * transformers 5, that matrix is used. */
int weights_check(struct config *m, const struct checkpoint *c);

/* outputs: for how many tokens, from 0 on, this rank computes logits. 0, or STATUS_BAD_FILE, and
 * then w is closed. Here and below a GPU's error is returned by the next dev_wait(). */
int weights_open(struct weights *w, struct dev *d, const struct config *m,
                 const struct checkpoint *c, struct precision p, int outputs,
                 load_progress progress, void *context);
void weights_close(struct weights *w); // device memory goes with the device

/* One routed expert, from separate or fused tensors; one piece of a layer's dense block
 * (model/pieces.h). Matrices are the device's memory, here and below. */
int weights_load_expert(struct ffn *f, struct dev *d, const struct config *m,
                        const struct checkpoint *c, struct precision p, int layer, int expert);
int weights_load_piece(struct ffn *f, struct dev *d, const struct config *m,
                       const struct checkpoint *c, struct precision p, int layer, int piece);

/* PART_QKV or PART_O of a layer, without a bias. */
int weights_load_part(struct matrix *w, struct dev *d, const struct config *m,
                      const struct checkpoint *c, struct precision p, enum tensor_part part,
                      int layer);

/* Rows [first, first + n) of the output matrix. */
int weights_load_outputs(struct matrix *w, struct dev *d, const struct config *m,
                         const struct checkpoint *c, struct precision p, int first, int n);
