/* The file that nccl-tests' alltoallv_perf reads: what is taken from it, what is refused, and that
 * what is written is read again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "study/byte_matrix.h"
#include "tests/rig/cm.h"

static void test_larger(void **state)
{
    struct byte_matrix m;
    static const uint64_t expected[] = {1, 2, 4, 5};
    (void)state;
    assert_int_equal(byte_matrix_parse(&m, "\n 1\t2 3\r\n\n4 5 6  \n7 8 9", 2, "m"), 0);
    assert_memory_equal(m.bytes, expected, sizeof expected);
    byte_matrix_free(&m);
}

static void test_refused(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "m: expected as many rows as columns, 2 or more, found 0"},
        {"1 2", "m: expected as many rows as columns, 2 or more, found 1"},
        {"1 2\n3 4\n5 6", "m: expected as many rows as columns, 2 or more, found 3"},
        {"1 2 3\n4 5 6", "m: expected as many rows as columns, 3 or more, found 2"},
        {"1 2\n3", "m: row 1: expected 2 columns or more, one for each rank, found 1"},
        {"1 2\n3 4 5", "m: row 1: expected 2 columns, found 3"},
        {"1 2\n3 -4", "m: row 1, column 1: expected bytes, a whole number"},
        {"1 2\n3 4.5", "found \"4.5\""},
        {"1 2\n3 4x", "found \"4x\""},
        {"1 2\n3 0x4", "found \"0x4\""},
        {"1 1099511627777\n3 4", "m: row 0, column 1: expected bytes, a whole number up to "
                                 "1099511627776, found \"1099511627777\""},
        {"1 99999999999999999999\n3 4", "row 0, column 1"},
    };
    (void)state;
    error_capture(true);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct byte_matrix m;
        int status = byte_matrix_parse(&m, cases[i].text, 2, "m");
        if (status != STATUS_BAD_FILE || !strstr(error_text(), cases[i].says) || m.bytes)
            fail_msg("\"%s\": found %d, \"%s\"", cases[i].text, status, error_text());
    }
}

static void test_written(void **state)
{
    uint64_t bytes[] = {0, 1, 1ull << 40, 3, 4, 5, 6, 7, 8};
    struct byte_matrix m = {3, bytes}, again;
    char path[] = "/tmp/matrixXXXXXX";
    (void)state;
    assert_int_equal(close(mkstemp(path)), 0);
    assert_int_equal(byte_matrix_write(&m, path), 0);
    assert_int_equal(byte_matrix_read(&again, path, 3), 0);
    assert_memory_equal(again.bytes, bytes, sizeof bytes);
    byte_matrix_free(&again);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(byte_matrix_read(&again, path, 3), STATUS_BAD_FILE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_larger),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
