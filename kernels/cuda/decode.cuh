/* Attention of rows that are each by themselves: every row reads its own keys, so there is nothing
 * to share but bandwidth. See decode.cu. */
#pragma once

#include "kernels/cuda/cuda.h"

/* Bytes of scratch that lets decode_attention() do as well as it can. */
size_t decode_scratch_bytes(const struct dev_limits *limits);

/* attention() of rows [first, first + n) of a call, by splitting the context. */
void decode_attention(struct dev *d, void *a, const void *q, const struct kv_layer *kv,
                      const struct positions *at, int first, int n, int n_heads);
