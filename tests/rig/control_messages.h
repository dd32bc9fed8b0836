/* A valid control message of each kind, with numbers at the ends of their ranges. */
#pragma once

#include "kernels/kernels.h"
#include "proto/control.h"
#include "proto/phase.h"

static const int32_t ranks[] = {-1, -1, 1, 65535, 0, 2};

static const struct trace_event marks[] = {
    {0, INT32_MIN, -1, PHASE_OUTSIDE, 0},
    {0, 0, 0, PHASE_AWAIT, 0},
    {1, 7, 0, PHASE_UNPACK, 1},
    {INT64_MAX, INT32_MAX, CONTROL_MAX_LAYERS - 1, PHASE_COUNT - 1, 1},
};
enum { N_MARKS = sizeof marks / sizeof *marks };

static const int32_t output_first[] = {0, 0, 64, INT32_MAX};
static const int32_t copy_cells[] = {0, 0, 2}, copy_ranks[] = {1, CONTROL_MAX_RANKS - 1, 0};
#define COPIES 2, 3, copy_cells, copy_ranks // after two ids of NCCL's
static const int32_t piece_ranks[] = {0, CONTROL_MAX_RANKS - 1};
static const char nccl_ids[2 * CONTROL_NCCL_ID_BYTES] = {1, 0, 2}; // any bytes

#define MIXED                                                                                      \
    {                                                                                              \
        DTYPE_BF16, QUANT_Q8, QUANT_Q4                                                             \
    }
static const struct control valid[] = {
    {.kind = CONTROL_HELLO, .hello = {"1.2 (abc)", "node7", "cpu", 0x80000001, 0x0123456789abcdef}},
    {.kind = CONTROL_SETUP,
     .setup = {31, MIXED, 2, 3, ranks, 2, piece_ranks, 4, output_first, CONTROL_MAX_ROWS,
               CONTROL_MAX_ROWS, "exact", "rows", "on", "model", "off", true, nccl_ids, COPIES}},
    {.kind = CONTROL_READY, .ready = {UINT64_MAX, UINT32_MAX, 1e300}},
    {.kind = CONTROL_STEP, .step = {CONTROL_MAX_ROWS, CONTROL_MAX_ROWS - 1}},
    {.kind = CONTROL_STATS, .stats = {UINT64_MAX, UINT64_MAX - 1, 1ull << 63, 1, 0.1, 1e300}},
    {.kind = CONTROL_FAULT, .fault = {STATUS_LOST_RANK, "no such file: \"x\""}},
    {.kind = CONTROL_STOP},
    {.kind = CONTROL_CLOCK, .clock = {0, INT64_MAX}},
    {.kind = CONTROL_RECORDS, .records = {marks, N_MARKS, UINT64_MAX, 1}},
    {.kind = CONTROL_SPEED, .speed = {31, MIXED, 1e300, 0.5, UINT64_MAX}},
    {.kind = CONTROL_LOGITS, .logits = {CONTROL_MAX_ROWS, TOP_MOST}},
};
enum { N_KINDS = sizeof valid / sizeof *valid };
