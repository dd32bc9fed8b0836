/* The tokenizer against Hugging Face tokenizers 0.23.3: golden/tokenizer/ was written by
 * tools/make_tokenizer_golden.py. Without arguments: the shipped vocabulary and everything else.
 *
 *   test_tokenizer TOKENIZER.JSON IDS.JSONL      another vocabulary on the same strings
 *
 * What is known to differ, and may, is written down at test_classes() in test_tokenizer_split.c. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "model/tokenizer_parts.h"
#include "tests/rig/cm.h"

#define GOLDEN SOURCE_DIR "/tests/golden/tokenizer/"

static const char *vocabulary_path = SOURCE_DIR "/models/austen-moe/tokenizer.json";
static const char *ids_path = GOLDEN "austen.jsonl";

enum { MAX_STRINGS = 1000 };

static struct tokenizer *shipped;
static const struct js *strings[MAX_STRINGS], *golden_ids[MAX_STRINGS];
static size_t n_strings;

static int id_of(const struct tokenizer *t, const char *key)
{
    return vocabulary_find(&t->vocabulary, key, strlen(key));
}

static size_t read_lines(const char *path, const struct js **lines)
{
    size_t bytes, n = 0;
    char *text = file_read(path, 16 << 20, &bytes);
    assert_non_null(text);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        assert_true(n < MAX_STRINGS);
        lines[n++] = js_parse(line, strlen(line), path);
        assert_non_null(lines[n - 1]);
    }
    free(text);
    return n;
}

static void free_lines(const struct js **lines, size_t n)
{
    for (size_t i = 0; i < n; i++)
        js_free((struct js *)(uintptr_t)lines[i]);
}

static int open_all(void **state)
{
    (void)state;
    n_strings = read_lines(GOLDEN "strings.jsonl", strings);
    assert_int_equal(read_lines(ids_path, golden_ids), n_strings);
    return tokenizer_open(&shipped, vocabulary_path);
}

static int close_all(void **state)
{
    (void)state;
    free_lines(strings, n_strings);
    free_lines(golden_ids, n_strings);
    tokenizer_close(shipped);
    return 0;
}

static int32_t *encode(const struct tokenizer *t, const char *text, size_t bytes, size_t *count)
{
    int32_t *ids = NULL;
    assert_int_equal(tokenizer_encode(t, text, bytes, &ids, count), 0);
    return ids;
}

static bool ids_agree(const struct tokenizer *t, size_t i)
{
    size_t bytes, count;
    const char *text = js_string(strings[i], &bytes);
    int32_t *ids = encode(t, text, bytes, &count);
    bool same = count == js_count(golden_ids[i]);
    for (size_t k = 0; same && k < count; k++)
        same = ids[k] == js_int(js_item(golden_ids[i], k));
    free(ids);
    return same;
}

static void test_ids(void **state)
{
    (void)state;
    size_t wrong = 0;
    assert_true(n_strings >= 260);
    for (size_t i = 0; i < n_strings; i++)
        if (!ids_agree(shipped, i)) {
            print_message("strings.jsonl line %zu: other ids\n", i + 1);
            wrong++;
        }
    assert_int_equal(wrong, 0);
}

static char *nfc_of(const char *text, size_t bytes, size_t *nfc_bytes)
{
    char *nfc = text_nfc(text, bytes, nfc_bytes);
    if (nfc)
        return nfc;
    nfc = malloc(bytes + 1);
    memcpy(nfc, text, bytes);
    *nfc_bytes = bytes;
    return nfc;
}

static void test_decode_gives_nfc(void **state)
{
    (void)state;
    for (size_t i = 0; i < n_strings; i++) {
        size_t bytes, nfc_bytes, count, back_bytes;
        const char *text = js_string(strings[i], &bytes);
        char *nfc = nfc_of(text, bytes, &nfc_bytes);
        int32_t *ids = encode(shipped, text, bytes, &count);
        char *back = tokenizer_decode(shipped, ids, count, false, &back_bytes);
        assert_int_equal(back_bytes, nfc_bytes);
        assert_memory_equal(back, nfc, nfc_bytes);
        assert_int_equal(back[back_bytes], 0);
        free(back);
        free(ids);
        free(nfc);
    }
}

/* What the stream gives for these ids, token by token; each piece is whole characters. */
static struct bytes stream(const struct tokenizer *t, const int32_t *ids, size_t count)
{
    struct text_stream s = {0};
    struct bytes all = {0};
    for (size_t k = 0; k < count; k++) {
        size_t bytes;
        const char *token = tokenizer_token_bytes(t, ids[k], &bytes);
        text_stream_push(&s, token, bytes);
        assert_true(utf8_valid(s.text, s.bytes));
        bytes_push(&all, s.text, s.bytes);
    }
    text_stream_end(&s);
    bytes_push(&all, s.text, s.bytes);
    text_stream_free(&s);
    return all;
}

