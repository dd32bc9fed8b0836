/* tokenizer.json: what is honoured (the ids are those of Hugging Face tokenizers 0.23.3), and what
 * is refused, each case a small file with one thing changed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "model/tokenizer.h"
#include "tests/rig/cm.h"

#define ADDED                                                                                      \
    "{\"id\":6,\"content\":\"<s>\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"       \
    "\"normalized\":false,\"special\":true}"
#define SPLIT                                                                                      \
    "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\p{L}+|\\\\s+\"},\"behavior\":\"Isolated\","  \
    "\"invert\":false}"
#define BYTE_LEVEL                                                                                 \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":false,"                   \
    "\"use_regex\":false}"
#define DECODER "\"decoder\":" BYTE_LEVEL
#define VOCAB   "{\"a\":0,\"b\":1,\"c\":2,\"ab\":3,\"bc\":4,\"abc\":5}"
#define MERGES  "\"a b\",\"b c\",\"ab c\""

static const char good[] =
    "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[" ADDED "],"
    "\"normalizer\":{\"type\":\"NFC\"},"
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[" SPLIT "," BYTE_LEVEL "]},"
    "\"post_processor\":null," DECODER ",\"model\":{\"type\":\"BPE\",\"dropout\":null,"
    "\"unk_token\":null,\"continuing_subword_prefix\":\"\",\"end_of_word_suffix\":\"\","
    "\"fuse_unk\":false,\"byte_fallback\":false,\"ignore_merges\":false,"
    "\"vocab\":" VOCAB ",\"merges\":[" MERGES "]}}";

/* The good file with the first `from` in it replaced; malloc'ed. */
static char *changed(const char *from, const char *to)
{
    const char *at = strstr(good, from);
    assert_non_null(at);
    char *text = malloc(sizeof good + strlen(to));
    sprintf(text, "%.*s%s%s", (int)(at - good), good, to, at + strlen(from));
    return text;
}

static int parse(struct tokenizer **t, const char *text)
{
    return tokenizer_parse(t, text, strlen(text), "t.json");
}

/* "5 6": what a changed file makes of a text. */
static void expect_ids(const char *from, const char *to, const char *text, const char *expected)
{
    struct tokenizer *t;
    int32_t *ids;
    size_t count, n = 0;
    char line[256] = "", *file = changed(from, to);
    assert_int_equal(parse(&t, file), 0);
    assert_int_equal(tokenizer_encode(t, text, strlen(text), &ids, &count), 0);
    for (size_t i = 0; i < count; i++)
        n += (size_t)snprintf(line + n, sizeof line - n, i ? " %d" : "%d", ids[i]);
    assert_string_equal(line, expected);
    free(ids);
    free(file);
    tokenizer_close(t);
}

static void test_merges(void **state)
{
    (void)state;
    expect_ids("abc", "abc", "abc", "5");
    expect_ids("abc", "abc", "abcabc ab<s>bca", "5 5 3 6 4 0");
    expect_ids(MERGES, "[\"a\",\"b\"],[\"b\",\"c\"],[\"ab\",\"c\"]", "abcbc", "5 4");
    expect_ids(MERGES, "\"#version: 0.2\",\"a b\",\"ab c\"", "abcbc", "5 1 2");
    expect_ids(MERGES, "\"b c\",\"a b\",\"ab c\"", "abc", "0 4");
    expect_ids(MERGES, "\"b c\",\"a b\",\"a bc\"", "abc", "5");
    expect_ids(MERGES, "\"a b\",\"b c\",\"a b\"", "abc", "0 4"); // the last rank of a pair counts
    expect_ids(MERGES, "", "abc", "0 1 2");
    expect_ids("\"ignore_merges\":false", "\"ignore_merges\":true", "abc", "5");
    expect_ids("\"ignore_merges\":false", "\"ignore_merges\":null", "bcb", "4 1");
    expect_ids("abc", "abc", "xaybz", "3"); // bytes without a token are left out, before merges
}

