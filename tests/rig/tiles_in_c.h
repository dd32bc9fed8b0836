/* The inner loops of ISA_AMX and ISA_AVX512 where no such processor is at hand: kernels/cpu/amx.c
 * and quant_amx.c, and quant_avx512.c, compiled with the few instructions that they use in plain C;
 * everything else from isa_plain. */
#pragma once

#include "kernels/cpu/isa.h"

const struct cpu_isa *tiles_in_c(void);
const struct cpu_isa *vnni_in_c(void);
