/* The Jinja of chat templates against Jinja itself (tests/golden/chat/expressions.jsonl), what it
 * refuses by line, and that no template runs for ever, takes all memory or the stack. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "model/jinja.h"
#include "tests/rig/cm.h"

#define GOLDEN SOURCE_DIR "/tests/golden/chat/"
enum { MAX_VARIABLES = 32 };

#define complain(...)                                                                              \
    do {                                                                                           \
        print_error(__VA_ARGS__);                                                                  \
        _fail(__FILE__, __LINE__);                                                                 \
    } while (0)

/* Render a template with an object's members as variables. NULL: an error. */
static char *render(const char *template, size_t template_bytes, const struct js *variables,
                    size_t *bytes)
{
    struct jinja_variable v[MAX_VARIABLES];
    struct jinja_input in = {.variables = v};
    size_t unread;
    error_capture(true);
    struct jinja *t = jinja_open(template, template_bytes, "t");
    for (struct js_entry e = js_first(variables); e.key; e = js_next(variables, e))
        v[in.n++] = (struct jinja_variable){e.key, e.value};
    char *text = t ? jinja_render(t, &in, bytes, &unread) : NULL;
    jinja_close(t);
    return text;
}

/* What Jinja takes and this does not: spellings that no chat template has. */
static bool is_refused_here(const char *template)
{
    static const char *const known[] = {"{{ 1_000 }}", "{{ 0x10 }}", "{{ x[1,2] }}",
                                        "{{ nothing | items }}"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(template, known[i]) == 0)
            return true;
    return false;
}

static void check_expression(const struct js *line, const struct js *variables)
{
    size_t template_bytes, expected_bytes = 0, bytes;
    const char *template = js_string(js_member(line, "template"), &template_bytes),
               *expected = js_string(js_member(line, "text"), &expected_bytes);
    char *text = render(template, template_bytes, variables, &bytes);
    if (is_refused_here(template))
        expected = NULL;
    if (!text && expected)
        complain("%s: expected \"%s\", found: %s", template, expected, error_text());
    if (text && !expected)
        complain("%s: expected an error, found \"%s\"", template, text);
    if (text && (bytes != expected_bytes || memcmp(text, expected, bytes) != 0))
        complain("%s: expected \"%s\", found \"%s\"", template, expected, text);
    assert_true(text || strstr(error_text(), "line ") || strstr(error_text(), "refuses"));
    free(text);
}

static void every_construct_does_what_jinja_does(void **state)
{
    (void)state;
    size_t bytes;
    int n = 0;
    struct js *variables = js_load(GOLDEN "variables.json", 1 << 20);
    char *lines = file_read(GOLDEN "expressions.jsonl", 1 << 20, &bytes);
    assert_true(lines && variables);
    js_set(variables, "tools", js_new_null());
    for (char *line = lines, *end; (end = strchr(line, '\n')); line = end + 1, n++) {
        struct js *v = js_parse(line, (size_t)(end - line), "expressions.jsonl");
        check_expression(v, variables);
        js_free(v);
    }
    assert_true(n > 400);
    free(lines);
    js_free(variables);
}

static void expect_error(const char *template, const char *says)
{
    size_t bytes;
    char *text = render(template, strlen(template), NULL, &bytes);
    if (text)
        complain("%.200s: expected an error, found %zu bytes", template, bytes);
    if (!strstr(error_text(), says))
        complain("%.200s: expected \"%s\" in: %s", template, says, error_text());
}

static void what_is_not_known_is_refused_by_name_and_line(void **state)
{
    (void)state;
    expect_error("a\n{{ 1 | indent }}",
                 "line 2: expected a filter that is known here, found indent");
    expect_error("{{ 1 is filter }}", "line 1: expected a test that is known here, found filter");
    expect_error("\n\n{% include 'x' %}",
                 "line 3: expected a statement that is known here, found \"include\"");
    expect_error("{% extends 'x' %}", "found \"extends\"");
    expect_error("{% call f() %}{% endcall %}", "found \"call\"");
    expect_error("{% for i in [] recursive %}{% endfor %}", "recursive");
    expect_error("\n{{ 'a'.zfill(3) }}",
                 "line 2: expected a method that is known here, found .zfill");
    expect_error("{{ [1].append(2) }}", ".append");
    expect_error("{{ cycler(1) }}", "found cycler");
    expect_error("{{ '%s' % 1 }}", "expected values that % takes, found a text and a whole number");
    expect_error("{{ '\\N{DASH}' }}", "\\N");
    expect_error("{{ ('a' | safe) + 'b' }}", "marked safe");
    expect_error("{{ \xc3\xa9 }}", "expected an expression");
    expect_error("\xc3", "expected UTF-8");
    expect_error("{{ 'É' | lower }}", "U+00C9");
    expect_error("{{ 9223372036854775807 + 1 }}", "64 bits");
    expect_error("{{ {1: 2} }}", "a key: expected a text");
    expect_error("{{ a.b }}", "expected a variable \"a\", found none");
    expect_error("{{ {}.b.c }}", "expected an object with a member \"b\", found none");
    expect_error("{% for i in [1] %}\n{{ loop.changed(i) }}{% endfor %}",
                 "line 2: expected a member of loop");
    expect_error("{{ raise_exception('no!') }}", "the chat template refuses these messages: no!");
    expect_error("{% if 1 %}\n\n", "line 2: expected elif, found the end of the template");
}

