/* Weighted sums over the rows of y at a row's slots (kernels.h, sum_rows), N columns a thread. */
#pragma once

#include "kernels/cuda/number.cuh"

/* N columns, loaded or stored by one instruction; the address must be a multiple of their size. */
template <int N> struct __align__(4 * N) floats
{
    float v[N];
};

template <class T, int N> struct __align__(sizeof(T) * N) numbers
{
    T v[N];
};

struct sum_call {
    const void *y;
    const int32_t *slot;
    const float *weight;
    int k, dim, stride; // slots of a row; width and stride of y's rows
};

enum { PLACES = 4 }; // slots whose rows are loaded together

/* sum += the sum of weight * y over the row's slots, for columns [column, column + N). */
template <class T, int N>
__device__ __forceinline__ void add_places(floats<N> &sum, const sum_call &c, int row, int column)
{
    const int32_t *slot = c.slot + (size_t)row * c.k;
    const float *weight = c.weight + (size_t)row * c.k;
    const T *y = (const T *)c.y + column;
    bool on = true;
    for (int first = 0; first < c.k && on; first += PLACES) {
        numbers<T, N> a[PLACES] = {};
        float w[PLACES];
#pragma unroll
        for (int j = 0; j < PLACES; j++) {
            int at = first + j < c.k ? slot[first + j] : -1;
            on = on && at >= 0;
            w[j] = on ? weight[first + j] : 0;
            if (on)
                a[j] = *(const numbers<T, N> *)(y + (size_t)at * c.stride);
        }
#pragma unroll
        for (int j = 0; j < PLACES; j++)
#pragma unroll
            for (int i = 0; i < N; i++)
                sum.v[i] = fmaf(w[j], to_float(a[j].v[i]), sum.v[i]);
    }
}
