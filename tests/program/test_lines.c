/* Lines in pieces of any size, from a pipe that is not always full; and the table of names. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launch/lines.h"
#include "launch/names.h"
#include "tests/rig/cm.h"

static void put(int fd, const char *text, size_t bytes)
{
    assert_int_equal(write(fd, text, bytes), bytes);
}

static void expect_line(struct line_reader *r, const char *expected)
{
    char *line;
    size_t bytes;
    assert_int_equal(lines_next(r, true, &line, &bytes), LINE_READ);
    assert_int_equal(bytes, strlen(expected));
    assert_memory_equal(line, expected, bytes);
}

static void lines_come_as_they_arrive(void **state)
{
    (void)state;
    int ends[2];
    char *line;
    size_t bytes;
    struct line_reader r;
    assert_int_equal(pipe(ends), 0);
    lines_open(&r, ends[0], 100);
    assert_int_equal(lines_next(&r, false, &line, &bytes), LINE_NOT_YET);
    put(ends[1], "one\n\ntw", 7);
    expect_line(&r, "one");
    expect_line(&r, "");
    assert_int_equal(lines_next(&r, false, &line, &bytes), LINE_NOT_YET);
    put(ends[1], "o\nthree", 7);
    expect_line(&r, "two");
    assert_int_equal(lines_next(&r, false, &line, &bytes), LINE_NOT_YET);
    close(ends[1]);
    expect_line(&r, "three"); // the last may lack its newline
    assert_int_equal(lines_next(&r, true, &line, &bytes), LINE_END);
    assert_int_equal(lines_next(&r, false, &line, &bytes), LINE_END);
    lines_close(&r);
    close(ends[0]);
}

/* A million bytes of lines of 0 to 300 bytes, of which those over 200 are too long. */
static void long_lines_go_by(void **state)
{
    (void)state;
    enum { LINES = 7000, MOST = 200, LONGEST = 300, HUGE = 3 << 20 };
    FILE *f = tmpfile();
    char *line, *text = malloc(HUGE);
    size_t bytes;
    uint32_t x = 9, y = 9;
    struct line_reader r;
    assert_non_null(f);
    memset(text, 'a', HUGE);
    for (int i = 0; i < LINES; i++, x = x * 1664525u + 1013904223u)
        fprintf(f, "%.*s\n", (int)((x >> 8) % LONGEST), text);
    fwrite(text, 1, HUGE, f);
    fputs("\nend\n", f);
    rewind(f);
    lines_open(&r, fileno(f), MOST);
    for (int i = 0; i < LINES; i++, y = y * 1664525u + 1013904223u) {
        size_t length = (y >> 8) % LONGEST;
        enum line_result got = lines_next(&r, true, &line, &bytes);
        assert_int_equal(got, length > MOST ? LINE_TOO_LONG : LINE_READ);
        if (got == LINE_READ)
            assert_int_equal(bytes, length);
    }
    assert_int_equal(lines_next(&r, true, &line, &bytes), LINE_TOO_LONG);
    assert_true(r.room < HUGE / 4); // what is too long is not kept
    expect_line(&r, "end");
    assert_int_equal(lines_next(&r, true, &line, &bytes), LINE_END);
    lines_close(&r);
    fclose(f);
    free(text);
}

static void names_keep_their_numbers(void **state)
{
    (void)state;
    enum { N = 20000 };
    struct names t = {0};
    char name[32];
    for (int i = 0; i < N; i++) {
        int bytes = snprintf(name, sizeof name, "name %d", i);
        int64_t *number = names_at(&t, name, (size_t)bytes);
        assert_int_equal(*number, 0);
        *number = i + 1;
    }
    for (int i = 0; i < N; i++) {
        int bytes = snprintf(name, sizeof name, "name %d", i);
        assert_int_equal(*names_at(&t, name, (size_t)bytes), i + 1);
    }
    assert_int_equal(t.count, N);
    *names_at(&t, "a\0b", 3) = 5; // any byte
    assert_int_equal(*names_at(&t, "a\0c", 3), 0);
    assert_int_equal(*names_at(&t, "a\0b", 3), 5);
    assert_int_equal(*names_at(&t, "", 0), 0);
    names_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_come_as_they_arrive),
        cmocka_unit_test(long_lines_go_by),
        cmocka_unit_test(names_keep_their_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
