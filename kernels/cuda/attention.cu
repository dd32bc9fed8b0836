/* Attention of prefill. A block of threads takes a tile of 64 rows of one head and goes through the
 * keys in order of position, a KV block of 64 at a time, with an online softmax. Scores stay in
 * registers. A warp has 16 of the rows, and does two tensor-core products a step: queries by keys,
 * and probabilities, rounded to the model's type, by values. The copies of the next keys and values
 * run while it works on these.
 *
 * The rows of a tile that belong to one sequence are a segment. Segments are done one after the
 * other. Keys and values after a segment's last position are copied as zeros, whatever the cache
 * holds there. A block of keys that lies wholly after a row's position does not change that row, so
 * the row's result is the same in any tile. Rows that are alone in their sequence, f32 models and
 * very wide heads go to decode.cu. */
#include <math.h>

#include "kernels/cuda/async.cuh"
#include "kernels/cuda/decode.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/number.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/tile.cuh"

enum {
    WARPS = 4,
    THREADS = WARPS * WARP_LANES,
    WARP_ROWS = 16,
    TILE_ROWS = WARPS * WARP_ROWS,
    KEY_TILES = KV_BLOCK / 8, // tiles of scores, 8 keys each
    BANK_PAD = 8              // elements added to a row, so that 8 neighbouring rows begin in 8
                              // different groups of shared memory's banks
};

struct prefill_call {
    const void *q;
    void *a;
    struct kv_layer kv;
    struct positions at;
    int first, n, n_heads;
};

/* The two rows of a lane: rows g and g + 8 of its warp's 16 (see tile.cuh). */
template <int WIDTH> struct rows_of_lane {
    uint32_t q[WIDTH / 16][4];
    float o[WIDTH / 8][4]; // unnormalised sums of values
    float max[2], sum[2];  // sum: of this lane's columns only
    int row[2], pos[2];    // pos -1: the row is not in this segment
    int first, last;       // the first and the last position of the warp's rows
};

static __device__ __forceinline__ uint32_t pair_of(__nv_bfloat16, float low, float high)
{
    __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    uint32_t word;
    memcpy(&word, &pair, sizeof word);
    return word;
}

static __device__ __forceinline__ uint32_t pair_of(__half, float low, float high)
{
    __half2 pair = __floats2half2_rn(low, high);
    uint32_t word;
    memcpy(&word, &pair, sizeof word);
    return word;
}

/* How many rows of [row, end) belong to the sequence of the first. */
static __device__ __forceinline__ int segment_rows(const struct positions &at, int row, int end)
{
    int lane = (int)threadIdx.x % WARP_LANES, seq = at.seq[row], rows = 0;
    for (int i = row; i < end; i += WARP_LANES) {
        bool same = i + lane < end && at.seq[i + lane] == seq;
        rows += __popc(__ballot_sync(ALL_LANES, same));
    }
    return rows;
}

