/* The functions of the CPU device's table (contracts: kernels.h) and what its files share. */
#pragma once

#include <math.h>

#include "kernels/cpu/isa.h"

/* 1 / sqrt(mean(x^2) + eps) */
static inline float inverse_rms(const struct cpu_isa *isa, const float *x, int n, float eps)
{
    return 1 / sqrtf(isa->squares(x, n) / (float)n + eps);
}

/* So many rows of a call of ffn go through one block: which ones of x, and of y. */
struct ffn_run {
    const struct ffn *ffn;
    int x_first, first, rows;
};

/* matmul.c */
void cpu_matmul(struct dev *d, float *y, int ldy, const void *x, const struct matrix *w, int n);
void cpu_matmul_add(struct dev *d, float *y, int ldy, const void *x, const struct matrix *w, int n);

/* ffn.c */
void cpu_ffn(struct dev *d, const struct ffn_job *jobs, int n_jobs);

/* rope.c */
void cpu_rope_append(struct dev *d, void *q, const struct kv_layer *kv, const float *qkv, int ldqkv,
                     const struct head_norm *norm, const struct rope_table *rope,
                     const struct positions *at, int n, int n_heads);

/* attention.c */
void cpu_attention(struct dev *d, void *a, const void *q, const struct kv_layer *kv,
                   const struct positions *at, int n, int n_heads);
size_t cpu_kv_block_bytes(enum dtype type, int n_kv_heads, int head_dim);
size_t attention_scratch_bytes(enum dtype type, int head_dim); // for one thread
/* The part of the scratch that belongs to this thread of the team, 0 .. threads - 1. */
char *attention_scratch(const struct dev *d, const struct kv_layer *kv, int thread);

/* rows.c */
void cpu_embed(struct dev *d, float *x, const void *table, enum dtype from, enum dtype as,
               const int32_t *tokens, int n, int dim);
void cpu_rmsnorm(struct dev *d, void *h, enum dtype type, const float *x, const float *weight,
                 int n, int dim, float eps);
void cpu_route(struct dev *d, int32_t *expert, float *weight, const struct sorting *sorting,
               const float *scores, int ld, int n, int n_experts, int k, bool normalise);
void cpu_gather(struct dev *d, void *to, const void *from, const int32_t *index, int n,
                size_t bytes);
void cpu_add_norm(struct dev *d, float *x, void *h, enum dtype type,
                  const struct pending_residual *pending, const float *norm, int n, int dim,
                  float eps);
void cpu_sum_rows(struct dev *d, void *out, const void *y, enum dtype type, const int32_t *slot,
                  const float *weight, int n, int k, int dim);

/* sample.c */
void cpu_add_seen(struct dev *d, uint32_t *seen, const int32_t *tokens, const int32_t *seq, int n,
                  int vocab);
void cpu_penalise(struct dev *d, float *logits, const uint32_t *seen,
                  const struct penalty *penalties, int n, int vocab);
void cpu_top(struct dev *d, struct candidate *best, const float *logits, int n, int vocab,
             int most);

/* wire.c */
void cpu_narrow(struct dev *d, void *to, enum wire wire, const void *rows, enum dtype type, int n,
                int width, struct wire_error *error);
void cpu_widen(struct dev *d, void *rows, enum dtype type, const void *from, enum wire wire, int n,
               int width);

/* pack.c */
size_t cpu_matrix_bytes(enum dtype type, int n, int k);
void cpu_matrix_pack(struct dev *d, struct matrix *w, int first, const struct values *source,
                     int rows);
void cpu_matrix_pack_pair(struct dev *d, struct matrix *gate_up, const struct values *gate,
                          const struct values *up, int width);
void cpu_fill(struct dev *d, void *to, const struct values *source, size_t count);
/* to := elements [first, first + n) of the source, converted; n is at most VALUES_AT_ONCE. */
enum { VALUES_AT_ONCE = 512 };
void values_take(void *to, enum dtype type, const struct values *source, size_t first, size_t n);
/* Elements of each row of the source of a matrix, and from one row to the next. */
size_t values_columns(const struct values *source, const struct matrix *w);
size_t values_stride(const struct values *source, const struct matrix *w);

/* roof.c */
double cpu_peak_flops(struct dev *d, enum dtype type, bool quick);
double cpu_quant_peak_flops(struct dev *d, enum quant quant, bool quick);
double cpu_read_bandwidth(struct dev *d, bool quick);

/* How many threads to use for work that reads `bytes` bytes; 16 FLOPs count as one byte. Little
 * work gets one thread: starting the others would cost more time than they save. */
static inline int team_size(const struct dev *d, double bytes)
{
    return bytes < 256 << 10 ? 1 : d->threads;
}
