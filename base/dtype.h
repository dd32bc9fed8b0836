/* The three number types of weights, activations and the KV cache, and how they convert.
 * Rounding to a narrower type is to nearest, ties to even; NaN stays NaN. */
#pragma once

#include <stdint.h>
#include <string.h>

/* Marks a function that the kernels of a GPU call as well as the host. */
#ifdef __CUDACC__
#define DEVICE_TOO __host__ __device__
#else
#define DEVICE_TOO
#endif

enum dtype { DTYPE_F32, DTYPE_F16, DTYPE_BF16 };

typedef uint16_t bf16; // the upper half of a float
typedef uint16_t f16;  // IEEE binary16

static inline DEVICE_TOO int dtype_bytes(enum dtype t)
{
    return t == DTYPE_F32 ? 4 : 2;
}

static inline const char *dtype_name(enum dtype t)
{
    static const char *const names[] = {"f32", "f16", "bf16"};
    return names[t];
}

static inline DEVICE_TOO float bits_to_float(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

static inline DEVICE_TOO uint32_t float_to_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, 4);
    return bits;
}

static inline DEVICE_TOO float bf16_to_float(bf16 h)
{
    return bits_to_float((uint32_t)h << 16);
}

static inline DEVICE_TOO bf16 float_to_bf16(float f)
{
    uint32_t bits = float_to_bits(f);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (bf16)(bits >> 16 | 0x40);
    return (bf16)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline DEVICE_TOO float f16_to_float(f16 h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, magnitude = h & 0x7fff;
    if (magnitude >= 0x7c00) // infinity or NaN
        return bits_to_float(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);
    // read the f16's bits as a float's, then multiply by 2^(127 - 15), the difference of the two
    // exponent biases; this is right for subnormals, too
    float scaled = bits_to_float(magnitude << 13) * 0x1p112f;
    return bits_to_float(sign | float_to_bits(scaled));
}

static inline DEVICE_TOO f16 float_to_f16(float f)
{
    uint32_t bits = float_to_bits(f), magnitude = bits & 0x7fffffff;
    f16 sign = (f16)(bits >> 16 & 0x8000);
    if (magnitude > 0x7f800000)
        return sign | 0x7e00;
    if (magnitude >= 0x477ff000) // rounds to 65536 or more
        return sign | 0x7c00;
    if (magnitude < 0x38800000) { // subnormal: adding 0.5 leaves the rounded value in the low bits
        float sum = bits_to_float(magnitude) + 0.5f;
        return sign | (f16)(float_to_bits(sum) - float_to_bits(0.5f));
    }
    uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
    return sign | (f16)((rounded - 0x38000000) >> 13);
}

/* Element i of an array of type t that may be unaligned (a mapped file). */
static inline DEVICE_TOO float dtype_load(enum dtype t, const void *array, size_t i)
{
    const char *at = (const char *)array + i * (size_t)dtype_bytes(t);
    uint32_t word;
    uint16_t half;
    if (t == DTYPE_F32) {
        memcpy(&word, at, 4);
        return bits_to_float(word);
    }
    memcpy(&half, at, 2);
    return t == DTYPE_BF16 ? bf16_to_float(half) : f16_to_float(half);
}

/* Element i of an aligned array of type t := f, rounded. */
static inline DEVICE_TOO void dtype_store(enum dtype t, void *array, size_t i, float f)
{
    if (t == DTYPE_F32)
        ((float *)array)[i] = f;
    else
        ((uint16_t *)array)[i] = t == DTYPE_BF16 ? float_to_bf16(f) : float_to_f16(f);
}

static inline DEVICE_TOO float dtype_round(enum dtype t, float f)
{
    if (t == DTYPE_F32)
        return f;
    return t == DTYPE_BF16 ? bf16_to_float(float_to_bf16(f)) : f16_to_float(float_to_f16(f));
}
