/* Chat templates against transformers' apply_chat_template (tests/golden/chat): those that models
 * publish, and other spellings of ChatML, render the same bytes and ids or raise the same
 * exception, and one that was changed a little is never rendered in another way. Stop strings too:
 * the other half of a text's way out. */
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
enum { MAX_LINES = 2048, MAX_TEMPLATES = 16 };

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
    const struct chat_request q = {.messages = messages, .system = system};
    return chat_render(c, &q, bytes);
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

/* All of a line's texts: the same, or where transformers has none, an error. With `strict` what
 * transformers renders must not be refused. Returns how many are the same. */
static int compare(const struct chat *c, const struct js *line, const struct lines *conversations,
                   bool strict)
{
    const struct js *texts = js_member(line, "texts");
    int same = 0;
    for (size_t i = 0; i < js_count(texts); i++) {
        size_t expected_bytes, bytes;
        const char *expected = js_string(js_item(texts, i), &expected_bytes);
        char *text = render(c, NULL, conversations->at[i], &bytes);
        if (!text && expected && strict)
            complain("conversation %zu: %s", i, error_text());
        if (text && (!expected || bytes != expected_bytes || memcmp(text, expected, bytes) != 0))
            complain("%s\nconversation %zu: expected \"%s\", found \"%s\"",
                     js_string(js_member(line, "template"), NULL), i,
                     expected ? expected : "an error", text);
        same += text != NULL;
        free(text);
    }
    return same;
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
        assert_true(js_count(js_member(known.at[i], "texts")) >= 30);
        assert_true(compare(&c, known.at[i], &conversations, true) >= 30);
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
    assert_true(ids.n >= 30);
    for (int i = 0; i < ids.n; i++) {
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

struct published {
    const char *name;
    struct chat chat;
    int texts, raised, left_out;
};

/* The template of this name, which is read when it is first asked for. */
static struct published *find(struct published *all, const char *name)
{
    char path[256];
    size_t bytes;
    struct published *p = all;
    while (p->name && strcmp(p->name, name) != 0)
        p++;
    if (p->name)
        return p;
    assert_true(p + 1 < all + MAX_TEMPLATES);
    p->name = name;
    snprintf(path, sizeof path, GOLDEN "templates/%s", name);
    char *text = file_read(path, 1 << 20, &bytes);
    assert_non_null(text);
    if (chat_parse(&p->chat, text, bytes, name) != 0)
        complain("%s is refused: %s", name, error_text());
    p->chat.tokens = js_new_object();
    js_set(p->chat.tokens, "bos_token", js_new_text("<s>"));
    js_set(p->chat.tokens, "eos_token", js_new_text("</s>"));
    free(text);
    return p;
}

/* What was made of a line of published.jsonl: the text, or the error. */
static void expect_made(struct published *p, const struct js *line, const char *text, size_t bytes)
{
    size_t expected_bytes = 0;
    const char *expected = js_string(js_member(line, "text"), &expected_bytes),
               *error = js_string(js_member(line, "error"), NULL);
    char role[96] = "leaves it out";
    int n = (int)js_int(js_member(line, "conversation"));
    if (expected && (!text || bytes != expected_bytes || memcmp(text, expected, bytes) != 0))
        complain("%s, conversation %d: expected \"%s\", found \"%s\"", p->name, n, expected,
                 text ? text : error_text());
    if (!expected && text)
        complain("%s, conversation %d: expected an error, found \"%s\"", p->name, n, text);
    if (error && !strstr(error_text(), error))
        complain("%s, conversation %d: expected \"%s\", found: %s", p->name, n, error,
                 error_text());
    const struct js *unread = js_member(line, "unread");
    if (unread)
        snprintf(role, sizeof role, "messages: %d: ", (int)js_int(unread) + 1);
    if (unread && !strstr(error_text(), role))
        complain("%s, conversation %d: expected \"%s\", found: %s", p->name, n, role, error_text());
    p->texts += expected != NULL;
    p->raised += error != NULL;
    p->left_out += unread != NULL;
}

static void published_templates_render_as_transformers_does(void **state)
{
    (void)state;
    struct published all[MAX_TEMPLATES] = {{0}};
    struct lines made = load("published.jsonl"), conversations = load("conversations.jsonl"),
                 tools = load("tools.json");
    int n = 0, raised = 0, left_out = 0;
    error_capture(true);
    for (int i = 0; i < made.n; i++) {
        const struct js *line = made.at[i];
        struct published *p = find(all, js_string(js_member(line, "template"), NULL));
        const struct chat_request q = {
            .messages = conversations.at[js_int(js_member(line, "conversation"))],
            .tools = js_bool(js_member(line, "tools")) ? tools.at[0] : NULL,
            .kwargs = js_member(line, "kwargs")};
        size_t bytes = 0;
        char *text = chat_render(&p->chat, &q, &bytes);
        expect_made(p, line, text, bytes);
        free(text);
    }
    for (; all[n].name; n++) {
        printf("%s: %d texts, %d raised, %d left out\n", all[n].name, all[n].texts, all[n].raised,
               all[n].left_out);
        assert_true(all[n].texts + all[n].raised + all[n].left_out >= 60);
        raised += all[n].raised;
        left_out += all[n].left_out;
        chat_close(&all[n].chat);
    }
    assert_true(n >= 9 && raised > 0 && left_out > 0);
    drop(&made);
    drop(&conversations);
    drop(&tools);
}

static void a_changed_template_is_not_rendered_in_another_way(void **state)
{
    (void)state;
    struct lines mutants = load("mutants.jsonl"), conversations = load("conversations.jsonl");
    int same = 0, rendered = 0;
    for (int i = 0; i < mutants.n; i++) {
        struct chat c;
        const struct js *texts = js_member(mutants.at[i], "texts");
        for (size_t k = 0; k < js_count(texts); k++)
            rendered += js_is_string(js_item(texts, k));
        if (!parse(&c, mutants.at[i]))
            continue;
        same += compare(&c, mutants.at[i], &conversations, false);
        chat_close(&c);
    }
    printf("%d of %d texts of changed templates are the same, the others refused\n", same,
           rendered);
    assert_true(same > rendered * 9 / 10 && rendered > 100);
    drop(&mutants);
    drop(&conversations);
}

static char *render_hi(const struct chat *c, const char *tools, const char *kwargs)
{
    static const char hi[] = "[{\"role\": \"user\", \"content\": \"hi\"}]";
    struct js *messages = js_parse(hi, strlen(hi), "messages"),
              *t = tools ? js_parse(tools, strlen(tools), "tools") : NULL,
              *k = kwargs ? js_parse(kwargs, strlen(kwargs), "kwargs") : NULL;
    const struct chat_request q = {.messages = messages, .tools = t, .kwargs = k};
    size_t bytes;
    char *text = chat_render(c, &q, &bytes);
    js_free(messages);
    js_free(t);
    js_free(k);
    return text;
}

static void expect_refused(const struct chat *c, const char *tools, const char *kwargs,
                           const char *says)
{
    error_capture(true);
    assert_null(render_hi(c, tools, kwargs));
    if (!strstr(error_text(), says))
        complain("expected \"%s\" in: %s", says, error_text());
}

#define PARSE(c, text) assert_int_equal(chat_parse(c, text, sizeof text - 1, "t"), 0)

static void names_that_a_template_does_not_read_are_refused(void **state)
{
    (void)state;
    struct chat c;
    PARSE(&c, "{{ messages[0].content }}{{ switch }}{{ add_generation_prompt }}");
    expect_refused(&c, "[{}]", NULL, "tools: expected none");
    expect_refused(&c, NULL, "{\"swich\": 1}", "found \"swich\"");
    expect_refused(&c, NULL, "{\"messages\": []}", "found \"messages\"");
    char *text = render_hi(&c, NULL, "{\"switch\": \"on\", \"add_generation_prompt\": false}");
    assert_string_equal(text, "hionFalse");
    free(text);
    assert_true(chat_reads(&c, "switch") && !chat_reads(&c, "swich"));
    chat_close(&c);
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
    PARSE(&c, "{{ messages[-1].content }}"); // it prints none
    error_capture(true);
    assert_null(render(&c, "Be kind.", conversations.at[0], &bytes));
    assert_non_null(strstr(error_text(), "a system prompt: expected none"));
    chat_close(&c);
    drop(&known);
    drop(&conversations);
}

/* What the template that chat_open finds in the directory makes of a message, or the error. */
static void expect_open(const char *dir, const char *tools, const char *expected, const char *error)
{
    struct chat c;
    int status = chat_open(&c, dir);
    if (expected) {
        if (status)
            complain("%s", error_text());
        char *text = render_hi(&c, tools, NULL);
        assert_non_null(text);
        if (!strstr(text, expected))
            complain("expected \"%s\" in: %s", expected, text);
        free(text);
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
    expect_open(dir, NULL, NULL, "expected a chat template");
    write_text(dir, "tokenizer_config.json", "{}");
    expect_open(dir, NULL, NULL, "found none");
    write_text(dir, "tokenizer_config.json", "{\"chat_template\": null}");
    expect_open(dir, NULL, NULL, "found none");
    write_text(dir, "tokenizer_config.json", "{\"chat_template\": 7}");
    expect_open(dir, NULL, NULL, "found an integer");
    write_text(dir, "tokenizer_config.json", "{\"chat_template\"");
    expect_open(dir, NULL, NULL, "expected JSON");
    write_text(dir, "tokenizer_config.json", "{\"chat_template\": \"" TEMPLATE("one", "\\n") "\"}");
    expect_open(dir, NULL, "system\none<|im_end|>", NULL);
    write_text(dir, "tokenizer_config.json",
               "{\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"x\"}, {\"name\": "
               "\"default\", \"template\": \"" TEMPLATE("two", "\\\\n") "\"}]}");
    expect_open(dir, NULL, "system\ntwo<|im_end|>", NULL);
    write_text(dir, "tokenizer_config.json",
               "{\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"x\"}]}");
    expect_open(dir, NULL, NULL, "\"default\"");
    write_text(dir, "chat_template.jinja", TEMPLATE("three", "\\n")); // the file comes first
    expect_open(dir, NULL, "system\nthree<|im_end|>", NULL);
    write_text(dir, "chat_template.jinja", TEMPLATE("four", "\n"));
    expect_open(dir, NULL, "system\nfour<|im_end|>", NULL);
    write_text(dir, "tokenizer_config.json",
               "{\"bos_token\": \"B\", \"eos_token\": {\"content\": \"E\"}, \"pad_token\": null}");
    write_text(dir, "chat_template.jinja",
               "{{ bos_token ~ eos_token ~ pad_token ~ messages[0].content ~ tools }}");
    expect_open(dir, NULL, "BEhiNone", NULL);
    snprintf(command, sizeof command, "mkdir %s/additional_chat_templates", dir);
    assert_int_equal(system(command), 0);
    write_text(dir, "additional_chat_templates/tool_use.jinja",
               "{{ messages[0].content ~ tools | length }}");
    expect_open(dir, NULL, "BEhiNone", NULL);
    expect_open(dir, "[{}]", "hi1", NULL);
    write_text(dir, "chat_template.jinja", "{% if %}");
    expect_open(dir, NULL, NULL, "line 1");
    snprintf(command, sizeof command, "rm %s/chat_template.jinja", dir);
    assert_int_equal(system(command), 0);
    write_text(
        dir, "tokenizer_config.json",
        "{\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"{{ messages[0].content "
        "}}T{{ "
        "tools | length }}\"}, {\"name\": \"default\", \"template\": \"{{ messages[0].content "
        "}}\"}]}");
    expect_open(dir, NULL, "hi", NULL);
    expect_open(dir, "[{}, {}]", "hiT2", NULL);
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
        cmocka_unit_test(published_templates_render_as_transformers_does),
        cmocka_unit_test(a_changed_template_is_not_rendered_in_another_way),
        cmocka_unit_test(names_that_a_template_does_not_read_are_refused),
        cmocka_unit_test(a_given_system_prompt_replaces_the_default),
        cmocka_unit_test(templates_are_found_where_they_lie),
        cmocka_unit_test(texts_end_before_stop_strings),
        cmocka_unit_test(half_characters_wait_for_the_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
