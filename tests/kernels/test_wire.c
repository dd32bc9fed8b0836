/* What workers do to rows for the wire: add them up, narrow them, widen them. */
#include "tests/rig/kernel_rig.h"

#include <math.h>

/* sum_rows is what add_norm adds, from zero on, rounded; a negative slot ends a row's terms in
 * both. */
static void sum_rows_body(void)
{
    enum { K = 4 };
    for (int c = 0; c < LENGTH(row_widths); c++) {
        int n = row_counts[c % LENGTH(row_counts)], dim = row_widths[c];
        void *y = typed_rows(n * K, dim, 1), *out = typed_rows(n, dim, 1);
        float *weight = floats((size_t)(n * K), 1), *sum = buffer((size_t)(n * dim) * 4);
        int32_t *slot = buffer((size_t)(n * K) * sizeof *slot);
        for (int i = 0; i < n * K; i++)
            slot[i] = i % K < i / K % (K + 1) ? (i * 7 + 2) % (n * K) : -1;
        struct pending_residual pending = {.y = y, .slot = slot, .weight = weight, .k = K};
        add_norm(&dev, sum, NULL, type, &pending, NULL, n, dim, 0);
        sum_rows(&dev, out, y, type, slot, weight, n, K, dim);
        to_host();
        for (int i = 0; i < n * row_stride(dim); i++) {
            int r = i / row_stride(dim), j = i % row_stride(dim);
            float wanted = j < dim ? dtype_round(type, sum[r * dim + j]) : 0;
            assert_true((float)at(out, dim, r, j) == wanted);
        }
        drain();
    }
}

static void test_sum_rows(void **state)
{
    (void)state;
    everywhere(sum_rows_body);
}

static double largest_of(const void *x, int dim, int r)
{
    double most = 0;
    for (int i = 0; i < dim; i++)
        most = fmax(most, fabs(at(x, dim, r, i)));
    return most;
}

/* Half a step of the wire, and the rounding of what arrives to the model's type. */
static double wire_bound(enum wire wire, const void *x, int dim, int r, int i)
{
    double value = fabs(at(x, dim, r, i)), rounding = case_epsilon(type) * value;
    if (wire == WIRE_INT8)
        return largest_of(x, dim, r) / 127 * (0.5 + 1e-5) * (1 + 2 * case_epsilon(type)) + rounding;
    return wire == WIRE_BF16 ? case_epsilon(DTYPE_BF16) * value : 0;
}

static void check_wire(enum wire wire, int n, int dim)
{
    void *x = typed_rows(n, dim, 3), *back = typed_rows(n, dim, 1);
    size_t bytes = wire_row_bytes(wire, type, dim);
    char *wired = buffer((size_t)n * bytes), *alone = buffer((size_t)n * bytes);
    struct wire_error *error = buffer(sizeof *error), *other = buffer(sizeof *other);
    double squares = 0, errors = 0;
    memset(row_of(x, type, dim, 0), 0, row_bytes(type, dim)); // a row of zeros
    narrow_rows(&dev, wired, wire, x, type, n, dim, error);
    widen_rows(&dev, back, type, wired, wire, n, dim);
    for (int r = 0; r < n; r++)
        narrow_rows(&dev, alone + (size_t)r * bytes, wire, row_of(x, type, dim, r), type, 1, dim,
                    other);
    to_host();
    for (int r = 0; r < n; r++) {
        for (int i = 0; i < row_stride(dim); i++) {
            double value = at(x, dim, r, i), arrived = at(back, dim, r, i);
            near(arrived, value, i < dim ? wire_bound(wire, x, dim, r, i) : 0, "wire");
            squares += value * value;
            errors += (value - arrived) * (value - arrived);
        }
    }
    same(alone, wired, (size_t)n * bytes, "narrowing row by row");
    if (wire != WIRE_MODEL) {
        near(error->squares, squares, 1e-5 * squares, "sum of squares");
        near(error->errors, errors, 1e-5 * errors, "sum of errors");
    }
}

static void wire_body(void)
{
    for (int c = 0; c < LENGTH(row_widths); c++) {
        int n = row_counts[c % LENGTH(row_counts)];
        for (enum wire wire = WIRE_MODEL; wire < WIRE_COUNT; wire++)
            if (wire != WIRE_BF16 || type != DTYPE_F16)
                check_wire(wire, n, row_widths[c]);
        drain();
    }
}

static void test_wire(void **state)
{
    (void)state;
    everywhere(wire_body);
}

/* Ties go to the even step; a scale may be anything from the least float to the largest; what is
 * not finite comes back as NaN. */
