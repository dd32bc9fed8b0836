/* Decode attention. The context is split at fixed positions. A block of threads takes one split, a
 * KV block of keys and values, for all query heads that share them. The block of threads that
 * finishes last combines the splits of its row.
 *
 * A block of threads requests all keys and values of its split at once (32 KiB for 128 dimensions
 * in bf16), so that even one row keeps the memory busy. For a row and head, a split writes max, the
 * sum of exp(s - max) and the unnormalised sum of values. One launch does all rows whose splits fit
 * in the scratch. Splits after a row's position do nothing. All sums are f32 in one fixed order,
 * whichever block is last, so a row's result does not depend on the other rows. */
#include <math.h>

#include "base/check.h"
#include "kernels/cuda/async.cuh"
#include "kernels/cuda/decode.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/number.cuh"
#include "kernels/cuda/reduce.cuh"

enum {
    SPLIT = KV_BLOCK,
    SPLIT_THREADS = 128,
    KEY_LANES = 8,                    // lanes that share a key's dot product
    KEYS = SPLIT_THREADS / KEY_LANES, // keys that a block of threads does at a time
    PASSES = SPLIT / KEYS,
    COMBINE_SLICES = 8,              // a row's splits are summed in so many slices
    MOST_ROWS = 65535,               // the limit of a grid's z
    COMBINE_COLUMNS = 4 * WARP_LANES // a float4 for each lane
};

/* Scratch for as many splits as keep any GPU busy; more scratch would not make it faster. */
static const size_t ENOUGH_BYTES = 64 << 20;

/* What the splits write, for each of [rows][n_heads][splits]. */
struct partial {
    float *sums;   // [stride] sum of exp(s - max) * value
    float2 *terms; // max, sum of exp(s - max)
};

struct decode_call {
    const void *q;
    void *a;
    struct kv_layer kv;
    struct positions at;
    struct partial partial;
    unsigned *arrived; // [rows][n_kv_heads] how many splits are done; 0 before and after the kernel
    int first, n_heads, stride, splits;
};

static size_t split_bytes(int n_heads, int head_dim)
{
    return (size_t)n_heads * ((size_t)row_stride(head_dim) * sizeof(float) + sizeof(float2));
}

static int split_count(int positions)
{
    return (positions + SPLIT - 1) / SPLIT;
}

size_t decode_scratch_bytes(const struct dev_limits *limits)
{
    size_t row =
        (size_t)split_count(limits->context) * split_bytes(limits->n_heads, limits->head_dim);
    size_t all = (size_t)limits->rows * row, enough = row > ENOUGH_BYTES ? row : ENOUGH_BYTES;
    return all < enough ? all : enough;
}

__device__ __forceinline__ size_t partial_index(const decode_call &c, int row, int head, int split)
{
    return ((size_t)row * c.n_heads + head) * c.splits + split;
}

/* Where the keys (or values) of a kv head begin in the block that holds a split. */
template <class T>
__device__ __forceinline__ const T *tile_at(const decode_call &c, const void *from, int seq,
                                            int split, int kv_head)
{
    int block = c.kv.table[(size_t)seq * c.kv.table_stride + split];
    return (const T *)from +
           ((size_t)block * c.kv.n_kv_heads + kv_head) * KV_BLOCK * (size_t)c.stride;
}

__device__ __forceinline__ void fetch_tile(void *to, const void *from, int pieces)
{
    for (int i = (int)threadIdx.x; i < pieces; i += SPLIT_THREADS)
        cp_async16((char *)to + (size_t)i * 16, (const char *)from + (size_t)i * 16);
    cp_async_commit();
}

