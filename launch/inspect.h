/* What epmoe inspect has found out: inspect.c fills it in, inspect_text.c and inspect_json.c print
 * it. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "coordinator/gpu_plan.h"
#include "model/weight_files.h"

struct inspection {
    const char *name;
    struct weight_files weights;
    struct memory_plan plan;
    const char *rule;    // of the placement: "even", "round-robin" or a file
    uint64_t gpu_memory; // of rank 0's GPU, in bytes; 0: the user has not asked about a GPU
};

/* Print as text, or as one JSON object; false when the stream failed. */
void inspect_print(const struct inspection *i, FILE *out);
bool inspect_print_json(const struct inspection *i, FILE *out);