static void check_stream(const struct tokenizer *t, const int32_t *ids, size_t count)
{
    size_t bytes;
    char *whole = tokenizer_decode(t, ids, count, false, &bytes);
    struct bytes all = stream(t, ids, count);
    assert_int_equal(all.count, bytes);
    if (bytes)
        assert_memory_equal(all.at, whole, bytes);
    free(all.at);
    free(whole);
}

static void test_stream_is_decode(void **state)
{
    (void)state;
    for (size_t i = 0; i < n_strings; i++) {
        size_t bytes, count;
        const char *text = js_string(strings[i], &bytes);
        int32_t *ids = encode(shipped, text, bytes, &count);
        check_stream(shipped, ids, count);
        free(ids);
    }
    int32_t ids[64]; // and any ids, most of whose bytes are no characters
    uint32_t random = 1;
    for (int round = 0; round < 2000; round++) {
        for (int k = 0; k < 64; k++) {
            random = random * 1664525 + 1013904223;
            ids[k] = (int32_t)(random >> 8) % (shipped->vocabulary.size + 2);
        }
        check_stream(shipped, ids, 64);
    }
}

/* The longest beginning of a character, or one byte, is one U+FFFD: as in Python and in Rust. */
static void test_broken_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *mended;
    } cases[] = {
        {"a\x80z", "a?z"},
        {"a\xc3z", "a?z"},
        {"a\xc3", "a?"},
        {"\xe4\xbd", "?"},
        {"\xe4\xbd!", "?!"},
        {"\xf0\x9f\x98", "?"},
        {"\xf0\x9f\x98\xf0", "??"},
        {"\xc0\xaf", "??"},
        {"\xe0\x80\xaf", "???"},
        {"\xed\xa0\x80", "???"},
        {"\xf4\x90\x80\x80", "????"},
        {"\xf5\x80", "??"},
        {"\xff\xfe", "??"},
        {"\xf1\x80\xe1\x80\xc2", "???"},
        {"\xe1\x80\xc3\xa9", "?\xc3\xa9"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bytes expected = {0};
        for (const char *c = cases[i].mended; *c; c++)
            bytes_push(&expected, *c == '?' ? "\xef\xbf\xbd" : c, *c == '?' ? 3 : 1);
        size_t count, n;
        int32_t *ids = encode(shipped, cases[i].bytes, strlen(cases[i].bytes), &count);
        char *text = tokenizer_decode(shipped, ids, count, false, &n);
        assert_int_equal(n, expected.count);
        assert_memory_equal(text, expected.at, n);
        free(text);
        free(ids);
        free(expected.at);
    }
}

static void test_ids_without_tokens(void **state)
{
    (void)state;
    int size = shipped->vocabulary.size, end = id_of(shipped, "<|im_end|>");
    int32_t ids[] = {-1, size, INT32_MAX, INT32_MIN, end, size + 100};
    size_t bytes;
    assert_int_equal(size, 4096);
    assert_true(end >= 0 && tokenizer_is_special(shipped, end));
    assert_false(tokenizer_is_special(shipped, 0) || tokenizer_is_special(shipped, size));
    assert_int_equal(id_of(shipped, "no such token"), -1);
    assert_int_equal(id_of(shipped, "!"), 0);
    char *text = tokenizer_decode(shipped, ids, 6, false, &bytes);
    assert_string_equal(text, "<|im_end|>");
    free(text);
    text = tokenizer_decode(shipped, ids, 6, true, NULL);
    assert_string_equal(text, "");
    free(text);
    assert_string_equal(tokenizer_token_bytes(shipped, size, &bytes), "");
    assert_int_equal(bytes, 0);
}

/* A mark behind a special token does not join it: tokenizers cuts first and normalises then. */
static void test_mark_behind_special(void **state)
{
    (void)state;
    static const char text[] = "<|im_end|>\xcc\xb8>\xcc\xb8";
    size_t count, bytes;
    int32_t *ids = encode(shipped, text, sizeof text - 1, &count);
    assert_int_equal(ids[0], id_of(shipped, "<|im_end|>"));
    char *back = tokenizer_decode(shipped, ids, count, false, &bytes);
    assert_string_equal(back, "<|im_end|>\xcc\xb8\xe2\x89\xaf");
    free(back);
    free(ids);
}

