/* Shapes and error bounds of the primitives. Tests and benchmarks use the same ones.
 *
 * A test computes the formula of a primitive in double precision, from the rounded inputs that the
 * device gets, and the sum of the absolute values of the terms that make up a result. The error
 * bound is a multiple of that sum. Every device and instruction set keeps the bound against the
 * formula, so two of them differ by at most twice the bound. Allowed are: for a sum of k terms in
 * f32, 4 sqrt(k) roundings of 2^-24 (k roundings would be the worst case); for rounding to the
 * model's type, half a unit in its last place; for exp and what is computed from it, EXP_ROUNDINGS
 * roundings. Results below CASE_TINY may be flushed to zero. */
#pragma once

#include <math.h>
#include <stdbool.h>

#include "base/quant.h"

#define CASE_TINY 1e-34

enum { EXP_ROUNDINGS = 4 };

/* The relative error of one rounding to a type. */
static inline double case_epsilon(enum dtype type)
{
    static const double eps[] = {
        [DTYPE_F32] = 0x1p-24, [DTYPE_F16] = 0x1p-11, [DTYPE_BF16] = 0x1p-8};
    return eps[type];
}

/* The error of a sum of k products, relative to the sum of their absolute values. */
static inline double case_sum_bound(int k)
{
    return 4 * sqrt(k + 1.0) * 0x1p-24;
}

/* How far a weight may be from what it is quantised to, in scales: half a step, and a step where q4
 * has cut it off at its highest integer. How far an input of a quantised row may be. Both with some
 * rounding of f32. */
static inline double case_weight_steps(enum quant q, int integer)
{
    return (q == QUANT_Q4 && integer == 7 ? 1 : 0.5) + 127 * 0x1p-22;
}
#define CASE_INPUT_STEPS (0.5 + 127 * 0x1p-22)

/* y [rows][n] = x [rows][k] w^T */
struct matmul_case {
    int rows, n, k;
    bool bias;
};

static const struct matmul_case matmul_cases[] = {
    {1, 1, 10, false},     {1, 33, 31, true},     {2, 16, 32, false},     {3, 61, 40, true},
    {4, 17, 192, false},   {5, 64, 192, true},    {6, 130, 40, false},    {7, 48, 33, false},
    {16, 60, 2048, false}, {33, 96, 192, true},   {50, 200, 1408, false}, {1, 300, 2048, false},
    {20, 70, 100, true},   {230, 1200, 33, true}, // the last is too much for caches
};

/* A call of ffn with `runs` experts. They get 1, 2, ... most_rows rows, then again from 1. */
struct ffn_case {
    int runs, most_rows, width, dim;
};

static const struct ffn_case ffn_cases[] = {
    {1, 1, 40, 10},   {3, 2, 31, 33},   {4, 1, 96, 192},   {5, 7, 40, 40},
    {3, 33, 64, 128}, {2, 3, 1408, 64}, {2, 140, 40, 150},
};

/* Attention of n rows in each of `sequences` sequences; the last row is at position context - 1.
 * Heads of 144 are here for the GPU: in a 16-bit type, decode attention's static and dynamic shared
 * memory together are then more than 48 KiB, while each by itself is less. */
struct attention_case {
    int head_dim, n_heads, n_kv_heads, sequences, n, context;
};

static const struct attention_case attention_cases[] = {
    {8, 2, 2, 1, 1, 1},       {10, 4, 2, 1, 5, 63},   {32, 4, 1, 2, 3, 64},
    {64, 2, 2, 1, 33, 65},    {128, 4, 4, 2, 1, 200}, {64, 8, 2, 3, 40, 130},
    {128, 2, 1, 1, 16, 1500}, {10, 40, 1, 1, 2, 70},  {128, 16, 16, 1, 70, 70},
    {144, 8, 2, 1, 3, 70},
};

/* Widths and numbers of rows for the primitives that work row by row. */
static const int row_widths[] = {1, 8, 10, 31, 32, 40, 192, 1408, 2048};
static const int row_counts[] = {1, 2, 3, 5, 6, 7, 16, 33};

/* Routing that chooses k of n_experts. */
struct route_case {
    int n_experts, k;
};

static const struct route_case route_cases[] = {{1, 1}, {8, 2}, {60, 4}, {64, 8}, {13, 13}};

/* Inputs for exp, silu and softmax: zeros, tiny and huge values, and the limits of exp in f32. */
static const float extreme_values[] = {0.0f,   -0.0f,   1e-30f, -1e-30f, 1.0f,  -1.0f,
                                       20.0f,  -20.0f,  87.0f,  -87.0f,  88.5f, -88.5f,
                                       104.0f, -104.0f, 1e4f,   -1e4f,   3e38f, -3e38f};