/* scores [heads][SPLIT] := keys . queries; a key's dot product is spread over KEY_LANES lanes. */
template <class T, int HEADS>
__device__ __forceinline__ void score_keys(float (*scores)[SPLIT], const T *keys, const float *q,
                                           int stride, int valid)
{
    constexpr int N = vec<T>::N;
    int lane = (int)threadIdx.x % KEY_LANES, slot = (int)threadIdx.x / KEY_LANES;
    float sum[PASSES][HEADS] = {};
    for (int i = lane * N; i < stride; i += KEY_LANES * N) {
        float query[HEADS][N];
#pragma unroll
        for (int h = 0; h < HEADS; h++)
#pragma unroll
            for (int j = 0; j < N; j++)
                query[h][j] = q[h * stride + i + j];
#pragma unroll
        for (int pass = 0; pass < PASSES; pass++) {
            int key = pass * KEYS + slot;
            if (key >= valid)
                continue;
            vec<T> k = load16(keys + key * stride + i);
#pragma unroll
            for (int j = 0; j < N; j++)
#pragma unroll
                for (int h = 0; h < HEADS; h++)
                    sum[pass][h] = fmaf(query[h][j], to_float(k.v[j]), sum[pass][h]);
        }
    }
#pragma unroll
    for (int pass = 0; pass < PASSES; pass++)
#pragma unroll
        for (int h = 0; h < HEADS; h++) {
            float s = sum[pass][h];
            for (int lanes = KEY_LANES / 2; lanes; lanes /= 2)
                s += __shfl_xor_sync(ALL_LANES, s, lanes);
            if (lane == 0)
                scores[h][pass * KEYS + slot] = pass * KEYS + slot < valid ? s : -INFINITY;
        }
}

/* scores := exp(scores - max), a warp for each head. */
__device__ __forceinline__ void soften(const decode_call &c, float (*scores)[SPLIT], int heads,
                                       int row, int head, int split)
{
    int lane = (int)threadIdx.x % WARP_LANES;
    for (int h = (int)threadIdx.x / WARP_LANES; h < heads; h += SPLIT_THREADS / WARP_LANES) {
        float s = scores[h][lane], t = scores[h][lane + WARP_LANES];
        float max = warp_max(fmaxf(s, t));
        s = expf(s - max);
        t = expf(t - max);
        scores[h][lane] = s;
        scores[h][lane + WARP_LANES] = t;
        float sum = warp_sum(s + t);
        if (lane == 0)
            c.partial.terms[partial_index(c, row, head + h, split)] = make_float2(max, sum);
    }
}

/* The sums of p * values for columns [first, first + width * N). The keys are dealt to `slices`
 * slices of threads. A thread sums N columns over its slice's keys; then the slices are added in
 * order. */
template <class T, int HEADS>
__device__ __forceinline__ void sum_values(const decode_call &c, const float (*p)[SPLIT],
                                           const T *values, float *parts, int heads, int valid,
                                           size_t index, int first, int width)
{
    constexpr int N = vec<T>::N;
    int slices = SPLIT_THREADS / width, slice = (int)threadIdx.x / width;
    int column = (int)threadIdx.x % width * N;
    float sum[HEADS][N] = {};
    for (int key = slice; key < valid && slice < slices; key += slices) {
        vec<T> v = load16(values + key * c.stride + first + column);
#pragma unroll
        for (int h = 0; h < HEADS; h++)
#pragma unroll
            for (int j = 0; j < N; j++)
                sum[h][j] = fmaf(p[h][key], to_float(v.v[j]), sum[h][j]);
    }
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        if (h >= heads)
            break;
        __syncthreads();
#pragma unroll
        for (int j = 0; j < N; j += 4)
            if (slice < slices)
                *(float4 *)(parts + slice * width * N + column + j) =
                    make_float4(sum[h][j], sum[h][j + 1], sum[h][j + 2], sum[h][j + 3]);
        __syncthreads();
        float *to = c.partial.sums + (index + (size_t)h * c.splits) * c.stride + first;
        for (int i = (int)threadIdx.x; i < width * N; i += SPLIT_THREADS) {
            float all = 0;
            for (int s = 0; s < slices; s++)
                all += parts[s * width * N + i];
            to[i] = all;
        }
    }
}

/* Called at the end of a split. True if all other splits of the row and kv head are done; then the
 * block of threads can read what they wrote. */
__device__ __forceinline__ bool is_last(const decode_call &c, int row, int kv_head, int splits)
{
    __shared__ bool last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) { // atomicInc sets the counter back to 0 after the last split
        unsigned *arrived = c.arrived + (size_t)row * c.kv.n_kv_heads + kv_head;
        last = atomicInc(arrived, (unsigned)splits - 1) == (unsigned)splits - 1;
    }
    __syncthreads();
    __threadfence();
    return last;
}

