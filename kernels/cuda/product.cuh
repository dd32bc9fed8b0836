/* What matmul.cu and the ffn files share on the host's side. */
#pragma once

#include "kernels/cuda/cuda.h"

/* Products of at most STREAM_ROWS rows go to stream.cuh; with at most FEW_ROWS rows they use its
 * kernel of one fragment of rows, with more rows the one of four. */
enum { STREAM_ROWS = CUDA_JOINT_FFN_MAX_ROWS, FEW_ROWS = 8 };

/* y [n][ldy] of y_type := x w^T + beta y by cuBLAS, with sums in f32; beta is 0 or 1. No bias. */
void blas_product(struct dev *d, void *y, enum dtype y_type, int ldy, const void *x,
                  const struct matrix *w, int n, float beta);

static inline int blocks_for(size_t items, int each)
{
    return (int)((items + (size_t)each - 1) / (size_t)each);
}
