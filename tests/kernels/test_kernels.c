/* Packing, products and ffns, on every instruction set of this machine and for every type: against
 * the formula in double precision within the bounds of kernels/cases.h, and bit for bit against
 * itself with rows taken one by one and with other numbers of threads. */
#include "base/noise.h"
#include "tests/rig/kernel_rig.h"

/* Row r of x [.][row_stride(k)]. */
static const double *in_double(const void *x, int r, int k)
{
    double *row = scratch((size_t)k * sizeof *row);
    for (int i = 0; i < k; i++)
        row[i] = at(x, k, r, i);
    return row;
}

/* sum over i of x[i] w[o][i]; *size is that of absolute values. */
static double dot_product(const double *x, const float *w, int k, int o, double *size)
{
    double sum = 0;
    *size = 0;
    for (int i = 0; i < k; i++) {
        double term = x[i] * (double)w[o * k + i];
        sum += term;
        *size += fabs(term);
    }
    return sum;
}

/* ---- Packing ---- */

/* Weight i of output o in what the device holds of a matrix. On a GPU: rows as they were, padded.
 */
static double packed(const struct matrix *m, const void *data, int o, int i)
{
    if (on_gpu())
        return at(data, m->k, o, i);
    size_t panel = panel_bytes(m->type, m->k) / (size_t)dtype_bytes(m->type);
    return dtype_load(m->type, data,
                      (size_t)(o / PANEL) * panel +
                          panel_index(m->type, (size_t)i, (size_t)(o % PANEL)));
}

/* Packed in two pieces from an unaligned source of each type; what is no weight stays 0. */
static void pack_body(void)
{
    for (int c = 0; c < LENGTH(matmul_cases); c++)
        for (enum dtype from = DTYPE_F32; from <= DTYPE_BF16; from++) {
            int n = matmul_cases[c].n, k = matmul_cases[c].k, cut = n / 3;
            size_t row = (size_t)(k * dtype_bytes(from));
            char *bytes = scratch((size_t)n * row + 1), *source = bytes + 1;
            void *aligned = scratch((size_t)n * row);
            for (int i = 0; i < n * k; i++)
                dtype_store(from, aligned, (size_t)i, uniform());
            memcpy(source, aligned, (size_t)n * row);
            struct matrix m = new_matrix(n, k);
            struct values top = {.type = from, .data = source}, rest = top;
            rest.data = source + (size_t)cut * row;
            matrix_pack(&dev, &m, 0, &top, cut);
            matrix_pack(&dev, &m, cut, &rest, n - cut);
            const void *data = contents(m.data, matrix_bytes(&dev, type, QUANT_NONE, n, k));
            for (int o = 0; o < (on_gpu() ? n : panel_count(n) * PANEL); o++)
                for (int i = 0; i < row_stride(k); i++) {
                    bool inside = o < n && i < k;
                    float f = inside ? dtype_load(from, source, (size_t)(o * k + i)) : 0;
                    assert_true(packed(&m, data, o, i) == (double)dtype_round(type, f));
                }
            drain();
        }
}

static void test_pack(void **state)
{
    (void)state;
    everywhere(pack_body);
}

/* What the device holds of them. */
static const void *filled(const struct values *source, size_t count)
{
    size_t bytes = count * (size_t)dtype_bytes(source->type);
    void *table = device_memory(bytes);
    fill_values(&dev, table, source, count);
    return contents(table, bytes);
}

static void same_weights(const struct matrix *a, const struct matrix *b, const char *what)
{
    size_t bytes = matrix_bytes(&dev, type, QUANT_NONE, a->n, a->k);
    same(contents(a->data, bytes), contents(b->data, bytes), bytes, what);
}

/* Noise is packed as the same values from memory are, wherever in a tensor it begins; so is a gate
 * beside its up, and a table. */
static void noise_case(const struct noise *noise, int n, int k, uint64_t first)
{
    size_t count = (size_t)n * (size_t)k, table_bytes = count * (size_t)dtype_bytes(noise->type);
    struct values made = {.type = noise->type, .noise = noise, .key = 77, .first = first};
    struct values other = {.type = noise->type, .noise = noise, .key = 78}, plain = made;
    void *source = scratch(count * sizeof(float));
    noise_fill(noise, made.key, first, count, source);
    plain.data = source;
    struct matrix a = new_matrix(2 * n, k), b = new_matrix(2 * n, k);
    matrix_pack(&dev, &a, n, &made, n);
    matrix_pack(&dev, &b, n, &plain, n);
    same_weights(&a, &b, "noise");
    matrix_pack_pair(&dev, &a, &made, &other, n);
    matrix_pack_pair(&dev, &b, &plain, &other, n);
    same_weights(&a, &b, "a pair of noise");
    same(filled(&made, count), source, table_bytes, "a noisy table");
    same(filled(&plain, count), source, table_bytes, "a table");
}

