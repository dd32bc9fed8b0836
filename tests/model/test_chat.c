/* Chat templates against transformers' apply_chat_template (tests/golden/chat): those that are
 * known render the same bytes and ids, those of another kind are refused by name, and one that was
 * changed a little is never rendered as if it had not been. Stop strings too: the other half of a
 * text's way out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "model/chat.h"
#include "model/text_out.h"
#include "tests/rig/cm.h"
#include "tests/rig/text_files.h"

#define GOLDEN SOURCE_DIR "/tests/golden/chat/"
enum { MAX_LINES = 512, MAX_MESSAGES = 16 };

#define complain(...)                                                                              \
    do {                                                                                           \
        print_error(__VA_ARGS__);                                                                  \
        _fail(__FILE__, __LINE__);                                                                 \
    } while (0)

struct lines {
    struct js *at[MAX_LINES];
    int n;
};

static struct lines load(const char *name)
{
    struct lines l = {.n = 0};
    char path[256];
    size_t bytes;
    snprintf(path, sizeof path, GOLDEN "%s", name);
    char *text = file_read(path, 64 << 20, &bytes);
    assert_non_null(text);
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        assert_true(l.n < MAX_LINES);
        l.at[l.n] = js_parse(line, (size_t)(end - line), path);
        assert_non_null(l.at[l.n++]);
    }
    free(text);
    return l;
}

static void drop(struct lines *l)
{
    for (int i = 0; i < l->n; i++)
        js_free(l->at[i]);
}

static char *render(const struct chat *c, const char *system, const struct js *messages,
                    size_t *bytes)
{
    struct chat_message m[MAX_MESSAGES];
    size_t n = js_count(messages);
    assert_true(n <= MAX_MESSAGES);
    for (size_t i = 0; i < n; i++) {
        m[i].role = js_string(js_member(js_item(messages, i), "role"), &m[i].role_bytes);
        m[i].content = js_string(js_member(js_item(messages, i), "content"), &m[i].content_bytes);
    }
    return chat_render(c, system, m, n, bytes);
}

static bool parse(struct chat *c, const struct js *line)
{
    size_t bytes;
    const char *text = js_string(js_member(line, "template"), &bytes);
    *c = (struct chat){0};
    error_capture(true);
    int status = chat_parse(c, text, bytes, "template");
    assert_true(status == 0 || status == STATUS_BAD_FILE);
    return status == 0;
}

static bool has_other_role(const struct js *messages)
{
    bool other = false;
    for (size_t i = 0; i < js_count(messages); i++) {
        const char *role = js_string(js_member(js_item(messages, i), "role"), NULL);
        other = other || (strcmp(role, "system") != 0 && strcmp(role, "user") != 0 &&
                          strcmp(role, "assistant") != 0);
    }
    return other;
}

/* All of a line's texts that are there. */
static void compare(const struct chat *c, const struct js *line, const struct lines *conversations)
{
    const struct js *texts = js_member(line, "texts");
    for (size_t i = 0; i < js_count(texts); i++) {
        size_t expected_bytes, bytes;
        const char *expected = js_string(js_item(texts, i), &expected_bytes);
        char *text = render(c, NULL, conversations->at[i], &bytes);
        if (!text && c->known_roles && has_other_role(conversations->at[i]))
            continue;
        if (!text)
            complain("conversation %zu: %s", i, error_text());
        else if (!expected || bytes != expected_bytes || memcmp(text, expected, bytes) != 0)
            complain("%s\nconversation %zu: expected \"%s\", found \"%s\"",
                     js_string(js_member(line, "template"), NULL), i,
                     expected ? expected : "an error", text);
        free(text);
    }
}

static void known_templates_render_as_transformers_does(void **state)
{
    (void)state;
    struct lines known = load("known.jsonl"), conversations = load("conversations.jsonl");
    assert_true(conversations.n >= 30);
    for (int i = 0; i < known.n; i++) {
        struct chat c;
        if (!parse(&c, known.at[i]))
            complain("%s is refused: %s", js_string(js_member(known.at[i], "name"), NULL),
                     error_text());
        assert_int_equal(js_count(js_member(known.at[i], "texts")), conversations.n);
        compare(&c, known.at[i], &conversations);
        chat_close(&c);
    }
    drop(&known);
    drop(&conversations);
}

