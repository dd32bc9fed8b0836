/* What pack.cu and quant_pack.cu share. */
#pragma once

#include "kernels/cuda/cuda.h"

enum { PACK_THREADS = 256 };

/* Source row r goes to row (first + r) * step + offset of the matrix. If that is quantised, it
 * becomes output (first + r) of the matrix that every step-th panel, from panel `offset` on, makes.
 */
struct placing {
    int first, step, offset;
};

/* Rows of the source in device memory: `columns` numbers of each, `pitch` from one to the next. */
struct staged_rows {
    enum dtype type;
    const void *data;
    int rows, columns, pitch;
};

/* quant_pack.cu: quantise rows and put them in their places. */
void quant_place_rows(struct dev *d, const struct matrix *w, const staged_rows &from, placing at);
