/* Quantised products on AVX2 with VNNI (AVX-VNNI: processors without AVX-512 have it): the same
 * bits as plain.c. */
#include <immintrin.h>

#include "kernels/cpu/quant.h"

enum {
    LANES = 8,
    VECTORS = PANEL / LANES,
    MAX_ROWS = 6,
    MOST_SUMS = MAX_ROWS * VECTORS // enough for one row of GROUP panels, too
};
typedef __m256i vi;
typedef __m256 vf;

#define INLINE static inline __attribute__((always_inline))

INLINE vi iload(const void *from)
{
    return _mm256_loadu_si256(from);
}

INLINE vi iset(int32_t x)
{
    return _mm256_set1_epi32(x);
}

INLINE vi iand(vi a, vi b)
{
    return _mm256_and_si256(a, b);
}

INLINE vi ixor(vi a, vi b)
{
    return _mm256_xor_si256(a, b);
}

INLINE vi high_halves(vi v)
{
    return _mm256_srli_epi32(v, 4);
}

#ifndef EPMOE_DOT_GIVEN // tests/rig/avx_vnni_in_c.c gives the instruction in plain C
INLINE vi dot(vi sum, vi a, vi b)
{
    return _mm256_dpbusd_avx_epi32(sum, a, b);
}
#endif

#include "kernels/cpu/quant_ymm.h"

#include "kernels/cpu/quant_vnni.h"

QUANT_FUNCTIONS(avx_vnni)
