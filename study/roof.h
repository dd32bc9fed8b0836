/* The best that the rank's device can do, measured in this process. Other figures are printed as
 * shares of it. */
#pragma once

#include "kernels/device.h"

struct roof {
    char cpu[96];
    char gpu[192]; // cuda_describe() if the figures are a GPU's; else ""
    enum isa isa;
    int threads;             // it was measured with
    double flops;            // FLOP/s of the instruction that matmul uses for experts
    double read_bytes_per_s; // from memory; both are 0 if there was no memory left to measure with
};

/* The processor's model name, or "unknown". */
void cpu_name(char *name, size_t size);

/* Measure GPU d. If d is a CPU, measure it with so many threads, and with d's instruction set.
 * Takes about a second. */
void roof_measure(struct roof *r, struct dev *d, int threads, struct precision p);

/* What the machine can do at one moment, which other jobs change. */
struct roof_look {
    double flops, read_bytes_per_s;
};

/* Measure it in some 50 ms, less exactly than *r, whose figures stand in where no memory is left.
 */
struct roof_look roof_look(const struct roof *r, struct dev *d, struct precision p);
