/* The primitives as the kernel tests call them. A test passes buffers (tests/rig/kernel_buffers.h),
 * in arguments and in structs, and the primitive gets the device's copies. Weights are
 * device_memory() and are passed as they are. Only with one_by_one does a call wait. */
#pragma once

#include "kernels/ops.h"
#include "tests/rig/kernel_buffers.h"

static bool one_by_one; // wait after every primitive

static inline void called(void)
{
    if (one_by_one)
        assert_int_equal(dev_wait(&dev), 0);
}

/* ---- structs, as the device is to see them ---- */

static inline struct matrix device_matrix(const struct matrix *w)
{
    struct matrix m = *w;
    m.bias = reads(w->bias);
    return m;
}

static inline struct kv_layer device_kv(const struct kv_layer *kv, bool appends)
{
    struct kv_layer copy = *kv;
    copy.k = appends ? writes(kv->k) : reads(kv->k);
    copy.v = appends ? writes(kv->v) : reads(kv->v);
    copy.table = reads(kv->table);
    return copy;
}

static inline struct positions device_positions(const struct positions *at)
{
    return (struct positions){reads(at->seq), reads(at->pos), at->singles, at->longest};
}

static inline struct sorting device_sorting(const struct sorting *s)
{
    struct grouping groups = s->groups;
    groups.group_of = reads(s->groups.group_of);
    return (struct sorting){writes(s->count), writes(s->slot), writes(s->source), writes(s->hit),
                            groups};
}

static inline struct pending_residual device_pending(const struct pending_residual *a)
{
    struct pending_residual copy = *a;
    copy.pieces = reads(a->pieces);
    copy.piece_at = reads(a->piece_at);
    copy.gate = reads(a->gate);
    copy.y = reads(a->y);
    copy.slot = reads(a->slot);
    copy.weight = reads(a->weight);
    return copy;
}

static inline struct ffn_job device_job(const struct ffn_job *j)
{
    struct ffn_job copy = *j;
    copy.y = writes(j->y);
    copy.x = reads(j->x);
    copy.source = reads(j->source);
    copy.count = reads(j->count);
    return copy;
}

/* ---- the primitives, see kernels/ops.h ---- */

static inline void call_embed(struct dev *d, float *x, const void *table, enum dtype from,
                              enum dtype as, const int32_t *tokens, int n, int dim)
{
    to_device();
    embed(d, writes(x), reads(table), from, as, reads(tokens), n, dim);
    called();
}

static inline void call_rmsnorm(struct dev *d, void *h, enum dtype as, const float *x,
                                const float *weight, int n, int dim, float eps)
{
    to_device();
    rmsnorm(d, writes(h), as, reads(x), reads(weight), n, dim, eps);
    called();
}

static inline void call_matmul(struct dev *d, float *y, int ldy, const void *x,
                               const struct matrix *w, int n)
{
    to_device();
    struct matrix m = device_matrix(w);
    matmul(d, writes(y), ldy, reads(x), &m, n);
    called();
}

static inline void call_matmul_add(struct dev *d, float *y, int ldy, const void *x,
                                   const struct matrix *w, int n)
{
    to_device();
    struct matrix m = device_matrix(w);
    matmul_add(d, writes(y), ldy, reads(x), &m, n);
    called();
}

static inline void call_run_ffn(struct dev *d, const struct ffn_job *jobs, int n_jobs)
{
    struct ffn_job copies[16];
    assert_in_range(n_jobs, 0, 16);
    to_device();
    for (int i = 0; i < n_jobs; i++)
        copies[i] = device_job(&jobs[i]);
    run_ffn(d, copies, n_jobs);
    called();
}

static inline void call_rope_append(struct dev *d, void *q, const struct kv_layer *kv,
                                    const float *qkv, int ldqkv, const struct head_norm *norm,
                                    const struct rope_table *rope, const struct positions *at,
                                    int n, int n_heads)
{
    to_device();
    struct kv_layer cache = device_kv(kv, true);
    struct positions where = device_positions(at);
    struct head_norm weights = *norm;
    weights.q = reads(norm->q);
    weights.k = reads(norm->k);
    struct rope_table table = {reads(rope->cosines), reads(rope->sines), rope->half, rope->stride};
    rope_append(d, writes(q), &cache, reads(qkv), ldqkv, &weights, &table, &where, n, n_heads);
    called();
}

