/* The device of `bench --ablation` that does things the slow way (kernels/cpu/eager.c): bit for bit
 * what isa_plain computes, however it goes through the experts. */
#include "tests/rig/kernel_rig.h"

enum { ROWS = 37, EXPERTS = 5, CHOSEN = 2, WIDTH = 40, DIM = 70, SLOTS = ROWS * CHOSEN };

/* A layer's experts, and the assignments of rows to them in the order of the sort. Expert 1 has no
 * rows; the others have one row or many. */
struct layer {
    struct ffn ffns[EXPERTS];
    struct ffn_list list;
    int32_t count[EXPERTS], source[SLOTS];
};

static void make_ffn(struct ffn *f)
{
    struct values gate = {.data = random_source(WIDTH, DIM)};
    struct values up = {.data = random_source(WIDTH, DIM)};
    f->gate_up = new_matrix(2 * row_stride(WIDTH), DIM);
    f->down = random_weights(DIM, WIDTH, false).m;
    matrix_pack_pair(&dev, &f->gate_up, &gate, &up, WIDTH);
}

static void make_layer(struct layer *l)
{
    static const int order[EXPERTS] = {0, 2, 3, 4, 1};
    *l = (struct layer){.list = {l->ffns, EXPERTS, NULL}};
    seed = 7;
    for (int e = 0, at = 0; e < EXPERTS; e++) {
        make_ffn(&l->ffns[e]);
        for (int row = 0; row < ROWS; row++)
            for (int c = 0; c < CHOSEN; c++)
                if (order[row == 0 ? c : 1 + (row + c) % 3] == e) {
                    l->source[at++] = row;
                    l->count[e]++;
                }
    }
    assert_int_equal(l->count[0] + l->count[2] + l->count[3] + l->count[4], SLOTS);
}

/* Of the layer: experts' rows, then every row through every block, f32. */
static size_t run_layer(char *y, const void *x)
{
    static struct layer l;
    make_layer(&l);
    size_t own = SLOTS * row_bytes(type, DIM);
    struct ffn_job jobs[2] = {{&l.list, y, type, x, l.source, l.count, SLOTS},
                              {&l.list, y + own, DTYPE_F32, x, NULL, NULL, ROWS}};
    run_ffn(&dev, jobs, 2);
    to_host();
    return own + EXPERTS * ROWS * row_bytes(DTYPE_F32, DIM);
}

static void ffn_body(void)
{
    static const char *const names[] = {"every expert", "row by row", "grouped"};
    size_t most = 2 * SLOTS * EXPERTS * row_bytes(DTYPE_F32, DIM);
    void *x = typed_rows(ROWS, DIM, 0.5f);
    char *plain = scratch(most), *slow = scratch(most);
    const struct kernels *fast = dev.kernels;
    size_t bytes = run_layer(plain, x);
    for (int how = 0; how < EAGER_COUNT; how++) {
        dev_make_eager(&dev, (enum eager)how);
        memset(slow, 0x55, most);
        assert_int_equal(run_layer(slow, x), bytes);
        same(slow, plain, bytes, names[how]);
    }
    dev.kernels = fast;
}

static void matmul_of(const struct matmul_case *c, float *y, const void *x)
{
    seed = 9;
    struct weights w = random_weights(c->n, c->k, c->bias);
    matmul(&dev, y, c->n, x, &w.m, c->rows);
    matmul_add(&dev, y, c->n, x, &w.m, c->rows);
    to_host();
}

static void matmul_body(void)
{
    for (int c = 0; c < LENGTH(matmul_cases); c++) {
        const struct matmul_case *it = &matmul_cases[c];
        size_t bytes = (size_t)(it->rows * it->n) * sizeof(float);
        void *x = typed_rows(it->rows, it->k, 1);
        float *plain = scratch(bytes), *slow = scratch(bytes);
        const struct kernels *fast = dev.kernels;
        matmul_of(it, plain, x);
        dev_make_eager(&dev, EAGER_GROUPED);
        matmul_of(it, slow, x);
        same(slow, plain, bytes, "matmul");
        dev.kernels = fast;
        drain();
    }
}

static void on_plain(void (*body)(void))
{
    skip_without_cpu();
    start_over();
    open_dev(ISA_PLAIN, 1);
    in_types(DTYPE_F32, body);
}

static void test_ffn(void **state)
{
    (void)state;
    on_plain(ffn_body);
}

static void test_matmul(void **state)
{
    (void)state;
    on_plain(matmul_body);
}

/* From plain C on one thread to the best on two, and back: what dev_use_cpu says counts. */
static void test_use(void **state)
{
    (void)state;
    skip_without_cpu();
    enum isa best;
    assert_int_equal(isa_choose(&best, isa_available()), STATUS_OK);
    open_dev(best, 2);
    const struct cpu_isa *loops = dev.cpu;
    dev_use_cpu(&dev, ISA_PLAIN, 1);
    assert_true(dev.cpu == &isa_plain && dev.isa == ISA_PLAIN && dev.threads == 1);
    dev_use_cpu(&dev, best, 2);
    assert_true(dev.cpu == loops && dev.isa == best && dev.threads == 2);
    close_dev();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ffn),
        cmocka_unit_test(test_matmul),
        cmocka_unit_test(test_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
