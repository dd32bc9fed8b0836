/* A tokenizer.json of characters, with marks for spaces and tokens for bytes, as converted from
 * SentencePiece: what is honoured (ids and texts are those of Hugging Face tokenizers 0.23.3), and
 * what is refused, each case a small file with one thing changed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "model/text_out.h"
#include "model/tokenizer_parts.h"
#include "tests/rig/cm.h"

#define M        SPACE_MARK
#define PREPEND  "{\"type\":\"Prepend\",\"prepend\":\"" M "\"}"
#define REPLACE  "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" M "\"}"
#define NORMAL   "{\"type\":\"Sequence\",\"normalizers\":[" PREPEND "," REPLACE "]}"
#define PRE      "\"pre_tokenizer\":null"
#define S_TOKEN  "{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}}"
#define SEQUENCE "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}"
#define TEMPLATE                                                                                   \
    "{\"type\":\"TemplateProcessing\",\"single\":[" S_TOKEN "," SEQUENCE "],\"pair\":[],"          \
    "\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[1],\"tokens\":[\"<s>\"]}}}"
#define UNREPLACE "{\"type\":\"Replace\",\"pattern\":{\"String\":\"" M "\"},\"content\":\" \"}"
#define STRIP     "{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}"
#define VOCAB                                                                                      \
    "{\"<unk>\":0,\"<s>\":1,\"<0x21>\":2,\"<0xC3>\":3,\"<0xA9>\":4,\"" M "\":5,\"a\":6,\"b\":7,"   \
    "\"" M "a\":8,\"ab\":9,\"b" M "\":10}"
#define MERGES "[\"a b\",\"" M " a\",\"b " M "\"]"

static const char good[] =
    "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[{\"id\":1,"
    "\"content\":\"<s>\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
    "\"normalized\":false,\"special\":true}],\"normalizer\":" NORMAL "," PRE
    ",\"post_processor\":" TEMPLATE ",\"decoder\":{\"type\":\"Sequence\",\"decoders\":[" UNREPLACE
    ",{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}," STRIP "]},\"model\":{\"type\":\"BPE\","
    "\"dropout\":null,\"unk_token\":\"<unk>\",\"continuing_subword_prefix\":null,"
    "\"end_of_word_suffix\":null,\"fuse_unk\":true,\"byte_fallback\":true,"
    "\"ignore_merges\":false,\"vocab\":" VOCAB ",\"merges\":" MERGES "}}";

/* The good file with the first `from` in it replaced. */
static int open_changed(struct tokenizer **t, const char *from, const char *to)
{
    const char *at = strstr(good, from);
    assert_non_null(at);
    char *text = malloc(sizeof good + strlen(to));
    sprintf(text, "%.*s%s%s", (int)(at - good), good, to, at + strlen(from));
    int status = tokenizer_parse(t, text, strlen(text), "t.json");
    free(text);
    return status;
}

/* "1 8": what a changed file makes of a prompt. */
static void expect_ids(const char *from, const char *to, const char *text, const char *expected)
{
    struct tokenizer *t;
    int32_t *ids;
    size_t count, n = 0;
    char line[256] = "";
    if (open_changed(&t, from, to) != 0)
        fail_msg("%s", error_text());
    assert_int_equal(tokenizer_encode_prompt(t, text, strlen(text), &ids, &count), 0);
    for (size_t i = 0; i < count; i++)
        n += (size_t)snprintf(line + n, sizeof line - n, i ? " %d" : "%d", ids[i]);
    assert_string_equal(line, expected);
    free(ids);
    tokenizer_close(t);
}