static inline void call_attention(struct dev *d, void *a, const void *q, const struct kv_layer *kv,
                                  const struct positions *at, int n, int n_heads)
{
    to_device();
    struct kv_layer cache = device_kv(kv, false);
    struct positions where = device_positions(at);
    attention(d, writes(a), reads(q), &cache, &where, n, n_heads);
    called();
}

static inline void call_route_rows(struct dev *d, int32_t *expert, float *weight,
                                   const struct sorting *sorting, const float *scores, int ld,
                                   int n, int n_experts, int k, bool normalise)
{
    to_device();
    struct sorting to = sorting ? device_sorting(sorting) : (struct sorting){0};
    route_rows(d, writes(expert), writes(weight), sorting ? &to : NULL, reads(scores), ld, n,
               n_experts, k, normalise);
    called();
}

static inline void call_gather(struct dev *d, void *to, const void *from, const int32_t *index,
                               int n, size_t bytes)
{
    to_device();
    gather(d, writes(to), reads(from), reads(index), n, bytes);
    called();
}

static inline void call_add_norm(struct dev *d, float *x, void *h, enum dtype as,
                                 const struct pending_residual *pending, const float *norm, int n,
                                 int dim, float eps)
{
    to_device();
    struct pending_residual copies = device_pending(pending);
    add_norm(d, writes(x), writes(h), as, &copies, reads(norm), n, dim, eps);
    called();
}

static inline void call_sum_rows(struct dev *d, void *out, const void *y, enum dtype as,
                                 const int32_t *slot, const float *weight, int n, int k, int dim)
{
    to_device();
    sum_rows(d, writes(out), reads(y), as, reads(slot), reads(weight), n, k, dim);
    called();
}

static inline void call_narrow_rows(struct dev *d, void *to, enum wire wire, const void *rows,
                                    enum dtype as, int n, int width, struct wire_error *error)
{
    to_device();
    narrow_rows(d, writes(to), wire, reads(rows), as, n, width, writes(error));
    called();
}

static inline void call_widen_rows(struct dev *d, void *rows, enum dtype as, const void *from,
                                   enum wire wire, int n, int width)
{
    to_device();
    widen_rows(d, writes(rows), as, reads(from), wire, n, width);
    called();
}

static inline void call_add_seen(struct dev *d, uint32_t *marks, const int32_t *tokens,
                                 const int32_t *seq, int n, int vocab)
{
    to_device();
    add_seen(d, writes(marks), reads(tokens), reads(seq), n, vocab);
    called();
}

static inline void call_penalise(struct dev *d, float *logits, const uint32_t *marks,
                                 const struct penalty *penalties, int n, int vocab)
{
    to_device();
    penalise(d, writes(logits), reads(marks), reads(penalties), n, vocab);
    called();
}

static inline void call_top_tokens(struct dev *d, struct candidate *best, const float *logits,
                                   int n, int vocab, int most)
{
    to_device();
    top_tokens(d, writes(best), reads(logits), n, vocab, most);
    called();
}

#define embed(...)       call_embed(__VA_ARGS__)
#define rmsnorm(...)     call_rmsnorm(__VA_ARGS__)
#define matmul(...)      call_matmul(__VA_ARGS__)
#define matmul_add(...)  call_matmul_add(__VA_ARGS__)
#define run_ffn(...)     call_run_ffn(__VA_ARGS__)
#define rope_append(...) call_rope_append(__VA_ARGS__)
#define attention(...)   call_attention(__VA_ARGS__)
#define route_rows(...)  call_route_rows(__VA_ARGS__)
#define gather(...)      call_gather(__VA_ARGS__)
#define add_norm(...)    call_add_norm(__VA_ARGS__)
#define sum_rows(...)    call_sum_rows(__VA_ARGS__)
#define narrow_rows(...) call_narrow_rows(__VA_ARGS__)
#define widen_rows(...)  call_widen_rows(__VA_ARGS__)
#define add_seen(...)    call_add_seen(__VA_ARGS__)
#define penalise(...)    call_penalise(__VA_ARGS__)
#define top_tokens(...)  call_top_tokens(__VA_ARGS__)
