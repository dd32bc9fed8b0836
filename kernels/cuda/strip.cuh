/* Which rows of a job belong to which block (ffn) of its list, found on the device. The rows of
 * each block are cut into strips of at most `height` rows, and strips are numbered in the order of
 * the rows. */
#pragma once

#include <cuda_runtime.h>
#include <stdint.h>

struct strip {
    int block, first,
        rows; // if rows is 0, there is no such strip, and `block` is how many there are
};

/* The sum of x over this lane and all lanes below it. */
__device__ __forceinline__ int sum_below(int x, int lane)
{
#pragma unroll
    for (int by = 1; by < 32; by *= 2) {
        int below = __shfl_up_sync(0xffffffffu, x, by);
        x += lane >= by ? below : 0;
    }
    return x;
}

/* Strip `number`; called by a whole warp. count [n_blocks], or NULL: all n rows are of block 0. */
__device__ __forceinline__ strip find_strip(const int32_t *count, int n_blocks, int n, int height,
                                            int number, int lane)
{
    if (!count) {
        int first = number * height;
        return first < n ? strip{0, first, min(n - first, height)}
                         : strip{(n + height - 1) / height, 0, 0};
    }
    int strips = 0, rows = 0; // of the blocks before `base`
    for (int base = 0; base < n_blocks; base += 32) {
        int own = base + lane < n_blocks ? count[base + lane] : 0;
        int own_strips = (own + height - 1) / height;
        int end = strips + sum_below(own_strips, lane), row = rows + sum_below(own, lane);
        unsigned beyond = __ballot_sync(0xffffffffu, number < end);
        if (beyond) {
            int owner = __ffs((int)beyond) - 1;
            int at = number - (end - own_strips); // which of the owner's strips
            int first = row - own + at * height, left = own - at * height;
            return {base + owner, __shfl_sync(0xffffffffu, first, owner),
                    min(__shfl_sync(0xffffffffu, left, owner), height)};
        }
        strips = __shfl_sync(0xffffffffu, end, 31);
        rows = __shfl_sync(0xffffffffu, row, 31);
    }
    return {strips, 0, 0};
}

/* The most strips that n rows of n_blocks blocks can make; grids have this size. */
static inline int most_strips(int n, int n_blocks, int height)
{
    return (n < n_blocks ? n : n_blocks) + n / height;
}
