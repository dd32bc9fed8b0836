/* The functions of the CUDA device's table (contracts: kernels.h) and what its files share.
 *
 * Layouts on this device. A matrix W [n][k] keeps the checkpoint's row order: n rows of
 * row_stride(k) elements, zero beyond k. cuBLAS reads exactly n rows, so there are no rows of
 * padding. gate_up of an ffn has gate and up row by row: row 2 i is gate i, row 2 i + 1 is up i, so
 * that the two sums of a hidden value are neighbours. Quantised matrices lie as on the CPU, in
 * panels (kernels/cpu/quant.h). A block of keys or values is
 * [n_kv_heads][KV_BLOCK][row_stride(head_dim)].
 *
 * A kernel may begin before the kernels before it have ended (launch.cuh), and may then read what
 * never changes while the model runs: weights, biases, norms, rope tables. Decode attention may
 * also read positions, block tables, and keys and values of earlier steps: a step begins with
 * copies and with a kernel that does not begin early (embed), so the whole step before has ended
 * when any kernel of the step begins.
 *
 * Work goes to d->cuda->stream in the order of the calls; packing copies on a stream of its own,
 * for which that one waits. These functions wait for the GPU: wait; copies from memory that is not
 * pinned; packing, but only for the staging buffer that it fills next (pack.cu). */
#pragma once

#ifdef __cplusplus
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
extern "C" {
#endif
#include "base/log.h"
#include "kernels/device.h"
#ifdef __cplusplus
}
#endif

/* Up to this number of rows, ffn reads each weight once, and all jobs of a call share one launch
 * for each projection. */
enum { CUDA_JOINT_FFN_MAX_ROWS = 32 };

#ifdef __cplusplus
extern "C" {
#endif

/* dev.cu: let kernels begin early from now on, or forbid it. Waits for the device, and drops its
 * graphs. Returns false if `early` is asked for and not possible: before sm_90, or with
 * EPMOE_EARLY=0. */
bool cuda_set_early(struct dev *d, bool early);

/* memory.cu */
void *cuda_alloc(struct dev *d, size_t bytes);
void *cuda_alloc_host(struct dev *d, size_t bytes);
void *cuda_alloc_copy(struct dev *d, void *host, size_t bytes);
void cuda_upload(struct dev *d, void *to, const void *from, size_t bytes);
void cuda_download(struct dev *d, void *to, const void *from, size_t bytes);
uint64_t cuda_free_bytes(struct dev *d);
int cuda_wait(struct dev *d);
void cuda_reserve(struct dev *d, const struct dev_limits *limits);
void cuda_close(struct dev *d);

/* marks.cu: times marks by events, and names phases to profilers */
const struct trace_timer *cuda_time_marks(struct dev *d, size_t room);
void cuda_marks_close(struct dev *d);

/* graph.cu */
bool cuda_graph_begin(struct dev *d, uint64_t key);
void cuda_graph_end(struct dev *d);
void cuda_graphs_close(struct dev *d);

/* matmul.cu: dense products, by cuBLAS for many rows */
void cuda_matmul(struct dev *d, float *y, int ldy, const void *x, const struct matrix *w, int n);
void cuda_matmul_add(struct dev *d, float *y, int ldy, const void *x, const struct matrix *w,
                     int n);

/* ffn.cu: experts and dense blocks */
void cuda_ffn(struct dev *d, const struct ffn_job *jobs, int n_jobs);
void cuda_ffn_list_open(struct dev *d, struct ffn_list *list);
size_t cuda_ffn_scratch_bytes(const struct dev *d, const struct dev_limits *limits);

/* quant.cu: dense products with quantised weights */
size_t cuda_quant_scratch_bytes(const struct dev_limits *limits);

/* pack.cu */
size_t cuda_matrix_bytes(enum dtype type, int n, int k);
void cuda_matrix_pack(struct dev *d, struct matrix *w, int first, const struct values *source,
                      int rows);
void cuda_matrix_pack_pair(struct dev *d, struct matrix *gate_up, const struct values *gate,
                           const struct values *up, int width);
void cuda_fill(struct dev *d, void *to, const struct values *source, size_t count);

/* attention.cu, decode.cu, rope.cu */
void cuda_rope_append(struct dev *d, void *q, const struct kv_layer *kv, const float *qkv,
                      int ldqkv, const struct head_norm *norm, const struct rope_table *rope,
                      const struct positions *at, int n, int n_heads);
void cuda_attention(struct dev *d, void *a, const void *q, const struct kv_layer *kv,
                    const struct positions *at, int n, int n_heads);
size_t cuda_kv_block_bytes(enum dtype type, int n_kv_heads, int head_dim);
size_t cuda_attention_scratch_bytes(const struct dev_limits *limits);

/* rows.cu */
void cuda_embed(struct dev *d, float *x, const void *table, enum dtype from, enum dtype as,
                const int32_t *tokens, int n, int dim);
void cuda_gather(struct dev *d, void *to, const void *from, const int32_t *index, int n,
                 size_t bytes);
void cuda_sum_rows(struct dev *d, void *out, const void *y, enum dtype type, const int32_t *slot,
                   const float *weight, int n, int k, int dim);

/* norm.cu */
void cuda_rmsnorm(struct dev *d, void *h, enum dtype type, const float *x, const float *weight,
                  int n, int dim, float eps);
void cuda_add_norm(struct dev *d, float *x, void *h, enum dtype type,
                   const struct pending_residual *pending, const float *norm, int n, int dim,
                   float eps);

/* route.cu */
void cuda_route(struct dev *d, int32_t *expert, float *weight, const struct sorting *sorting,
                const float *scores, int ld, int n, int n_experts, int k, bool normalise);

/* sample.cu */
void cuda_add_seen(struct dev *d, uint32_t *seen, const int32_t *tokens, const int32_t *seq, int n,
                   int vocab);
void cuda_penalise(struct dev *d, float *logits, const uint32_t *seen,
                   const struct penalty *penalties, int n, int vocab);
void cuda_top(struct dev *d, struct candidate *best, const float *logits, int n, int vocab,
              int most);
size_t cuda_top_scratch_bytes(const struct dev_limits *limits);

/* wire.cu */
void cuda_narrow(struct dev *d, void *to, enum wire wire, const void *rows, enum dtype type, int n,
                 int width, struct wire_error *error);
void cuda_widen(struct dev *d, void *rows, enum dtype type, const void *from, enum wire wire, int n,
                int width);
size_t cuda_wire_scratch_bytes(const struct dev_limits *limits);

/* roof.cu */
double cuda_peak_flops(struct dev *d, enum dtype type, bool quick);
double cuda_quant_peak_flops(struct dev *d, enum quant quant, bool quick);
double cuda_read_bandwidth(struct dev *d, bool quick);

#ifdef __cplusplus
}

