/* tokenizer_config.json beside a tokenizer.json: the ids are those of AutoTokenizer of transformers
 * 5.24.0, and what is refused is named. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "model/tokenizer.h"
#include "tests/rig/cm.h"
#include "tests/rig/text_files.h"

#define FLAGS                                                                                      \
    "\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":"    \
    "true"
#define START "{\"id\":6,\"content\":\"<s>\"," FLAGS "}"
#define END   ",{\"id\":7,\"content\":\"<|endoftext|>\"," FLAGS "}"
#define BYTE_LEVEL                                                                                 \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":false,"                   \
    "\"use_regex\":false}"
#define TOKENIZER(added)                                                                           \
    "{\"version\":\"1.0\",\"added_tokens\":[" added "],\"normalizer\":{\"type\":\"NFC\"},"         \
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":" \
    "{\"Regex\":\"\\\\p{L}+|\\\\s+\"},\"behavior\":\"Isolated\",\"invert\":false}," BYTE_LEVEL     \
    "]},\"post_processor\":null,\"decoder\":" BYTE_LEVEL ",\"model\":{\"type\":\"BPE\","           \
    "\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"ab\":3,\"bc\":4,\"abc\":5},"                             \
    "\"merges\":[\"a b\",\"b c\",\"ab c\"]}}"

static char dir[] = "/tmp/epmoe-tokenizer-XXXXXX";

static int set_up(void **state)
{
    (void)state;
    error_capture(true);
    return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json"};
    for (int i = 0; i < 2; i++) {
        char *path = path_join(dir, names[i]);
        unlink(path);
        free(path);
    }
    return rmdir(dir);
}

static void expect_ids(const char *config, const char *text, const char *expected)
{
    struct tokenizer *t;
    int32_t *ids;
    size_t count, n = 0;
    char line[256] = "";
    write_text(dir, "tokenizer_config.json", config);
    if (tokenizer_open_model(&t, dir) != 0)
        fail_msg("%s", error_text());
    assert_int_equal(tokenizer_encode(t, text, strlen(text), &ids, &count), 0);
    for (size_t i = 0; i < count; i++)
        n += (size_t)snprintf(line + n, sizeof line - n, i ? " %d" : "%d", ids[i]);
    assert_string_equal(line, expected);
    free(ids);
    tokenizer_close(t);
}

static void tokens_are_added_in_autotokenizer_s_order(void **state)
{
    (void)state;
    write_text(dir, "tokenizer.json", TOKENIZER(START END));
    expect_ids("{}", "abc<s>x<y>ab", "5 6 3");
    expect_ids("{\"additional_special_tokens\":[\"<y>\",\"<s>\"]}", "abc<s><y>ab", "5 6 8 3");
    expect_ids("{\"extra_special_tokens\":[\"<z>\",\"<y>\"],\"bos_token\":\"<y>\"}", "<y>a<z>",
               "8 0 9");
    expect_ids("{\"additional_special_tokens\":[\"<z>\"],\"eos_token\":{\"__type\":\"AddedToken\","
               "\"content\":\"<y>\",\"lstrip\":true,\"rstrip\":false}}",
               "b  <y> a<z>", "1 8 0 9");
    expect_ids("{\"additional_special_tokens\":[\"ab\"]}", "abc", "3 2");
    expect_ids("{\"mask_token\":\"<y>\",\"sep_token\":\"<z>\"}", "<y><z>", "9 8");
    expect_ids("{\"model_specific_special_tokens\":{\"image_token\":\"<y>\"},"
               "\"bos_token\":\"<z>\"}",
               "<y><z>", "9 8");
    expect_ids("{\"extra_special_tokens\":{\"image_token\":\"<y>\"},"
               "\"additional_special_tokens\":[\"<z>\"]}",
               "<y><z>", "8 9");
    expect_ids("{\"extra_special_tokens\":[\"<y>\"],\"additional_special_tokens\":[\"<z>\"]}",
               "<y><z>", "8");
    expect_ids("{\"added_tokens_decoder\":{\"6\":{\"content\":\"<s>\"," FLAGS "},"
               "\"7\":{\"content\":\"<|endoftext|>\"," FLAGS "}}}",
               "a<s><|endoftext|>", "0 6 7");
    expect_ids("{\"model_max_length\":1000000000000000019884624838656}", "abc", "5");
}

static void qwen_s_tokenizer_has_an_end_of_text(void **state)
{
    (void)state;
    write_text(dir, "tokenizer.json", TOKENIZER(START));
    expect_ids("{\"additional_special_tokens\":[\"<y>\"]}", "<y><|endoftext|>", "8 7");
    expect_ids("{\"additional_special_tokens\":[\"<y>\"],\"eos_token\":\"<s>\",\"unk_token\":null,"
               "\"pad_token\":null}",
               "<y><|endoftext|>", "7");
}

static const char *const refused[][2] = {
    {"[]", "tokenizer_config.json: expected an object, found an array"},
    {"{", "tokenizer_config.json: expected JSON"},
    {"{\"pad_token\":7}", "tokenizer_config.json: pad_token: expected a token"},
    {"{\"add_prefix_space\":true}",
     "add_prefix_space: expected false, as the tokenizer's own file has it, found true"},
    {"{\"add_bos_token\":true}",
     "add_bos_token: expected false, as the tokenizer's own file has it, found true"},
    {"{\"add_eos_token\":1}", "add_eos_token: expected false"},
    {"{\"split_special_tokens\":true}", "split_special_tokens: expected false, found true"},
    {"{\"added_tokens_decoder\":{\"8\":{\"content\":\"<y>\"," FLAGS "}}}",
     "added_tokens_decoder.8: expected a token of tokenizer.json, found \"<y>\""},
    {"{\"added_tokens_decoder\":{\"8\":{\"content\":\"<s>\"," FLAGS "}}}",
     "added_tokens_decoder.8: expected the id that tokenizer.json has, 6"},
    {"{\"added_tokens_decoder\":{\"6\":{\"content\":\"<s>\"}}}",
     "added_tokens_decoder.6.special: expected true as in tokenizer.json"},
    {"{\"added_tokens_decoder\":{\"6\":{\"content\":\"<s>\"," FLAGS "}}}",
     "added_tokens_decoder: expected the 2 added tokens of tokenizer.json, found 1"},
};

static void what_would_change_ids_is_refused(void **state)
{
    (void)state;
    struct tokenizer *t = NULL;
    write_text(dir, "tokenizer.json", TOKENIZER(START END));
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        write_text(dir, "tokenizer_config.json", refused[i][0]);
        assert_int_equal(tokenizer_open_model(&t, dir), STATUS_BAD_FILE);
        if (!strstr(error_text(), refused[i][1]))
            fail_msg("%s: %s", refused[i][1], error_text());
        assert_null(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_are_added_in_autotokenizer_s_order),
        cmocka_unit_test(qwen_s_tokenizer_has_an_end_of_text),
        cmocka_unit_test(what_would_change_ids_is_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
