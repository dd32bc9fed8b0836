/* The tensor-core tile of 8-bit integers: a warp adds the products of two operands to sums of 32
 * bits, which are exact. On the emulation, loops do the same with the same fragments.
 *
 * The fragment of lane 4 g + t of a warp (PTX ISA, mma.m16n8k32). A word holds four neighbours of
 * k, the lowest one in its lowest byte:
 *   a [16][32] row-major
 *       a[0]: row g, k 4t         a[1]: row g + 8, k 4t
 *       a[2]: row g, k 4t + 16    a[3]: row g + 8, k 4t + 16
 *   b [32][8] by columns
 *       b[0]: k 4t, column g      b[1]: k 4t + 16, column g
 *   d [16][8] int
 *       d[0], d[1]: row g, columns 2t, 2t + 1
 *       d[2], d[3]: row g + 8, columns 2t, 2t + 1 */
#pragma once

#include "kernels/cuda/tile.cuh"

#ifndef EPMOE_EMULATED

/* d += a b; called by the whole warp. */
__device__ __forceinline__ void mma_16832(int (&d)[4], const uint32_t (&a)[4],
                                          const uint32_t (&b)[2])
{
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#else

namespace emulated_tile
{

struct integers {
    int d[4];
};

TWIN int byte_of(uint32_t word, int i)
{
    return (int8_t)(word >> 8 * i);
}

TWIN void multiply_integers(const operands *const in[32], integers *const out[32])
{
    int a[16][32], b[8][32];
    for (int k = 0; k < 32; k++) {
        int lane = k % 16 / 4, half = k / 16;
        for (int row = 0; row < 16; row++)
            a[row][k] = byte_of(in[row % 8 * 4 + lane]->a[row / 8 + half * 2], k % 4);
        for (int column = 0; column < 8; column++)
            b[column][k] = byte_of(in[column * 4 + lane]->b[half], k % 4);
    }
    for (int row = 0; row < 16; row++)
        for (int column = 0; column < 8; column++) {
            int sum = 0;
            for (int k = 0; k < 32; k++)
                sum += a[row][k] * b[column][k];
            out[row % 8 * 4 + column / 2]->d[row / 8 * 2 + column % 2] = sum;
        }
}

} // namespace emulated_tile

inline void mma_16832(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
    emulated_tile::operands in;
    emulated_tile::integers out;
    memcpy(in.a, a, sizeof in.a);
    memcpy(in.b, b, sizeof in.b);
    emulated::warp_collective<emulated_tile::operands, emulated_tile::integers,
                              emulated_tile::multiply_integers>(in, out);
    for (int i = 0; i < 4; i++)
        d[i] += out.d[i];
}

#endif
