/* The ground floor: number conversions, JSON, files, arenas, messages. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pty.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/dtype.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/pulse.h"
#include "tests/rig/cm.h"

static void halves_survive_a_round_trip(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float from_f16 = f16_to_float((f16)h), from_bf16 = bf16_to_float((bf16)h);
        if (!isnan(from_f16))
            assert_int_equal(float_to_f16(from_f16), h);
        else
            assert_true(isnan(f16_to_float(float_to_f16(from_f16))));
        if (!isnan(from_bf16))
            assert_int_equal(float_to_bf16(from_bf16), h);
        else
            assert_true(isnan(bf16_to_float(float_to_bf16(from_bf16))));
    }
}

/* Between two neighbours the nearer one, and of two equally near ones the even one. */
static void rounding_is_to_nearest_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7bff; h++) {
        float low = f16_to_float((f16)h), high = f16_to_float((f16)(h + 1));
        float middle = (low + high) / 2;
        assert_int_equal(float_to_f16(middle), h % 2 == 0 ? h : h + 1);
        assert_int_equal(float_to_f16(nextafterf(middle, low)), h);
        assert_int_equal(float_to_f16(nextafterf(middle, high)), h + 1);
        assert_int_equal(float_to_f16(-middle), 0x8000 | (h % 2 == 0 ? h : h + 1));
    }
    for (uint32_t h = 0x80; h < 0x7f7f; h += 13) {
        float middle = bits_to_float(h << 16 | 0x8000);
        assert_int_equal(float_to_bf16(middle), h % 2 == 0 ? h : h + 1);
        assert_int_equal(float_to_bf16(bits_to_float(h << 16 | 0x7fff)), h);
        assert_int_equal(float_to_bf16(bits_to_float(h << 16 | 0x8001)), h + 1);
    }
    assert_int_equal(float_to_f16(65519.0f), 0x7bff);
    assert_int_equal(float_to_f16(65520.0f), 0x7c00);
    assert_int_equal(float_to_f16(-INFINITY), 0xfc00);
    assert_int_equal(float_to_bf16(INFINITY), 0x7f80);
}

static void unaligned_elements_load(void **state)
{
    (void)state;
    float f = 1.5f;
    char bytes[9] = {0};
    memcpy(bytes + 1, &f, 4);
    assert_true(dtype_load(DTYPE_F32, bytes + 1, 0) == 1.5f);
    assert_true(dtype_load(DTYPE_BF16, bytes + 3, 0) == 1.5f); // the upper half
    assert_true(dtype_round(DTYPE_BF16, 1.0f + 0x1p-9f) == 1.0f);
    assert_true(dtype_round(DTYPE_F16, 1.0f + 0x1p-9f) == 1.0f + 0x1p-9f);
}

struct bad_json {
    const char *text, *says;
};

static void bad_json_is_refused(void **state)
{
    (void)state;
    static const struct bad_json cases[] = {
        {"", "expected JSON"},
        {"{", "expected JSON"},
        {"{\"a\":1,\"a\":2}", "a"},
        {"[nan]", "at byte 4 (line 1): invalid token"},
        {"[NaN, Infinit]", "at byte 13 (line 1): invalid token"},
        {"[99999999999999999999, 1e999, -Infinity,\n x]", "at byte 43 (line 2): invalid token"},
        {"[99999999999999999999999-]", "at byte"},
        {"[\"NaN\", \"\\\"", "expected JSON"},
        {"[\"\xff\"]", "unable to decode byte"},
        {"[1] x", "end of file expected"},
    };
    error_capture(true);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_null(js_parse(cases[i].text, strlen(cases[i].text), "case.json"));
        assert_non_null(strstr(error_text(), "case.json"));
        assert_non_null(strstr(error_text(), cases[i].says));
    }
    char deep[8192];
    memset(deep, '[', sizeof deep);
    assert_null(js_parse(deep, sizeof deep, "deep"));
    error_capture(false);
}

