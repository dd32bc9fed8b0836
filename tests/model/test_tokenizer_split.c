/* The pre-tokenizer against Hugging Face tokenizers 0.23.3 (Oniguruma 6.9.10, Unicode 16): which
 * code points a class takes, how patterns cut; and which patterns are refused, as the two engines
 * read them differently, or stopped, as they run away. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "model/tokenizer_parts.h"
#include "tests/rig/cm.h"
#include "tests/rig/code_point.h"

#define GOLDEN SOURCE_DIR "/tests/golden/tokenizer/"

static size_t sizes[1024]; // of the pieces
static size_t n_pieces;

static int note_piece(struct encoding *e, const char *text, size_t bytes)
{
    (void)e;
    (void)text;
    if (n_pieces < 1024)
        sizes[n_pieces] = bytes;
    n_pieces++;
    return 0;
}

static struct tokenizer open_pattern(const char *pattern, size_t bytes)
{
    struct tokenizer t = {.n_splits = 1};
    t.splits[0] = split_pattern_new("file", "key", pattern, bytes, false);
    return t;
}

/* Cuts a text into sizes[n_pieces]. */
static int split(const char *pattern, size_t pattern_bytes, const char *text, size_t bytes)
{
    struct tokenizer t = open_pattern(pattern, pattern_bytes);
    assert_non_null(t.splits[0]);
    struct encoding e = {.t = &t, .split = split_scratch_new(&t, bytes)};
    n_pieces = 0;
    int status = split_text(&e, text, bytes, note_piece);
    split_scratch_free(e.split);
    split_pattern_free(t.splits[0]);
    return status;
}

static void test_patterns(void **state)
{
    (void)state;
    struct js *cases = js_load(GOLDEN "patterns.json", 1 << 20);
    assert_true(js_count(cases) > 30);
    for (size_t i = 0; i < js_count(cases); i++) {
        const struct js *one = js_item(cases, i), *expected = js_item(one, 2);
        size_t pattern_bytes, bytes;
        const char *pattern = js_string(js_item(one, 0), &pattern_bytes);
        const char *text = js_string(js_item(one, 1), &bytes);
        assert_int_equal(split(pattern, pattern_bytes, text, bytes), 0);
        bool same = n_pieces == js_count(expected);
        for (size_t k = 0; same && k < n_pieces; k++)
            same = sizes[k] == (size_t)js_int(js_item(expected, k));
        if (!same)
            print_error("%s cuts the text differently\n", pattern);
        assert_true(same);
    }
    js_free(cases);
}

enum { CODE_POINTS = 0x40000 }; // the planes that have characters; beyond are tags and private ones

/* Which code points a pattern of one character takes: twice the same is then two pieces. */
static bool *members_of(const char *pattern)
{
    bool *members = calloc(CODE_POINTS, 1);
    struct tokenizer t = open_pattern(pattern, strlen(pattern));
    assert_non_null(t.splits[0]);
    struct encoding e = {.t = &t, .split = split_scratch_new(&t, CODE_POINTS)};
    for (int32_t c = 0; c < CODE_POINTS; c++) {
        char twice[8];
        size_t bytes = put_code_point(twice, c);
        memcpy(twice + bytes, twice, bytes);
        n_pieces = 0;
        if (c < 0xd800 || c > 0xdfff)
            assert_int_equal(split_text(&e, twice, 2 * bytes, note_piece), 0);
        members[c] = n_pieces == 2;
    }
    split_scratch_free(e.split);
    split_pattern_free(t.splits[0]);
    return members;
}

static bool *members_in(const struct js *classes, const char *pattern)
{
    bool *members = calloc(CODE_POINTS, 1);
    const struct js *ranges = js_member(classes, pattern);
    assert_true(js_count(ranges) > 5);
    for (size_t i = 0; i < js_count(ranges); i++)
        for (int64_t c = js_int(js_item(js_item(ranges, i), 0));
             c <= js_int(js_item(js_item(ranges, i), 1)) && c < CODE_POINTS; c++)
            members[c] = true;
    return members;
}

/* PCRE2 and Oniguruma may disagree on a code point only because one of them does not know it yet.
 * With PCRE2 10.42 (Unicode 14), of letters these are 9272:
 *   U+1C89 1C8A A7CB-A7CD A7DA-A7DC 105C0-105F3 10D4A-10D65 10D6F-10D85 10EC2-10EC4 1123F-11240
 *   11380-113D3 11BC0-11BE0 11F02-11F33 1342F 13441-13446 13460-143FA 16100-1611D 16D40-16D6C 18CFF
 *   1B132 1B155 1DF25-1DF2A 1E030-1E06D 1E4D0-1E4EB 1E5D0-1E5F0 2B739 2EBF0-2EE5D 31350-323AF
 * and of digits and numbers 120:
 *   U+10D40-10D49 116D0-116E3 11BF0-11BF9 11F50-11F59 16130-16139 16D70-16D79 1CCF0-1CCF9
 * 1D2C0-1D2D3 1E4F0-1E4F9 1E5F1-1E5FA With Qwen's vocabulary, which joins no bytes of theirs, all
 * of them give the same ids anyway, but for U+1D2C0 to U+1D2D3 behind a space. White space is alike
 * everywhere: PCRE2's own \s has U+180E, which is why patterns do not get to see it. */
