/* Routing drawn at random: different experts in each row, as often as the skew says, and a row
 * depends on its number and the seed alone. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "study/traffic.h"
#include "tests/rig/cm.h"
#include "tests/rig/text_files.h"

enum { EXPERTS = 12, K = 3, ROWS = 4000 };

static struct traffic draw(const char *skew, int n, uint64_t seed, struct arena *memory)
{
    struct traffic t;
    double *weights;
    assert_int_equal(skew_parse(&weights, skew, EXPERTS, K, memory), 0);
    traffic_draw(&t, weights, EXPERTS, n, K, seed, memory);
    return t;
}

static void count(int *rows, int *first, const struct traffic *t)
{
    memset(rows, 0, EXPERTS * sizeof *rows);
    memset(first, 0, EXPERTS * sizeof *first);
    for (int i = 0; i < t->n * K; i++) {
        assert_in_range(t->expert[i], 0, EXPERTS - 1);
        for (int j = i % K; j > 0; j--)
            assert_int_not_equal(t->expert[i], t->expert[i - j]);
        rows[t->expert[i]]++;
        first[t->expert[i]] += i % K == 0;
    }
}

/* The first choice of each row is drawn by the weights alone: five deviations of its binomial. */
static void check_first(const int *first, const double *share)
{
    for (int e = 0; e < EXPERTS; e++) {
        double expected = ROWS * share[e], deviation = sqrt(expected * (1 - share[e]));
        if (fabs(first[e] - expected) > 5 * deviation + 1)
            fail_msg("expert %d: expected %.0f first choices, found %d", e, expected, first[e]);
    }
}

static void test_skews(void **state)
{
    struct arena memory = {0};
    double even[EXPERTS], zipf[EXPERTS], sum = 0;
    int rows[EXPERTS], first[EXPERTS];
    (void)state;
    for (int e = 0; e < EXPERTS; e++) {
        even[e] = 1.0 / EXPERTS;
        sum += zipf[e] = 1 / ((e + 1) * sqrt(e + 1));
    }
    for (int e = 0; e < EXPERTS; e++)
        zipf[e] /= sum;
    struct traffic t = draw("uniform", ROWS, 1, &memory);
    count(rows, first, &t);
    check_first(first, even);
    t = draw("zipf:1.5", ROWS, 1, &memory);
    count(rows, first, &t);
    check_first(first, zipf);
    assert_true(rows[0] > rows[EXPERTS - 1]);
    arena_free(&memory);
}

static void test_rows_alone(void **state)
{
    struct arena memory = {0};
    (void)state;
    struct traffic all = draw("zipf:1", 100, 5, &memory), some = draw("zipf:1", 7, 5, &memory);
    struct traffic other = draw("zipf:1", 100, 6, &memory);
    assert_memory_equal(all.expert, some.expert, 7 * K * sizeof *all.expert);
    assert_memory_equal(all.weight, some.weight, 7 * K * sizeof *all.weight);
    assert_memory_not_equal(all.expert, other.expert, 100 * K * sizeof *all.expert);
    arena_free(&memory);
}

static void test_file(void **state)
{
    struct arena memory = {0};
    int rows[EXPERTS], first[EXPERTS];
    char dir[] = "/tmp/skewXXXXXX";
    (void)state;
    assert_non_null(mkdtemp(dir));
    write_text(dir, "skew.json", "[0, 1, 0, 1, 0, 1e-9, 0, 0, 0, 0, 0, 0]");
    char *path = path_join(dir, "skew.json");
    struct traffic t = draw(path, 500, 2, &memory);
    count(rows, first, &t);
    assert_int_equal(rows[1], 500);
    assert_int_equal(rows[3], 500);
    assert_int_equal(rows[5], 500); // the only one left
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0);
    free(path);
    arena_free(&memory);
}

/* Each is refused with the place, what was expected and what was found. */
static void test_refused(void **state)
{
    static const struct {
        const char *text, *says;
        int status;
    } cases[] = {
        {"[1, 2]", "expected a list of numbers, one for each of 12 experts, found",
         STATUS_BAD_FILE},
        {"{}", "expected a list of numbers, one for each of 12 experts, found", STATUS_BAD_FILE},
        {"[1,1,1,1,1,1,1,-1,1,1,1,1]", "[7]: expected a number from 0 to 1e300, found -1",
         STATUS_BAD_FILE},
        {"[1,1,1,1,1,1,1,1,1,1,1,NaN]", "[11]: expected a number from 0 to 1e300, found NaN",
         STATUS_BAD_FILE},
        {"[1,1,1,1,1,\"a\",1,1,1,1,1,1]", "[5]: expected a number from 0 to 1e300, found \"a\"",
         STATUS_BAD_FILE},
        {"[1,0,0,0,0,0,0,0,0,0,0,1]", "expected at least 3 experts above 0, found 2",
         STATUS_BAD_FILE},
    };
    struct arena memory = {0};
    char dir[] = "/tmp/skewXXXXXX";
    double *weights;
    (void)state;
    assert_non_null(mkdtemp(dir));
    char *path = path_join(dir, "skew.json");
    error_capture(true);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_text(dir, "skew.json", cases[i].text);
        int status = skew_parse(&weights, path, EXPERTS, K, &memory);
        if (status != cases[i].status || !strstr(error_text(), cases[i].says) ||
            !strstr(error_text(), path))
            fail_msg("%s: found %d, \"%s\"", cases[i].text, status, error_text());
    }
    static const char *const words[] = {"zipf:", "zipf:9", "zipf:-1", "zipf:nan", "zipf:1x"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        assert_int_equal(skew_parse(&weights, words[i], EXPERTS, K, &memory), STATUS_USAGE);
    assert_int_equal(skew_parse(&weights, "evenly", EXPERTS, K, &memory), STATUS_BAD_FILE);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0);
    free(path);
    arena_free(&memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_skews),
        cmocka_unit_test(test_rows_alone),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