static void numbers_of_pythons_json_are_read(void **state)
{
    (void)state;
    const char *text = "{\"NaN\": [\"\\\"NaN, 99999999999999999999\", NaN, Infinity, -Infinity, "
                       "1000000000000000019884624838656, -1e999, 9223372036854775807, "
                       "9223372036854775808, 1.5]}";
    struct js *root = js_parse(text, strlen(text), "t");
    const struct js *a = js_member(root, "NaN");
    assert_string_equal(js_string(js_item(a, 0), NULL), "\"NaN, 99999999999999999999");
    assert_true(isnan(js_number(js_item(a, 1))));
    assert_true(js_number(js_item(a, 2)) == (double)INFINITY);
    assert_true(js_number(js_item(a, 3)) == -(double)INFINITY);
    assert_true(js_number(js_item(a, 4)) == 1e30 && !js_is_int(js_item(a, 4)));
    assert_true(js_number(js_item(a, 5)) == -(double)INFINITY);
    assert_true(js_int(js_item(a, 6)) == INT64_MAX);
    assert_true(js_number(js_item(a, 7)) == 0x1p63 && !js_is_int(js_item(a, 7)));
    assert_true(js_number(js_item(a, 8)) == 1.5);
    js_free(root);
}

static void json_reads_in_order(void **state)
{
    (void)state;
    const char *text = "{\"z\": 1, \"a\": [true, null, \"x\\u0000y\", 2.5], \"m\": {}}";
    struct js *root = js_parse(text, strlen(text), "t");
    const char *expected[] = {"z", "a", "m"};
    int n = 0;
    for (struct js_entry e = js_first(root); e.key; e = js_next(root, e))
        assert_string_equal(e.key, expected[n++]);
    assert_int_equal(n, 3);
    size_t bytes;
    const struct js *a = js_member(root, "a");
    assert_true(js_bool(js_item(a, 0)) && js_is_null(js_item(a, 1)));
    assert_memory_equal(js_string(js_item(a, 2), &bytes), "x\0y", 3);
    assert_int_equal(bytes, 3);
    assert_true(js_number(js_item(a, 3)) == 2.5);
    assert_null(js_member(js_member(root, "absent"), "x"));
    assert_string_equal(js_kind(js_member(root, "m")), "an object");
    js_free(root);
}

static void broken_utf8_becomes_a_mark(void **state)
{
    (void)state;
    size_t bytes;
    struct js *v = js_new_string("a\xe2\x82zé\xff", 7);
    assert_string_equal(js_string(v, &bytes), "a\xef\xbf\xbd\xef\xbf\xbdzé\xef\xbf\xbd");
    js_free(v);
}

static void files_appear_whole_or_not(void **state)
{
    (void)state;
    char dir[] = "/tmp/epmoe-test-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/out", dir);
    struct outfile f;
    assert_int_equal(outfile_open(&f, path), 0);
    fputs("half", f.stream);
    outfile_abort(&f);
    assert_false(file_exists(path));
    assert_int_equal(outfile_open(&f, path), 0);
    fputs("whole", f.stream);
    assert_false(file_exists(path));
    assert_int_equal(outfile_commit(&f), 0);
    size_t bytes;
    char *text = file_read(path, 100, &bytes);
    assert_string_equal(text, "whole");
    free(text);
    error_capture(true);
    assert_null(file_read(path, 4, &bytes));
    assert_non_null(strstr(error_text(), "at most 4 bytes, found 5"));
    assert_null(file_read(dir, 4, &bytes));
    unlink(path);
    rmdir(dir);
    assert_int_equal(outfile_open(&f, path), STATUS_FAILED);
    outfile_abort(&f);
    error_capture(false);
}

static char *content_of(const char *path)
{
    size_t bytes;
    char *text = file_read(path, 100, &bytes);
    assert_non_null(text);
    return text;
}

static void write_text(const char *path, const char *text)
{
    struct outfile f;
    assert_int_equal(outfile_open(&f, path), 0);
    fputs(text, f.stream);
    assert_int_equal(outfile_commit(&f), 0);
}

/* A link stays, and so do a file's permissions; what stands for an open file is written as it is.
 */