static void test_classes(void **state)
{
    (void)state;
    struct js *classes = js_load(GOLDEN "classes.json", 1 << 20);
    bool *unknown = members_of("\\p{Cn}"), *golden_unknown = members_in(classes, "\\p{Cn}");
    for (struct js_entry e = js_first(classes); e.key; e = js_next(classes, e)) {
        bool *ours = members_of(e.key), *golden = members_in(classes, e.key);
        int newer = 0;
        for (int32_t c = 0; c < CODE_POINTS; c++) {
            bool may_differ = unknown[c] != golden_unknown[c];
            if (ours[c] != golden[c] && !may_differ)
                print_error("%s: U+%04X differs\n", e.key, (unsigned)c);
            assert_true(ours[c] == golden[c] || may_differ);
            newer += ours[c] != golden[c];
        }
        if (strcmp(e.key, "\\s") == 0 || strcmp(e.key, "\\S") == 0)
            assert_int_equal(newer, 0);
        free(ours);
        free(golden);
    }
    free(unknown);
    free(golden_unknown);
    js_free(classes);
}

static void test_refused_patterns(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *why;
    } cases[] = {
        {"\\w+", "byte 0 an escape"},
        {"a\\b", "byte 1 an escape"},
        {"\\h", "an escape"},
        {"\\v", "an escape"},
        {"(a)\\1", "an escape"},
        {"\\x41", "an escape other than"},
        {"\\u12", "an escape other than"},
        {"a\\", "an escape"},
        {"\\p{Han}", "a property other than"},
        {"\\p{^L}", "a property other than"},
        {"\\pL", "a property other than"},
        {"[a[b]]", "a class within a class"},
        {"[a&&b]", "a class within a class"},
        {"[[:alpha:]]", "a class within a class"},
        {"[]a]", "a class that begins with ]"},
        {"[ab", "a class without an end"},
        {"[a-\\d]", "a set at the end of a range"},
        {"[\\s-x]", "a set at the end of a range"},
        {"[a-c-e]", "a hyphen in the middle"},
        {"[z-a]", "a mistake at byte"},
        {"(?i)a", "a kind of group"},
        {"(?m:.)", "a kind of group"},
        {"(?<n>a)", "a kind of group"},
        {"(?|a|b)", "a kind of group"},
        {"(?R)", "a kind of group"},
        {"(*LIMIT_MATCH=1)a", "a kind of group"},
        {"(a", "a ( without its )"},
        {"a)", "a ) too many"},
        {"*a", "a quantifier behind nothing"},
        {"a**", "a quantifier behind nothing"},
        {"a|+", "a quantifier behind nothing"},
        {"a{2}+", "behind an interval"},
        {"a{1,2}?", "behind an interval"},
        {"a{,2}", "a { that begins no"},
        {"a{x", "a { that begins no"},
        {"a{2,1}", "a mistake at byte"},
        {"(?i:ss)", "ASCII letters where case is ignored"},
        {"(?i:\xc3\xa9)", "ASCII letters where case is ignored"},
        {"(?i:\\p{Lu})", "a property where case is ignored"},
        {"(?i:\\x{e9})", "a numbered character where case is ignored"},
        {"(?<=a*)b", "a mistake at byte"},
    };
    error_capture(true);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tokenizer t = open_pattern(cases[i].pattern, strlen(cases[i].pattern));
        bool said = !t.splits[0] && strstr(error_text(), cases[i].why);
        if (!said)
            print_error("%s: expected \"%s\" in \"%s\"\n", cases[i].pattern, cases[i].why,
                        error_text());
        assert_true(said);
    }
    error_capture(false);
}

static void test_deep_pattern(void **state)
{
    (void)state;
    char pattern[400];
    memset(pattern, '(', 200);
    memset(pattern + 200, ')', 200);
    error_capture(true);
    assert_null(open_pattern(pattern, 400).splits[0]);
    assert_non_null(strstr(error_text(), "groups nested more than 63 deep"));
    char *long_pattern = calloc(1, 1 << 20);
    assert_null(open_pattern(long_pattern, 1 << 20).splits[0]);
    assert_non_null(strstr(error_text(), "at most 16384 bytes, found 1048576"));
    error_capture(false);
    free(long_pattern);
}

/* Exponential, quadratic in what a repeat walks over, quadratic in steps back. */
static void test_runaway_patterns(void **state)
{
    (void)state;
    static const char *const patterns[] = {"(?:a+)+b", "a+b|a", "a*b|a*?b|a", "(?:a|a)*b|."};
    enum { RUN = 1 << 19 };
    char *text = malloc(RUN);
    memset(text, 'a', RUN);
    memcpy(text + RUN - 2, "!b", 2); // so that a look ahead for the b settles nothing
    error_capture(true);
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        assert_int_equal(split(patterns[i], strlen(patterns[i]), text, RUN), STATUS_BAD_FILE);
        assert_non_null(strstr(error_text(), "file: pre_tokenizer: "));
    }
    error_capture(false);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patterns),         cmocka_unit_test(test_classes),
        cmocka_unit_test(test_refused_patterns), cmocka_unit_test(test_deep_pattern),
        cmocka_unit_test(test_runaway_patterns),
    };
    return cmocka_run_group_tests_name("tokenizer split", tests, NULL, NULL);
}