/* `before`, then n times `part`, then `after`. */
static void expect_bounded(const char *before, const char *part, int n, const char *after,
                           const char *says)
{
    size_t room = strlen(before) + strlen(part) * (size_t)n + strlen(after) + 1;
    char *text = malloc(room), *to;
    assert_non_null(text);
    to = stpcpy(text, before);
    for (int i = 0; i < n; i++)
        to = stpcpy(to, part);
    strcpy(to, after);
    expect_error(text, says);
    free(text);
}

#define LOOP  "{% for i in range(100000) %}"
#define CLOSE "{% endfor %}"

static void no_template_takes_all_time_memory_or_stack(void **state)
{
    (void)state;
    expect_error(LOOP LOOP LOOP "x" CLOSE CLOSE CLOSE, "found that it");
    expect_error("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "levels");
    expect_error("{% set n = namespace(a='x') %}" LOOP "{% set n.a = n.a + n.a %}" CLOSE,
                 "found that it");
    expect_error("{% set n = namespace(a=[1]) %}" LOOP "{% set n.a = n.a + n.a %}" CLOSE,
                 "found that it");
    expect_error("{% set n = namespace(a=[]) %}" LOOP "{% set n.a = [n.a] %}" CLOSE "{{ n.a }}",
                 "levels");
    expect_error("{% set n = namespace(a=[]) %}" LOOP "{% set n.a = [n.a] %}" CLOSE
                 "{{ n.a | tojson }}",
                 "levels");
    expect_error("{% set n = namespace(a=[], b=[]) %}" LOOP
                 "{% set n.a = [n.a] %}{% set n.b = [n.b] %}" CLOSE "{{ n.a == n.b }}",
                 "levels");
    expect_error("{% set n = namespace() %}{% set n.a = [n] %}{{ n.a }}", "found a namespace");
    expect_error("{{ 'x' * 9223372036854775807 }}", "found that it");
    expect_error(
        "{{ 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' * 4000000 }}",
        "found that it");
    expect_error("{{ range(9223372036854775807) }}", "range");
    expect_error("{{ 2 ** 9223372036854775807 }}", "64 bits");
    expect_error("{{ (range(100000) | list) | sort(reverse=true) }}", "found that it");
    expect_bounded("{{ ", "(", 99, "", "the tag that begins here");
    expect_bounded("{{ ", "(", 5000, "", "brackets");
    expect_bounded("{{ ", "not ", 5000, "1 }}", "levels");
    expect_bounded("{{ ", "-", 5000, "1 }}", "levels");
    expect_bounded("{{ 1", "+1", 5000, " }}", "levels");
    expect_bounded("{{ ''", ".a", 5000, " }}", "levels");
    expect_bounded("{{ ''", "|trim", 5000, " }}", "levels");
    expect_bounded("{{ 1", " if 1 else 1", 5000, " }}", "levels");
    expect_bounded("", "{% if 1 %}", 5000, "", "levels");
    expect_bounded("", "{% for i in [1] %}", 5000, "", "levels");
    expect_bounded("", "{{ x }}", 50000, "", "words");
    expect_bounded("", "x", 2 << 20, "", "expected at most 1048576 bytes");
}

/* Elifs and texts after each other are no levels. */
static void long_templates_are_no_deep_ones(void **state)
{
    (void)state;
    enum { N = 3000 };
    static const char part[] = "{% elif 0 %}x";
    char *text = malloc(64 + sizeof part * N), *to = stpcpy(text, "{% if 0 %}");
    size_t bytes;
    for (int i = 0; i < N; i++)
        to = stpcpy(to, part);
    strcpy(to, "{% else %}y{% endif %}");
    char *made = render(text, strlen(text), NULL, &bytes);
    assert_non_null(made);
    assert_string_equal(made, "y");
    free(made);
    free(text);
}

static void the_date_is_todays(void **state)
{
    (void)state;
    char before[64], after[64], *text;
    size_t bytes;
    do { // midnight may pass
        time_t now = time(NULL);
        strftime(before, sizeof before, "%d %b %Y %%", localtime(&now));
        text = render("{{ strftime_now('%d %b %Y %%') }}", 33, NULL, &bytes);
        assert_non_null(text);
        now = time(NULL);
        strftime(after, sizeof after, "%d %b %Y %%", localtime(&now));
        if (strcmp(before, after) == 0)
            assert_string_equal(text, before);
        free(text);
    } while (strcmp(before, after) != 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_construct_does_what_jinja_does),
        cmocka_unit_test(what_is_not_known_is_refused_by_name_and_line),
        cmocka_unit_test(no_template_takes_all_time_memory_or_stack),
        cmocka_unit_test(long_templates_are_no_deep_ones),
        cmocka_unit_test(the_date_is_todays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