/* One piece of 1 MB takes no time worth a mention; quadratic, it would take hours. */
static void test_long_runs(void **state)
{
    (void)state;
    static const char *const units[] = {"a",        " ",  "\n", "\r\n",
                                        "7",        "!",  "\t", "\xe4\xbd\xa0",
                                        "\xcc\x81", "'s", " a", "\xe1\x84\x80"};
    enum { RUN = 1 << 20 };
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        struct bytes text = {0};
        size_t count, bytes;
        while (text.count + strlen(units[u]) <= RUN)
            bytes_push(&text, units[u], strlen(units[u]));
        int32_t *ids = encode(shipped, text.at, text.count, &count);
        char *back = tokenizer_decode(shipped, ids, count, false, &bytes);
        assert_int_equal(bytes, text.count);
        assert_memory_equal(back, text.at, bytes);
        free(back);
        free(ids);
        free(text.at);
    }
}

static void test_marks_out_of_order(void **state)
{
    (void)state;
    enum { MARKS = 1 << 18 }; // of each of two classes, the higher one first
    struct bytes text = {0};
    size_t bytes;
    for (int i = 0; i < MARKS; i++)
        bytes_push(&text, "\xcc\x81", 2);
    for (int i = 0; i < MARKS; i++)
        bytes_push(&text, "\xcc\xa3", 2);
    char *nfc = text_nfc(text.at, text.count, &bytes);
    assert_int_equal(bytes, text.count);
    assert_memory_equal(nfc, text.at + bytes / 2, bytes / 2);
    assert_memory_equal(nfc + bytes / 2, text.at, bytes / 2);
    free(nfc);
    free(text.at);
}

static void test_too_long(void **state)
{
    (void)state;
    char *text = calloc(MAX_TEXT_BYTES + 1, 1);
    int32_t *ids;
    size_t count;
    error_capture(true);
    assert_int_equal(tokenizer_encode(shipped, text, MAX_TEXT_BYTES + 1, &ids, &count),
                     STATUS_USAGE);
    assert_non_null(strstr(error_text(), "expected at most 67108864 bytes, found 67108865"));
    error_capture(false);
    free(text);
}

static void *encode_all(void *wrong)
{
    for (size_t i = 0; i < n_strings; i++)
        *(int *)wrong += !ids_agree(shipped, i);
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    pthread_t threads[4];
    int wrong[4] = {0};
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, encode_all, &wrong[i]), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 4; i++)
        assert_int_equal(wrong[i], 0);
}

/* The NFC of tokenizers has the tables of Unicode 9: newer marks stay where they are. */
static void test_nfc(void **state)
{
    (void)state;
    struct js *pair = js_load(GOLDEN "nfc.json", 1 << 20);
    size_t bytes, expected_bytes, nfc_bytes;
    const char *text = js_string(js_item(pair, 0), &bytes);
    const char *expected = js_string(js_item(pair, 1), &expected_bytes);
    char *nfc = text_nfc(text, bytes, &nfc_bytes);
    for (size_t i = 0, line = 1; i < expected_bytes && i < nfc_bytes; i++) {
        if (nfc[i] != expected[i])
            print_error("nfc.json: line %zu of the text differs\n", line);
        assert_int_equal(nfc[i], expected[i]);
        line += expected[i] == '\n';
    }
    assert_int_equal(nfc_bytes, expected_bytes);
    free(nfc);
    js_free(pair);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest any_vocabulary[] = {
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_decode_gives_nfc),
        cmocka_unit_test(test_stream_is_decode),
        cmocka_unit_test(test_long_runs),
    };
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_decode_gives_nfc),
        cmocka_unit_test(test_stream_is_decode),
        cmocka_unit_test(test_broken_utf8),
        cmocka_unit_test(test_ids_without_tokens),
        cmocka_unit_test(test_mark_behind_special),
        cmocka_unit_test(test_long_runs),
        cmocka_unit_test(test_marks_out_of_order),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_nfc),
    };
    if (argc < 3)
        return cmocka_run_group_tests_name("tokenizer", all, open_all, close_all);
    vocabulary_path = argv[1];
    ids_path = argv[2];
    return cmocka_run_group_tests_name("another vocabulary", any_vocabulary, open_all, close_all);
}