static void ids_are_those_of_transformers(void **state)
{
    (void)state;
    struct lines known = load("known.jsonl"), conversations = load("conversations.jsonl"),
                 ids = load("ids.jsonl");
    struct tokenizer *t;
    struct chat c;
    assert_int_equal(tokenizer_open(&t, GOLDEN "tokenizer.json"), 0);
    assert_true(parse(&c, known.at[0]));
    for (int i = 0; i < conversations.n; i++) {
        size_t bytes, n;
        int32_t *found;
        char *text = render(&c, NULL, conversations.at[i], &bytes);
        assert_int_equal(tokenizer_encode(t, text, bytes, &found, &n), 0);
        assert_int_equal(n, js_count(ids.at[i]));
        for (size_t k = 0; k < n; k++)
            assert_int_equal(found[k], js_int(js_item(ids.at[i], k)));
        free(text);
        free(found);
    }
    chat_close(&c);
    tokenizer_close(t);
    drop(&known);
    drop(&conversations);
    drop(&ids);
}

static void another_kind_is_refused_by_name(void **state)
{
    (void)state;
    struct lines refused = load("refused.jsonl");
    for (int i = 0; i < refused.n; i++) {
        struct chat c;
        const char *says = js_string(js_member(refused.at[i], "says"), NULL);
        if (parse(&c, refused.at[i]))
            complain("%s is taken", js_string(js_member(refused.at[i], "name"), NULL));
        if (!strstr(error_text(), says) || !strstr(error_text(), "expected"))
            complain("expected a refusal that says \"%s\", found: %s", says, error_text());
        assert_null(c.system);
    }
    drop(&refused);
}

static void a_changed_template_is_not_guessed_at(void **state)
{
    (void)state;
    struct lines mutants = load("mutants.jsonl"), conversations = load("conversations.jsonl");
    int taken = 0;
    for (int i = 0; i < mutants.n; i++) {
        struct chat c;
        if (!parse(&c, mutants.at[i]))
            continue;
        taken++;
        compare(&c, mutants.at[i], &conversations);
        chat_close(&c);
    }
    printf("%d of %d changed templates are still known\n", taken, mutants.n);
    assert_true(taken > 0 && taken < mutants.n);
    drop(&mutants);
    drop(&conversations);
}

static void a_given_system_prompt_replaces_the_default(void **state)
{
    (void)state;
    struct lines known = load("known.jsonl"), conversations = load("conversations.jsonl");
    struct chat c;
    size_t bytes;
    assert_true(parse(&c, known.at[0]));
    char *text = render(&c, "Be kind.", conversations.at[0], &bytes);
    assert_string_equal(text, "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHello"
                              "<|im_end|>\n<|im_start|>assistant\n");
    free(text);
    text = render(&c, "Be kind.", conversations.at[3], &bytes); // it has one of its own
    assert_null(strstr(text, "kind"));
    free(text);
    chat_close(&c);
    drop(&known);
    drop(&conversations);
}

/* What chat_open makes of the directory: the default system prompt, or the error. */
static void expect_open(const char *dir, const char *system, const char *error)
{
    struct chat c;
    int status = chat_open(&c, dir);
    if (system) {
        assert_int_equal(status, 0);
        assert_string_equal(c.system, system);
        chat_close(&c);
    } else {
        assert_int_equal(status, STATUS_BAD_FILE);
        if (!strstr(error_text(), error))
            complain("expected \"%s\" in: %s", error, error_text());
    }
}

#define TEMPLATE(system, newline)                                                                  \
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ "      \
    "'<|im_start|>system" newline system "<|im_end|>" newline "' }}{% endif %}{{'<|im_start|>' + " \
    "message['role'] + '" newline "' + message['content'] + '<|im_end|>' + '" newline "'}}"        \
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant" newline                  \
    "' }}{% endif %}"

static void templates_are_found_where_they_lie(void **state)
{
    (void)state;
    char dir[] = "/tmp/epmoe-chat-XXXXXX", command[64];
    assert_non_null(mkdtemp(dir));
    error_capture(true);
    expect_open(dir, NULL, "expected a chat template");
    write_text(dir, "tokenizer_config.json", "{}");
    expect_open(dir, NULL, "found none");
    write_text(dir, "tokenizer_config.json", "{\"chat_template\": null}");
    expect_open(dir, NULL, "found none");
    write_text(dir, "tokenizer_config.json", "{\"chat_template\": 7}");
    expect_open(dir, NULL, "found an integer");
    write_text(dir, "tokenizer_config.json", "{\"chat_template\"");
    expect_open(dir, NULL, "expected JSON");
    write_text(dir, "tokenizer_config.json", "{\"chat_template\": \"" TEMPLATE("one", "\\n") "\"}");
    expect_open(dir, "one", NULL);
    write_text(dir, "tokenizer_config.json",
               "{\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"x\"}, {\"name\": "
               "\"default\", \"template\": \"" TEMPLATE("two", "\\\\n") "\"}]}");
    expect_open(dir, "two", NULL);
    write_text(dir, "tokenizer_config.json",
               "{\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"x\"}]}");
    expect_open(dir, NULL, "\"default\"");
    write_text(dir, "chat_template.jinja", TEMPLATE("three", "\\n")); // the file comes first
    expect_open(dir, "three", NULL);
    write_text(dir, "chat_template.jinja", TEMPLATE("four", "\n"));
    expect_open(dir, "four", NULL);
    snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
}

