/* Attention of rows that share no keys, as in decode: what limits it is reading the keys and values
 * of every row. See decode.cu. */
#pragma once

#include "kernels/cuda/cuda.h"

/* How much scratch decode_attention() needs to be as fast as it can be, in bytes. */
size_t decode_scratch_bytes(const struct dev_limits *limits);

/* attention() of the rows [first, first + n) of a call. */
void decode_attention(struct dev *d, void *a, const void *q, const struct kv_layer *kv,
                      const struct positions *at, int first, int n, int n_heads);
