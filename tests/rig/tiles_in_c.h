/* The inner loops of ISA_AMX, ISA_AVX512 and ISA_AVX_VNNI where no such processor is at hand:
 * kernels/cpu/amx.c and quant_amx.c, quant_avx512.c, and quant_avx_vnni.c, compiled with the few
 * instructions that they use in plain C; everything else from isa_plain. Of the last one only the
 * product of bytes is in plain C: it needs AVX2, and takes everything else from isa_avx2. */
#pragma once

#include "kernels/cpu/isa.h"

const struct cpu_isa *tiles_in_c(void);
const struct cpu_isa *vnni_in_c(void);
const struct cpu_isa *avx_vnni_in_c(void);

/* What vpdpbusd adds to a lane: four products, of bytes of u without a sign and bytes of s with
 * one. */
static inline uint32_t four_products(uint32_t u, uint32_t s)
{
    int32_t sum = 0;
    for (int i = 0; i < 32; i += 8)
        sum += (int32_t)(uint8_t)(u >> i) * (int8_t)(uint8_t)(s >> i);
    return (uint32_t)sum;
}