/* A piece that is a token as it stands, though no merges lead to it; not an added token. */
static void test_whole_words(void **state)
{
    (void)state;
    const char *from = "false,\"vocab\":" VOCAB ",\"merges\":[" MERGES "]";
    expect_ids(from, "false,\"vocab\":" VOCAB ",\"merges\":[]", "abc", "0 1 2");
    expect_ids(from, "true,\"vocab\":" VOCAB ",\"merges\":[]", "abc ab", "5 3");
    expect_ids(from, "true,\"vocab\":" VOCAB ",\"merges\":[]", "abca", "0 1 2 0");
}

static void test_added_tokens(void **state)
{
    (void)state;
    expect_ids("\"lstrip\":false", "\"lstrip\":true", "a \t<s> b", "0 6 1");
    expect_ids("\"rstrip\":false", "\"rstrip\":true", "a <s>\xe3\x80\x80\n b<s>", "0 6 1 6");
    expect_ids(ADDED,
               ADDED ",{\"id\":7,\"content\":\"<s><\",\"single_word\":false,\"lstrip\":false,"
                     "\"rstrip\":false,\"normalized\":true,\"special\":false}",
               "<s><s><", "6 6");
    expect_ids(ADDED,
               ADDED ",{\"id\":7,\"content\":\"e\xcc\x81\",\"single_word\":false,\"lstrip\":false,"
                     "\"rstrip\":false,\"normalized\":true,\"special\":false}",
               "a\xc3\xa9"
               "be\xcc\x81",
               "0 7 1 7");
    expect_ids("\"id\":6,\"content\":\"<s>\"", "\"id\":3,\"content\":\"ab\"", "abc", "3 2");
    expect_ids("[" ADDED "]", "[]", "<s>a", "0");
}

static void test_single_words(void **state)
{
    (void)state;
    static const struct {
        const char *text, *ids;
    } cases[] = {
        {"<s>a b<s> c <s> a<s>b", "0 1 2 6 0 1"},
        {"<s><s>", "6 6"},
        {"a.<s>.b", "0 6 1"},
        {"-<s>-a", "6 0"},
        {"_<s> <s>_", ""},
        {"9<s> <s>9", ""},
        {"\xc3\xa9<s> <s>\xcc\x81", ""},         // a letter, a mark
        {"\xe2\x85\xa7<s> <s>\xe2\x92\xb6", ""}, // a Roman number, a letter in a circle
        {"\xe2\x80\x8d<s> <s>\xe2\x80\xbf", ""}, // a joiner, a tie
        {"\xc2\xb2<s> <s>\xe2\x80\x8b", "6 6"},  // a superscript, a space without width
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_ids("\"single_word\":false", "\"single_word\":true", cases[i].text, cases[i].ids);
}

/* AutoTokenizer takes no notice of how texts were cut and filled in training. */
static void test_training_leftovers(void **state)
{
    (void)state;
    expect_ids("\"truncation\":null",
               "\"truncation\":{\"direction\":\"Right\",\"max_length\":1,\"strategy\":"
               "\"LongestFirst\",\"stride\":0}",
               "abc ab", "5 3");
    expect_ids("\"padding\":null",
               "\"padding\":{\"strategy\":{\"Fixed\":8},\"direction\":\"Right\","
               "\"pad_to_multiple_of\":null,\"pad_id\":0,\"pad_type_id\":0,\"pad_token\":\"a\"}",
               "abc", "5");
}

static void test_other_shapes(void **state)
{
    (void)state;
    expect_ids("\"version\":\"1.0\",", "", "abc", "5");
    expect_ids("{\"type\":\"NFC\"}", "null", "abc", "5");
    expect_ids("{\"type\":\"NFC\"}", "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"}]}",
               "abc", "5");
    expect_ids(SPLIT ",", "", "ab c", "5"); // one piece, whose space has no token
    expect_ids("{\"Regex\":\"\\\\p{L}+|\\\\s+\"}", "{\"String\":\"b\"}", "abc", "0 1 2");
    expect_ids("\"type\":\"BPE\",", "", "abc", "5");
    expect_ids("\"dropout\":null", "\"dropout\":0.0", "abc", "5");
    expect_ids("\"post_processor\":null",
               "\"post_processor\":{\"type\":\"Sequence\",\"processors\":[" BYTE_LEVEL
               ",{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"A\","
               "\"type_id\":0}}],\"pair\":[],\"special_tokens\":{}}]}",
               "abc", "5");
    expect_ids("\"use_regex\":false", "\"use_regex\":true", "abc", "5");
    expect_ids("\"a\":0", "\"a\":9", "abca", "5 9"); // a hole at 0
    expect_ids("\"version\"", "\"some_day\":null,\"version\"", "abc", "5");
}