/* Load the queries of the lane's rows that are in [begin, end). */
template <class T, int WIDTH>
__device__ __forceinline__ void open_rows(rows_of_lane<WIDTH> &r, const prefill_call &c, int tile,
                                          int begin, int end, int head)
{
    int lane = (int)threadIdx.x % WARP_LANES, warp = (int)threadIdx.x / WARP_LANES;
    const T *from[2];
    for (int i = 0; i < 2; i++) {
        int row = tile + warp * WARP_ROWS + i * 8 + lane / 4;
        bool there = row >= begin && row < end;
        r.row[i] = row;
        r.pos[i] = there ? c.at.pos[row] : -1;
        r.max[i] = -INFINITY;
        r.sum[i] = 0;
        from[i] = (const T *)c.q + ((size_t)row * c.n_heads + head) * WIDTH + lane % 4 * 2;
    }
    r.first = __reduce_min_sync(ALL_LANES, min(r.pos[0], r.pos[1]));
    r.last = __reduce_max_sync(ALL_LANES, max(r.pos[0], r.pos[1]));
#pragma unroll
    for (int k = 0; k < WIDTH / 16; k++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            r.q[k][i] =
                r.pos[i % 2] >= 0 ? *(const uint32_t *)(from[i % 2] + k * 16 + i / 2 * 8) : 0;
#pragma unroll
    for (int j = 0; j < WIDTH / 8; j++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            r.o[j][i] = 0;
}

/* Start copying a block's keys and values: `valid` positions, then zeros. */
template <class T, int WIDTH>
__device__ __forceinline__ void fetch_block(T *keys, T *values, const prefill_call &c, int seq,
                                            int block, int kv_head, int valid)
{
    constexpr int PIECES = WIDTH / vec<T>::N;
    int number = c.kv.table[(size_t)seq * c.kv.table_stride + block];
    size_t at = ((size_t)number * c.kv.n_kv_heads + kv_head) * KV_BLOCK * WIDTH;
    for (int i = (int)threadIdx.x; i < KV_BLOCK * PIECES; i += THREADS) {
        int key = i / PIECES, column = i % PIECES * vec<T>::N;
        size_t from = at + key * WIDTH + column;
        int to = key * (WIDTH + BANK_PAD) + column;
        cp_async16_or_zero(keys + to, (const T *)c.kv.k + from, key < valid);
        cp_async16_or_zero(values + to, (const T *)c.kv.v + from, key < valid);
    }
}

/* s := q keys^T; tile j has the scores of keys 8 j .. 8 j + 7. */
template <class T, int WIDTH>
__device__ __forceinline__ void score_block(float (&s)[KEY_TILES][4], const rows_of_lane<WIDTH> &r,
                                            const T *keys)
{
    int lane = (int)threadIdx.x % WARP_LANES, key = lane / 16 * 8 + lane % 8;
    const T *at = keys + key * (WIDTH + BANK_PAD) + lane / 8 % 2 * 8;
#pragma unroll
    for (int j = 0; j < KEY_TILES; j++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            s[j][i] = 0;
#pragma unroll
    for (int k = 0; k < WIDTH / 16; k++)
#pragma unroll
        for (int j = 0; j < KEY_TILES; j += 2) {
            uint32_t b[4];
            ldmatrix_x4(b, at + j * 8 * (WIDTH + BANK_PAD) + k * 16);
            mma_16816<T>(s[j], r.q[k], {b[0], b[1]});
            mma_16816<T>(s[j + 1], r.q[k], {b[2], b[3]});
        }
}

/* Set the scores of keys after a row's position to -infinity; the block begins at position `base`.
 */
template <int WIDTH>
__device__ __forceinline__ void mask_block(float (&s)[KEY_TILES][4], const rows_of_lane<WIDTH> &r,
                                           int base)
{
    int column = base + (int)threadIdx.x % 4 * 2;
#pragma unroll
    for (int j = 0; j < KEY_TILES; j++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (column + j * 8 + i % 2 > r.pos[i / 2])
                s[j][i] = -INFINITY;
}

/* The online softmax of a block: raise max, multiply sums and outputs accordingly, then
 * s := exp(s - max). A row is spread over 4 lanes. */
template <int WIDTH>
__device__ __forceinline__ void soften_block(float (&s)[KEY_TILES][4], rows_of_lane<WIDTH> &r)
{
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float max = r.max[h];
#pragma unroll
        for (int j = 0; j < KEY_TILES; j++)
            max = fmaxf(max, fmaxf(s[j][2 * h], s[j][2 * h + 1]));
        max = fmaxf(max, __shfl_xor_sync(ALL_LANES, max, 1));
        max = fmaxf(max, __shfl_xor_sync(ALL_LANES, max, 2));
        float scale = expf(r.max[h] - max), sum = 0;
#pragma unroll
        for (int j = 0; j < KEY_TILES; j++)
#pragma unroll
            for (int i = 2 * h; i < 2 * h + 2; i++)
                sum += s[j][i] = expf(s[j][i] - max);
        r.max[h] = max;
        r.sum[h] = r.sum[h] * scale + sum;
#pragma unroll
        for (int j = 0; j < WIDTH / 8; j++) {
            r.o[j][2 * h] *= scale;
            r.o[j][2 * h + 1] *= scale;
        }
    }
}

/* o += p values. Two tiles of scores, rounded, have the layout of operand a (tile.cuh). */
template <class T, int WIDTH>
__device__ __forceinline__ void add_values(rows_of_lane<WIDTH> &r, const float (&p)[KEY_TILES][4],
                                           const T *values)
{
    int lane = (int)threadIdx.x % WARP_LANES, key = lane % 16;
    const T *at = values + key * (WIDTH + BANK_PAD) + lane / 16 * 8;
#pragma unroll
    for (int k = 0; k < KEY_TILES / 2; k++) {
        const uint32_t a[4] = {pair_of(T(), p[2 * k][0], p[2 * k][1]),
                               pair_of(T(), p[2 * k][2], p[2 * k][3]),
                               pair_of(T(), p[2 * k + 1][0], p[2 * k + 1][1]),
                               pair_of(T(), p[2 * k + 1][2], p[2 * k + 1][3])};
#pragma unroll
        for (int j = 0; j < WIDTH / 8; j += 2) {
            uint32_t b[4];
            ldmatrix_x4_trans(b, at + k * 16 * (WIDTH + BANK_PAD) + j * 8);
            mma_16816<T>(r.o[j], a, {b[0], b[1]});
            mma_16816<T>(r.o[j + 1], a, {b[2], b[3]});
        }
    }
}

/* a := o / sum, for the rows of this segment. */
template <class T, int WIDTH>
__device__ __forceinline__ void write_rows(const prefill_call &c, const rows_of_lane<WIDTH> &r,
                                           int head)
{
    int lane = (int)threadIdx.x % WARP_LANES, head_dim = c.kv.head_dim;
    int width = c.n_heads * head_dim, stride = row_stride(width);
    for (int h = 0; h < 2; h++) {
        float sum = r.sum[h];
        sum += __shfl_xor_sync(ALL_LANES, sum, 1);
        sum += __shfl_xor_sync(ALL_LANES, sum, 2);
        if (r.pos[h] < 0)
            continue;
        T *a = (T *)c.a + (size_t)r.row[h] * stride;
        // adding 0 turns -0 into +0, as cpu/attention.c does
#pragma unroll
        for (int j = 0; j < WIDTH / 8; j++)
            if (j * 8 + lane % 4 * 2 < head_dim)
                *(uint32_t *)(a + head * head_dim + j * 8 + lane % 4 * 2) =
                    pair_of(T(), r.o[j][2 * h] / sum + 0.0f, r.o[j][2 * h + 1] / sum + 0.0f);
        for (int i = width + lane % 4; head == c.n_heads - 1 && i < stride; i += 4)
            set(&a[i], 0);
    }
}

/* Attention of one segment: the rows [begin, end) of the tile that begins at row `tile`. */
template <class T, int WIDTH>
__device__ __forceinline__ void attend(const prefill_call &c, T *tiles, int tile, int begin,
                                       int end, int head)
{
    constexpr int STAGE = 2 * KV_BLOCK * (WIDTH + BANK_PAD);
    int seq = c.at.seq[begin], last = c.at.pos[end - 1];
    int kv_head = head / (c.n_heads / c.kv.n_kv_heads);
    rows_of_lane<WIDTH> r;
    float s[KEY_TILES][4];
    auto fetch = [&](int block) {
        T *keys = tiles + block % 2 * STAGE;
        fetch_block<T, WIDTH>(keys, keys + STAGE / 2, c, seq, block, kv_head,
                              last - block * KV_BLOCK + 1);
    };
    fetch(0);
    cp_async_commit();
    open_rows<T>(r, c, tile, begin, end, head);
    for (int block = 0; block * KV_BLOCK <= last; block++) {
        if ((block + 1) * KV_BLOCK <= last)
            fetch(block + 1);
        cp_async_commit(); // after the last block an empty group: the wait leaves one group open
        cp_async_wait<1>();
        __syncthreads();
        if (block * KV_BLOCK <= r.last) { // true or false for all lanes of a warp
            const T *keys = tiles + block % 2 * STAGE;
            score_block<T>(s, r, keys);
            if ((block + 1) * KV_BLOCK - 1 > r.first)
                mask_block(s, r, block * KV_BLOCK);
            soften_block(s, r);
            add_values<T>(r, s, keys + STAGE / 2);
        }
        __syncthreads(); // all warps have read this block before the next turn overwrites it
    }
    write_rows<T>(c, r, head);
}

/* Blocks of threads take the tiles from the last to the first: the last ones have the most keys. */
template <class T, int WIDTH>
static __global__ void __launch_bounds__(THREADS, 2) prefill(const prefill_call c)
{
    DYNAMIC_SHARED(T, tiles); // two stages of keys and values, [KV_BLOCK][WIDTH + BANK_PAD] each
    int tile = c.first + (int)(gridDim.x - 1 - blockIdx.x) * TILE_ROWS;
    int end = min(tile + TILE_ROWS, c.n), head = (int)blockIdx.y;
    for (int row = tile, rows; row < end; row += rows) {
        rows = segment_rows(c.at, row, end);
        attend<T, WIDTH>(c, tiles, tile, row, row + rows, head);
    }
}

template <class T, int WIDTH> static void launch_prefill(struct dev *d, const prefill_call &c)
{
    size_t shared = 4 * KV_BLOCK * (WIDTH + BANK_PAD) * sizeof(T);
    dim3 grid((unsigned)((c.n - c.first + TILE_ROWS - 1) / TILE_ROWS), (unsigned)c.n_heads);
    LAUNCH(d, (prefill<T, WIDTH>), grid, THREADS, shared, c);
}

template <class T> static void launch_by_width(struct dev *d, const prefill_call &c, int width)
{
    if (width == 32)
        launch_prefill<T, 32>(d, c);
    else if (width == 64)
        launch_prefill<T, 64>(d, c);
    else if (width == 96)
        launch_prefill<T, 96>(d, c);
    else
        launch_prefill<T, 128>(d, c);
}

size_t cuda_attention_scratch_bytes(const struct dev_limits *limits)
{
    return decode_scratch_bytes(limits);
}

void cuda_attention(struct dev *d, void *a, const void *q, const struct kv_layer *kv,
                    const struct positions *at, int n, int n_heads)
{
    int width = row_stride(kv->head_dim);
    bool tensor_cores = kv->type != DTYPE_F32 && width <= 128;
    int singles = tensor_cores ? at->singles : n;
    prefill_call c = {q, a, *kv, *at, singles, n, n_heads};
    if (!cuda_works(d))
        return;
    decode_attention(d, a, q, kv, at, 0, singles, n_heads);
    if (singles < n && kv->type == DTYPE_BF16)
        launch_by_width<__nv_bfloat16>(d, c, width);
    else if (singles < n)
        launch_by_width<__half>(d, c, width);
}
