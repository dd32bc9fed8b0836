/* Weights in fp8 as quant_method fp8 of config.json publishes them: a matrix NAME of type F8_E4M3,
 * and beside it NAME_scale_inv of BF16 or F32, which has a factor for each block of rows and
 * columns (weight_block_size, 128 x 128 as Qwen3 and DeepSeek-V3 publish them; those at the edges
 * may be cut). A weight is its fp8 value times the factor of its block, as transformers
 * dequantises it: both as float32, and rounded to the model's type afterwards. So a checkpoint
 * gives such a matrix as one of F32. For checkpoint.c. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "model/checkpoint.h"

/* What fp8 needs beside the values of a matrix; the tensor `scales` is another of the checkpoint.
 */
struct fp8_scales {
    const struct tensor *scales;
    int64_t block_rows, block_columns;
};

/* Of n tensors sorted by name, make those in fp8 F32, with scales from the arena. The blocks are
 * those that the config.json of `dir` names; with no quantization_config nothing is changed, and
 * who needs a tensor in fp8 refuses it. 0, or STATUS_BAD_FILE: a matrix without its scales, or with
 * other shapes of them. */
struct arena;
int fp8_pair(struct tensor *tensors, size_t n, const char *dir, struct arena *memory);

/* Bytes [first, first + bytes), whole elements, of what a matrix in fp8 is read as. 0 or
 * STATUS_BAD_FILE. For checkpoint_read(). */
int fp8_read(const struct checkpoint *c, const struct tensor *t, uint64_t first, size_t bytes,
             float *out);

float fp8_to_float(uint8_t e4m3); // NaN for 0x7f and 0xff; there is no infinity
