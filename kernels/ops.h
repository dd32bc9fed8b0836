/* The primitives as functions: each calls the function of its name in the device's table. The table
 * in kernels.h says for each what it computes, the shapes and types of its arrays, and which may be
 * NULL. For all of them:
 *
 *   - every array is the device's memory (dev_alloc), owned by the caller, and outputs come first;
 *   - a GPU puts the call into its queue and returns at once, so arrays must not change until
 *     dev_wait(); the CPU has done the work on return;
 *   - none returns an error: a GPU's first error makes later calls do nothing, and dev_wait()
 *     returns it. */
#pragma once

#include "kernels/device.h"
#include "kernels/kernels.h"

static inline void embed(struct dev *d, float *x, const void *table, enum dtype from, enum dtype as,
                         const int32_t *tokens, int n, int dim)
{
    d->kernels->embed(d, x, table, from, as, tokens, n, dim);
}

static inline void rmsnorm(struct dev *d, void *h, enum dtype type, const float *x,
                           const float *weight, int n, int dim, float eps)
{
    d->kernels->rmsnorm(d, h, type, x, weight, n, dim, eps);
}

static inline void matmul(struct dev *d, float *y, int ldy, const void *x, const struct matrix *w,
                          int n)
{
    d->kernels->matmul(d, y, ldy, x, w, n);
}

static inline void matmul_add(struct dev *d, float *y, int ldy, const void *x,
                              const struct matrix *w, int n)
{
    d->kernels->matmul_add(d, y, ldy, x, w, n);
}

static inline void run_ffn(struct dev *d, const struct ffn_job *jobs, int n_jobs)
{
    d->kernels->ffn(d, jobs, n_jobs);
}

static inline void ffn_list_open(struct dev *d, struct ffn_list *list)
{
    d->kernels->ffn_list_open(d, list);
}

static inline void rope_append(struct dev *d, void *q, const struct kv_layer *kv, const float *qkv,
                               int ldqkv, const struct head_norm *norm,
                               const struct rope_table *rope, const struct positions *at, int n,
                               int n_heads)
{
    d->kernels->rope_append(d, q, kv, qkv, ldqkv, norm, rope, at, n, n_heads);
}

static inline void attention(struct dev *d, void *a, const void *q, const struct kv_layer *kv,
                             const struct positions *at, int n, int n_heads)
{
    d->kernels->attention(d, a, q, kv, at, n, n_heads);
}

static inline void route_rows(struct dev *d, int32_t *expert, float *weight,
                              const struct sorting *sorting, const float *scores, int ld, int n,
                              int n_experts, int k, bool normalise)
{
    d->kernels->route(d, expert, weight, sorting, scores, ld, n, n_experts, k, normalise);
}

/* The sort of route() for assignments that are in host memory; expert [n][k]. */
void sort_rows(const struct sorting *to, const int32_t *expert, int n, int k);

static inline void gather(struct dev *d, void *to, const void *from, const int32_t *index, int n,
                          size_t row_bytes)
{
    d->kernels->gather(d, to, from, index, n, row_bytes);
}

static inline void add_norm(struct dev *d, float *x, void *h, enum dtype type,
                            const struct pending_residual *pending, const float *norm, int n,
                            int dim, float eps)
{
    d->kernels->add_norm(d, x, h, type, pending, norm, n, dim, eps);
}

static inline void sum_rows(struct dev *d, void *out, const void *y, enum dtype type,
                            const int32_t *slot, const float *weight, int n, int k, int dim)
{
    d->kernels->sum_rows(d, out, y, type, slot, weight, n, k, dim);
}

static inline void narrow_rows(struct dev *d, void *to, enum wire wire, const void *rows,
                               enum dtype type, int n, int width, struct wire_error *error)
{
    d->kernels->narrow(d, to, wire, rows, type, n, width, error);
}

static inline void widen_rows(struct dev *d, void *rows, enum dtype type, const void *from,
                              enum wire wire, int n, int width)
{
    d->kernels->widen(d, rows, type, from, wire, n, width);
}

static inline void add_seen(struct dev *d, uint32_t *seen, const int32_t *tokens,
                            const int32_t *seq, int n, int vocab)
{
    d->kernels->add_seen(d, seen, tokens, seq, n, vocab);
}

static inline void penalise(struct dev *d, float *logits, const uint32_t *seen,
                            const struct penalty *penalties, int n, int vocab)
{
    d->kernels->penalise(d, logits, seen, penalties, n, vocab);
}

static inline void top_tokens(struct dev *d, struct candidate *best, const float *logits, int n,
                              int vocab, int most)
{
    d->kernels->top(d, best, logits, n, vocab, most);
}

/* The bytes of a matrix; quantised ones are in the layout that all devices share. */
size_t quant_matrix_bytes(enum quant quant, int n, int k);
/* Copy outputs [first, first + w->n) of the quantised matrix `packed`, which has w->k inputs, to
 * w->data. Both are in host memory. */
void quant_copy_outputs(struct matrix *w, const void *packed, int first);
/* Does each group have a finite scale? A group with weights that are not finite, or too large for a
 * scale in f16, has the scale NaN, and so has every sum with it. */
bool quant_is_finite(const struct matrix *w);
static inline size_t matrix_bytes(const struct dev *d, enum dtype type, enum quant quant, int n,
                                  int k)
{
    return quant ? quant_matrix_bytes(quant, n, k) : d->kernels->matrix_bytes(type, n, k);
}

static inline double dev_peak_flops(struct dev *d, enum dtype type, enum quant quant, bool quick)
{
    return quant ? d->kernels->quant_peak_flops(d, quant, quick)
                 : d->kernels->peak_flops(d, type, quick);
}

static inline void matrix_pack(struct dev *d, struct matrix *w, int first,
                               const struct values *source, int rows)
{
    d->kernels->matrix_pack(d, w, first, source, rows);
}

static inline void matrix_pack_pair(struct dev *d, struct matrix *gate_up,
                                    const struct values *gate, const struct values *up, int width)
{
    d->kernels->matrix_pack_pair(d, gate_up, gate, up, width);
}

static inline void fill_values(struct dev *d, void *to, const struct values *source, size_t count)
{
    d->kernels->fill(d, to, source, count);
}

static inline size_t kv_block_bytes(const struct dev *d, enum dtype type, int n_kv_heads,
                                    int head_dim)
{
    return d->kernels->kv_block_bytes(type, n_kv_heads, head_dim);
}
