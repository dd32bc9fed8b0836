/* What of a model fits a GPU that a run is planned for, and what a token costs when the rest stays
 * with the processors. */
#pragma once

#include <stdbool.h>

#include "model/memory_plan.h"

/* A GPU as rank 0, the other ranks on processors. Per token, in a step of one: weights that are
 * read on the GPU and on the others, if each expert is chosen as often as any other; and rows that
 * travel there and back, at most (a row that several experts of a rank want goes there once). A
 * copy of an expert takes memory on its rank, but a step of one token reads first copies only. */
struct gpu_plan {
    uint64_t bytes, workspace; // of the GPU's memory; workspace is part of it
    bool fits;
    double read_here, read_there, rows; // bytes a token
};
struct gpu_plan gpu_plan_of(const struct memory_plan *p, uint64_t gpu_memory);

/* The most experts of each layer that fit beside all else; -1: that does not fit itself. */
int gpu_home_most(const struct memory_plan *p, uint64_t gpu_memory);