static void noise_body(void)
{
    static struct noise noise;
    for (enum dtype from = DTYPE_F32; from <= DTYPE_BF16; from++) {
        noise_build(&noise, from, 0.02);
        for (uint64_t first = 0; first < 6; first++)
            noise_case(&noise, 32, 33, first);
        noise_case(&noise, 96, 520, 1ull << 33); // several pieces
        drain();
    }
}

static void test_noise(void **state)
{
    (void)state;
    everywhere(noise_body);
}

/* ---- Products ---- */

static void matmul_case_body(const struct matmul_case *c)
{
    int ldy = c->n + 3;
    size_t y_bytes = (size_t)(c->rows * ldy) * sizeof(float);
    struct weights w = random_weights(c->n, c->k, c->bias);
    void *x = typed_rows(c->rows, c->k, 1);
    float *y = floats(y_bytes / sizeof *y, 1), *before = memcpy(scratch(y_bytes), y, y_bytes);
    float *sum = memcpy(buffer(y_bytes), y, y_bytes), *again = memcpy(buffer(y_bytes), y, y_bytes);
    matmul(&dev, y, ldy, x, &w.m, c->rows);
    matmul_add(&dev, sum, ldy, x, &w.m, c->rows);
    for (int r = 0; r < c->rows; r += on_gpu() ? c->rows : 1)
        matmul(&dev, again + r * ldy, ldy, row_of(x, type, c->k, r), &w.m, on_gpu() ? c->rows : 1);
    to_host();
    for (int r = 0; r < c->rows; r++) {
        const double *row = in_double(x, r, c->k);
        for (int o = 0; o < c->n; o++) {
            double size, wanted = dot_product(row, w.source, c->k, o, &size);
            double bias = c->bias ? (double)w.m.bias[o] : 0, old = (double)before[r * ldy + o];
            double bound = case_sum_bound(c->k) * (size + fabs(bias) + fabs(old));
            near((double)y[r * ldy + o], wanted + bias, bound, "matmul");
            near((double)sum[r * ldy + o], wanted + bias + old, bound, "matmul_add");
        }
        same(y + r * ldy + c->n, before + r * ldy + c->n, 3 * sizeof *y, "past the last column");
    }
    same(again, y, y_bytes, on_gpu() ? "matmul again" : "matmul row by row");
}

static void matmul_body(void)
{
    for (int c = 0; c < LENGTH(matmul_cases); c++)
        matmul_case_body(&matmul_cases[c]);
}

static void test_matmul(void **state)
{
    (void)state;
    everywhere(matmul_body);
}

struct expert {
    struct ffn f;
    float *gate, *up, *down;
};

static struct expert random_expert(int width, int dim)
{
    struct expert e = {.gate = random_source(width, dim), .up = random_source(width, dim)};
    struct weights down = random_weights(dim, width, false);
    e.down = down.source;
    e.f.down = down.m;
    e.f.gate_up = new_matrix(2 * row_stride(width), dim);
    matrix_pack_pair(&dev, &e.f.gate_up, &(struct values){.data = e.gate},
                     &(struct values){.data = e.up}, width);
    return e;
}

/* One output row against the formula. The bound follows an error through: of gate and up (sums),
 * of silu, of the hidden value's rounding, of the last sum, and of the output's rounding. */
static void check_ffn_row(const struct expert *e, const void *x, int r, const void *y,
                          enum dtype y_type, int width, int dim)
{
    double *hidden = scratch((size_t)width * sizeof *hidden);
    double *error = scratch((size_t)width * sizeof *error), eps = case_epsilon(type);
    const double *row = in_double(x, r, dim);
    for (int j = 0; j < width; j++) {
        double g_size, u_size, g = dot_product(row, e->gate, dim, j, &g_size);
        double u = dot_product(row, e->up, dim, j, &u_size), silu = g / (1 + exp(-g));
        hidden[j] = silu * u;
        error[j] = case_sum_bound(dim) * (1.1 * g_size * fabs(u) + fabs(silu) * u_size) +
                   (EXP_ROUNDINGS * 0x1p-24 + eps) * fabs(silu * u) + 0x1p-24;
    }
    for (int o = 0; o < row_stride(dim); o++) {
        double sum = 0, bound = 0;
        for (int j = 0; o < dim && j < width; j++) {
            double w = (double)e->down[o * width + j];
            sum += hidden[j] * w;
            bound += (error[j] + case_sum_bound(width) * fabs(hidden[j])) * fabs(w);
        }
        size_t i = (size_t)r * (size_t)row_stride(dim) + (size_t)o;
        near((double)dtype_load(y_type, y, i), sum, bound + case_epsilon(y_type) * fabs(sum),
             "ffn");
    }
}