/* The text of some ids with these stop strings (up to a NULL). */
static void expect_text(const struct tokenizer *t, const char *source, const char *const *stops,
                        const char *expected, bool stopped)
{
    struct stop_strings s = {0};
    for (; stops[s.n]; s.n++) {
        s.at[s.n] = stops[s.n];
        s.bytes[s.n] = strlen(stops[s.n]);
    }
    struct text_out o = {.tokenizer = t, .stops = &s};
    int32_t *ids;
    size_t n, shown = 0, whole = strlen(expected);
    assert_int_equal(tokenizer_encode(t, source, strlen(source), &ids, &n), 0);
    for (size_t i = 0; i < n && !text_out_push(&o, ids[i]); i++) {
        assert_true(o.bytes >= shown && o.bytes <= whole); // never more than will stay
        shown = o.bytes;
    }
    text_out_end(&o);
    assert_int_equal(o.stopped, stopped);
    assert_int_equal(o.bytes, whole);
    assert_memory_equal(o.text ? o.text : "", expected, whole);
    text_out_free(&o);
    free(ids);
}

#define STOPS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* Every token of this vocabulary is one byte, so all that is longer lies across tokens. */
static void texts_end_before_stop_strings(void **state)
{
    (void)state;
    struct tokenizer *t;
    assert_int_equal(tokenizer_open(&t, GOLDEN "tokenizer.json"), 0);
    expect_text(t, "one two three", STOPS(NULL), "one two three", false);
    expect_text(t, "one two three", STOPS("two"), "one ", true);
    expect_text(t, "one two three", STOPS("four"), "one two three", false);
    expect_text(t, "one two three", STOPS("o"), "", true);
    expect_text(t, "one two three", STOPS("threes"), "one two three", false); // held to the end
    expect_text(t, "aaab", STOPS("aab"), "a", true);
    expect_text(t, "abababac", STOPS("ababac"), "ab", true);
    expect_text(t, "one two three", STOPS("thr", "e t"), "on", true);
    expect_text(t, "one two three", STOPS("two t", "wo"), "one t", true); // complete first
    expect_text(t, "one\n\ntwo", STOPS("\n\n"), "one", true);
    expect_text(t, "caf\xc3\xa9 noir", STOPS("\xc3\xa9 n"), "caf", true);
    expect_text(t, "caf\xc3\xa9 noir", STOPS("\xc3\xa9t"), "caf\xc3\xa9 noir", false);
    expect_text(t, "a<|im_end|>b", STOPS("ab"), "", true); // special tokens are no text
    expect_text(t, "", STOPS("x"), "", false);
    tokenizer_close(t);
}

static void half_characters_wait_for_the_rest(void **state)
{
    (void)state;
    struct tokenizer *t;
    size_t bytes;
    assert_int_equal(tokenizer_open(&t, GOLDEN "tokenizer.json"), 0);
    struct text_out o = {.tokenizer = t};
    assert_memory_equal(tokenizer_token_bytes(t, 96, &bytes), "\xc3", 1);
    assert_false(text_out_push(&o, 96));
    assert_int_equal(o.bytes, 0);
    assert_false(text_out_push(&o, 97));
    assert_int_equal(o.bytes, 2);
    assert_false(text_out_push(&o, 96));
    assert_int_equal(o.bytes, 2);
    text_out_end(&o);
    assert_int_equal(o.bytes, 5);
    assert_memory_equal(o.text, "\xc3\xa9\xef\xbf\xbd", 5);
    text_out_free(&o);
    tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_templates_render_as_transformers_does),
        cmocka_unit_test(ids_are_those_of_transformers),
        cmocka_unit_test(another_kind_is_refused_by_name),
        cmocka_unit_test(a_changed_template_is_not_guessed_at),
        cmocka_unit_test(a_given_system_prompt_replaces_the_default),
        cmocka_unit_test(templates_are_found_where_they_lie),
        cmocka_unit_test(texts_end_before_stop_strings),
        cmocka_unit_test(half_characters_wait_for_the_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
