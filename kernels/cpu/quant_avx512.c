/* Quantised products on AVX-512 with VNNI: the same bits as plain.c. */
#ifndef EPMOE_VNNI_GIVEN // tests/rig/vnni_in_c.c gives the instructions in plain C
#include <immintrin.h>
#endif

#include "kernels/cpu/quant.h"

enum {
    LANES = 16,
    VECTORS = PANEL / LANES,
    MAX_ROWS = 8,
    MOST_SUMS = MAX_ROWS // enough for one row of GROUP panels, too
};
typedef __m512i vi;
typedef __m512 vf;

#define INLINE static inline __attribute__((always_inline))

INLINE vi iload(const void *from)
{
    return _mm512_loadu_si512(from);
}

INLINE vi iset(int32_t x)
{
    return _mm512_set1_epi32(x);
}

INLINE vi iand(vi a, vi b)
{
    return _mm512_and_si512(a, b);
}

INLINE vi ixor(vi a, vi b)
{
    return _mm512_xor_si512(a, b);
}

INLINE vi high_halves(vi v)
{
    return _mm512_srli_epi32(v, 4);
}

INLINE vi dot(vi sum, vi a, vi b)
{
    return _mm512_dpbusd_epi32(sum, a, b);
}

INLINE vi either(vi a, vi b)
{
    return _mm512_or_si512(a, b);
}

INLINE vf to_floats(vi v)
{
    return _mm512_cvtepi32_ps(v);
}

INLINE vf halves(const void *from)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256(from));
}

INLINE vf fset(float x)
{
    return _mm512_set1_ps(x);
}

INLINE vf fload(const float *from)
{
    return _mm512_loadu_ps(from);
}

INLINE void fstore(float *to, vf v)
{
    _mm512_storeu_ps(to, v);
}

INLINE vf fmul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}

INLINE vf fadd(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}

#include "kernels/cpu/quant_vnni.h"

QUANT_FUNCTIONS(avx512)