static void test_wire_extremes(void **state)
{
    (void)state;
    skip_without_cpu();
    enum { WIDTH = 32 };
    float x[WIDTH] = {127, 0.5f, 1.5f, -2.5f, -126.5f, 126.5f, -0.0f}, back[WIDTH];
    static const float wanted[] = {127, 0, 2, -2, -126, 126, 0};
    char wired[sizeof(float) + WIDTH];
    struct wire_error error = {0};
    open_dev(ISA_PLAIN, 1);
    narrow_rows(&dev, wired, WIRE_INT8, x, DTYPE_F32, 1, WIDTH, &error);
    widen_rows(&dev, back, DTYPE_F32, wired, WIRE_INT8, 1, WIDTH);
    for (int i = 0; i < LENGTH(wanted); i++)
        assert_true(back[i] == wanted[i]);
    static const float most[] = {3.4e38f, 1e-40f, 1e-45f, 0};
    for (int i = 0; i < LENGTH(most); i++) {
        x[0] = most[i];
        x[1] = -most[i] / 2;
        memset(x + 2, 0, sizeof x - 8);
        narrow_rows(&dev, wired, WIRE_INT8, x, DTYPE_F32, 1, WIDTH, &error);
        widen_rows(&dev, back, DTYPE_F32, wired, WIRE_INT8, 1, WIDTH);
        assert_true(fabsf(back[0] - x[0]) <= 1e-6f * x[0] + 1e-43f);
        assert_true(fabsf(back[1] - x[1]) <= 4.1e-3f * x[0] + 1e-43f);
    }
    x[3] = NAN;
    for (int i = 0; i < 2; i++) {
        narrow_rows(&dev, wired, WIRE_INT8, x, DTYPE_F32, 1, WIDTH, &error);
        widen_rows(&dev, back, DTYPE_F32, wired, WIRE_INT8, 1, WIDTH);
        for (int j = 0; j < WIDTH; j++)
            assert_true(isnan(back[j]));
        x[3] = -INFINITY;
    }
    to_host();
    close_dev();
}

enum { MANY = 300, DIM = 200 };

/* Rows, narrowed and widened again. */
struct travelled {
    char *wired, *back;
    struct wire_error *error;
};

static struct travelled travel(enum wire wire, const void *x)
{
    struct travelled t = {buffer(MANY * wire_row_bytes(wire, type, DIM)),
                          buffer(MANY * row_bytes(type, DIM)), buffer(sizeof *t.error)};
    narrow_rows(&dev, t.wired, wire, x, type, MANY, DIM, t.error);
    widen_rows(&dev, t.back, type, t.wired, wire, MANY, DIM);
    to_host();
    close_dev();
    return t;
}

static void same_travel(enum wire wire, const struct travelled *a, const struct travelled *b)
{
    const char *what = "another device, or the threads,";
    same(a->wired, b->wired, MANY * wire_row_bytes(wire, type, DIM), what);
    same(a->back, b->back, MANY * row_bytes(type, DIM), what);
}

/* The same bits on every instruction set, with any number of threads, and on a GPU, for numbers of
 * every size and those that are none. */
static void check_everywhere(enum wire wire)
{
    void *x = typed_rows(MANY, DIM, 1);
    for (int r = 0; r < LENGTH(extreme_values); r++)
        dtype_store(type, row_of(x, type, DIM, r), (size_t)r * 7, extreme_values[r] * 1e-3f);
    dtype_store(type, row_of(x, type, DIM, 40), 3, NAN);
    dtype_store(type, row_of(x, type, DIM, 41), 4, -INFINITY);
    open_dev(ISA_PLAIN, 1);
    struct travelled first = travel(wire, x), again;
    for (int i = 1; i < 2 * ISA_COUNT; i++)
        if (isa_available() >> i / 2 & 1 && !only_cuda()) {
            open_dev((enum isa)(i / 2), 1 + 2 * (i % 2));
            again = travel(wire, x);
            same_travel(wire, &first, &again);
        }
    for (int way = 0; open_gpu(way); way++) {
        again = travel(wire, x);
        same_travel(wire, &first, &again);
    }
    drain();
}

static void test_wire_everywhere(void **state)
{
    (void)state;
    for (type = DTYPE_F32; type <= DTYPE_BF16; type++)
        for (enum wire wire = WIRE_MODEL; wire < WIRE_COUNT; wire++)
            check_everywhere(wire);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sum_rows),
        cmocka_unit_test(test_wire),
        cmocka_unit_test(test_wire_extremes),
        cmocka_unit_test(test_wire_everywhere),
    };
    check_only();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