static void characters_without_a_token_become_bytes_or_unknown(void **state)
{
    (void)state;
    static const char odd[] = "x\xc3\xa9!xya";
    const char *fallback = "\"byte_fallback\":true", *unknown = "\"unk_token\":\"<unk>\"";
    expect_ids("a", "a", "ab ab", "1 5 9 5 9");
    expect_ids("a", "a", odd, "1 5 3 4 2 0 6");
    expect_ids("a", "a", "xx a", "1 5 0 8");
    expect_ids("a", "a", "!x", "1 5 2 0");
    expect_ids("a", "a", "", "1");
    expect_ids("\"fuse_unk\":true", "\"fuse_unk\":false", odd, "1 5 3 4 2 0 0 0 6");
    expect_ids("\"fuse_unk\":true", "\"fuse_unk\":false", "xx a", "1 5 0 0 8");
    expect_ids(fallback, "\"byte_fallback\":false", odd, "1 5 0 6");
    expect_ids(fallback, "\"byte_fallback\":false", "\xc3\xa9", "1 5 0");
    expect_ids(unknown, "\"unk_token\":null", odd, "1 5 3 4 2 6");
    expect_ids(unknown, "\"unk_token\":null", "xx a", "1 5 8");
    expect_ids("false,\"vocab\":" VOCAB ",\"merges\":" MERGES,
               "true,\"vocab\":" VOCAB ",\"merges\":[]", "ab", "1 5 6 7");
    expect_ids("false,\"vocab\":" VOCAB ",\"merges\":" MERGES,
               "true,\"vocab\":" VOCAB ",\"merges\":[]", "a", "1 8");
}

static void normalizers_put_marks(void **state)
{
    (void)state;
    expect_ids(PREPEND ",", "", "a ab", "1 6 5 9");
    expect_ids("," REPLACE, "", "a ab", "1 8 0 9");
    expect_ids(NORMAL, "null", "a ab", "1 6 0 9");
    expect_ids(REPLACE, REPLACE ",{\"type\":\"NFC\"}",
               "e\xcc\x81"
               "a",
               "1 5 3 4 6");
    expect_ids("a", "a", "a<s>b", "1 8 1 5 7");
}

#define META(more)                                                                                 \
    "null,\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"" M "\"" more "}"

#define NFC_META                                                                                   \
    "{\"type\":\"NFC\"},\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"" M            \
    "\",\"prepend_scheme\":\"first\",\"split\":false}"

