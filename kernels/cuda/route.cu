/* Routing: which rows go to which experts, and the sort of these assignments by rank and expert.
 *
 * route: a warp does a row and has its scores in registers. It finds the best experts one by one,
 * as the largest rank_key() (rank.cuh). The sort is a stable counting sort by one block of threads.
 * Each warp counts the groups of a stretch of the assignments, 32 at a time. From the counts
 * follows where each warp's assignments of each group begin. Then each warp goes through its
 * stretch again and assigns the slots. No result depends on which warp is first. */
#include <math.h>

#include "base/check.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/rank.cuh"
#include "kernels/cuda/reduce.cuh"

enum {
    ROUTE_WARPS = 4,
    SORT_WARPS = 32,
    FEW_ROWS = 32, // up to this many rows one launch routes and sorts, which is faster then
    FEW_WARPS = 8, // the most warps of that launch's block
    SORT_SHARED_BYTES = 40 << 10
};

struct route_call {
    int32_t *expert;
    float *weight;
    const float *scores;
    int ld, n, n_experts, k;
    bool normalise;
};

static __device__ __forceinline__ unsigned long long warp_best(unsigned long long key)
{
    for (int lanes = WARP_LANES / 2; lanes; lanes /= 2) {
        unsigned long long other = __shfl_xor_sync(ALL_LANES, key, lanes);
        key = other > key ? other : key;
    }
    return key;
}

/* The best expert after `last`, the one chosen before it (-1: none was chosen). Experts are ordered
 * by score, largest first, and equal scores by number. A score of NaN is never chosen; when only
 * those are left, the result is expert 0. */
template <int PER_LANE>
__device__ __forceinline__ int next_best(const float (&score)[PER_LANE], float last_score, int last)
{
    int lane = (int)threadIdx.x % WARP_LANES;
    unsigned long long best = 0;
#pragma unroll
    for (int i = 0; i < PER_LANE; i++) {
        int e = i * WARP_LANES + lane;
        bool later = last < 0 ? score[i] == score[i]
                              : score[i] < last_score || (score[i] == last_score && e > last);
        unsigned long long key = later ? rank_key(score[i], e) : 0;
        best = key > best ? key : best;
    }
    best = warp_best(best);
    return best ? rank_index(best) : 0;
}

/* Route one row. PER_LANE * WARP_LANES >= n_experts; lanes without an expert have a score of NaN.
 */
template <int PER_LANE> __device__ __forceinline__ void route_row(const route_call &c, int row)
{
    int lane = (int)threadIdx.x % WARP_LANES;
    const float *scores = c.scores + (size_t)row * c.ld;
    int32_t *expert = c.expert + (size_t)row * c.k;
    float *weight = c.weight + (size_t)row * c.k;
    float score[PER_LANE];
#pragma unroll
    for (int i = 0; i < PER_LANE; i++)
        score[i] = i * WARP_LANES + lane < c.n_experts ? scores[i * WARP_LANES + lane] : NAN;

    int last = next_best<PER_LANE>(score, 0, -1);
    float top = scores[last], last_score = top, chosen = 0, all = 0;
    for (int j = 0; j < c.k; j++) {
        if (j) {
            last = next_best<PER_LANE>(score, last_score, last);
            last_score = scores[last];
        }
        float w = expf(last_score - top);
        chosen += w;
        if (lane == j % WARP_LANES) { // the lane that divides it below
            expert[j] = last;
            weight[j] = w;
        }
    }
#pragma unroll
    for (int i = 0; i < PER_LANE; i++)
        all += i * WARP_LANES + lane < c.n_experts ? expf(score[i] - top) : 0;
    all = warp_sum(all);
    for (int j = lane; j < c.k; j += WARP_LANES)
        weight[j] /= c.normalise ? chosen : all;
}

template <int PER_LANE>
static __global__ void __launch_bounds__(ROUTE_WARPS *WARP_LANES) route(const route_call c)
{
    int row = (int)(blockIdx.x * ROUTE_WARPS + threadIdx.x / WARP_LANES);
    if (row < c.n)
        route_row<PER_LANE>(c, row);
}