#include <cublas_v2.h>
#include <cuda_runtime.h>

#ifdef EPMOE_EMULATED
enum { STAGING_BYTES = 32 << 10 }; // so that small matrices, too, need several pieces
#else
enum { STAGING_BYTES = 16 << 20 };
#endif

struct graph; // see graph.cu
struct marks; // see marks.cu

enum { MOST_GRANTS = 32 }; // kernels with dynamic shared memory

/* The shared memory of a kernel's block, in bytes; see launch.cu. */
struct shared_grant {
    const void *function;
    int own, most; // its static memory; the most dynamic memory that it may be launched with
};

/* One GPU, as one rank uses it. */
struct cuda {
    int gpu, multiprocessors, l2_bytes;
    int shared_bytes; // the most that a block can have, static and dynamic
    cudaStream_t stream;
    cublasHandle_t blas;
    struct allocation *allocations;  // memory that cuda_close() frees
    struct graph *graphs, *recorded; // [MOST_GRAPHS]; the one that is being recorded
    int next_graph;                  // the entry that the next new key replaces
    void *staging[2];                // pinned [STAGING_BYTES]: rows of the checkpoint
    void *staged_rows[2];            // device [STAGING_BYTES]: those rows before they are packed
    cudaStream_t copying;
    cudaEvent_t staged[2];  // the copy from staging[i] has ended
    cudaEvent_t emptied[2]; // staged_rows[i] has been read and may be overwritten
    int turn;               // which of the two was filled last
    void *levels; // device: the levels (base/noise.h) of the noise that was last made; NULL: none
    enum dtype levels_type;
    double levels_deviation;
    unsigned *arrived; // device [n_arrived]: counters of decode attention, 0 between calls
    size_t n_arrived;
    struct shared_grant grants[MOST_GRANTS];
    int n_grants;
    struct marks *marks; // NULL: marks are not timed
    int status;          // of the first error; 0: there was none
    bool recording;
    bool early;           // a kernel may begin before the one before it has ended: see launch.cuh
    bool own_allocations; // see memory.cu
    // dev_open_cuda() sets these two; a benchmark may change them, and then calls dev_reserve()
    int dense_rows;  // rows of a slice of a dense block that has many rows: see ffn_many.cu
    int ahead_bytes; // the most that all blocks of a kernel prefetch to L2 before their kernel may
                     // read what others write: see stream.cuh
};

/* True unless an error has stopped this device. Every function asks this first. */
static inline bool cuda_works(const struct dev *d)
{
    return d->cuda->status == 0;
}

/* True if `error` is no error. Otherwise tell fail() what was being done, unless there was an error
 * before, set d->cuda->status, and clear CUDA's last error of this thread, so that no later call
 * takes it for its own. */
bool cuda_good(struct dev *d, cudaError_t error, const char *doing);
bool cublas_good(struct dev *d, cublasStatus_t error, const char *doing);
#endif
