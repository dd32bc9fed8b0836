/* The activations of one step, in buffers sized once for the largest. n: rows of the step. "rows
 * of" a width have row_stride(width) elements of the model's type from one to the next. */
#pragma once

#include "kernels/device.h"
#include "model/config.h"

/* What the exchange of a layer reads and writes; the members are those of struct state. */
struct routed {
    void *h, *y;
    float *z;
    int32_t *expert, *slot, *source, *count;
    float *weight;
};

struct state {
    float *x;      // [n][dim] the residual stream
    void *h;       // rows of dim: what a matmul reads
    float *qkv;    // [n][(n_heads + 2 n_kv_heads) * head_dim]
    void *q;       // [n][n_heads][row_stride(head_dim)]
    void *a;       // rows of n_heads * head_dim: what attention gives
    float *scores; // [n][n_experts + 1] router logits, then the shared expert's gate
    float *z; // [pieces][n][row_stride(dim)] f32 outputs of the pieces of a dense MLP or shared
              // expert

    // the step's routing through one layer; assignments = n * top_k
    int32_t *expert; // [n][top_k] the experts of each row, best first
    float *weight;   // [n][top_k] and their weights
    int32_t *slot;   // [n][top_k] where each assignment stands in send order
    int32_t *source; // [assignments] the row of each slot
    int32_t *count;  // [groups] rows of each group; the second half of a step has its own
    uint64_t *hit;   // [1] how many groups had rows, summed over layers and steps
    uint64_t *hit_host;
    void *y;            // rows of dim: the output of each slot
    struct routed host; // copies in the host's memory of what travels from there; the device's
                        // pointers for the rest
    void *seen;         // rows of dim: h rounded as a narrower wire rounds it, for rank 0's own
                        // experts; NULL unless a GPU's rows travel from the host's memory

    int groups;                  // the most that a layer has
    int32_t *inputs;             // [3][n] the batch: tokens, sequence slots, positions
    int32_t *inputs_host;        // the host's copy
    float *picked;               // [logit rows][dim] residual rows whose logits are wanted
    float *logits, *logits_host; // [logit rows][vocab_size]
    int32_t *picks, *picks_host; // [logit rows] which rows of x these are
};

struct state_limits {
    int rows;       // the most of a step
    int logit_rows; // the most of one call of unembed()
    bool travels;   // there are other ranks
    bool direct;    // NCCL moves rows from this device's own memory
    int groups;     // the most that a layer has; 0: no expert has copies
};

/* Bytes of device memory that state_open() and the dev_reserve() after it take, within a few per
 * cent. */
uint64_t state_bytes(const struct config *m, struct precision p, const struct state_limits *limits);

void state_open(struct state *s, struct dev *d, const struct config *m, enum dtype type,
                const struct state_limits *limits);

/* The same buffers from row `first` on, for the second half of a step. The inputs of the
 * batch and the buffers of unembed() are not part of it. */
struct state state_second_half(const struct state *s, const struct config *m, enum dtype type,
                               int first);
