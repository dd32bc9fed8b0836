/* __half as far as we use it. C++ only. */
#pragma once

#include "half_types.h"

EMULATED_HALF(__half, __half2, f16_to_float, float_to_f16)

inline float __half2float(__half h)
{
    return h;
}

inline __half __float2half(float f)
{
    return __half(f);
}

inline __half __float2half_rn(float f)
{
    return __half(f);
}

inline unsigned short __half_as_ushort(__half h)
{
    return h.bits;
}

inline __half __ushort_as_half(unsigned short bits)
{
    __half h;
    h.bits = bits;
    return h;
}

inline __half2 __halves2half2(__half low, __half high)
{
    return __half2(low, high);
}

inline __half2 __floats2half2_rn(float low, float high)
{
    return __half2(__half(low), __half(high));
}

inline __half2 __float22half2_rn(float2 v)
{
    return __floats2half2_rn(v.x, v.y);
}

inline float2 __half22float2(__half2 v)
{
    return make_float2(v.x, v.y);
}
