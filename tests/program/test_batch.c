/* epmoe batch: what is wrong with a line, what stands in the output, and that company changes none
 * of it. */
#include "base/json.h"
#include "tests/rig/batch_rig.h"

/* The output line with this id, parsed; it must be the only one. */
static struct js *line_of(const char *text, const char *id)
{
    struct js *found = NULL;
    for (const char *line = text, *end_of; (end_of = strchr(line, '\n')); line = end_of + 1) {
        struct js *v = js_parse(line, (size_t)(end_of - line), "output");
        const char *this_id = js_string(js_member(v, "id"), NULL);
        assert_non_null(this_id);
        if (strcmp(this_id, id) != 0) {
            js_free(v);
            continue;
        }
        assert_null(found);
        found = v;
    }
    if (!found)
        complain("no line with id \"%s\" in\n%s", id, text);
    return found;
}

static void expect_error(const char *text, const char *id, const char *says)
{
    struct js *v = line_of(text, id);
    const char *error = js_string(js_member(v, "error"), NULL);
    if (!error || !strstr(error, says))
        complain("%s: expected an error that says \"%s\", found \"%s\"", id, says,
                 error ? error : "none");
    assert_int_equal(js_count(v), 2);
    js_free(v);
}

static void expect_result(const char *text, const char *id, int64_t tokens, const char *finish)
{
    struct js *v = line_of(text, id);
    const struct js *usage = js_member(v, "usage");
    const char *reason = js_string(js_member(v, "finish_reason"), NULL);
    if (js_member(v, "error"))
        complain("%s: %s", id, js_string(js_member(v, "error"), NULL));
    assert_int_equal(js_count(v), 5);
    assert_true(js_is_string(js_member(v, "text")));
    assert_int_equal(js_int(js_member(usage, "completion_tokens")), tokens);
    assert_int_equal(js_count(js_member(v, "token_ids")), tokens);
    assert_true(js_int(js_member(usage, "prompt_tokens")) > 0);
    assert_string_equal(reason, finish);
    js_free(v);
}

