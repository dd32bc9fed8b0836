/* What this machine can do at best, measured now, in this process: the yardstick of every figure.
 */
#pragma once

#include "kernels/device.h"

struct roof {
    char cpu[96];
    enum isa isa;
    int threads;
    double flops;            // FLOP/s of the instruction that matmul uses for this type
    double read_bytes_per_s; // from memory
};

/* The processor's model name, or "unknown". */
void cpu_name(char *name, size_t size);

/* With all cores this process may use. Takes about a second. */
void roof_measure(struct roof *r, enum isa isa, enum dtype type);
