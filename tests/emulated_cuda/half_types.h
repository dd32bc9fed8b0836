/* What bf16 and fp16 have in common: EMULATED_HALF declares one of them, under NVIDIA's names.
 * Conversions are those of base/dtype.h; arithmetic is in float, then rounded, as the hardware's.
 */
#pragma once

#include <math.h>

#include "base/dtype.h"
#include "vector_types.h"

#define EMULATED_HALF(type, type2, widen, narrow)                                                  \
    struct type {                                                                                  \
        unsigned short bits;                                                                       \
        type() = default;                                                                          \
        explicit type(float f) : bits(narrow(f))                                                   \
        {                                                                                          \
        }                                                                                          \
        operator float() const                                                                     \
        {                                                                                          \
            return widen(bits);                                                                    \
        }                                                                                          \
    };                                                                                             \
    struct EMULATED_ALIGN(4) type2 {                                                               \
        type x, y;                                                                                 \
        type2() = default;                                                                         \
        type2(type low, type high) : x(low), y(high)                                               \
        {                                                                                          \
        }                                                                                          \
    };                                                                                             \
    inline type __hadd(type a, type b)                                                             \
    {                                                                                              \
        return type((float)a + (float)b);                                                          \
    }                                                                                              \
    inline type __hsub(type a, type b)                                                             \
    {                                                                                              \
        return type((float)a - (float)b);                                                          \
    }                                                                                              \
    inline type __hmul(type a, type b)                                                             \
    {                                                                                              \
        return type((float)a * (float)b);                                                          \
    }                                                                                              \
    inline type __hfma(type a, type b, type c)                                                     \
    {                                                                                              \
        return type(fmaf((float)a, (float)b, (float)c));                                           \
    }                                                                                              \
    inline bool __hgt(type a, type b)                                                              \
    {                                                                                              \
        return (float)a > (float)b;                                                                \
    }                                                                                              \
    inline type __hmax(type a, type b)                                                             \
    {                                                                                              \
        return type(fmaxf((float)a, (float)b));                                                    \
    }                                                                                              \
    inline type2 __hadd2(type2 a, type2 b)                                                         \
    {                                                                                              \
        return type2(__hadd(a.x, b.x), __hadd(a.y, b.y));                                          \
    }                                                                                              \
    inline type2 __hmul2(type2 a, type2 b)                                                         \
    {                                                                                              \
        return type2(__hmul(a.x, b.x), __hmul(a.y, b.y));                                          \
    }                                                                                              \
    inline type2 __hfma2(type2 a, type2 b, type2 c)                                                \
    {                                                                                              \
        return type2(__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y));                                \
    }                                                                                              \
    inline float __low2float(type2 v)                                                              \
    {                                                                                              \
        return v.x;                                                                                \
    }                                                                                              \
    inline float __high2float(type2 v)                                                             \
    {                                                                                              \
        return v.y;                                                                                \
    }
