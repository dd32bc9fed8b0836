/* Quantised weights, on every instruction set of this machine and for rows of every type. What is
 * packed is within the steps of kernels/cases.h from the weights; products are the bits of plain C,
 * within the error that these steps allow of the exact ones, and the same for rows one by one,
 * other numbers of threads and rows read through an index. */
#include "kernels/cpu/quant.h"
#include "tests/rig/kernel_rig.h"
#include "tests/rig/packed.h"

/* For rows of each type, and weights of either kind. */
static void quantised(void (*body)(void))
{
    for (quant = QUANT_Q8; quant < QUANT_COUNT; quant++)
        on_every_cpu(body);
    quant = QUANT_NONE;
}

/* ---- Packing ---- */

static double largest_of_group(const float *w, int k, int o, int i)
{
    double most = 0;
    for (int j = i / QUANT_GROUP * QUANT_GROUP; j < k && j < (i / QUANT_GROUP + 1) * QUANT_GROUP;
         j++)
        most = fmax(most, fabs((double)w[o * k + j]));
    return most;
}

/* Packed in two pieces from an unaligned source; outputs and inputs that are not there count 0. */
static void pack_case(const struct matmul_case *c, enum dtype from)
{
    int n = c->n, k = c->k, cut = n / 3;
    size_t row = (size_t)(k * dtype_bytes(from));
    char *source = (char *)scratch((size_t)n * row + 1) + 1;
    void *aligned = scratch((size_t)n * row);
    float *w = scratch((size_t)(n * k) * sizeof *w);
    for (int i = 0; i < n * k; i++)
        dtype_store(from, aligned, (size_t)i, uniform() * 0.05f);
    memcpy(source, aligned, (size_t)n * row);
    for (int i = 0; i < n * k; i++)
        w[i] = dtype_load(from, aligned, (size_t)i);
    struct matrix m = new_matrix(n, k);
    matrix_pack(&dev, &m, 0, &(struct values){.type = from, .data = source}, cut);
    matrix_pack(&dev, &m, cut, &(struct values){.type = from, .data = source + (size_t)cut * row},
                n - cut);
    double parts = quant == QUANT_Q8 ? 127 : 8;
    for (int o = 0; o < panel_count(n) * PANEL; o++)
        for (int i = 0; i < row_stride(k); i++) {
            struct packed p = packed_at(&m, o, i);
            double most = o < n ? largest_of_group(w, k, o, i) : 0;
            double found = p.integer * p.scale, wanted = o < n && i < k ? (double)w[o * k + i] : 0;
            near(fabs(p.scale), most / parts, most / parts * 0x1p-10 + 0x1p-24, "scale");
            near(found, wanted, case_weight_steps(quant, p.integer) * fabs(p.scale), "weight");
        }
}

static void pack_body(void)
{
    for (int c = 0; c < LENGTH(matmul_cases); c++)
        for (enum dtype from = DTYPE_F32; from <= DTYPE_BF16; from++) {
            pack_case(&matmul_cases[c], from);
            drain();
        }
}

static void test_pack(void **state)
{
    (void)state;
    skip_without_cpu();
    for (quant = QUANT_Q8; quant < QUANT_COUNT; quant++) {
        open_dev(ISA_PLAIN, 1); // packing is the same code everywhere
        pack_body();
        close_dev();
    }
    quant = QUANT_NONE;
}

/* The weight of the largest magnitude is the lowest step of q4, whatever its sign, and 127 steps of
 * q8; a group of zeros has scale 0; what is not finite makes the scale NaN. */
static void extremes_body(void)
{
    enum { N = 16, K = 32 };
    float *w = scratch(sizeof(float[N * K]));
    for (int i = 0; i < N * K; i++)
        w[i] = i / K == 3 ? 0 : uniform();
    w[5] = -2;
    w[K + 31] = 2;
    w[2 * K] = NAN;
    w[4 * K + 1] = -INFINITY;
    struct matrix m = new_matrix(N, K);
    matrix_pack(&dev, &m, 0, &(struct values){.data = w}, N);
    assert_int_equal(packed_at(&m, 0, 5).integer, quant == QUANT_Q8 ? -127 : -8);
    assert_int_equal(packed_at(&m, 1, 31).integer, quant == QUANT_Q8 ? 127 : -8);
    assert_true(isnan(packed_at(&m, 2, 7).scale) && isnan(packed_at(&m, 4, 7).scale));
    for (int i = 0; i < K; i++)
        assert_true(packed_at(&m, 3, i).scale == 0 && packed_at(&m, 3, i).integer == 0);
}

