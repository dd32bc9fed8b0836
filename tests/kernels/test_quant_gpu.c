/* Quantised weights on a GPU, for rows of every type and weights of either kind. What is packed has
 * the bytes that the CPU packs. Products have the bits of plain C, for any number of rows. An ffn
 * is within the error of the exact one that quantising its hidden rows allows, and has the same
 * bits for rows by themselves, together and through an index. */
#include "base/noise.h"
#include "kernels/cpu/quant.h"
#include "tests/rig/kernel_rig.h"
#include "tests/rig/packed.h"

static struct dev cpu; // plain C

/* For either kind of weights. */
static void quantised(void (*body)(void))
{
    for (quant = QUANT_Q8; quant < QUANT_COUNT; quant++)
        on_the_gpu(body);
    quant = QUANT_NONE;
}

static size_t bytes_of(const struct matrix *m)
{
    return quant_matrix_bytes(m->quant, m->n, m->k);
}

/* An empty matrix of the CPU's, of the shape of a GPU's. */
static struct matrix cpu_matrix(const struct matrix *like)
{
    struct matrix m = *like;
    m.data = scratch(bytes_of(like));
    return m;
}

static void same_packed(const struct matrix *gpu, const struct matrix *wanted, const char *what)
{
    same(contents(gpu->data, bytes_of(gpu)), wanted->data, bytes_of(gpu), what);
}

/* ---- Packing ---- */

/* On both devices in two pieces, of a source whose rows have so many bytes. */
static void pack_pieces(const struct values *source, int n, int k, int pitch)
{
    struct matrix m = new_matrix(n, k), wanted = cpu_matrix(&m);
    struct values rest = *source;
    int cut = n / 3;
    rest.data = (const char *)source->data + (size_t)cut * (size_t)pitch;
    matrix_pack(&dev, &m, 0, source, cut);
    matrix_pack(&dev, &m, cut, &rest, n - cut);
    matrix_pack(&cpu, &wanted, 0, source, cut);
    matrix_pack(&cpu, &wanted, cut, &rest, n - cut);
    same_packed(&m, &wanted, "packing");
}

/* From an unaligned source of n + 1 rows of k + 3 columns, whole rows and parts of them, in which
 * are groups of zeros, of tiny and of huge values and such that are not finite. */
static void pack_case(int n, int k, enum dtype from)
{
    static const float odd[] = {0, 1e-7f, 1e-30f, 6e4f, NAN, INFINITY, -INFINITY, -0.0f};
    int columns = k + 3, row = columns * dtype_bytes(from);
    size_t count = (size_t)(n + 1) * (size_t)columns;
    char *source = (char *)scratch((size_t)(n + 1) * (size_t)row + 1) + 1;
    void *aligned = scratch((size_t)(n + 1) * (size_t)row);
    for (size_t i = 0; i < count; i++)
        dtype_store(from, aligned, i, uniform() * 0.05f);
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
        dtype_store(from, aligned, count * i / 8, odd[i]);
    for (size_t i = 0; i < QUANT_GROUP && n > 8; i++)
        dtype_store(from, aligned, 2 * (size_t)columns + i, i % 2 ? 0 : 1e-6f * uniform());
    memcpy(source, aligned, (size_t)(n + 1) * (size_t)row);
    struct values whole = {.type = from, .data = source}, part = whole;
    part.columns = k;
    part.stride = columns;
    pack_pieces(&whole, n, columns, row);
    pack_pieces(&part, n, k, row);
}

static void pack_body(void)
{
    for (int c = 0; c < LENGTH(matmul_cases); c++)
        for (enum dtype from = DTYPE_F32; from <= DTYPE_BF16; from++) {
            pack_case(matmul_cases[c].n, matmul_cases[c].k, from);
            drain();
        }
}

/* Packing does not know of the type of rows. */
static void test_pack(void **state)
{
    (void)state;
    for (quant = QUANT_Q8; quant < QUANT_COUNT; quant++) {
        start_over();
        assert_true(open_gpu(0));
        pack_body();
        close_dev();
    }
    quant = QUANT_NONE;
}

/* Gate and up of noise, which each device makes itself. */
static void noise_body(void)
{
    static struct noise noise;
    noise_build(&noise, DTYPE_BF16, 0.02);
    for (int width = 1; width < 100; width += 33) {
        struct values gate = {.type = DTYPE_BF16, .noise = &noise, .key = 77, .first = 5},
                      up = gate;
        struct matrix m = new_matrix(2 * row_stride(width), 70), wanted = cpu_matrix(&m);
        up.key = 78;
        matrix_pack_pair(&dev, &m, &gate, &up, width);
        matrix_pack_pair(&cpu, &wanted, &gate, &up, width);
        same_packed(&m, &wanted, "a pair of noise");
    }
    drain();
}

