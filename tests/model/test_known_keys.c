/* Every key that transformers knows in a model's JSON files (tests/golden/known_keys.json) is
 * honoured, without effect or refused; and what is refused, is so by name. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "model/known_keys.h"
#include "tests/rig/cm.h"

static const char *const lists[KEY_FILES] = {"config", "generation", "tokenizer"};

static void no_key_of_transformers_is_absent(void **state)
{
    (void)state;
    struct js *known = js_load(SOURCE_DIR "/tests/golden/known_keys.json", 1 << 20);
    assert_non_null(known);
    for (int file = 0; file < KEY_FILES; file++) {
        const struct js *keys = js_member(known, lists[file]);
        assert_true(js_count(keys) > 40);
        for (size_t i = 0; i < js_count(keys); i++) {
            const char *key = js_string(js_item(keys, i), NULL);
            if (key_use((enum key_file)file, key) == KEY_UNKNOWN)
                fail_msg("%s: nobody says what becomes of %s", lists[file], key);
        }
    }
    js_free(known);
}

static int check(enum key_file file, const char *key, const char *value)
{
    char text[256];
    snprintf(text, sizeof text, "{\"%s\":%s}", key, value);
    struct js *root = js_parse(text, strlen(text), "text");
    assert_non_null(root);
    int status = known_keys_check(&(struct config_source){root, "a.json"}, file);
    js_free(root);
    return status;
}

static const struct {
    enum key_file file;
    const char *key, *refused, *says;
    const char *neutral; // beside null; NULL: none
} cases[] = {
    {KEYS_OF_CONFIG, "compression_config", "{}", "none (it is not supported)", NULL},
    {KEYS_OF_CONFIG, "attention_bias", "true", "expected false, found true", "false"},
    {KEYS_OF_CONFIG, "clip_qkv", "8.0", "none (it is not supported), found 8.0", NULL},
    {KEYS_OF_CONFIG, "per_layer_config", "{}", "none (it is not supported)", NULL},
    {KEYS_OF_CONFIG, "is_causal", "false", "expected true, found false", "true"},
    {KEYS_OF_CONFIG, "is_encoder_decoder", "true", "expected false, found true", "false"},
    {KEYS_OF_GENERATION, "num_beams", "4", "expected 1, found 4", "1"},
    {KEYS_OF_GENERATION, "forced_eos_token_id", "0", "none (it is not supported), found 0", NULL},
    {KEYS_OF_GENERATION, "sequence_bias", "[[[7],-1.0]]", "found an array", NULL},
    {KEYS_OF_GENERATION, "encoder_repetition_penalty", "1.5", "expected 1, found 1.5", "1.0"},
    {KEYS_OF_GENERATION, "encoder_no_repeat_ngram_size", "2", "expected 0, found 2", "0"},
    {KEYS_OF_GENERATION, "epsilon_cutoff", "0.1", "expected 0, found 0.1", "0.0"},
    {KEYS_OF_GENERATION, "eta_cutoff", "0.1", "expected 0, found 0.1", "0.0"},
    {KEYS_OF_GENERATION, "top_h", "0.5", "found 0.5", NULL},
    {KEYS_OF_GENERATION, "guidance_scale", "1.5", "expected 1, found 1.5", "1"},
    {KEYS_OF_GENERATION, "stop_strings", "[\"x\"]", "found an array", NULL},
    {KEYS_OF_GENERATION, "remove_invalid_values", "true", "expected false, found true", "false"},
    {KEYS_OF_GENERATION, "max_time", "NaN", "found NaN", NULL},
    {KEYS_OF_GENERATION, "num_return_sequences", "2", "expected 1, found 2", "1"},
    {KEYS_OF_GENERATION, "watermarking_config", "{}", "found an object", NULL},
    {KEYS_OF_TOKENIZER, "split_special_tokens", "true", "expected false, found true", "false"},
    {KEYS_OF_TOKENIZER, "backend", "\"slow\"", "expected tokenizers, found \"slow\"",
     "\"tokenizers\""},
};

static void what_is_not_supported_is_refused_by_name(void **state)
{
    (void)state;
    char start[96];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(key_use(cases[i].file, cases[i].key), KEY_REFUSED);
        assert_int_equal(check(cases[i].file, cases[i].key, cases[i].refused), STATUS_BAD_FILE);
        snprintf(start, sizeof start, "a.json: %s: expected ", cases[i].key);
        if (!strstr(error_text(), start) || !strstr(error_text(), cases[i].says))
            fail_msg("%s: %s", cases[i].key, error_text());
        assert_int_equal(check(cases[i].file, cases[i].key, "null"), 0);
        if (cases[i].neutral)
            assert_int_equal(check(cases[i].file, cases[i].key, cases[i].neutral), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_key_of_transformers_is_absent),
        cmocka_unit_test(what_is_not_supported_is_refused_by_name),
    };
    error_capture(true);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