/* What run_ffn is told of a case: its blocks, and how many rows each has. */
struct spread {
    struct expert experts[8];
    struct ffn ffns[8];
    struct ffn_list list;
    int32_t *count;
    int n;
};

/* Every third block of a long list has no rows. */
static void spread_open(struct spread *s, const struct ffn_case *c)
{
    *s = (struct spread){.count = buffer(8 * sizeof *s->count)};
    for (int i = 0; i < c->runs; i++) {
        s->experts[i] = random_expert(c->width, c->dim);
        s->ffns[i] = s->experts[i].f;
        int rows = c->runs == 1 ? c->most_rows : 1 + (i + c->most_rows - 1) % c->most_rows;
        s->count[i] = c->runs > 3 && i % 3 == 1 ? 0 : rows;
        s->n += s->count[i];
    }
    s->list = (struct ffn_list){.ffns = s->ffns, .n = c->runs};
    ffn_list_open(&dev, &s->list);
}

/* One row more than the counts hold, which must be left alone; rows taken in order, then through an
 * index; then each by itself. */
static void ffn_case_body(const struct ffn_case *c, enum dtype y_type)
{
    struct spread s;
    spread_open(&s, c);
    size_t row = row_bytes(y_type, c->dim), bytes = (size_t)(s.n + 1) * row;
    void *x = typed_rows(s.n + 1, c->dim, 0.5f), *y = memset(buffer(bytes), 0x55, bytes);
    char *mixed = memset(buffer(bytes), 0x55, bytes), *untouched = memset(scratch(row), 0x55, row);
    char *shuffled = buffer((size_t)s.n * row_bytes(type, c->dim));
    int32_t *source = buffer((size_t)s.n * sizeof *source);
    for (int i = 0; i < s.n; i++) {
        source[i] = s.n - 1 - i;
        memcpy(row_of(shuffled, type, c->dim, source[i]), row_of(x, type, c->dim, i),
               row_bytes(type, c->dim));
    }
    struct ffn_job jobs[2] = {{&s.list, y, y_type, x, NULL, s.count, s.n + 1},
                              {&s.list, mixed, y_type, shuffled, source, s.count, s.n + 1}};
    run_ffn(&dev, jobs, 1);
    run_ffn(&dev, jobs + 1, 1);
    to_host();
    for (int i = 0, r = 0; i < c->runs; i++)
        for (int end = r + s.count[i]; r < end; r++)
            check_ffn_row(&s.experts[i], x, r, y, y_type, c->width, c->dim);
    same(row_of(y, y_type, c->dim, s.n), untouched, row, "ffn beside");
    same(mixed, y, bytes, "ffn through an index");
}

/* All rows through one block, or through each of two, and several jobs in one call; on the CPU bit
 * for bit as each row by itself. */