static void links_lead_to_what_is_written(void **state)
{
    (void)state;
    char dir[] = "/tmp/epmoe-test-XXXXXX", open_one[64];
    struct stat st;
    assert_non_null(mkdtemp(dir));
    char *target = path_join(dir, "target"), *near = path_join(dir, "near"),
         *far = path_join(dir, "far"), *text;
    write_text(target, "old");
    assert_int_equal(chmod(target, 0600), 0);
    assert_true(symlink("target", near) == 0 && symlink(near, far) == 0);
    write_text(far, "new");
    assert_true(lstat(far, &st) == 0 && S_ISLNK(st.st_mode));
    assert_true(lstat(target, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 0777) == 0600);
    text = content_of(target);
    assert_string_equal(text, "new");
    free(text);
    int fd = open(target, O_WRONLY | O_APPEND);
    snprintf(open_one, sizeof open_one, "/proc/self/fd/%d", fd);
    write_text(open_one, "er");
    text = content_of(target);
    assert_string_equal(text, "newer");
    free(text);
    close(fd);
    assert_true(unlink(target) == 0 && file_exists(near));
    error_capture(true);
    assert_null(file_read(near, 100, (size_t[1]){0}));
    write_text(near, "made");
    assert_true(lstat(near, &st) == 0 && S_ISLNK(st.st_mode) && file_exists(target));
    assert_int_equal(outfile_check_apart(far, target), STATUS_USAGE);
    assert_int_equal(outfile_check_apart(far, dir), 0);
    assert_int_equal(outfile_check_apart("/dev/null", "/dev/null"), 0);
    assert_int_equal(outfile_check_apart("-", "-"), 0); // stdout and stdin
    assert_int_equal(outfile_check("-"), STATUS_USAGE);
    error_capture(false);
    assert_true(unlink(far) == 0 && unlink(near) == 0 && unlink(target) == 0 && rmdir(dir) == 0);
    free(target);
    free(near);
    free(far);
}

/* A pipe to which nobody writes would be waited for for ever. */
static void only_plain_files_are_read(void **state)
{
    (void)state;
    char path[] = "/tmp/epmoe-test-XXXXXX";
    size_t bytes;
    int fd = mkstemp(path);
    assert_true(fd >= 0 && close(fd) == 0 && unlink(path) == 0 && mkfifo(path, 0600) == 0);
    error_capture(true);
    assert_null(file_read(path, 100, &bytes));
    assert_non_null(strstr(error_text(), "expected a plain file"));
    error_capture(false);
    unlink(path);
}

/* A stream says why its first failed write failed, also if errno has changed since. */
static void a_file_says_why_it_cannot_be_written(void **state)
{
    (void)state;
    struct outfile f;
    char text[10000] = {1};
    assert_int_equal(outfile_open(&f, "/dev/full"), 0);
    fwrite(text, 1, sizeof text, f.stream);
    errno = 0;
    error_capture(true);
    assert_int_equal(outfile_commit(&f), STATUS_FAILED);
    assert_string_equal(error_text(), "/dev/full: cannot be written: No space left on device");
    error_capture(false);
}

static void write_one(const char *path)
{
    struct outfile f;
    assert_int_equal(outfile_open(&f, path), 0);
    assert_int_equal(outfile_commit(&f), 0);
}

static void a_set_of_files_stays_or_goes(void **state)
{
    (void)state;
    char root[] = "/tmp/epmoe-test-XXXXXX";
    assert_non_null(mkdtemp(root));
    char *dir = path_join(root, "made"), *path = path_join(dir, "file"),
         *own = path_join(root, "own");
    mkdir(dir, 0700);
    write_one(own); // not of the set
    outfiles_begin(dir);
    write_one(path);
    assert_int_equal(outfiles_end(false), 1);
    assert_false(file_exists(dir));
    assert_true(file_exists(own));
    mkdir(dir, 0700);
    outfiles_begin(NULL);
    write_one(path);
    assert_int_equal(outfiles_end(true), 0);
    assert_true(file_exists(path));
    unlink(path);
    rmdir(dir);
    unlink(own);
    rmdir(root);
    free(own);
    free(path);
    free(dir);
}

/* A bar on a terminal, here one end of a pair, that is updated once and then left alone. */
static void a_bar_that_stands_says_so(void **state)
{
    (void)state;
    int terminal, end, saved = dup(STDERR_FILENO);
    assert_int_equal(openpty(&terminal, &end, NULL, NULL, NULL), 0);
    dup2(end, STDERR_FILENO);
    struct progress p;
    char text[4096];
    size_t n = 0;
    progress_open(&p, "loading", "GB", 10, 1);
    pthread_mutex_lock(&p.mutex);
    p.stall_ns = 1000000; // or the test would take five seconds
    pthread_mutex_unlock(&p.mutex);
    progress_update(&p, 5);
    text[0] = 0;
    while (n + 256 < sizeof text && !strstr(text, "no progress for")) {
        ssize_t got = read(terminal, text + n, 255);
        assert_true(got > 0);
        n += (size_t)got;
        text[n] = 0;
    }
    progress_close(&p);
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(end);
    close(terminal);
    assert_non_null(strstr(text, "loading ["));
    assert_non_null(strstr(text, " 50 %"));
    assert_non_null(strstr(text, "no progress for"));
}