static void test_extremes(void **state)
{
    (void)state;
    quantised(extremes_body);
}

/* ---- Products ---- */

/* x as it is multiplied: integers times scales, to where [rows][row_stride(k)] are. */
static double *multiplied(const void *x, int rows, int k)
{
    int width = row_stride(k);
    double *to = scratch((size_t)(rows * width) * sizeof *to);
    struct quant_group *groups = scratch(quant_row_bytes(k));
    for (int r = 0; r < rows; r++) {
        isa_plain.quantise(groups, row_of(x, type, k, r), type, width);
        for (int i = 0; i < width; i++)
            to[r * width + i] = (double)groups[i / QUANT_GROUP].q[i % QUANT_GROUP] *
                                (double)groups[i / QUANT_GROUP].scale;
    }
    return to;
}

/* Rows are within half a step of what they were. */
static void check_inputs(const void *x, const double *found, int rows, int k)
{
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < k; i++) {
            double most = 0;
            for (int j = i / QUANT_GROUP * QUANT_GROUP; j < k && j / QUANT_GROUP == i / QUANT_GROUP;
                 j++)
                most = fmax(most, fabs(at(x, k, r, j)));
            near(found[r * row_stride(k) + i], at(x, k, r, i), CASE_INPUT_STEPS * most / 127,
                 "input");
        }
}

/* Against first and second plus the sum of what is multiplied, which leaves rounding of f32: of
 * each group's part three times, and a sum of as many terms as there are groups. */
static void check_sum(float y, const double *x, const double *w, int width, double first,
                      double second)
{
    double sum = first + second, size = fabs(first) + fabs(second);
    for (int i = 0; i < width; i++) {
        sum += x[i] * w[i];
        size += fabs(x[i] * w[i]);
    }
    near((double)y, sum, (3 * 0x1p-24 + case_sum_bound(width / QUANT_GROUP)) * size, "product");
}

static void check_sums(const float *y, int ldy, const double *x, const struct weights *w, int rows,
                       const float *before)
{
    int width = row_stride(w->m.k);
    double *weights = scratch((size_t)width * sizeof *weights);
    for (int o = 0; o < w->m.n; o++) {
        for (int i = 0; i < width; i++) {
            struct packed p = packed_at(&w->m, o, i);
            weights[i] = p.integer * p.scale;
        }
        for (int r = 0; r < rows; r++)
            check_sum(y[r * ldy + o], x + r * width, weights, width,
                      w->m.bias ? (double)w->m.bias[o] : 0,
                      before ? (double)before[r * ldy + o] : 0);
    }
}

static void by_plain_c(float *y, int ldy, const void *x, const struct matrix *w, int rows)
{
    enum isa isa = dev.isa;
    const struct cpu_isa *loops = dev.cpu;
    dev_use_cpu(&dev, ISA_PLAIN, 1);
    matmul(&dev, y, ldy, x, w, rows);
    dev.isa = isa;
    dev.cpu = loops;
}

static void matmul_case_body(const struct matmul_case *c)
{
    int ldy = c->n + 3;
    size_t bytes = (size_t)(c->rows * ldy) * sizeof(float);
    struct weights w = random_weights(c->n, c->k, c->bias);
    void *x = typed_rows(c->rows, c->k, 1);
    float *y = floats(bytes / sizeof *y, 1), *before = memcpy(scratch(bytes), y, bytes);
    float *sum = memcpy(buffer(bytes), y, bytes), *again = memcpy(buffer(bytes), y, bytes);
    float *plain = memcpy(buffer(bytes), y, bytes);
    matmul(&dev, y, ldy, x, &w.m, c->rows);
    matmul_add(&dev, sum, ldy, x, &w.m, c->rows);
    for (int r = 0; r < c->rows; r++)
        matmul(&dev, again + r * ldy, ldy, row_of(x, type, c->k, r), &w.m, 1);
    by_plain_c(plain, ldy, x, &w.m, c->rows);
    to_host();
    double *inputs = multiplied(x, c->rows, c->k);
    check_inputs(x, inputs, c->rows, c->k);
    check_sums(y, ldy, inputs, &w, c->rows, NULL);
    check_sums(sum, ldy, inputs, &w, c->rows, before);
    same(again, y, bytes, "product row by row");
    same(plain, y, bytes, "another instruction set than plain C");
}

static void matmul_body(void)
{
    for (int c = 0; c < LENGTH(matmul_cases); c++) {
        matmul_case_body(&matmul_cases[c]);
        drain();
    }
}