/* One line each; the id is "x" where the line's own can be read, else "line-1". */
static const struct {
    const char *line, *id, *says;
} wrong[] = {
    {"not json", "line-1", "expected JSON"},
    {"{\"id\": \"x\", \"prompt\": \"a\"", "line-1", "expected JSON"},
    {"{\"id\": \"x\", \"id\": \"y\", \"prompt\": \"a\"}", "line-1", "expected JSON"},
    {"{\"id\": \"x\", \"prompt\": \"\xff\"}", "line-1", "expected JSON"},
    {"[1, 2]", "line-1", "expected an object, found an array"},
    {"\"text\"", "line-1", "expected an object, found a string"},
    {"{}", "line-1", "expected prompt or messages, found neither"},
    {"{\"id\": 7, \"prompt\": \"a\"}", "line-1", "id: expected a text, found 7"},
    {"{\"id\": \"\", \"prompt\": \"a\"}", "line-1", "found an empty string"},
    {"{\"id\": \"line-2\", \"prompt\": \"a\"}", "line-1", "another line's"},
    {"{\"id\": \"x\"}", "x", "expected prompt or messages, found neither"},
    {"{\"id\": \"x\", \"prompt\": \"a\", \"messages\": []}", "x", "found both"},
    {"{\"id\": \"x\", \"prompt\": 5}", "x",
     "prompt: expected a string, or a list of token ids, found 5"},
    {"{\"id\": \"x\", \"prompt\": [\"a\"]}", "x",
     "prompt: expected a list of token ids, found a string"},
    {"{\"id\": \"x\", \"prompt\": \"\"}", "x", "the prompt is empty"},
    {"{\"id\": \"x\", \"promt\": \"a\"}", "x", "found \"promt\""},
    {"{\"id\": \"x\", \"prompt\": \"a\", \"max_token\": 4}", "x", "found \"max_token\""},
    {"{\"id\": \"x\", \"prompt\": \"a\", \"max_tokens\": -1}", "x",
     "max_tokens: expected an integer"},
    {"{\"id\": \"x\", \"prompt\": \"a\", \"max_tokens\": 2.5}", "x", "found 2.5"},
    {"{\"id\": \"x\", \"prompt\": \"a\", \"max_tokens\": 4.0}", "x", "found 4.0"},
    {"{\"id\": \"x\", \"prompt\": \"a\", \"max_tokens\": \"9\"}", "x", "found a string"},
    {"{\"id\": \"x\", \"prompt\": \"a\", \"max_tokens\": 600}", "x",
     "found 600: the context has 512 positions"},
    {"{\"id\": \"x\", \"prompt\": \"a\", \"max_tokens\": 99999999999999999999}", "x",
     "max_tokens: expected an integer from 0 to 16777216, found 1e+20"},
    {"{\"id\": \"x\", \"prompt\": \"a\", \"temperature\": -0.1}", "x", "temperature: expected"},
    {"{\"id\": \"x\", \"prompt\": \"a\", \"temperature\": \"hot\"}", "x", "found a string"},
    {"{\"id\": \"x\", \"prompt\": \"a\", \"temperature\": NaN}", "x",
     "temperature: expected a number from 0 to 100, found NaN"},
    {"{\"id\": \"x\", \"prompt\": \"a\", \"top_p\": 1.5}", "x", "top_p: expected a number"},
    {"{\"id\": \"x\", \"prompt\": \"a\", \"top_k\": 1.5}", "x", "top_k: expected an integer"},
    {"{\"id\": \"x\", \"prompt\": \"a\", \"repetition_penalty\": 0}", "x", "repetition_penalty"},
    {"{\"id\": \"x\", \"prompt\": \"a\", \"seed\": \"s\"}", "x", "seed: expected an integer"},
    {"{\"id\": \"x\", \"prompt\": \"a\", \"stop\": 3}", "x", "stop: expected a text"},
    {"{\"id\": \"x\", \"prompt\": \"a\", \"stop\": \"\"}", "x", "found an empty string"},
    {"{\"id\": \"x\", \"prompt\": \"a\", \"stop\": [\"a\", 1]}", "x", "stop: expected a text"},
    {"{\"id\": \"x\", \"prompt\": \"a\", \"stop\": "
     "[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\","
     "\"9\",\"0\",\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"g\"]}",
     "x", "at most 16 texts, found 17"},
    {"{\"id\": \"x\", \"prompt\": \"a\", \"ignore_eos\": 1}", "x", "ignore_eos: expected true"},
    {"{\"id\": \"x\", \"messages\": []}", "x", "at least one message, found an empty list"},
    {"{\"id\": \"x\", \"messages\": \"hi\"}", "x", "messages: expected a list"},
    {"{\"id\": \"x\", \"messages\": [\"hi\"]}", "x", "messages: 1: expected an object"},
    {"{\"id\": \"x\", \"messages\": [{\"role\": \"user\"}]}", "x", "found nothing"},
    {"{\"id\": \"x\", \"messages\": [{\"content\": \"a\"}]}", "x", "messages: 1: expected a role"},
    {"{\"id\": \"x\", \"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": "
     "\"user\", "
     "\"content\": [{\"type\": \"text\"}]}]}",
     "x", "messages: 2: part 1 of content: expected {\"type\": \"text\", \"text\": a string}"},
    {"{\"id\": \"x\", \"messages\": [{\"role\": \"user\", \"content\": [{\"type\": "
     "\"image_url\"}]}]}",
     "x", "found type image_url"},
    {"{\"id\": \"x\", \"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\", "
     "\"text\": "
     "\"a\", \"cache\": 1}]}]}",
     "x", "found \"cache\""},
    {"{\"id\": \"x\", \"messages\": [{\"role\": \"user\", \"content\": 4}]}", "x",
     "expected content that is a string or text parts"},
    {"{\"id\": \"x\", \"prompt\": []}", "x", "the prompt is empty"},
    {"{\"id\": \"x\", \"prompt\": [1, -1]}", "x", "prompt: expected token ids from 0 to"},
    {"{\"id\": \"x\", \"prompt\": [1, 2.5]}", "x",
     "prompt: expected a list of token ids, found 2.5"},
    {"{\"id\": \"x\", \"prompt\": [99999]}", "x", "expected token ids from 0 to"},
    {"{\"id\": \"x\", \"prompt\": \"a\", \"max_tokens\": 4.0}", "x", "found 4.0"},
    {"{\"id\": \"x\", \"prompt\": \"a\", \"max_tokens\": 4, \"max_completion_tokens\": 4}", "x",
     "expected max_tokens or max_completion_tokens, found both"},
    {"{\"id\": \"x\", \"prompt\": \"a\", \"top_k\": -2}", "x", "an integer from -1 to 16777216"},
    {"{\"id\": \"x\", \"prompt\": \"a\", \"stop_token_ids\": 3}", "x",
     "stop_token_ids: expected a list of token ids, found 3"},
    {"{\"id\": \"x\", \"prompt\": \"a\", \"n\": 2}", "x", "n: expected 1, as batch does no other"},
    {"{\"id\": \"x\", \"prompt\": \"a\", \"stream\": true}", "x", "stream: expected false"},
    {"{\"id\": \"x\", \"prompt\": \"a\", \"presence_penalty\": 2.5}", "x",
     "presence_penalty: expected a number from -2 to 2, found 2.5"},
    {"{\"id\": \"x\", \"prompt\": \"a\", \"logit_bias\": {\"a\": 1}}", "x",
     "logit_bias: expected token ids from 0"},
    {"{\"id\": \"x\", \"prompt\": \"a\", \"logit_bias\": {\"1\": 101}}", "x",
     "logit_bias: expected a number from -100 to 100, found 101"},
    {"{\"custom_id\": \"x\", \"body\": {\"prompt\": \"a\", \"max_token\": 1}}", "x",
     "body: expected the fields prompt"},
    {"{\"custom_id\": \"x\", \"body\": {\"prompt\": \"a\", \"max_token\": 1}}", "x",
     "did you mean max_tokens?"},
    {"{\"custom_id\": \"x\", \"body\": \"a\"}", "x", "body: expected an object, found a string"},
    {"{\"custom_id\": \"x\", \"prompt\": \"a\"}", "x", "found \"prompt\""},
    {"{\"custom_id\": \"x\", \"method\": \"GET\", \"body\": {\"prompt\": \"a\"}}", "x",
     "method: expected POST, found \"GET\""},
    {"{\"custom_id\": \"x\", \"url\": \"/v1/embeddings\", \"body\": {\"prompt\": \"a\"}}", "x",
     "url: expected /v1/completions, found \"/v1/embeddings\""},
    {"{\"custom_id\": 7, \"body\": {\"prompt\": \"a\"}}", "line-1", "custom_id: expected a text"},
    {"{\"id\": \"x\", \"messages\": [{\"role\": \"user\", \"content\": \"a\", \"tool_calls\": "
     "[{}]}]}",
     "x", "messages: 1: tool_calls: 1: expected a function, found nothing"},
    {"{\"id\": \"x\", \"messages\": [{\"role\": \"user\", \"content\": \"a\", \"tool_calls\": "
     "[{\"function\": {\"name\": \"f\"}}]}]}",
     "x", "tool_calls: expected none, as this model's chat template does not read it"},
    {"{\"id\": \"x\", \"messages\": [{\"role\": \"user\", \"content\": \"a\"}], \"tools\": "
     "[{\"type\": \"function\", \"function\": {\"name\": \"f\"}}]}",
     "x", "tools: expected none, as this model's chat template reads no tools"},
    {"{\"id\": \"x\", \"prompt\": \"a\", \"chat_template_kwargs\": {}}", "x",
     "chat_template_kwargs: expected messages with it, found prompt"},
    {"{\"id\": \"x\", \"messages\": [{\"role\": \"user\", \"content\": \"a\", \"name\": "
     "\"b\"}]}",
     "x", "found \"name\""},
};

