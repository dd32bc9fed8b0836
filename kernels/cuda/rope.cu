/* Rotary embedding, and appending to the cache. A block of keys or values is
 * [n_kv_heads][KV_BLOCK][row_stride(head_dim)]. Each position is written with its padding, so what
 * an earlier sequence wrote there does not matter. A warp does a head of a row. */
#include <math.h>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/number.cuh"
#include "kernels/cuda/reduce.cuh"

enum { HEADS = 4 }; // how many heads a block of threads does

size_t cuda_kv_block_bytes(enum dtype type, int n_kv_heads, int head_dim)
{
    size_t elements = (size_t)n_kv_heads * KV_BLOCK * (size_t)row_stride(head_dim);
    return elements * (size_t)dtype_bytes(type);
}

template <class T> struct rope_call {
    T *q;
    struct kv_layer kv;
    const float *qkv;
    struct head_norm norm;
    struct rope_table rope;
    struct positions at;
    int ldqkv, n_heads, stride;
    float scale; // for queries: 1 / sqrt(head_dim)
};

/* Where a head of a row is written. Heads are numbered through: query heads, key heads, value
 * heads. */
template <class T>
__device__ __forceinline__ T *destination(const rope_call<T> &c, int row, int head, int pos)
{
    if (head < c.n_heads)
        return c.q + ((size_t)row * c.n_heads + head) * c.stride;
    int block = c.kv.table[(size_t)c.at.seq[row] * c.kv.table_stride + pos / KV_BLOCK];
    bool key = head < c.n_heads + c.kv.n_kv_heads;
    int kv_head = head - c.n_heads - (key ? 0 : c.kv.n_kv_heads);
    size_t position = ((size_t)block * c.kv.n_kv_heads + kv_head) * KV_BLOCK + pos % KV_BLOCK;
    return (T *)(key ? c.kv.k : c.kv.v) + position * c.stride;
}

/* The scale of a head's norm: 1 / sqrt(mean of squares + eps) over the columns that are normed
 * together, which may be those of several heads; each of these heads then reads them all. `weight`
 * := the norm's weights for the columns of this head; NULL: it has no norm, and the scale is 1. */
template <class T>
__device__ __forceinline__ float norm_of(const rope_call<T> &c, const float *from, int head,
                                         const float *&weight)
{
    bool query = head < c.n_heads;
    int width = query ? c.norm.q_width : c.norm.k_width;
    weight = query ? c.norm.q : c.norm.k;
    if (!weight)
        return 1;
    int within = (query ? head : head - c.n_heads) * c.kv.head_dim % width;
    float squares = 0;
    for (int i = (int)threadIdx.x; i < width; i += WARP_LANES)
        squares = fmaf(from[i - within], from[i - within], squares);
    weight += within;
    return 1 / sqrtf(warp_sum(squares) / (float)width + c.norm.eps);
}

template <class T>
static __global__ void __launch_bounds__(HEADS *WARP_LANES) rope_append(const rope_call<T> c)
{
    int row = (int)blockIdx.x, head = (int)(blockIdx.y * HEADS + threadIdx.y);
    int lane = (int)threadIdx.x, pairs = c.rope.half, head_dim = c.kv.head_dim;
    if (head >= c.n_heads + 2 * c.kv.n_kv_heads)
        return;
    let_next_begin();
    int pos = c.at.pos[row];
    const float *from = c.qkv + (size_t)row * c.ldqkv + (size_t)head * head_dim;
    T *to = destination(c, row, head, pos);
    wait_for_previous();
    if (head < c.n_heads + c.kv.n_kv_heads) {
        size_t turn = (size_t)c.at.seq[row] * c.rope.stride + pos;
        const float *cosines = c.rope.cosines + turn * pairs;
        const float *sines = c.rope.sines + turn * pairs;
        float scale = head < c.n_heads ? c.scale : 1;
        const float *weight;
        float by = norm_of(c, from, head, weight);
        for (int i = lane; i < pairs; i += WARP_LANES) {
            float x = from[i], y = from[pairs + i], cosine = cosines[i], sine = sines[i];
            if (weight) {
                x = x * by * weight[i];
                y = y * by * weight[pairs + i];
            }
            set(&to[i], (x * cosine - y * sine) * scale);
            set(&to[pairs + i], (y * cosine + x * sine) * scale);
        }
    } else {
        for (int i = lane; i < head_dim; i += WARP_LANES)
            set(&to[i], from[i]);
    }
    for (int i = head_dim + lane; i < c.stride; i += WARP_LANES)
        set(&to[i], 0);
}

void cuda_rope_append(struct dev *d, void *q, const struct kv_layer *kv, const float *qkv,
                      int ldqkv, const struct head_norm *norm, const struct rope_table *rope,
                      const struct positions *at, int n, int n_heads)
{
    int heads = n_heads + 2 * kv->n_kv_heads;
    dim3 grid((unsigned)n, (unsigned)((heads + HEADS - 1) / HEADS)), block(WARP_LANES, HEADS);
    if (!cuda_works(d) || n == 0)
        return;
    FOR_TYPE(kv->type, T,
             rope_call<T> call = {(T *)q, *kv, qkv, *norm, *rope, *at, ldqkv, n_heads,
                                  row_stride(kv->head_dim), 1 / sqrtf((float)kv->head_dim)};
             LAUNCH_EARLY(d, rope_append<T>, grid, block, 0, call));
}
