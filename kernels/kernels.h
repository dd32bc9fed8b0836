/* What a device does to numbers: one table of primitives, the same for every device.
 *
 * Conventions. Outputs come first, then inputs, then sizes. `n` is a number of rows (tokens or
 * assignments). Activations that enter a matmul are "rows": n rows of row_stride(width) elements of
 * the model's type, zero beyond width. Everything else is f32. Every array is device memory; a GPU
 * works through the calls in order and on its own time, and dev_wait() waits for it. No primitive
 * allocates: scratch is sized by dev_reserve(). Nothing may be NULL unless said so. n == 0 is legal
 * and does nothing.
 *
 * Row invariance (CPU): a row's result depends on that row alone, never on n, on its place among
 * the rows or on the number of threads: every sum runs in one fixed order of its index.
 *
 * Each primitive exists in plain C (cpu/plain.c, the definition), and faster per instruction set;
 * cases.h lists shapes and error bounds, and tests/kernels/test_kernels.c compares. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"

struct dev; // one rank's device and its threads; see device.h
struct dev_limits;
struct trace_timer; // base/trace.h
struct noise;       // base/noise.h

enum { ROW_ALIGN = 32, KV_BLOCK = 64 };

/* Elements from one row to the next, and of a row on the wire. */
static inline DEVICE_TOO int row_stride(int width)
{
    return (width + ROW_ALIGN - 1) / ROW_ALIGN * ROW_ALIGN;
}

/* A weight matrix W [n][k] of the checkpoint in the device's own packed layout; y = x W^T + bias.
 */
struct matrix {
    enum dtype type;
    int n, k;          // outputs, inputs
    void *data;        // matrix_bytes(type, n, k), 64-byte aligned
    const float *bias; // [n], or NULL
};

/* A checkpoint's values, on their way to a device: the host's memory, of any alignment; or noise,
 * which is made where it is wanted, the same bits on every device. */
struct values {
    enum dtype type;
    const void *data;          // NULL: noise of the type,
    const struct noise *noise; // elements first, first + 1, … of the tensor of this key
    uint64_t key, first;
};

/* A gated feed-forward block, an expert or a dense MLP: down(silu(gate x) * up x). gate and up are
 * one matrix whose rows the device interleaves as it likes (see matrix_pack_pair). No biases. */
struct ffn {
    struct matrix gate_up; // n = 2 * row_stride(width), k = dim
    struct matrix down;    // n = dim, k = width
};

/* Blocks of one shape that the rows of a call are spread over: the experts of a layer, or one dense
 * MLP alone. The struct and its array are the host's; ffn_list_open() once, when all are packed. */
struct ffn_list {
    const struct ffn *ffns; // [n]
    int n;
    void *device; // what a GPU keeps of it
};

/* Rows through a list's blocks: rows y := ffn(rows x), count[i] of them through block i, in order.
 * Rows beyond the counts' sum are left alone. */
struct ffn_job {
    const struct ffn_list *list;
    void *y; // rows [n] of y_type: the model's or f32
    enum dtype y_type;
    const void *x;
    const int32_t *source; // [n] row i is row source[i] of x; NULL: row i
    const int32_t *count;  // [list->n]; NULL: all n rows go through the first block
    int n;                 // rows, with count: at most
};

/* Where the rows of a step stand: sequence slot and absolute position of each, and what the host
 * knows of them. Rows of one sequence follow each other, in order of position. */
struct positions {
    const int32_t *seq; // [n] index into the block table
    const int32_t *pos; // [n] from 0
    int singles;        // so many rows at the front are their sequences' only ones of the step
    int longest;        // no pos is as large
};

/* One layer's keys and values, in blocks of KV_BLOCK positions: position p of sequence s lives in
 * block table[s * table_stride + p / KV_BLOCK]. Blocks start zeroed, and may be used again by
 * another sequence as they are; a block's inner layout is the device's. Sizes: kv_block_bytes()
 * each for k and v. */
struct kv_layer {
    enum dtype type;
    int n_kv_heads, head_dim;
    void *k, *v; // [blocks][kv_block_bytes]
    const int32_t *table;
    int table_stride;
};

/* cos and sin of position * theta^(-2i/head_dim): [max_positions][head_dim / 2] each. */
struct rope_table {
    const float *cosines, *sines;
    int half; // head_dim / 2
};

/* Where the assignments of rows to experts are to stand: see sort_rows. */
struct sorting {
    int32_t *count, *slot, *source;
    uint64_t *hit; // or NULL
    const int32_t *group_of;
    int n_groups;
};

