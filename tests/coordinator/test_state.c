/* The buffers of a step: what is allocated is what was counted, and the second half of a step
 * begins where the rows of the first end. */
#include "coordinator/state.h"
#include "model/pieces.h"
#include "tests/rig/cm.h"

enum { ROWS = 10, FIRST = 6, TOP_K = 2, EXPERTS = 6, DIM = 40, HEADS = 4, HEAD_DIM = 10 };

static struct config model(void)
{
    return (struct config){.dim = DIM,
                           .n_layers = 1,
                           .n_heads = HEADS,
                           .n_kv_heads = 2,
                           .head_dim = HEAD_DIM,
                           .vocab_size = 100,
                           .ffn_dim = 96,
                           .n_experts = EXPERTS,
                           .top_k = TOP_K,
                           .expert_dim = 32,
                           .sparse = {true}};
}

static int64_t apart(const void *from, const void *to)
{
    return (const char *)to - (const char *)from;
}

static void halves_share_no_row(void **state)
{
    (void)state;
    struct config m = model();
    struct state_limits limits = {.rows = ROWS, .logit_rows = 3, .travels = true};
    struct state s;
    struct dev d;
    dev_open_cpu(&d, ISA_PLAIN, 1);
    state_open(&s, &d, &m, DTYPE_BF16, &limits);
    struct state half = state_second_half(&s, &m, DTYPE_BF16, FIRST);
    int row = 2 * row_stride(DIM), pairs = FIRST * TOP_K;
    assert_true(half.groups == s.groups && s.groups >= EXPERTS);
    assert_int_equal(half.x - s.x, FIRST * DIM);
    assert_int_equal(apart(s.h, half.h), FIRST * row);
    assert_int_equal(half.qkv - s.qkv, FIRST * (HEADS + 4) * HEAD_DIM);
    assert_int_equal(apart(s.q, half.q), FIRST * HEADS * 2 * row_stride(HEAD_DIM));
    assert_int_equal(apart(s.a, half.a), FIRST * 2 * row_stride(HEADS * HEAD_DIM));
    assert_int_equal(half.scores - s.scores, FIRST * (EXPERTS + 1));
    assert_int_equal(half.z - s.z, FIRST * pieces_most(&m) * row_stride(DIM));
    assert_int_equal(apart(s.y, half.y), pairs * row);
    assert_int_equal(half.expert - s.expert, pairs);
    assert_int_equal(half.source - s.source, pairs);
    assert_int_equal(half.weight - s.weight, pairs);
    assert_int_equal(half.count - s.count, EXPERTS);
    assert_int_equal(half.host.count - s.host.count, EXPERTS);
    assert_int_equal(apart(s.host.y, half.host.y), pairs * row);
    assert_ptr_equal(half.hit, s.hit); // one counter
    assert_null(half.logits);          // not a half's
    dev_close(&d);
}

/* With nothing but buffers to count: no ffn has a hidden row. */
static void what_is_counted_is_what_is_taken(void **state)
{
    (void)state;
    struct config m = model();
    m.ffn_dim = m.expert_dim = 0;
    for (int experts = 0; experts <= EXPERTS; experts += EXPERTS) {
        struct state_limits limits = {.rows = ROWS, .logit_rows = 3};
        struct state s;
        struct dev d;
        m.n_experts = experts;
        dev_open_cpu(&d, ISA_PLAIN, 1);
        state_open(&s, &d, &m, DTYPE_BF16, &limits);
        uint64_t counted = state_bytes(&m, precision_of(DTYPE_BF16), &limits);
        assert_true(counted <= d.bytes);
        assert_true(d.bytes < counted + 64 * 19); // each buffer is rounded up to 64 bytes
        dev_close(&d);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(halves_share_no_row),
        cmocka_unit_test(what_is_counted_is_what_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