static void ffn_pieces_body(const struct ffn_case *c)
{
    struct expert e[3] = {random_expert(c->width, c->dim), random_expert(c->width, c->dim),
                          random_expert(c->width, c->dim)};
    struct ffn two[2] = {e[1].f, e[2].f};
    struct ffn_list list[2] = {{&e[0].f, 1, NULL}, {two, 2, NULL}};
    int n = c->most_rows;
    size_t row = row_bytes(DTYPE_F32, c->dim), all = (size_t)n * row;
    void *x = typed_rows(n, c->dim, 0.5f);
    char *y[2] = {buffer(all), buffer(2 * all)}, *one = buffer(2 * all), *moved = buffer(2 * all);
    int32_t *source = buffer((size_t)n * sizeof *source);
    char *reversed = buffer((size_t)n * row_bytes(type, c->dim));
    for (int r = 0; r < n; r++) {
        source[r] = n - 1 - r;
        memcpy(row_of(reversed, type, c->dim, r), row_of(x, type, c->dim, source[r]),
               row_bytes(type, c->dim));
    }
    for (int i = 0; i < 2; i++)
        ffn_list_open(&dev, &list[i]);
    struct ffn_job jobs[2] = {{&list[0], y[0], DTYPE_F32, x, NULL, NULL, n},
                              {&list[1], y[1], DTYPE_F32, x, NULL, NULL, n}};
    run_ffn(&dev, jobs, 2);
    jobs[1].y = moved;
    jobs[1].source = source;
    run_ffn(&dev, jobs + 1, 1);
    for (int r = 0; r < n; r++) {
        struct ffn_job single = {&list[1],  one + (size_t)(2 * r) * row,
                                 DTYPE_F32, row_of(x, type, c->dim, r),
                                 NULL,      NULL,
                                 1};
        run_ffn(&dev, &single, 1);
    }
    to_host();
    for (int r = 0; r < n; r++) {
        check_ffn_row(&e[0], x, r, y[0], DTYPE_F32, c->width, c->dim);
        check_ffn_row(&e[1], x, r, y[1], DTYPE_F32, c->width, c->dim);
        check_ffn_row(&e[2], x, r, y[1] + all, DTYPE_F32, c->width, c->dim);
        check_ffn_row(&e[1], reversed, r, moved, DTYPE_F32, c->width, c->dim);
        check_ffn_row(&e[2], reversed, r, moved + all, DTYPE_F32, c->width, c->dim);
        for (size_t b = 0; b < 2; b++) {
            const char *mine = y[1] + b * all + (size_t)r * row;
            if (on_gpu())
                continue;
            same(moved + b * all + (size_t)source[r] * row, mine, row, "pieces through an index");
            same(one + (2 * (size_t)r + b) * row, mine, row, "ffn row by row");
        }
    }
}

/* As a layer asks for it: rows of experts through an index, and all rows through a wider block of
 * their own; and then more jobs than a device may want to take together. */
static void ffn_joint_body(const struct ffn_case *c)
{
    enum { MORE = 10 };
    struct spread s;
    spread_open(&s, c);
    struct expert wide = random_expert(3 * c->width, c->dim);
    struct ffn_list list = {&wide.f, 1, NULL};
    ffn_list_open(&dev, &list);
    void *x = typed_rows(s.n, c->dim, 0.5f);
    char *y = buffer((size_t)s.n * row_bytes(type, c->dim));
    char *all = buffer((size_t)s.n * row_bytes(DTYPE_F32, c->dim));
    int32_t *source = buffer((size_t)s.n * sizeof *source);
    for (int i = 0; i < s.n; i++)
        source[i] = i;
    struct ffn_job jobs[MORE] = {{&s.list, y, type, x, source, s.count, s.n},
                                 {&list, all, DTYPE_F32, x, NULL, NULL, s.n}};
    run_ffn(&dev, jobs, 2);
    to_host();
    for (int i = 0, r = 0; i < c->runs; i++)
        for (int end = r + s.count[i]; r < end; r++) {
            check_ffn_row(&s.experts[i], x, r, y, type, c->width, c->dim);
            check_ffn_row(&wide, x, r, all, DTYPE_F32, 3 * c->width, c->dim);
        }
    for (int i = 0; i < MORE; i++) // the same row, MORE times
        jobs[i] = (struct ffn_job){
            &list, row_of(all, DTYPE_F32, c->dim, i % s.n), DTYPE_F32, x, NULL, NULL, 1};
    memset(all, 0x55, (size_t)s.n * row_bytes(DTYPE_F32, c->dim));
    run_ffn(&dev, jobs, MORE);
    to_host();
    for (int r = 0; r < s.n && r < MORE; r++)
        check_ffn_row(&wide, x, 0, row_of(all, DTYPE_F32, c->dim, r), DTYPE_F32, 3 * c->width,
                      c->dim);
}

static void ffn_body(void)
{
    for (int c = 0; c < LENGTH(ffn_cases); c++) {
        ffn_case_body(&ffn_cases[c], type);
        ffn_case_body(&ffn_cases[c], DTYPE_F32);
        ffn_pieces_body(&ffn_cases[c]);
        if (ffn_cases[c].width < 100 && ffn_cases[c].most_rows < 100)
            ffn_joint_body(&ffn_cases[c]);
        drain();
    }
    // rows that the CPU writes past its caches, in either type
    static const struct ffn_case much = {2, 520, 32, 1024};
    if (!on_gpu()) {
        ffn_case_body(&much, type);
        ffn_case_body(&much, DTYPE_F32);
        drain();
    }
}

static void test_ffn(void **state)
{
    (void)state;
    everywhere(ffn_body);
}

/* ---- Threads ---- */

/* Everything that divides work among threads, to y; returns how many bytes. Many rows are divided
 * into fewer, few rows among panels; two jobs take turns. */