static void metaspace_puts_marks_and_cuts_at_them(void **state)
{
    (void)state;
    static const struct {
        const char *pre, *text, *ids;
    } cases[] = {
        {META(",\"prepend_scheme\":\"always\""), "a<s>ab", "1 8 1 5 9"},
        {META(",\"prepend_scheme\":\"always\""), " a", "1 8"},
        {META(",\"prepend_scheme\":\"first\""), "a<s>ab", "1 8 1 9"},
        {META(",\"prepend_scheme\":\"first\""), "<s>ab", "1 1 9"},
        {NFC_META,
         "e\xcc\x81"
         "a<s>e\xcc\x81"
         "a",
         "1 5 3 4 6 1 3 4 6"},
        {META(",\"prepend_scheme\":\"first\""), " a", "1 8"},
        {META(",\"prepend_scheme\":\"never\""), "a<s>ab", "1 6 1 9"},
        {META(",\"prepend_scheme\":\"never\",\"add_prefix_space\":false"), "ab ab", "1 9 5 9"},
        {META(""), "ab ab", "1 5 9 5 9"},
        {META(",\"add_prefix_space\":true,\"str_rep\":\"" M "\""), "a<s>ab", "1 8 1 5 9"},
        {META(""), "b b", "1 5 7 5 7"},
        {META(",\"split\":true"), "b b", "1 5 7 5 7"},
        {META(",\"split\":false"), "b b", "1 5 10 7"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_ids(NORMAL "," PRE, cases[i].pre, cases[i].text, cases[i].ids);
}

static void a_template_s_tokens_stand_around_a_prompt(void **state)
{
    (void)state;
    struct tokenizer *t;
    int32_t *ids;
    size_t n;
    expect_ids(S_TOKEN "," SEQUENCE, S_TOKEN "," S_TOKEN "," SEQUENCE "," S_TOKEN, "a", "1 1 8 1");
    expect_ids(S_TOKEN "," SEQUENCE, SEQUENCE, "a", "8");
    assert_int_equal(open_changed(&t, "a", "a"), 0);
    assert_int_equal(tokenizer_encode(t, "a", 1, &ids, &n), 0); // of a chat template's text
    assert_int_equal(n, 1);
    assert_int_equal(ids[0], 8);
    free(ids);
    tokenizer_close(t);
}

static void bytes_make_characters_and_one_space_is_left_out(void **state)
{
    (void)state;
    static const struct {
        int32_t ids[5];
        size_t n;
        const char *text;
    } cases[] = {
        {{3, 4}, 2, "\xc3\xa9"},
        {{3}, 1, "\xef\xbf\xbd"},
        {{3, 6},
         2,
         "\xef\xbf\xbd"
         "a"},
        {{2, 2, 6}, 3, "!!a"},
        {{8, 5, 8}, 3, "a  a"},
        {{1, 8}, 2, "a"},
        {{5}, 1, ""},
        {{5, 5}, 2, " "},
        {{4, 3, 4, 5}, 4, "\xef\xbf\xbd\xc3\xa9 "}, // as tokenizer.h says, unlike tokenizers
    };
    struct tokenizer *t;
    assert_int_equal(open_changed(&t, "a", "a"), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text = tokenizer_decode(t, cases[i].ids, cases[i].n, true, NULL);
        assert_string_equal(text, cases[i].text);
        free(text);
    }
    tokenizer_close(t);
    assert_int_equal(open_changed(&t, "," STRIP, ""), 0);
    char *text = tokenizer_decode(t, cases[4].ids, 3, true, NULL);
    assert_string_equal(text, " a  a");
    free(text);
    tokenizer_close(t);
}

/* New tokens give what they add to the text of the prompt: its first space only where there is no
 * text before. A character of two bytes comes when it is whole. */
static void new_tokens_continue_the_prompt_s_text(void **state)
{
    (void)state;
    static const int32_t prompt[] = {1, 8}, fresh[] = {8, 3, 4, 8};
    static const size_t bytes_after[2][4] = {{1, 1, 3, 5}, {2, 2, 4, 6}};
    struct tokenizer *t;
    assert_int_equal(open_changed(&t, "a", "a"), 0);
    for (size_t n = 1; n <= 2; n++) {
        struct text_out o = {.tokenizer = t, .begins = text_out_begins(t, prompt, n)};
        for (size_t i = 0; i < 4; i++) {
            text_out_push(&o, fresh[i]);
            assert_int_equal(o.bytes, bytes_after[n - 1][i]);
        }
        text_out_end(&o);
        assert_int_equal(o.bytes, bytes_after[n - 1][3]);
        assert_memory_equal(o.text, n == 1 ? "a\xc3\xa9 a" : " a\xc3\xa9 a", o.bytes);
        text_out_free(&o);
    }
    tokenizer_close(t);
}

static const struct bad {
    const char *from, *to, *says;
} bad_files[] = {
    {PREPEND, "{\"type\":\"Prepend\",\"prepend\":\"_\"}",
     "normalizer.normalizers[0].prepend: expected \"" M "\", found \"_\""},
    {PREPEND, PREPEND "," PREPEND, "normalizer.normalizers[1]: expected one Prepend"},
    {"{\"String\":\" \"}", "{\"Regex\":\" \"}",
     "normalizer.normalizers[1].pattern: expected {\"String\": \" \"}, found an object"},
    {"{\"String\":\" \"}", "{\"String\":\"  \"}", "normalizers[1].pattern: expected"},
    {"\"content\":\"" M "\"", "\"content\":\"_\"",
     "normalizer.normalizers[1].content: expected \"" M "\", found \"_\""},
    {PRE, "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\"}",
     "pre_tokenizer.replacement: expected \"" M "\", found \"_\""},
    {NORMAL "," PRE, META(",\"str_rep\":\"_\""), "pre_tokenizer.str_rep: expected \"" M "\""},
    {NORMAL "," PRE, META(",\"prepend_scheme\":\"last\""),
     "pre_tokenizer.prepend_scheme: expected \"always\", \"first\" or \"never\", found \"last\""},
    {NORMAL "," PRE, META(",\"add_prefix_space\":false"),
     "pre_tokenizer.add_prefix_space: expected true, or a prepend_scheme \"never\", found false"},
    {NORMAL "," PRE, META(",\"split\":1"), "pre_tokenizer.split: expected true or false"},
    {NORMAL "," PRE, META(",\"x\":1"), "pre_tokenizer.x: expected no such key"},
    {"\"decoder\":{\"type\":\"Sequence\"", "\"decoder\":{\"type\":\"ByteLevel\"",
     "decoder.type: expected \"Sequence\", found \"ByteLevel\""},
    {"{\"type\":\"ByteFallback\"},", "", "decoder.decoders[1].type: expected \"ByteFallback\""},
    {",{\"type\":\"Fuse\"}," STRIP, "", "decoder.decoders: expected a list of Replace"},
    {"," STRIP, "," STRIP "," STRIP, "decoder.decoders: expected a list of Replace"},
    {"\"start\":1", "\"start\":2", "decoder.decoders[3].start: expected 1, found 2"},
    {"\"stop\":0", "\"stop\":1", "decoder.decoders[3].stop: expected 0, found 1"},
    {STRIP, "{\"type\":\"Strip\",\"content\":\"_\",\"start\":1,\"stop\":0}",
     "decoder.decoders[3].content: expected \" \", found \"_\""},
    {"\"unk_token\":\"<unk>\"", "\"unk_token\":\"<none>\"",
     "model.unk_token: expected null, or a token of model.vocab, found \"<none>\""},
    {"\"unk_token\":\"<unk>\"", "\"unk_token\":0", "model.unk_token: expected null, or a token"},
    {"\"ids\":[1]", "\"ids\":[11]",
     "post_processor.special_tokens: expected ids of tokens, found 11, which none has"},
    {"\"ids\":[1]", "\"ids\":[-1]", "post_processor.special_tokens: expected at most 8 ids"},
    {"\"ids\":[1]", "\"ids\":[1,1,1,1,1,1,1,1,1]", "special_tokens: expected at most 8 ids"},
    {"\"ids\":[1]", "\"ids\":1", "post_processor.single: expected the sequence A and special"},
    {S_TOKEN "," SEQUENCE, S_TOKEN, "post_processor.single: expected the sequence A once"},
    {S_TOKEN "," SEQUENCE, SEQUENCE "," SEQUENCE, "the sequence A once, found it 2 times"},
    {TEMPLATE, "{\"type\":\"Sequence\",\"processors\":[" TEMPLATE "," TEMPLATE "]}",
     "post_processor.processors[1]: expected one template that adds tokens, found a second"},
};

static void other_shapes_are_refused_by_name(void **state)
{
    (void)state;
    error_capture(true);
    for (size_t i = 0; i < sizeof bad_files / sizeof *bad_files; i++) {
        struct tokenizer *t = NULL;
        int status = open_changed(&t, bad_files[i].from, bad_files[i].to);
        if (status != STATUS_BAD_FILE || t || strncmp(error_text(), "t.json: ", 8) != 0 ||
            !strstr(error_text(), bad_files[i].says))
            fail_msg("expected \"%s\", found \"%s\"", bad_files[i].says, error_text());
    }
    error_capture(false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(characters_without_a_token_become_bytes_or_unknown),
        cmocka_unit_test(normalizers_put_marks),
        cmocka_unit_test(metaspace_puts_marks_and_cuts_at_them),
        cmocka_unit_test(a_template_s_tokens_stand_around_a_prompt),
        cmocka_unit_test(bytes_make_characters_and_one_space_is_left_out),
        cmocka_unit_test(new_tokens_continue_the_prompt_s_text),
        cmocka_unit_test(other_shapes_are_refused_by_name),
    };
    return cmocka_run_group_tests_name("marks for spaces", tests, NULL, NULL);
}
