/* How much memory a run needs, of a GPU or of this host, and whether there is as much: asked before
 * a byte is loaded, and by who plans a run. */
#pragma once

#include "coordinator/coordinator.h"
#include "model/memory_plan.h"

/* Memory that no list of buffers has: what cuBLAS, NCCL and recorded graphs take while they run,
 * what kernels take when they are first loaded, and what an allocator rounds up. */
enum { GPU_SPARE_BYTES = 256 << 20 };

/* What is to lie on rank 0's GPU; others: workers that share it. */
struct gpu_need {
    uint64_t weights, experts, kv, workspace, others;
};

/* limits: of a run that starts, where CUDA's context has its memory already. NULL: of a run that is
 * only planned, on a GPU that nobody uses yet. How large its steps will be is not known, so the
 * workspace is four times the spare: once the spare itself, once for CUDA's context, twice for the
 * buffers of a step. */
struct gpu_need gpu_need(const struct memory_plan *p, const struct state_limits *limits);
uint64_t gpu_need_bytes(const struct gpu_need *need); // their sum

/* What is left of the memory of rank 0's device for experts and pieces beside all else that a run
 * needs, the ranks that share it having as much each; at least 1. Wants an open device. */
uint64_t fit_room(struct coordinator *c, const struct coordinator_options *o);

/* 0, or STATUS_FAILED with the sum that shows why not, and what would fit. Without a GPU it asks
 * about all ranks of this host. Wants an open device and a placement. */
int fit_check(struct coordinator *c, const struct coordinator_options *o);
