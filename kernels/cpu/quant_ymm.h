/* What quant_vector.h needs of registers of 8 lanes. */
#pragma once

INLINE vi either(vi a, vi b)
{
    return _mm256_or_si256(a, b);
}

INLINE vf to_floats(vi v)
{
    return _mm256_cvtepi32_ps(v);
}

INLINE vf halves(const void *from)
{
    return _mm256_cvtph_ps(_mm_loadu_si128(from));
}

INLINE vf fset(float x)
{
    return _mm256_set1_ps(x);
}

INLINE vf fload(const float *from)
{
    return _mm256_loadu_ps(from);
}

INLINE void fstore(float *to, vf v)
{
    _mm256_storeu_ps(to, v);
}

INLINE vf fmul(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}

INLINE vf fadd(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}
