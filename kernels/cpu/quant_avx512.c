/* Quantised products on AVX-512 with VNNI: the same bits as plain.c.
 *
 * vpdpbusd multiplies bytes without a sign by bytes with one, and adds four neighbouring products
 * to a sum in 32 bits, which it does not cut off. So weights are taken without a sign, as many more
 * than they are as makes none negative: in q4 Q4_ZERO, as they are stored, in q8 Q8_ABOVE, which
 * their highest bit, turned over, adds. A group's sum is then too high by that times the sum of
 * its inputs, and begins as much below 0. Nothing overflows: 32 * 255 * 127 < 2^20.
 *
 * A vector is a panel's step of four inputs, as it lies in memory. */
#ifndef EPMOE_VNNI_GIVEN // tests/rig/vnni_in_c.c gives the instructions in plain C
#include <immintrin.h>
#endif

#include "kernels/cpu/quant.h"

enum {
    LANES = 16,
    VECTORS = PANEL / LANES,
    MAX_ROWS = 8,
    MOST_SUMS = MAX_ROWS, // enough for one row of GROUP panels, too
    VECTOR_BYTES = 64,
    Q8_ABOVE = 128
};
typedef __m512i vi;

#define INLINE static inline __attribute__((always_inline))

/* The weights of a step. Vectors of one step are in panels that are `panel` bytes apart. */
INLINE vi weights_at(const char *w, size_t panel, int step, int v)
{
    return _mm512_loadu_si512(w + (size_t)v * panel + step * VECTOR_BYTES);
}

/* sum += the products of a step's weights with four inputs of each row; `to` is the sum of the
 * first row, `width` vectors before the next one's. */
INLINE void add_step(vi *to, int rows, int width, vi weights, const int8_t *x, size_t ldx)
{
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        int32_t inputs;
        memcpy(&inputs, x + (size_t)r * ldx * sizeof(struct quant_group), sizeof inputs);
        to[r * width] = _mm512_dpbusd_epi32(to[r * width], weights, _mm512_set1_epi32(inputs));
    }
}

/* Sums of weights that are `above` higher than they are begin so much lower. */
INLINE void begin_sums(vi *sum, int rows, int width, const struct quant_group *x, size_t ldx,
                       int above)
{
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < width; v++)
            sum[r * width + v] = _mm512_set1_epi32(-above * x[(size_t)r * ldx].sum);
}

INLINE void sums_q8(vi *sum, int rows, int width, const struct quant_group *x, size_t ldx,
                    const char *w, size_t panel)
{
    const vi above = _mm512_set1_epi32((int32_t)(Q8_ABOVE * 0x01010101u));
    begin_sums(sum, rows, width, x, ldx, Q8_ABOVE);
#pragma GCC unroll 8
    for (int s = 0; s < QUANT_GROUP / 4; s++)
#pragma GCC unroll 4
        for (int v = 0; v < width; v++) {
            vi weights = _mm512_xor_si512(weights_at(w, panel, s, v), above);
            add_step(sum + v, rows, width, weights, x->q + 4 * s, ldx);
        }
}

INLINE void sums_q4(vi *sum, int rows, int width, const struct quant_group *x, size_t ldx,
                    const char *w, size_t panel)
{
    const vi low = _mm512_set1_epi32(0x0f0f0f0f);
    begin_sums(sum, rows, width, x, ldx, Q4_ZERO);
#pragma GCC unroll 4
    for (int s = 0; s < QUANT_GROUP / 8; s++)
#pragma GCC unroll 4
        for (int v = 0; v < width; v++) {
            vi both = weights_at(w, panel, s, v), high = _mm512_srli_epi32(both, 4);
            const int8_t *in = x->q + 4 * s;
            add_step(sum + v, rows, width, _mm512_and_si512(both, low), in, ldx);
            add_step(sum + v, rows, width, _mm512_and_si512(high, low), in + QUANT_GROUP / 2, ldx);
        }
}

INLINE void put_sums(float *c, int ldc, const vi *sum, int rows, int width,
                     const struct quant_group *x, size_t ldx, const char *scales, size_t panel,
                     bool first)
{
#pragma GCC unroll 4
    for (int v = 0; v < width; v++) {
        const char *from = scales + (size_t)v * panel;
        __m512 scale = _mm512_cvtph_ps(_mm256_loadu_si256((const void *)from));
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            float *to = c + r * ldc + v * LANES;
            __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(x[(size_t)r * ldx].scale));
            __m512 part = _mm512_mul_ps(_mm512_cvtepi32_ps(sum[r * width + v]), both);
            __m512 before = first ? _mm512_set1_ps(0) : _mm512_loadu_ps(to);
            _mm512_storeu_ps(to, _mm512_add_ps(before, part));
        }
    }
}

INLINE vi either(vi a, vi b)
{
    return _mm512_or_si512(a, b);
}

#include "kernels/cpu/quant_vector.h"

void avx512_tile_q8(float *c, int ldc, const struct quant_group *x, size_t ldx, const void *w,
                    int panels, int rows, int k)
{
    tile(QUANT_Q8, c, ldc, x, ldx, w, panels, rows, k);
}

void avx512_tile_q4(float *c, int ldc, const struct quant_group *x, size_t ldx, const void *w,
                    int panels, int rows, int k)
{
    tile(QUANT_Q4, c, ldc, x, ldx, w, panels, rows, k);
}

double avx512_spin_q8(long rounds, float *sink)
{
    return spin_as(QUANT_Q8, rounds, sink);
}

double avx512_spin_q4(long rounds, float *sink)
{
    return spin_as(QUANT_Q4, rounds, sink);
}
