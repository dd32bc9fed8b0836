/* How rows travel, as words and as options. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "exchange/options.h"
#include "tests/rig/cm.h"

static void words_and_options_agree(void **state)
{
    (void)state;
    struct exchange_options o = {0}, back;
    for (int i = 0; i < 108; i++) {
        o = (struct exchange_options){(enum strategy)(i % 3), (enum combine)(i / 3 % 2),
                                      (enum dedup)(i / 6 % 2), (enum wire)(i / 12 % 3),
                                      (enum overlap)(i / 36)};
        struct exchange_words words = exchange_words(&o);
        assert_int_equal(exchange_understand(&back, &words), 0);
        assert_memory_equal(&o, &back, sizeof o);
    }
}

static void unknown_words_are_refused(void **state)
{
    (void)state;
    static const struct {
        struct exchange_words words;
        const char *says;
    } cases[] = {
        {{"exactly", "rows", "on", "model", "off"}, "strategy, found \"exactly\""},
        {{"exact", "", "on", "model", "off"}, "combine, found \"\""},
        {{"exact", "rows", "maybe", "model", "off"}, "dedup, found \"maybe\""},
        {{"exact", "rows", "on", "f16", "off"}, "wire, found \"f16\""},
        {{"exact", "rows", "on", "model", "o"}, "overlap, found \"o\""},
    };
    error_capture(true);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct exchange_options o;
        char says[120];
        snprintf(says, sizeof says, "setup: expected a known %s", cases[i].says);
        assert_int_equal(exchange_understand(&o, &cases[i].words), STATUS_FAILED);
        assert_string_equal(error_text(), says);
    }
    error_capture(false);
}

static void a_wire_is_no_wider_than_the_model(void **state)
{
    (void)state;
    static const struct {
        enum wire asked;
        enum dtype type;
        int status;
        enum wire given;
    } cases[] = {
        {WIRE_BF16, DTYPE_F32, 0, WIRE_BF16},    {WIRE_BF16, DTYPE_BF16, 0, WIRE_MODEL},
        {WIRE_BF16, DTYPE_F16, STATUS_USAGE, 0}, {WIRE_INT8, DTYPE_F16, 0, WIRE_INT8},
        {WIRE_INT8, DTYPE_F32, 0, WIRE_INT8},    {WIRE_MODEL, DTYPE_F16, 0, WIRE_MODEL},
    };
    error_capture(true);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct exchange_options o = {.wire = cases[i].asked};
        assert_int_equal(exchange_choose_wire(&o, cases[i].type), cases[i].status);
        if (cases[i].status)
            assert_string_equal(error_text(), "--wire bf16: expected an f32 model, found f16");
        else
            assert_int_equal(o.wire, cases[i].given);
    }
    error_capture(false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unknown_words_are_refused),
        cmocka_unit_test(words_and_options_agree),
        cmocka_unit_test(a_wire_is_no_wider_than_the_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