static void test_matmul(void **state)
{
    (void)state;
    quantised(matmul_body);
}

/* Signs of numbers whose magnitudes are the same: all +; all but a group's first -; in turn; in
 * pairs. */
enum { SIGNS = 4 };

static float sign_at(int signs, int i)
{
    bool negative = signs == 0   ? false
                    : signs == 1 ? i % QUANT_GROUP != 0
                                 : i / (signs - 1) % 2 != 0;
    return negative ? -1 : 1;
}

/* All integers are at an end of their range, and so are sums of some: where an instruction has no
 * room for one, bits are others than plain C's. */
static void ends_body(void)
{
    enum { ROWS = 9, N = 83, K = 96 };
    size_t bytes = sizeof(float[ROWS * N]);
    float *source = scratch(sizeof(float[N * K])), *y = buffer(bytes), *plain = buffer(bytes);
    void *x = typed_rows(ROWS, K, 1);
    struct weights w = {.m = new_matrix(N, K)};
    for (int i = 0; i < N * K; i++)
        source[i] = sign_at(i / K % SIGNS, i % K);
    for (int i = 0; i < ROWS * K; i++)
        dtype_store(type, row_of(x, type, K, i / K), (size_t)(i % K),
                    sign_at(i / K % SIGNS, i % K));
    matrix_pack(&dev, &w.m, 0, &(struct values){.data = source}, N);
    by_plain_c(plain, N, x, &w.m, ROWS);
    for (int rows = ROWS; rows >= 1; rows -= ROWS - 1) {
        matmul(&dev, y, N, x, &w.m, rows);
        to_host();
        check_sums(y, N, multiplied(x, rows, K), &w, rows, NULL);
        same(plain, y, sizeof(float[N]) * (size_t)rows, "another instruction set than plain C");
    }
}

static void test_ends(void **state)
{
    (void)state;
    quantised(ends_body);
}

/* A row that holds what is not finite gives NaN alone; one of tiny values, of which some are
 * subnormal, or of zeros gives 0; one of the largest values is finite if its sums are. */
static void rows_body(void)
{
    enum { ROWS = 6, N = 20, K = 64 };
    struct weights w = random_weights(N, K, false);
    void *x = typed_rows(ROWS, K, 1);
    float y[ROWS * N], largest = type == DTYPE_F16 ? 65504 : 1e30f;
    dtype_store(type, row_of(x, type, K, 1), 40, NAN);
    dtype_store(type, row_of(x, type, K, 2), 3, -INFINITY);
    memset(row_of(x, type, K, 3), 0, row_bytes(type, K));
    for (int i = 0; i < K; i++) {
        dtype_store(type, row_of(x, type, K, 4), (size_t)i, i % 2 ? 1e-39f : -1e-33f);
        dtype_store(type, row_of(x, type, K, 5), (size_t)i, i == 7 ? largest : 0);
    }
    matmul(&dev, y, N, x, &w.m, ROWS);
    to_host();
    for (int o = 0; o < N; o++) {
        double wanted =
            (double)largest * packed_at(&w.m, o, 7).integer * packed_at(&w.m, o, 7).scale;
        assert_true(isfinite(y[o]) && isnan(y[N + o]) && isnan(y[2 * N + o]));
        assert_true(y[3 * N + o] == 0 && fabsf(y[4 * N + o]) < 1e-30f);
        near((double)y[5 * N + o], wanted, 0.01 * fabs(wanted), "largest");
    }
}

static void test_rows(void **state)
{
    (void)state;
    quantised(rows_body);
}

/* ---- Blocks ---- */

/* What an ffn is made of, as single matrices too. */
struct block {
    struct ffn f;
    struct weights gate, up, down;
};

static struct block random_block(int width, int dim)
{
    struct block b = {.gate = random_weights(width, dim, false),
                      .up = random_weights(width, dim, false),
                      .down = random_weights(dim, width, false)};
    b.f.down = b.down.m;
    b.f.gate_up = new_matrix(2 * row_stride(width), dim);
    matrix_pack_pair(&dev, &b.f.gate_up, &(struct values){.data = b.gate.source},
                     &(struct values){.data = b.up.source}, width);
    return b;
}

/* y [n][row_stride(dim)] := the block of rows x by single products. */
static float *by_products(const struct block *b, const void *x, int n, int width, int dim)
{
    float *gate = floats((size_t)(n * width), 0), *up = floats((size_t)(n * width), 0);
    float *y = buffer((size_t)(n * row_stride(dim)) * sizeof *y);
    void *hidden = typed_rows(n, width, 0);
    matmul(&dev, gate, width, x, &b->gate.m, n);
    matmul(&dev, up, width, x, &b->up.m, n);
    to_host();
    for (int r = 0; r < n; r++)
        dev.cpu->swiglu(row_of(hidden, type, width, r), type, gate + r * width, up + r * width,
                        width);
    matmul(&dev, y, row_stride(dim), hidden, &b->down.m, n);
    to_host();
    return y;
}

