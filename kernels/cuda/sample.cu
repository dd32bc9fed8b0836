/* The part of sampling that works on whole rows of logits, so that only candidates leave the GPU.
 *
 * top: a block of threads takes a slice of a row and keeps its `most` best tokens. Then the same is
 * done to what the slices kept, until one slice is left (two launches for 151,936 tokens). The keys
 * (rank.cuh) of a slice stay in registers while the block finds, bit by bit, the largest number
 * that `most` of them reach. All keys are different, so what is kept does not depend on the order
 * of work. */
#include <math.h>

#include "base/check.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/rank.cuh"
#include "kernels/cuda/reduce.cuh"

enum {
    THREADS = 256,
    WARPS = THREADS / WARP_LANES,
    EACH = 8, // keys that a thread has
    SLICE = THREADS * EACH
};

typedef unsigned long long rank; // see rank.cuh

static int slices_of(int count)
{
    return (count + SLICE - 1) / SLICE;
}

/* Room for what the slices of the first launch keep, and for what those of the second keep. Later
 * launches use the two in turn. */
size_t cuda_top_scratch_bytes(const struct dev_limits *limits)
{
    int first = slices_of(limits->vocab), second = slices_of(first * TOP_MOST);
    return (size_t)limits->logit_rows * (size_t)(first + second) * TOP_MOST * sizeof(rank);
}

/* ---- penalties ---- */

static __global__ void __launch_bounds__(THREADS)
    add_seen(uint32_t *seen, const int32_t *tokens, const int32_t *seq, int n, int words)
{
    int i = (int)(blockIdx.x * THREADS + threadIdx.x);
    if (i < n)
        atomicOr(&seen[(size_t)seq[i] * words + tokens[i] / 32], 1u << tokens[i] % 32);
}

void cuda_add_seen(struct dev *d, uint32_t *seen, const int32_t *tokens, const int32_t *seq, int n,
                   int vocab)
{
    if (cuda_works(d) && n)
        LAUNCH(d, add_seen, (n + THREADS - 1) / THREADS, THREADS, 0, seen, tokens, seq, n,
               seen_words(vocab));
}

/* Each thread does one word of a bitmap: 32 tokens. */
static __global__ void __launch_bounds__(THREADS)
    penalise(float *logits, const uint32_t *seen, const struct penalty *penalties, int vocab)
{
    int row = (int)blockIdx.y, word = (int)(blockIdx.x * THREADS + threadIdx.x);
    struct penalty p = penalties[row];
    if (word >= seen_words(vocab) || p.factor == 1)
        return;
    float *z = logits + (size_t)row * vocab + word * 32;
    uint32_t left = seen[(size_t)p.seq * seen_words(vocab) + word];
    for (; left; left &= left - 1) {
        int i = __ffs((int)left) - 1;
        z[i] = z[i] > 0 ? z[i] / p.factor : z[i] * p.factor;
    }
}

void cuda_penalise(struct dev *d, float *logits, const uint32_t *seen,
                   const struct penalty *penalties, int n, int vocab)
{
    dim3 grid((unsigned)((seen_words(vocab) + THREADS - 1) / THREADS), (unsigned)n);
    if (cuda_works(d) && n)
        LAUNCH(d, penalise, grid, THREADS, 0, logits, seen, penalties, vocab);
}

/* ---- top ---- */

struct top_call {
    const float *logits;    // [n][count] what to choose from; if NULL:
    const rank *keys;       // [n][count]
    rank *kept;             // [n][slices][most] what is kept; if NULL:
    struct candidate *best; // [n][most]
    int count, most;
};

/* The sum of `mine` over the block. Calls use two arrays in turn (turn 0, 1, 0, ...), so that one
 * barrier a call is enough. */
static __device__ __forceinline__ int count_in_block(int mine, int turn)
{
    __shared__ int of_warp[2][WARPS];
    mine = __reduce_add_sync(ALL_LANES, mine);
    if (threadIdx.x % WARP_LANES == 0)
        of_warp[turn][threadIdx.x / WARP_LANES] = mine;
    __syncthreads();
    int all = 0;
    for (int i = 0; i < WARPS; i++)
        all += of_warp[turn][i];
    return all;
}

/* The largest number that at least `most` keys reach; 1 if there are fewer keys than `most`. */
static __device__ __forceinline__ rank threshold(const rank (&key)[EACH], int most)
{
    rank least = 0;
    for (int bit = 63; bit >= 0; bit--) {
        rank wish = least | (rank)1 << bit;
        int mine = 0;
#pragma unroll
        for (int i = 0; i < EACH; i++)
            mine += key[i] >= wish;
        int all = count_in_block(mine, bit % 2);
        if (all >= most)
            least = wish;
        if (all == most)
            break;
    }
    return least ? least : 1;
}

static __device__ __forceinline__ void load_keys(rank (&key)[EACH], const top_call &c, int row)
{
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        int at = (int)blockIdx.x * SLICE + i * THREADS + (int)threadIdx.x;
        size_t from = (size_t)row * c.count + at;
        if (at >= c.count)
            key[i] = 0;
        else if (c.keys)
            key[i] = c.keys[from];
        else
            key[i] = rank_key(isnan(c.logits[from]) ? INFINITY : c.logits[from], at);
    }
}

static __global__ void __launch_bounds__(THREADS) top(const top_call c)
{
    __shared__ rank found[TOP_MOST];
    __shared__ int n_found;
    int row = (int)blockIdx.y, thread = (int)threadIdx.x;
    rank key[EACH];
    load_keys(key, c, row);
    if (thread < TOP_MOST)
        found[thread] = 0;
    if (thread == 0)
        n_found = 0;
    rank least = threshold(key, c.most); // has a barrier
#pragma unroll
    for (int i = 0; i < EACH; i++)
        if (key[i] >= least)
            found[atomicAdd(&n_found, 1)] = key[i];
    __syncthreads();
    if (thread >= c.most)
        return;
    int place = 0;
    for (int i = 0; i < c.most; i++) // a found[i] without a key is 0 and so comes last
        place += found[i] > found[thread] || (found[i] == found[thread] && i < thread);
    if (c.kept)
        c.kept[((size_t)row * gridDim.x + blockIdx.x) * c.most + place] = found[thread];
    else
        c.best[(size_t)row * c.most + place] = {rank_score(found[thread]),
                                                rank_index(found[thread])};
}

void cuda_top(struct dev *d, struct candidate *best, const float *logits, int n, int vocab,
              int most)
{
    int slices = slices_of(vocab);
    rank *keys[2] = {(rank *)d->scratch, (rank *)d->scratch + (size_t)n * slices * most};
    size_t all = (size_t)n * (size_t)(slices + slices_of(slices * most)) * most;
    CHECK(most >= 1 && most <= TOP_MOST && most <= vocab, "%d of %d tokens", most, vocab);
    CHECK(slices == 1 || all * sizeof(rank) <= d->scratch_bytes, "%d rows of %d tokens", n, vocab);
    if (!cuda_works(d) || n == 0)
        return;
    top_call c = {logits, NULL, NULL, best, vocab, most};
    for (int turn = 0;; turn = 1 - turn) {
        dim3 grid((unsigned)slices, (unsigned)n);
        c.kept = slices > 1 ? keys[turn] : NULL;
        LAUNCH(d, top, grid, THREADS, 0, c);
        if (slices == 1)
            return;
        c.logits = NULL;
        c.keys = c.kept;
        c.count = slices * most;
        slices = slices_of(c.count);
    }
}
