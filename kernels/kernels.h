/* The primitives: what a device computes. Every device has one table of them, struct kernels.
 *
 * Conventions. Outputs come first, then inputs, then sizes. `n` is a number of rows (tokens or
 * assignments). The word "rows" in a comment stands for activations that enter a matmul: n rows of
 * row_stride(width) elements of the model's type, zero beyond width. All other numbers are f32.
 * Every array is device memory. A GPU puts the calls into a queue and returns; dev_wait() waits for
 * it. No primitive allocates: dev_reserve() has sized the scratch. No pointer may be NULL unless a
 * comment says so. n == 0 is legal and does nothing, but that route() sets its counts to 0.
 *
 * Row invariance (CPU): a row's result depends on that row alone, not on n, on the row's place
 * among the others or on the number of threads. For this every sum runs over its index in a fixed
 * order.
 *
 * On the CPU each primitive is written once, over inner loops that exist in plain C (cpu/plain.c,
 * the definition) and for each instruction set (cpu/isa.h). CUDA has primitives of its own. Tests
 * compare them, on the shapes and within the bounds of cases.h. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"
#include "base/quant.h"

struct dev; // device.h
struct dev_limits;
struct trace_timer; // base/trace.h
struct noise;       // base/noise.h

enum { ROW_ALIGN = 32, KV_BLOCK = 64 };

/* How many elements "rows" of this width have from one row to the next, in memory and on the wire.
 */
static inline DEVICE_TOO int row_stride(int width)
{
    return (width + ROW_ALIGN - 1) / ROW_ALIGN * ROW_ALIGN;
}

/* A weight matrix W [n][k] of the checkpoint, in the device's own packed layout: y = x W^T + bias.
 */
struct matrix {
    enum dtype type; // of the rows that it is multiplied with, and of its weights unless quantised
    int n, k;        // outputs, inputs
    void *data;      // matrix_bytes(type, quant, n, k), 64-byte aligned
    const float *bias; // [n], or NULL
    enum quant quant;  // how its weights are kept
};

/* The values that packing reads: a checkpoint's, in host memory of any alignment; or noise
 * (base/noise.h), which the device makes itself, the same bits on every device. */
struct values {
    enum dtype type;
    const void *data;          // NULL: the values are noise,
    const struct noise *noise; // elements first, first + 1, … of the tensor of this key
    uint64_t key, first;
    int columns, stride; // of a matrix: so many elements of each row, and from one row to the next;
                         // 0: rows are whole and follow each other
};

/* A gated feed-forward block, a routed expert or a piece of a dense block: y = down(silu(gate x) *
 * up x). gate and up are one matrix, whose rows each device orders in its own way
 * (matrix_pack_pair). No biases. */
struct ffn {
    struct matrix gate_up; // n = 2 * row_stride(width), k = dim
    struct matrix down;    // n = dim, k = width
};

/* The ffns of one shape that a job's rows go through: a layer's experts here, or its pieces here.
 * The struct and its array are in host memory and belong to the caller. Call ffn_list_open() once,
 * when all matrices are packed. */
struct ffn_list {
    const struct ffn *ffns; // [n]
    int n;
    void *device; // a GPU's copy of the array's pointers
};

/* Rows through a list's blocks: rows y := ffn(rows x). With count, count[i] of them go through
 * block i, in order, and rows beyond the counts' sum are left alone. Without, each of the n rows
 * goes through each block: y is [list->n][n]. */
struct ffn_job {
    const struct ffn_list *list;
    void *y; // rows of y_type: the model's or f32
    enum dtype y_type;
    const void *x;
    const int32_t *source; // [n] row i is row source[i] of x; NULL: row i
    const int32_t *count;  // [list->n] or NULL
    int n;                 // rows, with count: at most
};

/* Sequence and position of each row of a step. Rows of one sequence follow each other, in order of
 * position. The arrays are device memory; the host knows the two numbers after them. */
struct positions {
    const int32_t *seq; // [n] index into the block table
    const int32_t *pos; // [n] from 0
    int singles;        // of each of the first `singles` rows, the sequence has no other row here
    int longest;        // every pos is less than this
};

/* One layer's keys and values, in blocks of KV_BLOCK positions: position p of sequence s is in
 * block table[s * table_stride + p / KV_BLOCK]. Blocks start zeroed. A block may pass from one
 * sequence to another without being cleared. The layout within a block is the device's;
 * kv_block_bytes() is its size, for keys and for values alike. */
struct kv_layer {
    enum dtype type;
    int n_kv_heads, head_dim;
    void *k, *v; // [blocks][kv_block_bytes]
    const int32_t *table;
    int table_stride;
};

/* cos and sin of the angles by which positions turn: rows of [head_dim / 2]. Position p of sequence
 * s has row s * stride + p. */
