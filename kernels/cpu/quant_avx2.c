/* Quantised products on AVX2: the same bits as plain.c.
 *
 * vpmaddubsw multiplies bytes without a sign by bytes with one, and adds pairs of products in 16
 * bits. q4's stored halves are bytes without a sign, at most 15, so that all eight pairs of a group
 * fit in 16 bits: 8 * 2 * 15 * 127 = 30480. q8 multiplies |w| by x with the sign of w; a pair is at
 * most 2 * 127 * 127 = 32258, and goes on to 32 bits at once. */
#include <immintrin.h>

#include "kernels/cpu/quant.h"

enum {
    LANES = 8,
    VECTORS = PANEL / LANES,
    MAX_ROWS = 5,
    MOST_SUMS = MAX_ROWS * VECTORS // enough for one row of GROUP panels, too
};
typedef __m256i vi;
typedef __m256 vf;

#define INLINE static inline __attribute__((always_inline))

INLINE __m256i get(const void *p)
{
    return _mm256_loadu_si256(p);
}

/* Four bytes in all lanes. */
INLINE __m256i everywhere(const void *p)
{
    int32_t word;
    memcpy(&word, p, sizeof word);
    return _mm256_set1_epi32(word);
}

/* Compilers would add up parts of a sum first, and run out of registers. */
INLINE __m256i in_order(__m256i v)
{
    __asm__("" : "+x"(v));
    return v;
}

INLINE void no_sums(__m256i *sum, int n)
{
#pragma GCC unroll 16
    for (int i = 0; i < n; i++)
        sum[i] = _mm256_setzero_si256();
}

/* Vector v of a step of a group. Vectors go on in the next panel, `panel` bytes further. */
INLINE __m256i weights_at(const char *w, size_t panel, int step, int v)
{
    return get(w + (size_t)(v / VECTORS) * panel + (step * VECTORS + v % VECTORS) * 32);
}

INLINE void sums_q8(__m256i *sum, int rows, int width, const struct quant_group *x, size_t ldx,
                    const char *w, size_t panel)
{
    const __m256i ones = _mm256_set1_epi16(1);
    no_sums(sum, rows * width);
#pragma GCC unroll 4
    for (int s = 0; s < QUANT_GROUP / 4; s++)
#pragma GCC unroll 8
        for (int v = 0; v < width; v++) {
            __m256i weights = weights_at(w, panel, s, v), size = _mm256_abs_epi8(weights);
#pragma GCC unroll 5
            for (int r = 0; r < rows; r++) {
                __m256i in = everywhere(x[(size_t)r * ldx].q + 4 * s), *to = &sum[r * width + v];
                __m256i pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(in, weights));
                *to = in_order(_mm256_add_epi32(*to, _mm256_madd_epi16(pairs, ones)));
            }
        }
}

/* sum := pairs of sums as they are stored, in 32 bits, and less what stands for 0. */
INLINE void widen_q4(__m256i *sum, int width, int32_t inputs)
{
    __m256i zero = _mm256_set1_epi32(Q4_ZERO * inputs);
#pragma GCC unroll 8
    for (int v = 0; v < width; v++)
        sum[v] = _mm256_sub_epi32(_mm256_madd_epi16(sum[v], _mm256_set1_epi16(1)), zero);
}

/* One panel's part of a step: the low or the high halves of its bytes. */
INLINE void step_q4(__m256i *sum, int rows, int width, const int8_t *x, size_t ldx, const char *w,
                    int half)
{
    __m256i weights[VECTORS];
#pragma GCC unroll 2
    for (int v = 0; v < VECTORS; v++) {
        __m256i both = get(w + v * 32);
        weights[v] =
            _mm256_and_si256(half ? _mm256_srli_epi16(both, 4) : both, _mm256_set1_epi8(15));
    }
#pragma GCC unroll 5
    for (int r = 0; r < rows; r++) {
        __m256i in = everywhere(x + (size_t)r * ldx * sizeof(struct quant_group));
#pragma GCC unroll 2
        for (int v = 0; v < VECTORS; v++) {
            __m256i *to = &sum[r * width + v], pairs = _mm256_maddubs_epi16(weights[v], in);
            *to = in_order(_mm256_add_epi16(*to, pairs));
        }
    }
}

INLINE void sums_q4(__m256i *sum, int rows, int width, const struct quant_group *x, size_t ldx,
                    const char *w, size_t panel)
{
    no_sums(sum, rows * width);
#pragma GCC unroll 4
    for (int s = 0; s < QUANT_GROUP / 8; s++)
#pragma GCC unroll 4
        for (int p = 0; p < width; p += VECTORS)
#pragma GCC unroll 2
            for (int half = 0; half < 2; half++)
                step_q4(sum + p, rows, width, x->q + half * QUANT_GROUP / 2 + 4 * s, ldx,
                        w + (size_t)(p / VECTORS) * panel + s * VECTORS * 32, half);
#pragma GCC unroll 5
    for (int r = 0; r < rows; r++)
        widen_q4(sum + r * width, width, x[(size_t)r * ldx].sum);
}

#include "kernels/cpu/quant_ymm.h"

#include "kernels/cpu/quant_vector.h"

QUANT_FUNCTIONS(avx2)

/* A type at a time, so that each has a loop of its own. */
void avx2_quantise(struct quant_group *to, const void *x, enum dtype type, int n)
{
    if (type == DTYPE_BF16)
        quant_row_of(to, x, DTYPE_BF16, n);
    else if (type == DTYPE_F16)
        quant_row_of(to, x, DTYPE_F16, n);
    else
        quant_row_of(to, x, DTYPE_F32, n);
}
