/* What the rank's device can do at best, measured now, in this process: the yardstick of every
 * figure. */
#pragma once

#include "kernels/device.h"

struct roof {
    char cpu[96];
    char gpu[192]; // cuda_describe(), where the figures are a GPU's; else ""
    enum isa isa;
    int threads;
    double flops;            // FLOP/s of the instruction that matmul uses for this type
    double read_bytes_per_s; // from memory; both 0 where no memory was left to measure with
};

/* The processor's model name, or "unknown". */
void cpu_name(char *name, size_t size);

/* Of the GPU d; of the CPU with all cores this process may use, on d's path. Takes about a second.
 */
void roof_measure(struct roof *r, struct dev *d, enum dtype type);