/* ---- sorting ---- */

struct sort_call {
    int32_t *count, *slot, *source;
    uint64_t *hit; // or NULL
    const int32_t *expert;
    struct grouping groups;
    int assignments, k, n_groups;
    int stretch; // assignments of a warp; a multiple of 32
};

/* The warp takes 32 assignments, one a lane, in order of lane. next[group] is how many assignments
 * of the group came before these, and is raised by those among them. Returns a lane's place in its
 * group; -1 for a lane without an assignment (not `there`). */
static __device__ __forceinline__ int take_places(int *next, int group, bool there)
{
    int lane = (int)threadIdx.x % WARP_LANES;
    unsigned same = __match_any_sync(ALL_LANES, there ? group : -1);
    int before = __popc(same & ((1u << lane) - 1)), at = there ? next[group] + before : -1;
    __syncwarp();
    if (there && before == 0)
        next[group] += __popc(same);
    __syncwarp();
    return at;
}

/* On entry next [warps][n_groups] has the counts of each warp. On return it has how many
 * assignments of the group earlier warps have, total [n_groups] where each group begins, and
 * c.count the size of each group. */
static __device__ __forceinline__ void begin_groups(const sort_call &c, int *next, int *total,
                                                    int warps)
{
    int lane = (int)threadIdx.x % WARP_LANES;
    for (int g = (int)threadIdx.x; g < c.n_groups; g += (int)blockDim.x) {
        int sum = 0;
        for (int w = 0; w < warps; w++) {
            int here = next[w * c.n_groups + g];
            next[w * c.n_groups + g] = sum;
            sum += here;
        }
        total[g] = c.count[g] = sum;
    }
    __syncthreads();
    if (threadIdx.x < WARP_LANES) { // total: from sizes to beginnings, 32 groups at a time
        int sum = 0, groups = 0;
        for (int first = 0; first < c.n_groups; first += WARP_LANES) {
            int g = first + lane, mine = g < c.n_groups ? total[g] : 0, upto = mine;
            groups += __popc(__ballot_sync(ALL_LANES, mine > 0));
            for (int by = 1; by < WARP_LANES; by *= 2) {
                int before = __shfl_up_sync(ALL_LANES, upto, by);
                upto += lane >= by ? before : 0;
            }
            if (g < c.n_groups)
                total[g] = sum + upto - mine;
            sum += __shfl_sync(ALL_LANES, upto, WARP_LANES - 1);
        }
        if (lane == 0 && c.hit)
            *c.hit += (uint64_t)groups;
    }
    __syncthreads();
}

/* The group of assignment i. */
static __device__ __forceinline__ int group_of(const sort_call &c, int i)
{
    int turn = i / c.k & (c.groups.turns - 1);
    return c.groups.group_of[turn * c.groups.n_experts + c.expert[i]];
}

static __device__ __forceinline__ void sort_all(const sort_call &c)
{
    DYNAMIC_SHARED(int, next); // [warps][n_groups], then total [n_groups]
    int warps = (int)blockDim.x / WARP_LANES, warp = (int)threadIdx.x / WARP_LANES;
    int lane = (int)threadIdx.x % WARP_LANES, *mine = next + warp * c.n_groups;
    int *total = next + warps * c.n_groups;
    int begin = warp * c.stretch, end = min(begin + c.stretch, c.assignments);

    for (int g = lane; g < c.n_groups; g += WARP_LANES)
        mine[g] = 0;
    __syncwarp();
    for (int i = begin + lane; i - lane < end; i += WARP_LANES)
        take_places(mine, i < end ? group_of(c, i) : 0, i < end);
    __syncthreads();
    begin_groups(c, next, total, warps);
    for (int i = begin + lane; i - lane < end; i += WARP_LANES) {
        int group = i < end ? group_of(c, i) : 0;
        int at = take_places(mine, group, i < end);
        if (i < end) {
            at += total[group];
            c.slot[i] = at;
            c.source[at] = i / c.k;
        }
    }
}