static void arenas_hand_out_zeroed_aligned_memory(void **state)
{
    (void)state;
    struct arena a = {0};
    for (int round = 0; round < 3; round++) {
        for (size_t bytes = 1; bytes < 10000000; bytes = bytes * 3 + 1) {
            char *p = arena_alloc(&a, bytes);
            assert_int_equal((uintptr_t)p % 64, 0);
            assert_true(p[0] == 0 && p[bytes - 1] == 0);
            memset(p, 0xff, bytes);
        }
        arena_reset(&a);
    }
    arena_free(&a);
    assert_null(a.blocks);
}

/* Each in huge pages of its own would waste up to 2 MiB of memory a piece. */
static void large_pieces_lie_side_by_side(void **state)
{
    (void)state;
    struct arena a = {0};
    const size_t bytes = (3u << 20) + 64;
    char *before = arena_alloc(&a, bytes);
    for (int i = 1; i < 8; i++) {
        char *next = arena_alloc(&a, bytes);
        assert_ptr_equal(next, before + bytes);
        before = next;
    }
    arena_free(&a);
}

/* mincore() fails where nothing is mapped. */
static bool is_mapped(void *page)
{
    unsigned char resident;
    return mincore(page, 1, &resident) == 0;
}

static void arenas_adopt_mappings(void **state)
{
    (void)state;
    struct arena a = {0};
    for (int way = 0; way < 2; way++) {
        void *pages[2];
        for (int i = 0; i < 2; i++) {
            pages[i] = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            assert_true(pages[i] != MAP_FAILED);
            arena_adopt(&a, pages[i], 8192);
        }
        assert_true(is_mapped(pages[0]) && is_mapped(pages[1]));
        (way ? arena_free : arena_reset)(&a);
        assert_true(!is_mapped(pages[0]) && !is_mapped(pages[1]));
    }
}

static void errors_are_kept_and_made_harmless(void **state)
{
    (void)state;
    error_capture(true);
    assert_int_equal(fail(STATUS_BAD_FILE, "%s: \033[2J\n%d", "f", 7), STATUS_BAD_FILE);
    assert_string_equal(error_text(), "f: \\x1b[2J\\x0a7");
    error_capture(false);
    assert_string_equal(error_text(), "");
}

/* Others see it move ten times a second for two minutes, and nothing is taken back after. */
static void a_wait_for_a_gpu_is_a_pulse_for_a_while(void **state)
{
    (void)state;
    const int64_t second = 1000000000;
    struct pulse p = {.count = 7};
    assert_int_equal(pulse_seen(&p, second), 7);
    pulse_device_begin(); // nobody's
    pulse_bind(&p);
    pulse_device_begin();
    int64_t since = p.device_since_ns;
    assert_true(since > 0);
    assert_int_equal(pulse_seen(&p, since - second), 7);
    assert_int_equal(pulse_seen(&p, since + second / 2), 7 + 5);
    assert_int_equal(pulse_seen(&p, since + 119 * second), 7 + 1190);
    assert_int_equal(pulse_seen(&p, since + 121 * second), 7 + 1200);
    assert_int_equal(pulse_seen(&p, since + 3600 * second), 7 + 1200);
    p.device_since_ns = since - 3600 * second; // it took an hour
    pulse_device_end();
    assert_int_equal(p.device_since_ns, 0);
    assert_int_equal(pulse_seen(&p, since), 7 + 1200);
    pulse_bind(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(halves_survive_a_round_trip),
        cmocka_unit_test(rounding_is_to_nearest_even),
        cmocka_unit_test(unaligned_elements_load),
        cmocka_unit_test(bad_json_is_refused),
        cmocka_unit_test(json_reads_in_order),
        cmocka_unit_test(numbers_of_pythons_json_are_read),
        cmocka_unit_test(broken_utf8_becomes_a_mark),
        cmocka_unit_test(files_appear_whole_or_not),
        cmocka_unit_test(a_file_says_why_it_cannot_be_written),
        cmocka_unit_test(links_lead_to_what_is_written),
        cmocka_unit_test(only_plain_files_are_read),
        cmocka_unit_test(a_bar_that_stands_says_so),
        cmocka_unit_test(a_set_of_files_stays_or_goes),
        cmocka_unit_test(a_wait_for_a_gpu_is_a_pulse_for_a_while),
        cmocka_unit_test(arenas_hand_out_zeroed_aligned_memory),
        cmocka_unit_test(large_pieces_lie_side_by_side),
        cmocka_unit_test(arenas_adopt_mappings),
        cmocka_unit_test(errors_are_kept_and_made_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