struct bad {
    const char *from, *to, *says;
};

static const struct bad bad_files[] = {
    {"{\"version\"", "[\"version\"", "t.json: expected JSON"},
    {"\"1.0\"", "\"2.0\"", "t.json: version: expected \"1.0\", found \"2.0\""},
    {"\"version\"", "\"new\":1,\"version\"", "t.json: new: expected no such key, found 1"},
    {"\"NFC\"", "\"NFKC\"",
     "normalizer.type: expected \"NFC\", \"Prepend\" or \"Replace\", found \"NFKC\""},
    {"{\"type\":\"NFC\"}", "7", "normalizer: expected an object, found 7"},
    {"{\"type\":\"NFC\"}", "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Lowercase\"}]}",
     "normalizer.normalizers[0].type: expected \"NFC\", \"Prepend\" or \"Replace\", found "
     "\"Lowercase\""},
    {"{\"type\":\"NFC\"}", "{\"type\":\"Sequence\"}", "normalizer.normalizers: expected an array"},
    {"\"pre_tokenizer\":{\"type\":\"Sequence\"", "\"pre_tokenizer\":{\"type\":\"Whitespace\"",
     "pre_tokenizer.type: expected \"Sequence\", \"ByteLevel\" or \"Metaspace\", found "
     "\"Whitespace\""},
    {"\"pre_tokenizer\":{\"type\":\"Sequence\"",
     "\"pre_tokenizer\":null,\"x\":{\"type\":\"Sequence\"", "x: expected no such key"},
    {"\"type\":\"Split\"", "\"type\":\"Digits\"",
     "pre_tokenizer.pretokenizers[0].type: expected \"Split\" or \"ByteLevel\", found \"Digits\""},
    {SPLIT "," BYTE_LEVEL, SPLIT, "expected one \"ByteLevel\", the last of them"},
    {SPLIT "," BYTE_LEVEL, BYTE_LEVEL "," SPLIT, "expected one \"ByteLevel\", the last of them"},
    {"\"Isolated\"", "\"Removed\"", "behavior: expected \"Isolated\", found \"Removed\""},
    {"\"invert\":false", "\"invert\":true", "invert: expected false, found true"},
    {"\"Regex\"", "\"Glob\"", "pattern: expected an object of one string, Regex or String"},
    {"\\\\p{L}+|", "(", "pattern: expected a pattern that Oniguruma and PCRE2 surely read alike"},
    {"\\\\p{L}+|", "\\\\w", "found at byte 0 an escape"},
    {"\\\\p{L}+|", "[b-a]", "pattern: expected a pattern, found a mistake at byte"},
    {"\"add_prefix_space\":false", "\"add_prefix_space\":true",
     "pre_tokenizer.pretokenizers[1].add_prefix_space: expected false, found true"},
    {"\"add_prefix_space\":false,", "",
     "pre_tokenizer.pretokenizers[1].add_prefix_space: expected false, found nothing"},
    {"\"post_processor\":null", "\"post_processor\":{\"type\":\"BertProcessing\"}",
     "post_processor.type: expected \"ByteLevel\", found \"BertProcessing\""},
    {"\"post_processor\":null",
     "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":"
     "\"<s>\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}]}",
     "post_processor.single: expected the sequence A and special tokens that special_tokens has"},
    {DECODER, "\"decoder\":null", "decoder: expected an object, found null"},
    {DECODER, "\"decoder\":{\"type\":\"WordPiece\"}", "decoder.type: expected \"ByteLevel\""},
    {"\"type\":\"BPE\"", "\"type\":\"Unigram\"", "model.type: expected \"BPE\", found \"Unigram\""},
    {"\"dropout\":null", "\"dropout\":0.1", "model.dropout: expected null or 0"},
    {"\"unk_token\":null", "\"unk_token\":\"a\"",
     "model.unk_token: expected null, since some bytes"},
    {"_prefix\":\"\"", "_prefix\":\"##\"", "continuing_subword_prefix: expected null or \"\""},
    {"_suffix\":\"\"", "_suffix\":\"</w>\"", "end_of_word_suffix: expected null or \"\""},
    {"\"byte_fallback\":false", "\"byte_fallback\":true",
     "byte_fallback: expected false, since some bytes have no token in model.vocab, found true"},
    {"\"ignore_merges\":false", "\"ignore_merges\":1",
     "ignore_merges: expected null, true or false"},
    {"\"dropout\"", "\"drop\":1,\"dropout\"", "model.drop: expected no such key"},
    {"\"a\":0", "\"a\":-1", "model.vocab.a: expected an id from 0 to 16777215, found -1"},
    {"\"a\":0", "\"a\":16777216", "model.vocab.a: expected an id"},
    {"\"a\":0", "\"a\":\"0\"", "model.vocab.a: expected an id from 0 to 16777215, found \"0\""},
    {"\"a\":0", "\"a\":1", "model.vocab.b: expected an id of its own, found 1"},
    {"\"a\":0", "\"a\":0,\"a\":6", "duplicate object key"},
    {VOCAB, "{}", "model.vocab: expected an object"},
    {VOCAB, "[]", "model.vocab: expected an object"},
    {"\"a b\"", "\"ab\"", "model.merges[0]: expected two tokens"},
    {"\"a b\"", "\"a b c\"", "model.merges[0]: expected two tokens"},
    {"\"a b\"", "[\"a\",\"b\"]", "model.merges: expected strings or pairs, not both"},
    {MERGES, "[\"a\"]", "model.merges[0]: expected two tokens"},
    {"\"b c\"", "\"b d\"",
     "model.merges[1]: expected both sides and their sum in model.vocab, found "
     "no \"d\" there"},
    {"\"b c\"", "\"x c\"", "found no \"x\" there"},
    {"\"b c\"", "\"c a\"", "found no \"ca\" there"},
    {"[" MERGES "]", "{}", "model.merges: expected an array, found an object"},
    {"[" ADDED "]", "{}", "added_tokens: expected an array, found an object"},
    {"\"id\":6", "\"id\":7",
     "added_tokens[0].id: expected 6 (the next after the vocabulary), found 7"},
    {"\"id\":6,\"content\":\"<s>\"", "\"id\":6,\"content\":\"ab\"",
     "added_tokens[0].id: expected 3 (as in model.vocab), found 6"},
    {"\"id\":6", "\"id\":\"6\"", "added_tokens[0].id: expected 6"},
    {"\"id\":6,", "", "added_tokens[0].id: expected a value, found nothing"},
    {"\"a\":0", "\"a\":6",
     "added_tokens[0].id: expected 6 (the next after the vocabulary), found 6"},
    {"\"content\":\"<s>\"", "\"content\":\"\"",
     "added_tokens[0].content: expected a string of 1 to"},
    {ADDED, ADDED "," ADDED, "added_tokens[1].content: expected a content of its own"},
    {"\"single_word\":false", "\"single_word\":1", "single_word: expected true or false, found 1"},
    {"\"lstrip\":false", "\"lstrip\":null", "lstrip: expected true or false, found null"},
    {"\"special\":true", "\"special\":true,\"x\":0", "added_tokens[0].x: expected no such key"},
    {"\"model\":{", "\"model\":7,\"m\":{", "m: expected no such key"},
};