static void an_error_is_its_line_s_alone(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char in[1024];
        snprintf(in, sizeof in, "%s\n%s\n", wrong[i].line, GOOD);
        char *text = batch_text(in, "");
        expect_error(text, wrong[i].id, wrong[i].says);
        expect_result(text, "good", 3, "length");
        free(text);
    }
}

static void ids_are_unique(void **state)
{
    (void)state;
    char *text = batch_text("{\"id\": \"a\", \"prompt\": \"x\", \"max_tokens\": 1}\n"
                            "{\"prompt\": \"x\", \"max_tokens\": 1, \"ignore_eos\": true}\n"
                            "{\"id\": null, \"prompt\": \"x\", \"max_tokens\": 0}\n"
                            "{\"id\": \"a\", \"prompt\": \"y\"}\n"
                            "{\"id\": \"a\", \"prompt\": 5}\n"
                            "{\"id\": \"line-6\", \"prompt\": \"x\", \"max_tokens\": 0}\n",
                            "");
    struct js *first = line_of(text, "a");
    assert_null(js_member(first, "error"));
    js_free(first);
    expect_result(text, "line-2", 1, "length");
    expect_result(text, "line-3", 0, "length");
    expect_error(text, "line-4", "found \"a\" of line 1 again");
    expect_error(text, "line-5", "found \"a\" of line 1 again");
    expect_result(text, "line-6", 0, "length");
    free(text);
}