struct rope_table {
    const float *cosines, *sines;
    int half;   // head_dim / 2
    int stride; // rows of a sequence; 0: all sequences have the same
};

/* The norms of queries and keys (rmsnorm), before they are rotated. Columns that are normed
 * together are those of one head, or those of all query heads and those of all key heads. */
struct head_norm {
    const float *q, *k;   // weights [q_width] and [k_width]; NULL: there are no norms
    int q_width, k_width; // how many columns are normed together: head_dim, or all
    float eps;
};

/* The groups that assignments of rows to experts are sorted into. An expert has one group, or one
 * for each of its copies (model/placement.h). Row i of a call takes turn i mod `turns`, so that the
 * rows of an expert with copies go to them in turn. */
struct grouping {
    const int32_t *group_of; // [turns][n_experts]
    int n_experts, n_groups;
    int turns; // a power of two; 1: no expert has copies
};

/* What route() makes of the n * k assignments of rows to experts: it sorts them by group, and by
 * row within a group. *hit += the number of groups that have rows, unless hit is NULL. */
struct sorting {
    int32_t *count;  // [n_groups] assignments of each group
    int32_t *slot;   // [n][k] the place of each assignment in the sorted order
    int32_t *source; // [n * k] the row of each place
    uint64_t *hit;   // or NULL
    struct grouping groups;
};

/* The pending residual: what is still to be added to rows x, in this order: the sum of the outputs
 * of a dense MLP's or shared expert's pieces, then experts'. */
struct pending_residual {
    const float *pieces;     // [n_pieces][n][ld_pieces]
    const int32_t *piece_at; // [n_pieces] where in `pieces` each is; added up in this order
    int n_pieces, ld_pieces; // 0: none
    const float *gate;       // their sum counts times sigmoid(gate[i * ld_gate]); NULL: in full
    int ld_gate;
    const void *y;       // rows
    const int32_t *slot; // [n][k] a negative one ends its row's sum
    const float *weight; // [n][k]
    int k;               // 0: no experts' outputs to add
};

/* How rows travel: as they are in memory, or in a narrower type. A bf16 row is row_stride(width)
 * bf16. An int8 row is an f32 scale, then row_stride(width) int8; the scale is the row's largest
 * magnitude over 127. */
enum wire { WIRE_MODEL, WIRE_BF16, WIRE_INT8, WIRE_COUNT };

static inline DEVICE_TOO size_t wire_row_bytes(enum wire wire, enum dtype type, int width)
{
    size_t n = (size_t)row_stride(width);
    return wire == WIRE_INT8   ? sizeof(float) + n
           : wire == WIRE_BF16 ? n * sizeof(bf16)
                               : n * (size_t)dtype_bytes(type);
}

/* The error of narrowing, summed over rows. */
struct wire_error {
    double squares; // sum of value^2
    double errors;  // sum of (value - what widen() makes of it)^2
};

/* For sampling: which tokens a sequence has seen (prompt and output) is a bitmap of the vocabulary,
 * seen_words(vocab) words long. */
enum { TOP_MOST = 64 };

static inline DEVICE_TOO int seen_words(int vocab)
{
    return (vocab + 31) / 32;
}

struct penalty {
    int32_t seq;  // whose bitmap
    float factor; // 1: no penalty
};

struct candidate {
    float logit;
    int32_t token;
};

struct kernels {
    const char *name; // "cpu", "cuda"

    /* Row i of x [n][dim] f32 := row tokens[i] of the table, rounded to type `as`. The table
     * [vocab][dim] of type `from` is the checkpoint's own; it may be unaligned. */
    void (*embed)(struct dev *d, float *x, const void *table, enum dtype from, enum dtype as,
                  const int32_t *tokens, int n, int dim);

    /* rows h := x / sqrt(mean(x^2) + eps) * weight; x [n][dim], weight [dim]. */
    void (*rmsnorm)(struct dev *d, void *h, enum dtype type, const float *x, const float *weight,
                    int n, int dim, float eps);

    /* y [n][ldy] f32 := x w^T + bias (columns [0, w->n)); rows x of width w->k. */
    void (*matmul)(struct dev *d, float *y, int ldy, const void *x, const struct matrix *w, int n);

    /* y += x w^T + bias, with the shapes of matmul. */
    void (*matmul_add)(struct dev *d, float *y, int ldy, const void *x, const struct matrix *w,
                       int n);

    /* See struct ffn_job. Jobs must not depend on each other. With at most d->joint_ffn_max_rows
     * rows, several jobs in one call are faster than a call for each. */
    void (*ffn)(struct dev *d, const struct ffn_job *jobs, int n_jobs);

