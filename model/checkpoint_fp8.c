#include "model/checkpoint_fp8.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/check.h"
#include "base/dtype.h"
#include "base/json.h"
#include "base/log.h"

#define SUFFIX "_scale_inv"

enum { SUFFIX_BYTES = sizeof SUFFIX - 1, WIDENED = 4 };

float fp8_to_float(uint8_t e4m3)
{
    int exponent = e4m3 >> 3 & 15, mantissa = e4m3 & 7;
    float magnitude =
        exponent ? ldexpf((float)(8 + mantissa), exponent - 10) : ldexpf((float)mantissa, -9);
    if ((e4m3 & 0x7f) == 0x7f)
        magnitude = NAN;
    return e4m3 & 0x80 ? -magnitude : magnitude;
}

static bool is_fp8(const struct tensor *t)
{
    return strcmp(t->type_name, "F8_E4M3") == 0;
}

/* *rows, *columns := weight_block_size of the config.json of a directory; 0 where it has none. */
static int read_blocks(const char *dir, int64_t *rows, int64_t *columns)
{
    size_t bytes;
    char *text = checkpoint_config(dir, &bytes);
    struct js *root = text ? js_parse(text, bytes, "config.json") : NULL;
    const struct js *size = js_member(js_member(root, "quantization_config"), "weight_block_size");
    *rows = js_int(js_item(size, 0));
    *columns = js_int(js_item(size, 1));
    int status = root ? 0 : STATUS_BAD_FILE;
    js_free(root);
    free(text);
    return status;
}

static int by_name(const void *name, const void *tensor)
{
    return strcmp(name, ((const struct tensor *)tensor)->name);
}

static const struct tensor *find_scales(const struct tensor *tensors, size_t n, const char *weight)
{
    char *name = NULL;
    if (asprintf(&name, "%s" SUFFIX, weight) < 0)
        return NULL;
    const struct tensor *found = bsearch(name, tensors, n, sizeof *tensors, by_name);
    free(name);
    return found;
}

static int64_t blocks(int64_t size, int64_t block)
{
    return size / block + (size % block != 0);
}

static int check_scales(const struct tensor *t, const struct fp8_scales *s)
{
    const struct tensor *scales = s->scales;
    if (!scales || !scales->is_float)
        return fail(STATUS_BAD_FILE,
                    "tensor \"%s\": expected a tensor \"%s" SUFFIX
                    "\" of BF16 or F32 beside one of F8_E4M3, found %s",
                    t->name, t->name, scales ? scales->type_name : "none");
    int64_t rows = blocks(t->shape[0], s->block_rows),
            columns = blocks(t->shape[1], s->block_columns);
    if (scales->n_dims == 2 && scales->shape[0] == rows && scales->shape[1] == columns)
        return 0;
    return fail(STATUS_BAD_FILE,
                "tensor \"%s\": expected shape [%" PRId64 ", %" PRId64 "], blocks of %" PRId64
                " x %" PRId64 ", found %d dimensions, the first of %" PRId64,
                scales->name, rows, columns, s->block_rows, s->block_columns, scales->n_dims,
                scales->n_dims ? scales->shape[0] : 0);
}

static int pair(struct tensor *t, const struct fp8_scales *found, struct arena *memory)
{
    int status = check_scales(t, found);
    if (status)
        return status;
    struct fp8_scales *own = arena_alloc(memory, sizeof *own);
    *own = *found;
    t->fp8 = own;
    t->type = DTYPE_F32;
    t->is_float = 1;
    t->bytes *= WIDENED;
    return 0;
}

/* Refuse scales beside a weight that is not in fp8: nobody would read them. */
static int check_weight_of(const struct tensor *tensors, size_t n, const struct tensor *scales)
{
    size_t length = strlen(scales->name);
    if (length <= SUFFIX_BYTES || strcmp(scales->name + length - SUFFIX_BYTES, SUFFIX) != 0)
        return 0;
    char *name = strndup(scales->name, length - SUFFIX_BYTES);
    const struct tensor *t = name ? bsearch(name, tensors, n, sizeof *tensors, by_name) : NULL;
    free(name);
    if (t && !is_fp8(t))
        return fail(STATUS_BAD_FILE, "tensor \"%s\": expected F8_E4M3 beside \"%s\", found %s",
                    t->name, scales->name, t->type_name);
    return 0;
}

int fp8_pair(struct tensor *tensors, size_t n, const char *dir, struct arena *memory)
{
    struct fp8_scales s = {0};
    bool any = false;
    int status = 0;
    for (size_t i = 0; i < n; i++)
        any = any || is_fp8(&tensors[i]);
    if (any)
        status = read_blocks(dir, &s.block_rows, &s.block_columns);
    if (status || s.block_rows < 1 || s.block_columns < 1)
        return status;
    for (size_t i = 0; i < n && !status; i++)
        status = check_weight_of(tensors, n, &tensors[i]);
    for (size_t i = 0; i < n && !status; i++) {
        if (!is_fp8(&tensors[i]) || tensors[i].n_dims != 2)
            continue;
        s.scales = find_scales(tensors, n, tensors[i].name);
        status = pair(&tensors[i], &s, memory);
    }
    return status;
}

/* Elements [first, first + n) of a matrix of `columns` columns: their bytes are at `values`, and
 * all factors, in their own type, at `scales`. */
static void widen(float *to, const uint8_t *values, uint64_t first, size_t n, int64_t columns,
                  const struct fp8_scales *s, const void *scales)
{
    float table[256];
    int64_t across = blocks(columns, s->block_columns);
    for (int i = 0; i < 256; i++)
        table[i] = fp8_to_float((uint8_t)i);
    for (size_t i = 0, end; i < n; i = end) { // what lies in one row of one block
        int64_t row = (int64_t)(first + i) / columns, column = (int64_t)(first + i) % columns;
        int64_t block = column / s->block_columns;
        int64_t stop =
            (block + 1) * s->block_columns < columns ? (block + 1) * s->block_columns : columns;
        float scale =
            dtype_load(s->scales->type, scales, (size_t)(row / s->block_rows * across + block));
        end = i + (size_t)(stop - column) < n ? i + (size_t)(stop - column) : n;
        for (size_t j = i; j < end; j++)
            to[j] = table[values[j]] * scale;
    }
}

int fp8_read(const struct checkpoint *c, const struct tensor *t, uint64_t first, size_t bytes,
             float *out)
{
    const struct tensor *scales = t->fp8->scales;
    size_t n = bytes / WIDENED;
    struct tensor raw = *t; // as it is in the file
    raw.fp8 = NULL;
    raw.bytes /= WIDENED;
    CHECK(first % WIDENED == 0 && bytes % WIDENED == 0, "a part of a value of %s", t->name);
    uint8_t *values = malloc(n + 1);
    void *factors = malloc((size_t)scales->bytes + 1);
    CHECK_MEMORY(values && factors, "no memory for %zu values in fp8", n);
    int status = checkpoint_read(c, scales, 0, (size_t)scales->bytes, factors);
    if (!status)
        status = checkpoint_read(c, &raw, first / WIDENED, n, values);
    if (!status)
        widen(out, values, first / WIDENED, n, t->shape[1], t->fp8, factors);
    free(values);
    free(factors);
    return status;
}
