/* __nv_bfloat16 as far as we use it. C++ only. */
#pragma once

#include "half_types.h"

EMULATED_HALF(__nv_bfloat16, __nv_bfloat162, bf16_to_float, float_to_bf16)

inline float __bfloat162float(__nv_bfloat16 h)
{
    return h;
}

inline __nv_bfloat16 __float2bfloat16(float f)
{
    return __nv_bfloat16(f);
}

inline __nv_bfloat16 __float2bfloat16_rn(float f)
{
    return __nv_bfloat16(f);
}

inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 h)
{
    return h.bits;
}

inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits)
{
    __nv_bfloat16 h;
    h.bits = bits;
    return h;
}

inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 low, __nv_bfloat16 high)
{
    return __nv_bfloat162(low, high);
}

inline __nv_bfloat162 __floats2bfloat162_rn(float low, float high)
{
    return __nv_bfloat162(__nv_bfloat16(low), __nv_bfloat16(high));
}

inline __nv_bfloat162 __float22bfloat162_rn(float2 v)
{
    return __floats2bfloat162_rn(v.x, v.y);
}

inline float2 __bfloat1622float2(__nv_bfloat162 v)
{
    return make_float2(v.x, v.y);
}