static void lines_may_end_and_begin_in_any_way(void **state)
{
    (void)state;
    char *text = batch_text("\xef\xbb\xbf{\"id\": \"a\", \"prompt\": \"x\", \"max_tokens\": 0}\r\n"
                            "\n   \t\r\n"
                            " {\"id\": \"b\", \"prompt\": \"x\", \"max_tokens\": 0} \n"
                            "{\"id\": \"c\", \"prompt\": \"x\", \"max_tokens\": 0}",
                            "");
    for (int i = 0; i < 3; i++)
        expect_result(text, (const char *[]){"a", "b", "c"}[i], 0, "length");
    free(text);
    text = batch_text("", "");
    assert_string_equal(text, "");
    free(text);
}

static void a_line_may_be_too_long(void **state)
{
    (void)state;
    size_t bytes = (64u << 20) + 100;
    char *in = malloc(bytes + 256), *text;
    assert_non_null(in);
    strcpy(in, "{\"id\": \"long\", \"prompt\": \"");
    memset(in + strlen(in), 'a', bytes - strlen(in));
    strcpy(in + bytes, "\"}\n" GOOD "\n");
    text = batch_text(in, "");
    expect_error(text, "line-1", "64 MiB");
    expect_result(text, "good", 3, "length");
    free(text);
    free(in);
}

static void company_changes_nothing(void **state)
{
    (void)state;
    static const char *const settings[] = {"--max-batch 8", "--max-batch 3 --chunk 5",
                                           "--max-batch 8 --ranks 4", "--max-batch 64 --chunk 16",
                                           "--max-batch 8 --kv-memory 64K"};
    char *in = mixed_input(60), *alone = batch_text(in, "--max-batch 1");
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        char *text = batch_text(in, settings[i]);
        expect_same_lines(text, alone, settings[i]);
        free(text);
    }
    free(alone);
    free(in);
}