static void test_bad_files(void **state)
{
    (void)state;
    error_capture(true);
    for (size_t i = 0; i < sizeof bad_files / sizeof *bad_files; i++) {
        const struct bad *bad = &bad_files[i];
        struct tokenizer *t = NULL;
        char *text = changed(bad->from, bad->to);
        int status = parse(&t, text);
        bool said = strncmp(error_text(), "t.json: ", 8) == 0 && strstr(error_text(), bad->says);
        if (!said)
            print_error("expected \"%s\" in \"%s\"\n", bad->says, error_text());
        assert_true(said && status == STATUS_BAD_FILE && !t);
        free(text);
    }
    error_capture(false);
}

static void test_missing_parts(void **state)
{
    (void)state;
    static const char *const texts[][2] = {
        {"{}", "decoder: expected an object, found nothing"},
        {"[]", "t.json: expected an object, found an array"},
        {"", "expected JSON"},
        {"{\"pre_tokenizer\":" BYTE_LEVEL "}", "decoder: expected an object, found nothing"},
        {"{\"pre_tokenizer\":" BYTE_LEVEL "," DECODER "}",
         "model: expected an object, found nothing"},
        {"{\"pre_tokenizer\":" BYTE_LEVEL "," DECODER ",\"model\":{\"vocab\":{\"a\":0}}}",
         "model.merges: expected an array, found nothing"},
    };
    error_capture(true);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct tokenizer *t;
        assert_int_equal(parse(&t, texts[i][0]), STATUS_BAD_FILE);
        assert_non_null(strstr(error_text(), texts[i][1]));
    }
    struct tokenizer *t;
    assert_int_equal(tokenizer_open(&t, "/nowhere/tokenizer.json"), STATUS_BAD_FILE);
    assert_non_null(strstr(error_text(), "/nowhere/tokenizer.json: cannot be read"));
    error_capture(false);
}

