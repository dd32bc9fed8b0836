/* What products share on the host's side. */
#pragma once

#include "kernels/cuda/cuda.h"

/* Up to so many rows a product's weights are streamed; FEW_ROWS fit the smaller kernel. */
enum { STREAM_ROWS = CUDA_JOINT_ROWS, FEW_ROWS = 8 };

/* y [n][ldy] of y_type := x w^T + beta y by cuBLAS, in f32 sums; beta 0 or 1. No bias. */
void blas_product(struct dev *d, void *y, enum dtype y_type, int ldy, const void *x,
                  const struct matrix *w, int n, float beta);

static inline int blocks_for(size_t items, int each)
{
    return (int)((items + (size_t)each - 1) / (size_t)each);
}