static void messages_are_the_prompt_that_the_template_makes(void **state)
{
    (void)state;
    char *text = batch_text(
        "{\"id\": \"a\", \"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}], "
        "\"max_tokens\": 9}\n"
        "{\"id\": \"b\", \"prompt\": \"<|im_start|>system\\nBe "
        "kind.<|im_end|>\\n<|im_start|>user\\n"
        "Hi<|im_end|>\\n<|im_start|>assistant\\n\", \"max_tokens\": 9}\n"
        "{\"id\": \"c\", \"messages\": [{\"role\": \"system\", \"content\": \"Be kind.\"}, "
        "{\"role\": \"user\", \"content\": \"Hi\"}], \"max_tokens\": 9}\n",
        "--system Be");
    struct js *a = line_of(text, "a"), *b = line_of(text, "b"), *c = line_of(text, "c");
    const char *texts[] = {js_string(js_member(b, "text"), NULL),
                           js_string(js_member(c, "text"), NULL)};
    assert_string_equal(texts[0], texts[1]);
    int64_t with_two_words = js_int(js_member(js_member(b, "usage"), "prompt_tokens"));
    int64_t with_be = js_int(js_member(js_member(a, "usage"), "prompt_tokens"));
    assert_int_equal(with_two_words - with_be, strlen(" kind."));
    js_free(a);
    js_free(b);
    js_free(c);
    free(text);
    assert_int_equal(shell("rm '%s/%s'", model, "tokenizer_config.json"), 0);
    text = batch_text(
        "{\"id\": \"a\", \"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}\n" GOOD "\n",
        "");
    expect_error(text, "a", "chat template");
    expect_result(text, "good", 3, "length");
    free(text);
}

/* Two ways to write one request: the same prompt and the same tokens. */
static void the_same_request_gives_the_same(void **state)
{
    (void)state;
    static const char *const ways[][2] = {
        {"\"prompt\": [39, 72], \"max_tokens\": 9", "\"prompt\": \"Hi\", \"max_tokens\": 9"},
        {"\"prompt\": \"Hi\", \"max_completion_tokens\": 9",
         "\"prompt\": \"Hi\", \"max_tokens\": 9"},
        {"\"prompt\": \"Hi\", \"max_tokens\": 9, \"model\": \"m\", \"n\": 1, \"stream\": false, "
         "\"logprobs\": null, \"presence_penalty\": 0, \"user\": \"u\"",
         "\"prompt\": \"Hi\", \"max_tokens\": 9"},
        {"\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"H\"}, "
         "{\"text\": \"i\", \"type\": \"text\"}]}], \"max_tokens\": 9",
         "\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}], \"max_tokens\": 9"},
        {"\"prompt\": \"Hi\", \"max_tokens\": 9, \"temperature\": 1, \"top_k\": -1",
         "\"prompt\": \"Hi\", \"max_tokens\": 9, \"temperature\": 1, \"top_k\": 0"},
    };
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        char in[1024];
        snprintf(in, sizeof in,
                 "{\"id\": \"a\", %s}\n{\"id\": \"b\", %s}\n{\"custom_id\": \"c\", "
                 "\"method\": \"POST\", \"body\": {%s}}\n",
                 ways[i][0], ways[i][1], ways[i][0]);
        char *text = batch_text(in, "");
        struct js *v[] = {line_of(text, "a"), line_of(text, "b"), line_of(text, "c")};
        for (int k = 0; k < 3; k++) {
            if (js_member(v[k], "error"))
                complain("%zu: %s", i, js_string(js_member(v[k], "error"), NULL));
            const char *found = js_string(js_member(v[k], "text"), NULL);
            assert_string_equal(found, js_string(js_member(v[1], "text"), NULL));
            const struct js *usage = js_member(v[k], "usage"), *other = js_member(v[1], "usage");
            assert_int_equal(js_int(js_member(usage, "prompt_tokens")),
                             js_int(js_member(other, "prompt_tokens")));
        }
        for (int k = 0; k < 3; k++)
            js_free(v[k]);
        free(text);
    }
}