static size_t threaded_work(char *y, const void *x, const struct ffn_list *list,
                            const struct weights *w, const struct weights *odd)
{
    enum { N = 90, DIM = 512, ODD = 328 }; // 21 panels
    static const int rows[] = {N, 3};
    char *at = y;
    for (int i = 0; i < 2; i++) {
        int n = rows[i];
        size_t own = (size_t)n * row_bytes(type, DIM), all = (size_t)n * row_bytes(DTYPE_F32, DIM);
        int32_t *count = buffer(2 * sizeof *count);
        count[0] = 1;
        count[1] = n - 1;
        matmul(&dev, (float *)(void *)at, DIM, x, &w->m, n);
        matmul(&dev, (float *)(void *)(at + all), ODD, x, &odd->m, n);
        struct ffn_job jobs[2] = {{list, at + 2 * all, type, x, NULL, count, n},
                                  {list, at + 2 * all + own, DTYPE_F32, x, NULL, NULL, n}};
        run_ffn(&dev, jobs, 2);
        to_host();
        at += 4 * all + own;
    }
    return (size_t)(at - y);
}

/* Enough work that threads are used at all; their number must not show. */
static void threads_body(void)
{
    enum { N = 90, WIDTH = 200, DIM = 512, MOST = 5 * 93 * DIM * 4, MANY = 7 };
    enum isa isa = dev.isa;
    struct expert e[2] = {random_expert(WIDTH, DIM), random_expert(WIDTH, DIM)};
    struct ffn ffns[2] = {e[0].f, e[1].f};
    struct ffn_list list = {ffns, 2, NULL};
    struct weights w = random_weights(DIM, DIM, true), odd = random_weights(328, DIM, false);
    void *x = typed_rows(N, DIM, 1);
    char *first = memset(buffer(MOST), 0, MOST), *y = memset(buffer(MOST), 0, MOST);
    for (int threads = 1; threads <= MANY; threads += threads < 3 ? 1 : 4) {
        struct dev one = dev;
        open_dev(isa, threads);
        size_t bytes = threaded_work(threads == 1 ? first : y, x, &list, &w, &odd);
        dev_close(&dev);
        dev = one;
        assert_true(bytes <= MOST);
        if (threads > 1)
            same(first, y, bytes, "the number of threads");
    }
}

static void test_threads(void **state)
{
    (void)state;
    on_every_cpu(threads_body);
}

static void test_choose(void **state)
{
    (void)state;
    skip_without_cpu();
    enum isa isa;
    unsigned all = isa_available();
    unsetenv("EPMOE_ISA");
    assert_true(all & 1);
    assert_int_equal(isa_choose(&isa, all), STATUS_OK);
    assert_true(all >> isa == 1); // the best
    setenv("EPMOE_ISA", "plain", 1);
    assert_int_equal(isa_choose(&isa, all), STATUS_OK);
    assert_int_equal(isa, ISA_PLAIN);
    error_capture(true);
    setenv("EPMOE_ISA", "avx2", 1);
    assert_int_equal(isa_choose(&isa, 1u << ISA_PLAIN), STATUS_USAGE);
    assert_non_null(strstr(error_text(), "plain"));
    setenv("EPMOE_ISA", "mmx", 1);
    assert_int_equal(isa_choose(&isa, all), STATUS_USAGE);
    unsetenv("EPMOE_ISA");
    assert_int_equal(isa_choose(&isa, 0), STATUS_USAGE); // ranks with nothing in common
    error_capture(false);
    assert_true(usable_cores() >= 1);
}

static void test_roofs(void **state)
{
    (void)state;
    skip_without_cpu();
    enum isa isa;
    assert_int_equal(isa_choose(&isa, isa_available()), STATUS_OK);
    open_dev(isa, 2);
    assert_true(dev.kernels->peak_flops(&dev, DTYPE_BF16, true) > 1e8);
    assert_true(dev.kernels->read_bandwidth(&dev, true) > 1e8);
    dev_close(&dev);
}

static void gpu_roofs_body(void)
{
    assert_true(dev.kernels->peak_flops(&dev, type, false) > 0);
    assert_true(dev.kernels->read_bandwidth(&dev, true) > 0);
    assert_int_equal(dev_wait(&dev), 0);
}

static void test_gpu_roofs(void **state)
{
    (void)state;
    on_the_gpu(gpu_roofs_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pack),    cmocka_unit_test(test_noise),
        cmocka_unit_test(test_matmul),  cmocka_unit_test(test_ffn),
        cmocka_unit_test(test_threads), cmocka_unit_test(test_choose),
        cmocka_unit_test(test_roofs),   cmocka_unit_test(test_gpu_roofs),
    };
    check_only();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