    /* qkv [n][ldqkv] f32 has n_heads query heads, then the key heads, then the value heads, of
     * head_dim each. Norm queries and keys, unless norm has no weights. Rotate them: with x1 and
     * x2 the two halves of a head, (x1 cos - x2 sin, x2 cos + x1 sin). Write queries, times
     * 1/sqrt(head_dim) and then rounded, to q [n][n_heads][row_stride(head_dim)] of kv->type. Write
     * keys and values, rounded, to the rows' positions in kv. */
    void (*rope_append)(struct dev *d, void *q, const struct kv_layer *kv, const float *qkv,
                        int ldqkv, const struct head_norm *norm, const struct rope_table *rope,
                        const struct positions *at, int n, int n_heads);

    /* rows a of width n_heads * head_dim, of kv->type := softmax(q k^T) v over the positions
     * [0, pos] of the row's own sequence. Query head h reads kv head h / (n_heads / n_kv_heads).
     * The sums run over whole blocks of keys, in order of position. */
    void (*attention)(struct dev *d, void *a, const void *q, const struct kv_layer *kv,
                      const struct positions *at, int n, int n_heads);

    /* Choose k experts for each row. weight [n][k] := the k largest of softmax(scores), largest
     * first, divided by their sum if normalise; expert [n][k] := their numbers. Among equal scores
     * the lower expert comes first. scores [n][ld] has n_experts columns. Unless sorting is NULL,
     * then sort the assignments (struct sorting). */
    void (*route)(struct dev *d, int32_t *expert, float *weight, const struct sorting *sorting,
                  const float *scores, int ld, int n, int n_experts, int k, bool normalise);

    /* to[i] := from[index[i]], rows of row_bytes. */
    void (*gather)(struct dev *d, void *to, const void *from, const int32_t *index, int n,
                   size_t row_bytes);

    /* x [n][dim] += the sum of the pieces, times sigmoid(gate), += the sum over j, in order, of
     * weight[i][j] * rows y[slot[i][j]]; then rows h := rmsnorm(x), norm [dim], unless norm is
     * NULL. y and h are of type. */
    void (*add_norm)(struct dev *d, float *x, void *h, enum dtype type,
                     const struct pending_residual *pending, const float *norm, int n, int dim,
                     float eps);

    /* rows out [n] of width dim := the sum over j, in order and in f32, of
     * weight[i][j] * rows y[slot[i][j]], rounded to `type`. A negative slot ends a row's sum. */
    void (*sum_rows)(struct dev *d, void *out, const void *y, enum dtype type, const int32_t *slot,
                     const float *weight, int n, int k, int dim);

    /* narrow: n rows of `type` to their form on the wire, and *error += what that changes; widen:
     * back. Rounding is to nearest, ties to even, and gives the same bits on every device, so that
     * a row narrowed and widened on its own rank equals one that has travelled. A row with a number
     * that is not finite becomes all NaN by int8; by bf16 such a number stays what it is. */
    void (*narrow)(struct dev *d, void *to, enum wire wire, const void *rows, enum dtype type,
                   int n, int width, struct wire_error *error);
    void (*widen)(struct dev *d, void *rows, enum dtype type, const void *from, enum wire wire,
                  int n, int width);

    /* Set bit tokens[i] of bitmap seq[i] in seen [sequences][seen_words(vocab)]. */
    void (*add_seen)(struct dev *d, uint32_t *seen, const int32_t *tokens, const int32_t *seq,
                     int n, int vocab);

    /* Lower the logits z of tokens that the sequence has seen: z := z > 0 ? z / factor : z *
     * factor. logits [n][vocab], penalties [n]: one for each row. */
    void (*penalise)(struct dev *d, float *logits, const uint32_t *seen,
                     const struct penalty *penalties, int n, int vocab);

    /* best [n][most] := the `most` largest of each row of logits [n][vocab], largest first; among
     * equals the lower token comes first; NaN counts as infinity, so that it shows.
     * 1 <= most <= TOP_MOST, and most <= vocab. */
    void (*top)(struct dev *d, struct candidate *best, const float *logits, int n, int vocab,
                int most);

    /* Packing, while loading. Source rows are the checkpoint's, row-major [rows][k], and are
     * converted to w->type. On return the device has read the source. matrix_pack writes rows
     * [first, first + rows) of w. matrix_pack_pair writes a whole gate_up from gate [width][k] and
     * up [width][k]. fill copies `count` values to `to` without converting them; it does nothing if
     * `to` is the source's own memory. */
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
     * a buffer much larger than the caches. quick, on a CPU: in some hundredths of a second, the
     * mean of a few runs; otherwise the best of many. quant_peak_flops is of products with weights
     * of that kind. */
    double (*peak_flops)(struct dev *d, enum dtype type, bool quick);
    double (*quant_peak_flops)(struct dev *d, enum quant quant, bool quick);
    double (*read_bandwidth)(struct dev *d, bool quick);
};
