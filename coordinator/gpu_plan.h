/* For planning a run: how much of a model fits a GPU of so many bytes, and what a token costs when
 * the other experts are on processors. */
#pragma once

#include <stdbool.h>

#include "model/memory_plan.h"

/* Rank 0 has the GPU, the other ranks compute on processors. read_here, read_there and rows are
 * bytes for one token, in a step of one token: weights read on the GPU and by the other ranks, if
 * all experts are equally likely; and rows that travel to the other ranks and back, at most (a row
 * goes only once to a rank with several of its experts). Copies of experts take memory, but a step
 * of one token reads first copies only. */
struct gpu_plan {
    uint64_t bytes;     // needed on the GPU in all
    uint64_t workspace; // of these, what is neither weights nor KV cache
    bool fits;
    double read_here, read_there, rows;
};
struct gpu_plan gpu_plan_of(const struct memory_plan *p, uint64_t gpu_memory);

/* The most experts of each layer that fit on the GPU beside all else; -1: all else does not fit. */
int gpu_home_most(const struct memory_plan *p, uint64_t gpu_memory);