static void test_noise(void **state)
{
    (void)state;
    quantised(noise_body);
}

/* ---- Products ---- */

/* The same weights on both devices. */
struct both {
    struct matrix gpu, cpu;
};

static struct both random_both(int n, int k, bool bias)
{
    struct values source = {.data = random_source(n, k)};
    struct both w = {.gpu = new_matrix(n, k)};
    w.cpu = cpu_matrix(&w.gpu);
    matrix_pack(&dev, &w.gpu, 0, &source, n);
    matrix_pack(&cpu, &w.cpu, 0, &source, n);
    w.gpu.bias = w.cpu.bias = bias ? floats((size_t)n, 1) : NULL;
    return w;
}

/* All that are NaN := the same one: devices have several. */
static void settle(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = isnan(x[i]) ? NAN : x[i];
}

static void same_numbers(float *a, float *b, size_t n, const char *what)
{
    settle(a, n);
    settle(b, n);
    same(a, b, n * sizeof *a, what);
}

/* Rows that are special: with NaN, infinity, zeros, tiny and huge values. */
static void make_odd(void *x, int rows, int k)
{
    static const float odd[] = {NAN, -INFINITY, 0, 1e-33f, 6e4f};
    for (int r = 0; r < LENGTH(odd) && r + 2 < rows; r++)
        dtype_store(type, row_of(x, type, k, r + 1), (size_t)(k - 1), odd[r]);
    for (int i = 0; i < k && rows > 4; i++)
        dtype_store(type, row_of(x, type, k, 4), (size_t)i, i % 3 ? 1e-39f : -1e-33f);
}

static void matmul_case_body(const struct matmul_case *c)
{
    int ldy = c->n + 3;
    size_t count = (size_t)(c->rows * ldy), bytes = count * sizeof(float);
    struct both w = random_both(c->n, c->k, c->bias);
    void *x = typed_rows(c->rows, c->k, 1);
    float *y = floats(count, 1), *sum = memcpy(buffer(bytes), y, bytes);
    float *again = memcpy(buffer(bytes), y, bytes);
    float *plain = memcpy(scratch(bytes), y, bytes), *added = memcpy(scratch(bytes), y, bytes);
    make_odd(x, c->rows, c->k);
    matmul(&dev, y, ldy, x, &w.gpu, c->rows);
    matmul_add(&dev, sum, ldy, x, &w.gpu, c->rows);
    for (int r = 0; r < c->rows; r++)
        matmul(&dev, again + r * ldy, ldy, row_of(x, type, c->k, r), &w.gpu, 1);
    to_host();
    (cpu.kernels->matmul)(&cpu, plain, ldy, x, &w.cpu, c->rows);
    (cpu.kernels->matmul_add)(&cpu, added, ldy, x, &w.cpu, c->rows);
    same_numbers(y, plain, count, "a product, not plain C's:");
    same_numbers(sum, added, count, "an added product, not plain C's:");
    same_numbers(again, plain, count, "a product row by row");
}

static void matmul_body(void)
{
    static const struct matmul_case more[] = {{8, 40, 1100, true}, {9, 40, 1100, false}};
    for (int c = 0; c < LENGTH(matmul_cases) + LENGTH(more); c++) {
        int extra = c - LENGTH(matmul_cases);
        matmul_case_body(extra < 0 ? &matmul_cases[c] : &more[extra]);
        drain();
    }
}

static void test_matmul(void **state)
{
    (void)state;
    quantised(matmul_body);
}

/* ---- Blocks ---- */

/* A block on the GPU; gate, up and down are on the CPU, too. */
struct block {
    struct ffn f;
    struct matrix gate, up, down;
};

static struct block random_block(int width, int dim)
{
    struct values gate = {.data = random_source(width, dim)},
                  up = {.data = random_source(width, dim)};
    struct both down = random_both(dim, width, false);
    struct block b = {.f = {.gate_up = new_matrix(2 * row_stride(width), dim), .down = down.gpu},
                      .down = down.cpu};
    struct matrix shape = {.type = type, .n = width, .k = dim, .quant = quant};
    b.gate = cpu_matrix(&shape);
    b.up = cpu_matrix(&shape);
    matrix_pack(&cpu, &b.gate, 0, &gate, width);
    matrix_pack(&cpu, &b.up, 0, &up, width);
    matrix_pack_pair(&dev, &b.f.gate_up, &gate, &up, width);
    return b;
}

/* How far each hidden value may be from the exact one when it is multiplied: silu's rounding, that
 * to the type, and half a step of the group's largest value. */
