/* Tensor-core tiles of bf16 and f16: a warp multiplies two operands, and can load them from shared
 * memory. On the emulation, loops do the same with the same fragments.
 *
 * The fragment of lane 4 g + t of a warp (PTX ISA, mma.m16n8k16). A word holds two neighbours of k,
 * the lower one in its lower half:
 *   a [16][16] row-major
 *       a[0]: row g, k 2t         a[1]: row g + 8, k 2t
 *       a[2]: row g, k 2t + 8     a[3]: row g + 8, k 2t + 8
 *   b [16][8] by columns
 *       b[0]: k 2t, column g      b[1]: k 2t + 8, column g
 *   d [16][8] f32
 *       d[0], d[1]: row g, columns 2t, 2t + 1
 *       d[2], d[3]: row g + 8, columns 2t, 2t + 1 */
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <stdint.h>

#ifndef EPMOE_EMULATED

#define MMA_16816(name)                                                                            \
    asm("mma.sync.aligned.m16n8k16.row.col.f32." name "." name ".f32 "                             \
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                          \
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                           \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))

/* d += a b; called by the whole warp. */
template <class T>
__device__ __forceinline__ void mma_16816(float (&d)[4], const uint32_t (&a)[4],
                                          const uint32_t (&b)[2]);

template <>
__device__ __forceinline__ void mma_16816<__nv_bfloat16>(float (&d)[4], const uint32_t (&a)[4],
                                                         const uint32_t (&b)[2])
{
    MMA_16816("bf16");
}

template <>
__device__ __forceinline__ void mma_16816<__half>(float (&d)[4], const uint32_t (&a)[4],
                                                  const uint32_t (&b)[2])
{
    MMA_16816("f16");
}

#undef MMA_16816

/* Load four matrices of 8 rows of 16 bytes from shared memory. Lane 8 i + j passes the address of
 * row j of matrix i. Word i that lane 4 g + t gets is of matrix i: elements 2t and 2t + 1 of row g,
 * or (trans) of column g. */
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void *shared)
{
    unsigned from = (unsigned)__cvta_generic_to_shared(shared);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from)
                 : "memory");
}

__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void *shared)
{
    unsigned from = (unsigned)__cvta_generic_to_shared(shared);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from)
                 : "memory");
}

#else

#include <string.h>

/* The emulation spends most of its time in the functions marked so. Their indices are known to be
 * right, so they go without sanitizers. */
#define TWIN __attribute__((no_sanitize("address", "undefined", "thread"), optimize("O3"))) inline

namespace emulated_tile
{

struct operands {
    uint32_t a[4], b[2];
};

struct product {
    float d[4];
};

struct words {
    uint32_t r[4];
};

template <class T> TWIN float half_of(uint32_t word, int i)
{
    uint16_t bits = (uint16_t)(word >> 16 * i);
    T x;
    memcpy(&x, &bits, sizeof x);
    return (float)x;
}

/* Element k of row `row` of operand a; element k of column `column` of operand b. k is 0 .. 15. */
template <class T> TWIN float a_at(const operands *const in[32], int row, int k)
{
    int lane = row % 8 * 4 + k % 8 / 2, word = row / 8 + k / 8 * 2;
    return half_of<T>(in[lane]->a[word], k % 2);
}

template <class T> TWIN float b_at(const operands *const in[32], int k, int column)
{
    return half_of<T>(in[column * 4 + k % 8 / 2]->b[k / 8], k % 2);
}

template <class T> TWIN void multiply(const operands *const in[32], product *const out[32])
{
    float a[16][16], b[16][8];
    for (int k = 0; k < 16; k++) {
        for (int row = 0; row < 16; row++)
            a[row][k] = a_at<T>(in, row, k);
        for (int column = 0; column < 8; column++)
            b[k][column] = b_at<T>(in, k, column);
    }
    for (int row = 0; row < 16; row++) {
        float sum[8] = {};
        for (int k = 0; k < 16; k++)
            for (int column = 0; column < 8; column++)
                sum[column] += a[row][k] * b[k][column];
        for (int column = 0; column < 8; column++)
            out[row % 8 * 4 + column / 2]->d[row / 8 * 2 + column % 2] = sum[column];
    }
}

template <bool TRANS>
inline void load_matrices(const void *const *const in[32], words *const out[32])
{
    for (int i = 0; i < 4; i++)
        for (int row = 0; row < 8; row++)
            for (int column = 0; column < 8; column++) {
                const uint16_t *from = (const uint16_t *)*in[i * 8 + row];
                int g = TRANS ? column : row, k = TRANS ? row : column;
                memcpy((char *)&out[g * 4 + k / 2]->r[i] + k % 2 * 2, from + column, 2);
            }
}

} // namespace emulated_tile

template <class T>
inline void mma_16816(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
    emulated_tile::operands in;
    emulated_tile::product out;
    memcpy(in.a, a, sizeof in.a);
    memcpy(in.b, b, sizeof in.b);
    emulated::warp_collective<emulated_tile::operands, emulated_tile::product,
                              emulated_tile::multiply<T>>(in, out);
    for (int i = 0; i < 4; i++)
        d[i] += out.d[i];
}

template <bool TRANS> inline void emulated_ldmatrix(uint32_t (&r)[4], const void *shared)
{
    emulated_tile::words out;
    emulated::warp_collective<const void *, emulated_tile::words,
                              emulated_tile::load_matrices<TRANS>>(shared, out);
    memcpy(r, out.r, sizeof out.r);
}

inline void ldmatrix_x4(uint32_t (&r)[4], const void *shared)
{
    emulated_ldmatrix<false>(r, shared);
}

inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void *shared)
{
    emulated_ldmatrix<true>(r, shared);
}

#endif
