/* The inner loops of ISA_AMX where no processor with AMX is at hand: kernels/cpu/amx.c compiled
 * with the few tile instructions that it uses in plain C, everything else from isa_plain. */
#pragma once

#include "kernels/cpu/isa.h"

const struct cpu_isa *tiles_in_c(void);
