/* What ffn.cu (jobs of few rows) and ffn_many.cu (jobs of many rows) share. Here a "block" of a
 * list is one of its ffns. */
#pragma once

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/number.cuh"

/* The weights of one block of a list, on the device. */
struct ffn_weights {
    const void *gate_up, *down;
};

struct quant_inputs; // quant.cuh

/* A job as kernels read it. dim_stride and width_stride are the strides, in elements, of rows of
 * width dim (x and y) and of hidden rows. */
struct ffn_part {
    const ffn_weights *blocks; // [n_blocks]
    const int32_t *count;      // [n_blocks] or NULL
    const int32_t *source;     // [n] or NULL
    const void *x;
    void *hidden, *y; // hidden and y have a row for each row and block that it goes through
    int n_blocks, n;
    int dim, dim_stride, width_stride;
    bool y_is_f32;
    struct quant_inputs *read, *made; // rows x and hidden rows, quantised; NULL: weights are not
};

__device__ __forceinline__ float swiglu(float gate, float up)
{
    return gate / (1 + expf(-gate)) * up;
}

/* Element i of an array of floats (as_f32) or of T := x. */
template <class T> __device__ __forceinline__ void put(void *array, size_t i, float x, bool as_f32)
{
    if (as_f32)
        ((float *)array)[i] = x;
    else
        set((T *)array + i, x);
}

/* Rows of y, with count: at most. */
static inline int ffn_rows(const struct ffn_job *job)
{
    return job->count ? job->n : job->n * job->list->n;
}

static inline const struct ffn *ffn_shape(const struct ffn_job *job)
{
    return &job->list->ffns[0];
}

/* Bytes of a job's hidden rows; the job as kernels read it, with its hidden rows at `hidden`. */
size_t ffn_hidden_bytes(const struct ffn_job *job);
ffn_part ffn_part_of(const struct ffn_job *job, void *hidden);

/* Run a job of many rows. In f32 the job may have neither count nor source. */
void ffn_many(struct dev *d, const struct ffn_job *job);
/* Bytes of scratch that ffn_many() needs for a job without count and source. */
size_t ffn_dense_bytes(const struct dev *d, enum dtype type, int rows, int width);
