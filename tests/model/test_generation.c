/* generation_config.json: what it says is read, and what is not honoured is refused by its name. */
#include "tests/rig/config_texts.h"

static void eos_ids_of_the_generation_config_replace_others(void **state)
{
    (void)state;
    char *text = with(moe4, "eos_token_id", "[7, 9, 7]");
    assert_int_equal(parse(text, NULL), 0);
    assert_int_equal(parsed.n_eos, 2);
    assert_int_equal(parse(text, "{\"eos_token_id\":[9,11]}"), 0);
    assert_int_equal(parsed.n_eos, 2);
    assert_int_equal(parsed.eos[0], 9);
    assert_int_equal(parsed.eos[1], 11);
    assert_int_equal(parse(text, "{\"eos_token_id\":null}"), 0);
    assert_int_equal(parsed.n_eos, 2);
    assert_int_equal(parsed.eos[0], 7);
    free(text);
    text = with(moe4, "eos_token_id", "null");
    assert_int_equal(parse(text, "{\"eos_token_id\":null,\"bos_token_id\":null}"), 0);
    assert_int_equal(parsed.n_eos, 0);
    free(text);
    text = with(moe4, "eos_token_id", "[1000, 7, -1]"); // no token has these ids
    assert_int_equal(parse(text, NULL), 0);
    assert_int_equal(parsed.n_eos, 1);
    assert_int_equal(parsed.eos[0], 7);
    free(text);
}

static void generation_defaults_are_read(void **state)
{
    (void)state;
    assert_int_equal(parse(moe4, NULL), 0);
    assert_true(!defaults.do_sample && defaults.top_k == 50 && defaults.temperature == 1 &&
                defaults.top_p == 1 && defaults.repetition_penalty == 1);
    assert_int_equal(parse(moe4, "{\"do_sample\":true,\"temperature\":0.7,\"top_p\":0.8,\"top_k\":"
                                 "20,\"repetition_penalty\":1.05,\"eos_token_id\":[645,643]}"),
                     0);
    assert_true(defaults.do_sample && defaults.top_k == 20 && defaults.temperature == 0.7 &&
                defaults.top_p == 0.8 && defaults.repetition_penalty == 1.05);
    assert_int_equal(parse(moe4, "{\"do_sample\":null,\"top_k\":null,\"top_p\":null}"), 0);
    assert_true(!defaults.do_sample && defaults.top_k == 50 && defaults.top_p == 1);
    char *text = with(moe4, "temperature", "0.25"); // without the file config.json says it
    assert_int_equal(parse(text, NULL), 0);
    assert_true(defaults.temperature == 0.25);
    assert_int_equal(parse(text, "{}"), 0);
    assert_true(defaults.temperature == 1);
    free(text);
}

static void bans_are_read(void **state)
{
    (void)state;
    static const int32_t words[] = {1, 5, 3, 8, 9, 10};
    const struct token_bans *b = &defaults.bans;
    assert_int_equal(parse(moe4, "{\"suppress_tokens\":[3,-1,1000,7],\"min_p\":0.25,"
                                 "\"begin_suppress_tokens\":[220],\"min_new_tokens\":4,"
                                 "\"min_length\":6,\"no_repeat_ngram_size\":2,"
                                 "\"bad_words_ids\":[[5],[8,9,10]],\"typical_p\":0.5,"
                                 "\"max_new_tokens\":9,\"max_length\":12}"),
                     0);
    assert_true(b->n_suppressed == 2 && b->suppressed[0] == 3 && b->suppressed[1] == 7);
    assert_true(b->n_at_begin == 1 && b->at_begin[0] == 220);
    assert_true(b->min_new_tokens == 4 && b->min_length == 6 && b->no_repeat_ngram == 2);
    assert_int_equal(b->n_bad_words, 6);
    assert_memory_equal(b->bad_words, words, sizeof words);
    assert_true(defaults.min_p == 0.25 && defaults.typical_p == 0.5);
    assert_true(defaults.max_new_tokens == 9 && defaults.max_length == 12);
}

static void bad_generation_configs_are_refused(void **state)
{
    static const char *const cases[][2] = {
        {"[]", "generation_config.json: expected an object, found an array"},
        {"{", "generation_config.json: expected JSON"},
        {"{\"do_sample\":1}", "generation_config.json: do_sample: expected true or false, found 1"},
        {"{\"top_k\":-1}", "generation_config.json: top_k: expected a whole number from 0"},
        {"{\"top_k\":2.5}", "top_k: expected a whole number from 0 to 16777216, found 2.5"},
        {"{\"temperature\":-0.5}", "temperature: expected a number from 0 to 1000, found -0.5"},
        {"{\"temperature\":\"hot\"}",
         "temperature: expected a number from 0 to 1000, found \"hot\""},
        {"{\"top_p\":1.5}", "top_p: expected a number from 0 to 1, found 1.5"},
        {"{\"repetition_penalty\":0}", "repetition_penalty: expected a number from 0.01"},
        {"{\"suppress_tokens\":7}", "suppress_tokens: expected a list of ids, found 7"},
        {"{\"begin_suppress_tokens\":[1.5]}", "begin_suppress_tokens: expected ids, found 1.5"},
        {"{\"bad_words_ids\":[[]]}", "bad_words_ids: expected lists of at least one id"},
        {"{\"bad_words_ids\":[[1000]]}", "expected a whole number from 0 to 999, found 1000"},
        {"{\"no_repeat_ngram_size\":-1}", "no_repeat_ngram_size: expected a whole number"},
        {"{\"min_p\":1.5}", "min_p: expected a number from 0 to 1, found 1.5"},
        {"{\"typical_p\":NaN}", "typical_p: expected a number from 1e-06 to 1, found NaN"},
        {"{\"cache_implementation\":\"quantized\"}", "cache_implementation: expected a cache"},
        {"{\"eos_token_id\":true}",
         "eos_token_id: expected an id, a list of ids or null, found true"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_error(parse(moe4, cases[i][0]), cases[i][1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eos_ids_of_the_generation_config_replace_others),
        cmocka_unit_test(generation_defaults_are_read),
        cmocka_unit_test(bans_are_read),
        cmocka_unit_test(bad_generation_configs_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
