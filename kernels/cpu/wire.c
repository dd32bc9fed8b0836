/* Rows in the narrower forms that they have on the wire. These loops are written once for all
 * instruction sets: each operation on an element is exact or is rounded once, so the compiler can
 * vectorise them without changing a bit. */
#include "kernels/cpu/cpu.h"

#define INLINE static inline __attribute__((always_inline))

enum { ERROR_LANES = 32 };

INLINE float element(enum dtype type, const void *row, int i)
{
    if (type == DTYPE_F32)
        return ((const float *)row)[i];
    uint16_t half = ((const uint16_t *)row)[i];
    return type == DTYPE_BF16 ? bf16_to_float(half) : f16_to_float(half);
}

/* The bits of positive floats, read as integers, have the order of the floats, with infinity and
 * then NaN above all numbers. */
INLINE float largest_magnitude(const void *row, enum dtype type, int width)
{
    int32_t most = 0;
    for (int i = 0; i < width; i++) {
        int32_t bits = (int32_t)(float_to_bits(element(type, row, i)) & 0x7fffffff);
        most = bits > most ? bits : most;
    }
    return bits_to_float((uint32_t)most);
}

/* The integer nearest to v, ties to even, within +-127: v + 1.5 * 2^23 has it in its low bits. */
INLINE int8_t nearest(float v)
{
    v = v > 127 ? 127 : v;
    v = v < -127 ? -127 : v;
    return (int8_t)(int32_t)(float_to_bits(v + 0x1.8p23f) - 0x4b400000);
}

INLINE void to_int8(char *to, const void *row, enum dtype type, int width)
{
    float largest = largest_magnitude(row, type, width), scale = largest / 127;
    int8_t *q = (int8_t *)to + sizeof scale;
    int used = scale > 0 && largest <= 0x1.fffffep127f ? width : 0; // else q is all zeros
    for (int i = 0; i < used; i++)
        q[i] = nearest(element(type, row, i) / scale);
    memset(q + used, 0, (size_t)(row_stride(width) - used));
    memcpy(to, &scale, sizeof scale);
}

INLINE void from_int8(void *row, enum dtype type, const char *from, int width)
{
    float scale;
    memcpy(&scale, from, sizeof scale);
    const int8_t *q = (const int8_t *)from + sizeof scale;
    for (int i = 0; i < width; i++)
        dtype_store(type, row, (size_t)i, (float)q[i] * scale);
}

INLINE void to_bf16(void *to, const void *row, enum dtype type, int width)
{
    for (int i = 0; i < width; i++)
        ((bf16 *)to)[i] = float_to_bf16(element(type, row, i));
    memset((bf16 *)to + width, 0, (size_t)(row_stride(width) - width) * sizeof(bf16));
}

INLINE void from_bf16(void *row, enum dtype type, const void *from, int width)
{
    for (int i = 0; i < width; i++)
        dtype_store(type, row, (size_t)i, bf16_to_float(((const bf16 *)from)[i]));
}

/* The value that the receiver will have for element i. */
INLINE float arrived(enum wire wire, enum dtype type, const char *from, float scale, int i)
{
    if (wire == WIRE_BF16)
        return dtype_round(type, bf16_to_float(((const bf16 *)(const void *)from)[i]));
    return dtype_round(type, (float)((const int8_t *)from + sizeof scale)[i] * scale);
}

/* Add the row's sums of squares and of squared errors. There are ERROR_LANES partial sums of each,
 * so that an addition does not wait for the one before. */
INLINE void measure(double *squares, double *errors, enum wire wire, const char *to,
                    const void *row, enum dtype type, int width)
{
    float square[ERROR_LANES] = {0}, error[ERROR_LANES] = {0}, scale;
    memcpy(&scale, to, sizeof scale);
    for (int first = 0; first < width; first += ERROR_LANES) {
        int lanes = width - first < ERROR_LANES ? width - first : ERROR_LANES;
        for (int lane = 0; lane < lanes; lane++) {
            float x = element(type, row, first + lane);
            float gone = x - arrived(wire, type, to, scale, first + lane);
            square[lane] += x * x;
            error[lane] += gone * gone;
        }
    }
    for (int lane = 0; lane < ERROR_LANES; lane++) {
        *squares += (double)square[lane];
        *errors += (double)error[lane];
    }
}

INLINE void narrow_row(char *to, enum wire wire, const void *row, enum dtype type, int width)
{
    if (wire == WIRE_MODEL)
        memcpy(to, row, row_bytes(type, width));
    else if (wire == WIRE_BF16)
        to_bf16(to, row, type, width);
    else
        to_int8(to, row, type, width);
}

INLINE void widen_row(char *row, enum dtype type, const char *from, enum wire wire, int width)
{
    size_t used = (size_t)width * (size_t)dtype_bytes(type), bytes = row_bytes(type, width);
    if (wire == WIRE_MODEL) {
        memcpy(row, from, bytes);
        return;
    }
    if (wire == WIRE_BF16)
        from_bf16(row, type, from, width);
    else
        from_int8(row, type, from, width);
    memset(row + used, 0, bytes - used);
}

/* narrow_row and measure with the type as a constant. */
static void narrow_one(char *to, enum wire wire, const void *row, enum dtype type, int width,
                       double *squares, double *errors)
{
#define CASE(t)                                                                                    \
    case t:                                                                                        \
        narrow_row(to, wire, row, t, width);                                                       \
        if (wire != WIRE_MODEL)                                                                    \
            measure(squares, errors, wire, to, row, t, width);                                     \
        break
    switch (type) {
        CASE(DTYPE_F32);
        CASE(DTYPE_F16);
        CASE(DTYPE_BF16);
    }
#undef CASE
}

void cpu_narrow(struct dev *d, void *to, enum wire wire, const void *rows, enum dtype type, int n,
                int width, struct wire_error *error)
{
    size_t from_bytes = row_bytes(type, width), to_bytes = wire_row_bytes(wire, type, width);
    int threads = team_size(d, 4.0 * (double)n * (double)from_bytes);
    double squares = 0, errors = 0;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)                    \
    reduction(+ : squares, errors)
    for (int i = 0; i < n; i++)
        narrow_one((char *)to + (size_t)i * to_bytes, wire,
                   (const char *)rows + (size_t)i * from_bytes, type, width, &squares, &errors);
    error->squares += squares;
    error->errors += errors;
}

void cpu_widen(struct dev *d, void *rows, enum dtype type, const void *from, enum wire wire, int n,
               int width)
{
    size_t to_bytes = row_bytes(type, width), from_bytes = wire_row_bytes(wire, type, width);
    int threads = team_size(d, 2.0 * (double)n * (double)to_bytes);
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int i = 0; i < n; i++) {
        char *row = (char *)rows + (size_t)i * to_bytes;
        const char *source = (const char *)from + (size_t)i * from_bytes;
        if (type == DTYPE_F32)
            widen_row(row, DTYPE_F32, source, wire, width);
        else if (type == DTYPE_F16)
            widen_row(row, DTYPE_F16, source, wire, width);
        else
            widen_row(row, DTYPE_BF16, source, wire, width);
    }
}