/* The pending residual: what is still to be added to rows x, in this order: a dense MLP's output,
 * then experts'. */
struct pending_residual {
    const float *dense; // [n][ld_dense], or NULL
    const float *gate;  // dense counts times sigmoid(gate[i * ld_gate]); NULL: in full
    int ld_dense, ld_gate;
    const void *y;       // rows
    const int32_t *slot; // [n][k] a negative one ends its row's sum
    const float *weight; // [n][k]
    int k;               // 0: none
};

/* How rows travel: as they are in memory, or narrower. A bf16 row is row_stride(width) bf16; an
 * int8 row is an f32 scale, then row_stride(width) int8, scale being the largest magnitude over
 * 127. */
enum wire { WIRE_MODEL, WIRE_BF16, WIRE_INT8, WIRE_COUNT };

static inline DEVICE_TOO size_t wire_row_bytes(enum wire wire, enum dtype type, int width)
{
    size_t n = (size_t)row_stride(width);
    return wire == WIRE_INT8   ? sizeof(float) + n
           : wire == WIRE_BF16 ? n * sizeof(bf16)
                               : n * (size_t)dtype_bytes(type);
}

/* What narrowing has done to the rows so far. */
struct wire_error {
    double squares; // sum of value^2
    double errors;  // sum of (value - what widen() makes of it)^2
};

/* Sampling. What a sequence has said is a bitmap of the vocabulary, so many words of it. */
enum { TOP_MOST = 64 };

static inline DEVICE_TOO int mark_words(int vocab)
{
    return (vocab + 31) / 32;
}

struct penalty {
    int32_t seq;  // whose marks
    float factor; // 1: none
};

struct candidate {
    float logit;
    int32_t token;
};

struct kernels {
    const char *name; // "cpu", "cuda"

    /* x [n][dim] f32 := row tokens[i] of the checkpoint's own table [vocab][dim] of type `from`
     * (any alignment), rounded to `as`. */
    void (*embed)(struct dev *d, float *x, const void *table, enum dtype from, enum dtype as,
                  const int32_t *tokens, int n, int dim);

    /* rows h := x / sqrt(mean(x^2) + eps) * weight; x [n][dim], weight [dim]. */
    void (*rmsnorm)(struct dev *d, void *h, enum dtype type, const float *x, const float *weight,
                    int n, int dim, float eps);

    /* y [n][ldy] f32 := x w^T + bias (columns [0, w->n)); rows x of width w->k. */
    void (*matmul)(struct dev *d, float *y, int ldy, const void *x, const struct matrix *w, int n);

    /* y += x w^T (+ bias), as above. */
    void (*matmul_add)(struct dev *d, float *y, int ldy, const void *x, const struct matrix *w,
                       int n);

    /* See struct ffn_job. Jobs do not depend on each other; up to d->joint_rows rows they are best
     * given together. */
    void (*ffn)(struct dev *d, const struct ffn_job *jobs, int n_jobs);

    /* From qkv [n][ldqkv] f32 (n_heads query heads, then keys, then values, head_dim each): rotate
     * queries and keys in halves (x1 cos - x2 sin, x2 cos + x1 sin), write queries to
     * q [n][n_heads][row_stride(head_dim)] of kv->type, scaled by 1/sqrt(head_dim) before they are
     * rounded, and append keys and values to kv. */
    void (*rope_append)(struct dev *d, void *q, const struct kv_layer *kv, const float *qkv,
                        int ldqkv, const struct rope_table *rope, const struct positions *at, int n,
                        int n_heads);

    /* rows a (width n_heads * head_dim, of kv->type) := softmax(q k^T) v over positions
     * [0, pos] of the row's own sequence; query head h reads key head h / (n_heads / n_kv_heads).
     * Key blocks are taken whole, in order of position. */
    void (*attention)(struct dev *d, void *a, const void *q, const struct kv_layer *kv,
                      const struct positions *at, int n, int n_heads);

    /* The k experts of each row: softmax over scores [n][ld] (columns [0, n_experts)), the k
     * largest, largest first, the lower expert first among equals; renormalised to sum 1 when
     * normalise. expert [n][k], weight [n][k]. Then sort_rows() of them, unless sorting is NULL. */
    void (*route)(struct dev *d, int32_t *expert, float *weight, const struct sorting *sorting,
                  const float *scores, int ld, int n, int n_experts, int k, bool normalise);