/* All rows through each of two blocks, then one row through the first and the others through the
 * second by an index that reverses them: the bits of single products. */
static void ffn_case_body(const struct ffn_case *c)
{
    int n = c->most_rows + 1, dim = c->dim;
    struct block b[2] = {random_block(c->width, dim), random_block(c->width, dim)};
    struct ffn ffns[2] = {b[0].f, b[1].f};
    struct ffn_list list = {ffns, 2, NULL};
    size_t row = row_bytes(DTYPE_F32, dim), all = (size_t)n * row;
    void *x = typed_rows(n, dim, 0.5f);
    char *y = buffer(2 * all), *sorted = buffer(all);
    int32_t *source = buffer((size_t)n * sizeof *source), count[2] = {1, n - 1};
    const char *wanted[2] = {(char *)by_products(&b[0], x, n, c->width, dim),
                             (char *)by_products(&b[1], x, n, c->width, dim)};
    for (int r = 0; r < n; r++)
        source[r] = n - 1 - r;
    ffn_list_open(&dev, &list);
    struct ffn_job jobs[2] = {{&list, y, DTYPE_F32, x, NULL, NULL, n},
                              {&list, sorted, DTYPE_F32, x, source, count, n}};
    run_ffn(&dev, jobs, 2);
    to_host();
    for (int r = 0; r < n; r++) {
        same(y + (size_t)r * row, wanted[0] + (size_t)r * row, row, "the first block");
        same(y + all + (size_t)r * row, wanted[1] + (size_t)r * row, row, "the second block");
        same(sorted + (size_t)r * row, wanted[r > 0] + (size_t)source[r] * row, row, "an index");
    }
}

static void ffn_body(void)
{
    for (int c = 0; c < LENGTH(ffn_cases); c++) {
        ffn_case_body(&ffn_cases[c]);
        drain();
    }
}

static void test_ffn(void **state)
{
    (void)state;
    quantised(ffn_body);
}

/* ---- Threads ---- */

static void threads_body(void)
{
    enum { N = 90, WIDTH = 224, DIM = 512, ODD = 328 };
    static float first[N * (ODD + DIM)], y[N * (ODD + DIM)];
    struct block b = random_block(WIDTH, DIM);
    struct ffn_list list = {&b.f, 1, NULL};
    struct weights odd = random_weights(ODD, DIM, true);
    void *x = typed_rows(N, DIM, 1);
    enum isa isa = dev.isa;
    for (int threads = 1; threads <= 7; threads += threads < 3 ? 1 : 4) {
        struct dev one = dev;
        float *to = threads == 1 ? first : y;
        open_dev(isa, threads);
        for (int n = N; n >= 3; n -= N - 3) {
            matmul(&dev, to, ODD, x, &odd.m, n);
            run_ffn(&dev, &(struct ffn_job){&list, to + N * ODD, DTYPE_F32, x, NULL, NULL, n}, 1);
        }
        to_host();
        dev_close(&dev);
        dev = one;
        same(first, to, sizeof y, "the number of threads");
    }
}

static void test_threads(void **state)
{
    (void)state;
    quantised(threads_body);
}

/* What the roof counts: the same for each round. */
static void spin_body(void)
{
    float sink = 0;
    double once = dev.cpu->quant_spin[quant](1, &sink);
    assert_true(once >= 2 * PANEL * QUANT_GROUP);
    assert_true(dev.cpu->quant_spin[quant](3, &sink) == 3 * once);
}

static void test_roofs(void **state)
{
    enum isa isa;
    (void)state;
    skip_without_cpu();
    assert_int_equal(isa_choose(&isa, isa_available()), STATUS_OK);
    open_dev(isa, 2);
    for (enum quant q = QUANT_Q8; q < QUANT_COUNT; q++)
        assert_true(dev_peak_flops(&dev, DTYPE_BF16, q, true) > 1e8);
    dev_close(&dev);
    quantised(spin_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pack),    cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_matmul),  cmocka_unit_test(test_ends),
        cmocka_unit_test(test_rows),    cmocka_unit_test(test_ffn),
        cmocka_unit_test(test_threads), cmocka_unit_test(test_roofs),
    };
    check_only();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