/* A stop token ends the text, is not part of it, and is not counted. */
static void a_text_ends_before_its_stop_token(void **state)
{
    (void)state;
    static const char line[] = "{\"id\": \"%s\", \"prompt\": \"Once\", \"max_tokens\": 20, "
                               "\"ignore_eos\": true%s}\n";
    char in[512], field[64];
    snprintf(in, sizeof in, line, "free", "");
    char *text = batch_text(in, "");
    struct js *v = line_of(text, "free");
    const struct js *ids = js_member(v, "token_ids");
    int64_t stop = js_int(js_item(ids, 7));
    size_t first = 0;
    while (js_int(js_item(ids, first)) != stop)
        first++;
    snprintf(field, sizeof field, ", \"stop_token_ids\": [0, %d]", (int)stop);
    snprintf(in, sizeof in, line, "cut", field);
    char *cut_text = batch_text(in, "");
    expect_result(cut_text, "cut", (int64_t)first, "stop");
    js_free(v);
    free(text);
    free(cut_text);
}

static void a_text_ends_before_its_stop_string(void **state)
{
    (void)state;
    static const char line[] =
        "{\"id\": \"%s\", \"prompt\": \"Once\", \"max_tokens\": 60, \"seed\": "
        "5, \"temperature\": 1, \"ignore_eos\": true%s%s%s}\n";
    char in[512], stop[64];
    snprintf(in, sizeof in, line, "free", "", "", "");
    char *text = batch_text(in, "");
    struct js *v = line_of(text, "free");
    size_t bytes;
    const char *whole = js_string(js_member(v, "text"), &bytes);
    size_t at = 0; // three plain characters in a row: three tokens
    while (at + 3 < bytes &&
           (strspn(whole + at, "abcdefghijklmnopqrstuvwxyz0123456789") < 3 ||
            strstr(whole, (snprintf(stop, 4, "%s", whole + at), stop)) != whole + at))
        at++;
    assert_true(at > 0 && at + 3 < bytes);
    snprintf(in, sizeof in, line, "cut", ", \"stop\": [\"never this\", \"", stop, "\"]");
    char *cut_text = batch_text(in, "");
    struct js *cut = line_of(cut_text, "cut");
    size_t cut_bytes;
    const char *found = js_string(js_member(cut, "text"), &cut_bytes);
    assert_int_equal(cut_bytes, at);
    assert_memory_equal(found, whole, at);
    assert_string_equal(js_string(js_member(cut, "finish_reason"), NULL), "stop");
    js_free(v);
    js_free(cut);
    free(text);
    free(cut_text);
}

static void too_little_memory_is_the_request_s_error(void **state)
{
    (void)state;
    char *text = batch_text("{\"id\": \"a\", \"prompt\": \"short\", \"max_tokens\": 20}\n"
                            "{\"id\": \"b\", \"prompt\": \"short\", \"max_tokens\": 100}\n" // 105
                            "{\"id\": \"c\", \"prompt\": \"short\"}\n", // as much as there is room
                            "--kv-memory 1");
    expect_error(text, "b", "KV cache");
    struct js *v = line_of(text, "c");
    assert_null(js_member(v, "error"));
    js_free(v);
    free(text);
}

/* Any bytes at all: a line of output for each that is not blank. */
static void garbage_stops_nothing(void **state)
{
    (void)state;
    char *in = mixed_input(100);
    size_t bytes = strlen(in);
    uint32_t x = 3;
    for (int i = 0; i < 60; i++) {
        x = x * 1664525u + 1013904223u;
        size_t at = (x >> 4) % bytes;
        if (in[at] != '\n')
            in[at] = "\"{}[]:,\\x\xff"[(x >> 28) % 10];
    }
    char *text = batch_text(in, ""), *lines[MAX_LINES];
    assert_int_equal(sorted_lines(text, lines), 100);
    free(text);
    free(in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_error_is_its_line_s_alone),
        TEST(ids_are_unique),
        TEST(lines_may_end_and_begin_in_any_way),
        TEST(a_line_may_be_too_long),
        TEST(company_changes_nothing),
        TEST(messages_are_the_prompt_that_the_template_makes),
        TEST(the_same_request_gives_the_same),
        TEST(a_text_ends_before_its_stop_token),
        TEST(a_text_ends_before_its_stop_string),
        TEST(too_little_memory_is_the_request_s_error),
        TEST(garbage_stops_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