/* The sum of e^(max - top) * sums over a slice of the splits. Other blocks wrote these numbers, so
 * they are read from L2 (__ldcg). */
__device__ __forceinline__ float4 sum_slice(const decode_call &c, size_t index, int slice,
                                            int splits, int column, float top)
{
    const float *sums = c.partial.sums + index * c.stride + column;
    float4 sum = make_float4(0, 0, 0, 0);
    for (int s = slice; s < splits && column < c.stride; s += COMBINE_SLICES) {
        float4 x = __ldcg((const float4 *)(sums + (size_t)s * c.stride));
        float weight = expf(__ldcg(&c.partial.terms[index + s]).x - top);
        sum.x = fmaf(weight, x.x, sum.x);
        sum.y = fmaf(weight, x.y, sum.y);
        sum.z = fmaf(weight, x.z, sum.z);
        sum.w = fmaf(weight, x.w, sum.w);
    }
    return sum;
}

/* A head of a := (sum over splits of e^(max - top) * sums of values) / (sum over splits of
 * e^(max - top) * sum of exp), with top the largest max. */
template <class T>
__device__ __forceinline__ void combine_head(const decode_call &c, float4 (*parts)[WARP_LANES],
                                             int row, int head, int splits)
{
    int lane = (int)threadIdx.x % WARP_LANES, warp = (int)threadIdx.x / WARP_LANES;
    size_t index = partial_index(c, row, head, 0);
    float top = -INFINITY, all = 0;
    for (int s = lane; s < splits; s += WARP_LANES)
        top = fmaxf(top, __ldcg(&c.partial.terms[index + s]).x);
    top = warp_max(top);
    for (int s = lane; s < splits; s += WARP_LANES) {
        float2 term = __ldcg(&c.partial.terms[index + s]);
        all += expf(term.x - top) * term.y;
    }
    all = warp_sum(all);

    int head_dim = c.kv.head_dim, width = c.n_heads * head_dim, stride = row_stride(width);
    T *a = (T *)c.a + (size_t)(c.first + row) * stride;
    for (int begin = 0; begin < c.stride; begin += COMBINE_COLUMNS) {
        for (int slice = warp; slice < COMBINE_SLICES; slice += SPLIT_THREADS / WARP_LANES)
            parts[slice][lane] = sum_slice(c, index, slice, splits, begin + lane * 4, top);
        __syncthreads();
        int i = (int)threadIdx.x;
        if (i < COMBINE_COLUMNS && begin + i < head_dim) {
            float x = 0;
            for (int slice = 0; slice < COMBINE_SLICES; slice++)
                x += ((const float *)parts[slice])[i];
            set(&a[head * head_dim + begin + i], x / all + 0.0f); // turns -0 into +0
        }
        __syncthreads();
    }
    for (int i = width + lane; head == c.n_heads - 1 && warp == 0 && i < stride; i += WARP_LANES)
        set(&a[i], 0);
}

/* One split of a row for one kv head, HEADS of its query heads at a time. The split that finishes
 * last combines them all. */
