/* How much memory of a GPU or of this host a run needs, and whether there is as much. Asked before
 * a byte is loaded, and by commands that only plan a run (gpu_need). */
#pragma once

#include "coordinator/coordinator.h"
#include "model/memory_plan.h"

/* Memory that no list of buffers has: what cuBLAS, NCCL and recorded graphs take while they run,
 * what kernels take when they are first loaded, and what an allocator rounds up. */
enum { GPU_SPARE_BYTES = 256 << 20 };

/* Bytes that a run needs on rank 0's GPU; others: what workers that share the GPU need. */
struct gpu_need {
    uint64_t weights, experts, kv, workspace, others;
};

/* What p needs on rank 0's GPU; `others` is 0. limits: those of a run that starts, whose CUDA
 * context has its memory already. NULL: the run is only planned, on a GPU that nobody uses yet, and
 * the size of its steps is not known. The workspace is then four times GPU_SPARE_BYTES: one for the
 * spare, one for CUDA's context, two for the buffers of a step. */
struct gpu_need gpu_need(const struct memory_plan *p, const struct state_limits *limits);
uint64_t gpu_need_bytes(const struct gpu_need *need); // their sum

/* Bytes for experts and pieces in the memory of rank 0's device: rank 0's equal share of what is
 * free among the ranks that use this memory, less all else that rank 0 needs; at least 1. c->dev
 * must be open. */
uint64_t fit_room(struct coordinator *c, const struct coordinator_options *o);

/* Does the run fit? 0, or STATUS_FAILED after fail() has told what is needed, item by item, what is
 * free, and what would fit. Without a GPU this is about all ranks of this host together. c->dev
 * must be open and c->placement made. */
int fit_check(struct coordinator *c, const struct coordinator_options *o);
