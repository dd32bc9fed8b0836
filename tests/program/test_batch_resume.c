/* epmoe batch: what a crash at any byte of the output, a full disk or a bad start leave. */
#include <signal.h>

#include "tests/rig/batch_rig.h"
#include "tests/rig/pairs.h"

/* Whether a crash at this byte is tried: all; or those about the end of a line, and of the others,
 * which leave a torn line each, one in STRIDE. */
static bool tries(const char *text, size_t bytes, size_t cut)
{
    enum { STRIDE = 29 };
    bool ends = false;
    for (size_t i = cut < 2 ? 0 : cut - 2; i <= cut && i < bytes; i++)
        ends = ends || text[i] == '\n';
    return !pairs_only() || ends || cut < 2 || cut == bytes || cut % STRIDE == 0;
}

/* The file after a crash at each of its bytes, gone on with. */
static void what_a_crash_leaves_is_gone_on_with(void **state)
{
    (void)state;
    char *in = mixed_input(8), *whole = batch_text(in, "--max-batch 3"), what[64];
    size_t bytes = strlen(whole), n;
    for (size_t cut = 0; cut <= bytes; cut++) {
        if (!tries(whole, bytes, cut))
            continue;
        write_file(output, whole, cut);
        assert_int_equal(batch("--max-batch 3 --resume"), 0);
        char *text = read_text(output, &n);
        snprintf(what, sizeof what, "cut at byte %zu", cut);
        expect_same_lines(text, whole, what);
        assert_memory_equal(text, whole, cut && whole[cut - 1] == '\n' ? cut : 0);
        free(text);
    }
    free(whole);
    free(in);
}

static void zeros_at_the_end_are_cut(void **state)
{
    (void)state;
    char *in = mixed_input(3), *whole = batch_text(in, "");
    size_t bytes = strlen(whole), n;
    char *torn = calloc(bytes + 50, 1);
    memcpy(torn, whole, (size_t)(strchr(whole, '\n') + 1 - whole));
    write_file(output, torn, bytes + 50);
    assert_int_equal(batch("--resume"), 0);
    char *text = read_text(output, &n);
    expect_same_lines(text, whole, "zeros");
    free(text);
    free(torn);
    free(whole);
    free(in);
}

static void a_foreign_file_is_left_alone(void **state)
{
    (void)state;
    static const char *const files[] = {"notes, without a newline",
                                        "notes\n",
                                        "{\"a\": 1}\n",
                                        "{\"id\": \"x\", \"prompt\": \"a\"}\n",
                                        "{\"id\": \"x\", \"error\": \"e\"}\nnotes\n",
                                        "{\"id\": 1, \"error\": \"e\"}\n"};
    write_file(input, GOOD "\n", strlen(GOOD) + 1);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        size_t bytes;
        write_file(output, files[i], strlen(files[i]));
        assert_int_equal(batch("--resume"), STATUS_BAD_FILE);
        assert_non_null(strstr(error_text(), "expected a line that epmoe batch wrote"));
        assert_int_equal(batch(""), STATUS_USAGE);
        assert_non_null(strstr(error_text(), "--resume"));
        char *text = read_text(output, &bytes);
        assert_string_equal(text, files[i]);
        free(text);
    }
}

static void a_full_disk_keeps_whole_lines(void **state)
{
    (void)state;
    struct rlimit old, low;
    char *in = mixed_input(20), *whole = batch_text(in, ""), *part;
    size_t bytes = strlen(whole), n;
    getrlimit(RLIMIT_FSIZE, &old);
    low = old;
    low.rlim_cur = bytes / 2;
    unlink(output);
    signal(SIGXFSZ, SIG_IGN); // as the program does
    setrlimit(RLIMIT_FSIZE, &low);
    int status = batch("");
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(status, STATUS_FAILED);
    part = read_text(output, &n);
    assert_true(n > 0 && n <= bytes / 2 && part[n - 1] == '\n');
    free(part);
    assert_int_equal(batch("--resume"), 0);
    part = read_text(output, &n);
    expect_same_lines(part, whole, "after a full disk");
    assert_int_equal(batch("-o /dev/full"), STATUS_FAILED);
    assert_int_equal(batch("-o /dev/null"), 0);
    free(part);
    free(whole);
    free(in);
}

static void a_failed_start_leaves_no_output(void **state)
{
    (void)state;
    char path[128];
    write_file(input, GOOD "\n", strlen(GOOD) + 1);
    snprintf(path, sizeof path, "%s/model.safetensors", model);
    assert_int_equal(truncate(path, 1000), 0);
    assert_int_equal(batch(""), STATUS_BAD_FILE);
    assert_int_not_equal(access(output, F_OK), 0);
    unlink(input);
    assert_int_equal(batch(""), STATUS_BAD_FILE);
    assert_int_equal(batch("--kv-memory much"), STATUS_USAGE);
    assert_int_equal(batch("--max-batch 0"), STATUS_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_a_crash_leaves_is_gone_on_with), TEST(zeros_at_the_end_are_cut),
        TEST(a_foreign_file_is_left_alone),        TEST(a_full_disk_keeps_whole_lines),
        TEST(a_failed_start_leaves_no_output),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