template <class T, int HEADS>
static __global__ void __launch_bounds__(SPLIT_THREADS, 4) decode_split(const decode_call c)
{
    constexpr int N = vec<T>::N;
    DYNAMIC_SHARED(T, tiles); // keys [SPLIT][stride], values [SPLIT][stride], then queries
    __shared__ __align__(16) float scores[HEADS][SPLIT], parts[SPLIT_THREADS * N];
    int split = (int)blockIdx.x, kv_head = (int)blockIdx.y, row = (int)blockIdx.z;
    let_next_begin();
    int seq = c.at.seq[c.first + row], pos = c.at.pos[c.first + row];
    if (split * SPLIT > pos)
        return;
    int valid = min(pos - split * SPLIT + 1, (int)SPLIT), pieces = c.stride / N;
    T *keys = tiles, *values = tiles + SPLIT * c.stride;
    float *q = (float *)(values + SPLIT * c.stride); // [HEADS][stride]
    bool is_old = c.first + row < c.at.singles && pos >= (split + 1) * SPLIT;
    if (!is_old) // the split has a key that an earlier kernel of this step writes
        wait_for_previous();
    fetch_tile(keys, tile_at<T>(c, c.kv.k, seq, split, kv_head), valid * pieces);
    fetch_tile(values, tile_at<T>(c, c.kv.v, seq, split, kv_head), valid * pieces);
    wait_for_previous();

    int group = c.n_heads / c.kv.n_kv_heads, width = min(pieces, (int)SPLIT_THREADS);
    for (int begin = 0; begin < group; begin += HEADS) {
        int heads = min(group - begin, HEADS), head = kv_head * group + begin;
        const T *from = (const T *)c.q + ((size_t)(c.first + row) * c.n_heads + head) * c.stride;
        for (int i = (int)threadIdx.x; i < HEADS * c.stride; i += SPLIT_THREADS)
            q[i] = i < heads * c.stride ? to_float(from[i]) : 0;
        cp_async_wait<1>();
        __syncthreads();
        score_keys<T, HEADS>(scores, keys, q, c.stride, valid);
        __syncthreads();
        soften(c, scores, heads, row, head, split);
        cp_async_wait<0>();
        __syncthreads();
        size_t index = partial_index(c, row, head, split);
        for (int i = 0; i < pieces; i += width)
            sum_values<T, HEADS>(c, scores, values, parts, heads, valid, index, i * N,
                                 min(width, pieces - i));
        __syncthreads(); // before the next heads' scores overwrite these
    }
    int splits = pos / SPLIT + 1;
    if (!is_last(c, row, kv_head, splits))
        return;
    for (int head = kv_head * group; head < (kv_head + 1) * group; head++)
        combine_head<T>(c, (float4(*)[WARP_LANES])tiles, row, head, splits);
}

template <class T, int HEADS>
static void launch_split(struct dev *d, const decode_call &c, dim3 grid)
{
    size_t shared = 2 * SPLIT * (size_t)c.stride * sizeof(T) + HEADS * c.stride * sizeof(float);
    LAUNCH_EARLY(d, (decode_split<T, HEADS>), grid, SPLIT_THREADS, shared, c);
}

/* Launch the kernel for rows [c.first, c.first + rows). */
template <class T> static void decode_rows(struct dev *d, const decode_call &c, int rows)
{
    dim3 grid((unsigned)c.splits, (unsigned)c.kv.n_kv_heads, (unsigned)rows);
    if (c.n_heads == c.kv.n_kv_heads)
        launch_split<T, 1>(d, c, grid);
    else
        launch_split<T, 4>(d, c, grid);
}

void decode_attention(struct dev *d, void *a, const void *q, const struct kv_layer *kv,
                      const struct positions *at, int first, int n, int n_heads)
{
    int splits = split_count(at->longest), stride = row_stride(kv->head_dim);
    size_t row_bytes = (size_t)splits * split_bytes(n_heads, kv->head_dim);
    CHECK(n == 0 || row_bytes <= d->scratch_bytes, "%zu bytes of %zu", row_bytes, d->scratch_bytes);
    for (int done = 0, rows; done < n; done += rows) {
        int left = n - done < MOST_ROWS ? n - done : MOST_ROWS;
        size_t fit = d->scratch_bytes / row_bytes;
        rows = (size_t)left < fit ? left : (int)fit;
        size_t sums = (size_t)rows * n_heads * splits * stride;
        float *scratch = (float *)d->scratch;
        decode_call c = {q,
                         a,
                         *kv,
                         *at,
                         {scratch, (float2 *)(scratch + sums)},
                         d->cuda->arrived,
                         first + done,
                         n_heads,
                         stride,
                         splits};
        CHECK((size_t)rows * (size_t)kv->n_kv_heads <= d->cuda->n_arrived, "%d rows of %d heads",
              rows, kv->n_kv_heads);
        FOR_TYPE(kv->type, T, decode_rows<T>(d, c, rows));
    }
}
