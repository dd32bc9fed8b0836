/* Finds, on the device, which rows of an ffn's call each block of a list has. The rows of a block
 * are cut into strips of at most `height` rows; strips are numbered in the order of y's rows. */
#pragma once

#include <cuda_runtime.h>
#include <stdint.h>

struct strip {
    int block, first, rows; // first: the first row's place in y; rows 0: there is no such strip,
                            // and `block` is how many strips there are
    int x_first;            // the first row's place in x (or in `source`)
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

/* Find strip `number`; the whole warp calls. count [n_blocks]; NULL: each block has all n rows. */
__device__ __forceinline__ strip find_strip(const int32_t *count, int n_blocks, int n, int height,
                                            int number, int lane)
{
    if (!count) {
        int of_block = (n + height - 1) / height, block = of_block ? number / of_block : 0;
        int first = (number - block * of_block) * height;
        return of_block && block < n_blocks
                   ? strip{block, block * n + first, min(n - first, height), first}
                   : strip{of_block * n_blocks, 0, 0, 0};
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
            first = __shfl_sync(0xffffffffu, first, owner);
            return {base + owner, first, min(__shfl_sync(0xffffffffu, left, owner), height), first};
        }
        strips = __shfl_sync(0xffffffffu, end, 31);
        rows = __shfl_sync(0xffffffffu, row, 31);
    }
    return {strips, 0, 0, 0};
}

/* How many strips there are at most, for the size of a grid: counted, if each of the n rows belongs
 * to one of the n_blocks; otherwise each block has all n rows. */
static inline int most_strips(int n, int n_blocks, int height, bool counted)
{
    if (!counted)
        return n_blocks * ((n + height - 1) / height);
    return (n < n_blocks ? n : n_blocks) + n / height;
}
