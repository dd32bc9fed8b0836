/* What epmoe inspect has found out, between the part that looks and the parts that print. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "coordinator/gpu_plan.h"
#include "launch/forecast.h"
#include "model/weight_files.h"

struct inspection {
    const char *name;
    struct weight_files weights;
    struct memory_plan plan;
    const char *rule;         // "balanced", "even", "round-robin" or a file
    int home;                 // with gpu_memory: --home, if the rule goes by it; else -1
    uint64_t gpu_memory;      // of rank 0's GPU; 0: none was asked about
    struct forecast forecast; // made where there are several ranks, and their speeds are known
};

void inspect_print(const struct inspection *i, FILE *out);
bool inspect_print_json(const struct inspection *i, FILE *out);