static void hidden_errors(double *error, const double *hidden, int width)
{
    for (int i = 0; i < width; i++) {
        double most = 0, round = EXP_ROUNDINGS * 0x1p-24 + case_epsilon(type);
        for (int j = i / QUANT_GROUP * QUANT_GROUP; j < width && j / QUANT_GROUP == i / QUANT_GROUP;
             j++)
            most = fmax(most, fabs(hidden[j]));
        error[i] = round * fabs(hidden[i]) + CASE_INPUT_STEPS * most * (1 + round) / 127 + 0x1p-24;
    }
}

/* One row of f32 against the formula, of the gates and ups that the CPU makes. */
static void check_row(const struct block *b, const void *x, int r, const float *y)
{
    int width = b->gate.n, dim = b->gate.k;
    float *gate = scratch((size_t)width * sizeof *gate), *up = scratch((size_t)width * sizeof *up);
    double *hidden = scratch((size_t)width * sizeof *hidden);
    double *error = scratch((size_t)width * sizeof *error);
    (cpu.kernels->matmul)(&cpu, gate, width, row_of(x, type, dim, r), &b->gate, 1);
    (cpu.kernels->matmul)(&cpu, up, width, row_of(x, type, dim, r), &b->up, 1);
    for (int i = 0; i < width; i++)
        hidden[i] = (double)gate[i] / (1 + exp(-(double)gate[i])) * (double)up[i];
    hidden_errors(error, hidden, width);
    for (int o = 0; o < row_stride(dim); o++) {
        double sum = 0, bound = 0;
        for (int i = 0; i < width && o < dim; i++) {
            struct packed p = packed_at(&b->down, o, i);
            double w = p.integer * p.scale;
            sum += w * hidden[i];
            bound += fabs(w) * (error[i] + (3 * 0x1p-24 + case_sum_bound(width)) * fabs(hidden[i]));
        }
        near((double)y[o], sum, bound, "ffn");
    }
}

/* All rows through each of two blocks; some rows by themselves; and by an index that reverses them
 * the first row through one block, the others through the other, with one row more than the counts
 * hold. */
static void ffn_case_body(const struct ffn_case *c)
{
    int n = c->most_rows + 1, dim = c->dim, step = n / 4 + 1;
    struct block b[2] = {random_block(c->width, dim), random_block(c->width, dim)};
    struct ffn ffns[2] = {b[0].f, b[1].f};
    struct ffn_list list = {ffns, 2, NULL};
    size_t row = row_bytes(DTYPE_F32, dim), all = (size_t)n * row;
    void *x = typed_rows(n, dim, 0.5f);
    char *y = buffer(2 * all), *single = buffer(2 * all), *sorted = buffer(all + row);
    int32_t *source = buffer((size_t)n * sizeof *source), *count = buffer(2 * sizeof *count);
    char *untouched = memset(scratch(row), 0x55, row);
    memset(sorted, 0x55, all + row);
    for (int r = 0; r < n; r++)
        source[r] = n - 1 - r;
    count[0] = 1;
    count[1] = n - 1;
    ffn_list_open(&dev, &list);
    struct ffn_job jobs[2] = {{&list, y, DTYPE_F32, x, NULL, NULL, n},
                              {&list, sorted, DTYPE_F32, x, source, count, n + 1}};
    run_ffn(&dev, jobs, 2);
    for (int r = 0; r < n; r += step) {
        jobs[0].y = single + 2 * (size_t)r * row;
        jobs[0].x = row_of(x, type, dim, r);
        jobs[0].n = 1;
        run_ffn(&dev, jobs, 1);
    }
    to_host();
    for (int r = 0; r < n; r++)
        for (int i = 0; i < 2; i++) {
            char *mine = y + (size_t)i * all + (size_t)r * row;
            if (r % step == 0) {
                check_row(&b[i], x, r, (const float *)(const void *)mine);
                same(single + (2 * (size_t)r + (size_t)i) * row, mine, row, "an ffn row by row");
            }
            if (i == (source[r] > 0))
                same(sorted + (size_t)source[r] * row, mine, row, "an index");
        }
    same(sorted + all, untouched, row, "a row beyond the counts");
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

static void roofs_body(void)
{
    assert_true(dev_peak_flops(&dev, type, quant, false) > 0);
    assert_int_equal(dev_wait(&dev), 0);
}

static void test_roofs(void **state)
{
    (void)state;
    quantised(roofs_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pack), cmocka_unit_test(test_noise), cmocka_unit_test(test_matmul),
        cmocka_unit_test(test_ffn),  cmocka_unit_test(test_roofs),
    };
    check_only();
    if (cuda_count() == 0)
        return EXIT_SKIPPED;
    dev_open_cpu(&cpu, ISA_PLAIN, 1);
    dev_reserve(&cpu, &(struct dev_limits){.rows = 64, .dim = 2048, .quantised = true});
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    dev_close(&cpu);
    return failed;
}