    /* Sort the n * k assignments by group_of[expert], stable: count [n_groups], slot [n][k] the
     * position of each, source [n * k] the row of each position. *hit += groups that have rows
     * (NULL: nobody counts them). */
    void (*sort_rows)(struct dev *d, int32_t *count, int32_t *slot, int32_t *source, uint64_t *hit,
                      const int32_t *expert, const int32_t *group_of, int n, int k, int n_groups);

    /* to[i] := from[index[i]], rows of row_bytes. */
    void (*gather)(struct dev *d, void *to, const void *from, const int32_t *index, int n,
                   size_t row_bytes);

    /* x [n][dim] += dense, times sigmoid(gate), += the sum over j, in order, of weight[i][j] * rows
     * y[slot[i][j]]; then rows h := rmsnorm(x), norm [dim], unless norm is NULL. y and h are of
     * type. */
    void (*add_norm)(struct dev *d, float *x, void *h, enum dtype type,
                     const struct pending_residual *pending, const float *norm, int n, int dim,
                     float eps);

    /* rows out [n] of width dim := sums of rows y as above, from zero on, in f32, rounded to type.
     */
    void (*sum_rows)(struct dev *d, void *out, const void *y, enum dtype type, const int32_t *slot,
                     const float *weight, int n, int k, int dim);

    /* Rows of type to their form on the wire and back; error += what the way there has cost.
     * Rounding is to nearest, ties to even, and the same bits on every device: a row that is
     * narrowed where it stays equals one that has travelled. A row with a number that is not finite
     * comes back as NaN, or (bf16) as it is. */
    void (*narrow)(struct dev *d, void *to, enum wire wire, const void *rows, enum dtype type,
                   int n, int width, struct wire_error *error);
    void (*widen)(struct dev *d, void *rows, enum dtype type, const void *from, enum wire wire,
                  int n, int width);

    /* marks [][mark_words(vocab)]: bit tokens[i] of bitmap seq[i] := 1. */
    void (*mark)(struct dev *d, uint32_t *marks, const int32_t *tokens, const int32_t *seq, int n,
                 int vocab);

    /* Marked tokens lose: logits [n][vocab] of row i, z > 0 ? z / factor : z * factor. */
    void (*penalise)(struct dev *d, float *logits, const uint32_t *marks,
                     const struct penalty *penalties, int n, int vocab);

    /* best [n][most] := the most largest of logits [n][vocab], largest first, the lower token first
     * among equals; NaN counts as -infinity. most from 1 to TOP_MOST and at most vocab. */
    void (*top)(struct dev *d, struct candidate *best, const float *logits, int n, int vocab,
                int most);

    /* Packing, at load. Source rows are the checkpoint's, row-major [rows][k], converted to
     * w->type; what lies in the host's memory is the caller's own again on return. matrix_pack
     * writes rows [first, first + rows) of w; matrix_pack_pair a whole gate_up from [width][k] gate
     * and up; fill to [count] as the values are (nothing to do where `to` is their memory). */
    size_t (*matrix_bytes)(enum dtype type, int n, int k);
    void (*matrix_pack)(struct dev *d, struct matrix *w, int first, const struct values *source,
                        int rows);
    void (*matrix_pack_pair)(struct dev *d, struct matrix *gate_up, const struct values *gate,
                             const struct values *up, int width);
    void (*fill)(struct dev *d, void *to, const struct values *source, size_t count);
    size_t (*kv_block_bytes)(enum dtype type, int n_kv_heads, int head_dim);
    void (*ffn_list_open)(struct dev *d, struct ffn_list *list);

    /* Memory and order: see device.h. */
    void *(*alloc)(struct dev *d, size_t bytes);
    void *(*alloc_host)(struct dev *d, size_t bytes);
    void *(*alloc_copy)(struct dev *d, void *host, size_t bytes);
    void (*upload)(struct dev *d, void *to, const void *from, size_t bytes);
    void (*download)(struct dev *d, void *to, const void *from, size_t bytes);
    uint64_t (*free_bytes)(struct dev *d);
    int (*wait)(struct dev *d);
    const struct trace_timer *(*time_marks)(struct dev *d, size_t room);
    bool (*graph_begin)(struct dev *d, uint64_t key);
    void (*graph_end)(struct dev *d);
    void (*reserve)(struct dev *d, const struct dev_limits *limits);
    void (*close)(struct dev *d);

    /* The roof: the best this device does with its threads, measured now. FLOP/s of the
     * instruction that matmul uses for `type`, operands in registers or L1; bytes/s of reading
     * a buffer much larger than the caches. */
    double (*peak_flops)(struct dev *d, enum dtype type);
    double (*read_bandwidth)(struct dev *d);
};