/* Every beginning of the file is refused, and none reads past its end. */
static void test_cut_files(void **state)
{
    (void)state;
    error_capture(true);
    for (size_t n = 0; n + 1 < sizeof good; n++) {
        struct tokenizer *t;
        char *cut = malloc(n + 1);
        memcpy(cut, good, n);
        assert_int_equal(tokenizer_parse(&t, cut, n, "t.json"), STATUS_BAD_FILE);
        free(cut);
    }
    error_capture(false);
}

/* Decoding reads the content of any token as letters of the alphabet, if it can. */
static void test_decode(void **state)
{
    (void)state;
    char *text = changed("\"content\":\"<s>\"", "\"content\":\"\xc3\xa9\"");
    struct tokenizer *t;
    assert_int_equal(parse(&t, text), 0);
    static const int32_t ids[] = {5, 6, 3};
    char *back = tokenizer_decode(t, ids, 3, false, NULL);
    assert_string_equal(back, "abc\xef\xbf\xbd"
                              "ab"); // U+00E9 is the letter of the byte 0xe9
    free(back);
    back = tokenizer_decode(t, ids, 3, true, NULL);
    assert_string_equal(back, "abcab");
    free(back);
    free(text);
    tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merges),
        cmocka_unit_test(test_whole_words),
        cmocka_unit_test(test_added_tokens),
        cmocka_unit_test(test_single_words),
        cmocka_unit_test(test_training_leftovers),
        cmocka_unit_test(test_other_shapes),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_missing_parts),
        cmocka_unit_test(test_cut_files),
        cmocka_unit_test(test_decode),
    };
    return cmocka_run_group_tests_name("tokenizer.json", tests, NULL, NULL);
}
