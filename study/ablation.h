/* Where the speed comes from: a model is run the way that made it slow, then with one change after
 * the other, always with the same prompt and the same forced tokens (bench --ablation).
 *
 * The stages differ in what the coordinator was opened with (how weights lie in memory, their type)
 * and in what can be changed between two steps. So the caller opens a coordinator for each load, in
 * their order, and ablation_run() measures the stages of that load. */
#pragma once

#include <stdio.h>

#include "study/bench.h"

/* A row of the table. */
struct ablation_row {
    const char *change; // what is different from the row before
    const char *isa;
    enum dtype dtype;
    int threads, step_rows, batch; // step_rows: prompt tokens of a step
    bool dense;                    // another model, beside the others
    double prefill, decode;        // tokens/s, medians
    double difference; // the greatest difference of the last logits from the first row's, as a
                       // share of their range; < 0: not comparable
};

enum { ABLATION_STEP_ROWS = 4, ABLATION_BATCH = 8, ABLATION_MOST_ROWS = 10 };

enum ablation_load {
    ABLATION_ROWS,   // f32, eager (kernels/device.h)
    ABLATION_PANELS, // f32
    ABLATION_BF16,
    ABLATION_DENSE, // bf16, another model
    ABLATION_LOADS
};

struct ablation_options {
    int prompt, generate, repeats;
    const char *model_name, *dense_name; // dense_name: NULL without one
};

struct ablation_report {
    struct ablation_row rows[ABLATION_MOST_ROWS];
    int n;
    char cpu[96];
    float *first; // [vocab] the last logits of the first row
};

/* Run the stages of a load with c, which has been opened for it, alone on a CPU, for ABLATION_BATCH
 * sequences, and add a row for each. 0, or the status of what failed. Begin with a report that is
 * all zeros, and close it. */
int ablation_run(struct ablation_report *r, struct coordinator *c, const struct ablation_options *o,
                 enum ablation_load load);
void ablation_close(struct ablation_report *r);

void ablation_print(const struct ablation_report *r, const struct ablation_options *o,
                    enum bench_format format, FILE *out);