static __global__ void __launch_bounds__(SORT_WARPS *WARP_LANES) sort_assignments(const sort_call c)
{
    sort_all(c);
}

/* Route and sort a few rows by one block of threads. */
template <int PER_LANE>
static __global__ void __launch_bounds__(FEW_WARPS *WARP_LANES)
    route_sort(const route_call r, const sort_call s)
{
    int warp = (int)threadIdx.x / WARP_LANES, warps = (int)blockDim.x / WARP_LANES;
    let_next_begin();
    wait_for_previous();
    for (int row = warp; row < r.n; row += warps)
        route_row<PER_LANE>(r, row);
    __syncthreads();
    sort_all(s);
}

/* ---- launches ---- */

/* The arguments of a sort. *warps, the number wanted, is lowered to what shared memory allows. */
static sort_call sort_by(int *warps, const struct sorting *to, const int32_t *expert, int n, int k)
{
    int assignments = n * k, groups = to->groups.n_groups;
    int row_bytes = groups * (int)sizeof(int);
    int most = SORT_SHARED_BYTES / row_bytes - 1;
    CHECK(most >= 1, "%d groups", groups);
    *warps = *warps < most ? *warps : most;
    int per_warp = (assignments + *warps - 1) / *warps;
    int stretch = (per_warp + WARP_LANES - 1) / WARP_LANES * WARP_LANES;
    return {to->count,  to->slot,    to->source, to->hit, expert,
            to->groups, assignments, k,          groups,  stretch};
}

static size_t sort_bytes(const sort_call &c, int warps)
{
    return (size_t)(warps + 1) * (size_t)c.n_groups * sizeof(int);
}

template <int PER_LANE> static void launch_route(struct dev *d, const route_call &c)
{
    LAUNCH(d, route<PER_LANE>, (c.n + ROUTE_WARPS - 1) / ROUTE_WARPS, ROUTE_WARPS * WARP_LANES, 0,
           c);
}

static void launch_sort(struct dev *d, const route_call &c, const struct sorting *sorting)
{
    int warps = (c.n * c.k + WARP_LANES - 1) / WARP_LANES;
    warps = warps < 1 ? 1 : warps < SORT_WARPS ? warps : (int)SORT_WARPS;
    sort_call s = sort_by(&warps, sorting, c.expert, c.n, c.k);
    LAUNCH(d, sort_assignments, 1, warps * WARP_LANES, sort_bytes(s, warps), s);
}

template <int PER_LANE>
static void launch_both(struct dev *d, const route_call &c, const struct sorting *sorting)
{
    int warps = c.n < 1 ? 1 : c.n < FEW_WARPS ? c.n : (int)FEW_WARPS;
    sort_call s = sort_by(&warps, sorting, c.expert, c.n, c.k);
    LAUNCH_EARLY(d, route_sort<PER_LANE>, 1, warps * WARP_LANES, sort_bytes(s, warps), c, s);
}

template <int PER_LANE>
static void route_rows(struct dev *d, const route_call &c, const struct sorting *sorting)
{
    if (sorting && c.n <= FEW_ROWS) {
        launch_both<PER_LANE>(d, c, sorting);
        return;
    }
    launch_route<PER_LANE>(d, c);
    if (sorting)
        launch_sort(d, c, sorting);
}

void cuda_route(struct dev *d, int32_t *expert, float *weight, const struct sorting *sorting,
                const float *scores, int ld, int n, int n_experts, int k, bool normalise)
{
    route_call c = {expert, weight, scores, ld, n, n_experts, k, normalise};
    CHECK(n_experts <= 32 * WARP_LANES, "%d experts", n_experts);
    if (!cuda_works(d) || (n == 0 && !sorting))
        return;
    if (n_experts <= 2 * WARP_LANES)
        route_rows<2>(d, c, sorting);
    else if (n_experts <= 8 * WARP_LANES)
        route_rows<8>(d, c, sorting);
    else
        route_rows<32>(d, c, sorting);
}
