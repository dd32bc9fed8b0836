/* Filters: what stands after |. Those of lists are in jinja_select.c. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/jinja_case.h"
#include "model/jinja_select.h"

#define FILTER(filter_name)                                                                        \
    static struct jinja_value filter_name(struct jinja_run *r, const struct jinja_value *v,        \
                                          jinja_given given)

FILTER(length)
{
    (void)given;
    if (v->kind == JINJA_TEXT) {
        jinja_step(r, v->text.bytes / 16);
        return jinja_int((int64_t)jinja_length(v->text));
    }
    return jinja_int((int64_t)jinja_items(r, v)->n);
}

FILTER(to_json)
{
    struct jinja_buffer b = {0};
    jinja_put_json(r, &b, v, given);
    return jinja_text(b.text, b.bytes);
}

FILTER(to_text)
{
    (void)given;
    struct jinja_text t = jinja_str(r, v);
    return jinja_text(t.at, t.bytes);
}

FILTER(safe)
{
    (void)given;
    struct jinja_text t = jinja_str(r, v);
    return (struct jinja_value){.kind = JINJA_TEXT, .safe = true, .text = t};
}

FILTER(trim)
{
    const struct jinja_value *these = given[0] && given[0]->kind != JINJA_NONE ? given[0] : NULL;
    struct jinja_text t = jinja_str(r, v);
    if (these)
        jinja_expect_text(r, these, "trim");
    jinja_step(r, t.bytes / 16 * (these ? 1 + these->text.bytes : 1));
    t = jinja_strip(t, JINJA_LEFT | JINJA_RIGHT, these);
    return jinja_text(t.at, t.bytes);
}

FILTER(upper)
{
    (void)given;
    return jinja_case(r, jinja_str(r, v), JINJA_UPPER);
}

FILTER(lower)
{
    (void)given;
    return jinja_case(r, jinja_str(r, v), JINJA_LOWER);
}

FILTER(capitalize)
{
    (void)given;
    return jinja_case(r, jinja_str(r, v), JINJA_CAPITALIZE);
}

FILTER(replace)
{
    struct jinja_text t = jinja_str(r, v);
    const struct jinja_value text = jinja_text(t.at, t.bytes);
    return jinja_method(r, &text, jinja_word("replace").text)->call(r, &text, given);
}

FILTER(otherwise)
{
    (void)r;
    bool any_false = given[1] && jinja_truth(given[1]);
    if (v->kind != JINJA_UNDEFINED && !(any_false && !jinja_truth(v)))
        return *v;
    return given[0] ? *given[0] : jinja_word("");
}

FILTER(first)
{
    (void)given;
    const struct jinja_list *l = jinja_items(r, v);
    return l->n ? l->at[0] : jinja_undefined(r, "expected a first item, found none");
}

FILTER(last)
{
    (void)given;
    const struct jinja_list *l = jinja_items(r, v);
    return l->n ? l->at[l->n - 1] : jinja_undefined(r, "expected a last item, found none");
}

FILTER(to_list)
{
    (void)given;
    struct jinja_list *from = jinja_items(r, v), *l = jinja_list_new(r, from->n);
    if (l->n)
        memcpy(l->at, from->at, l->n * sizeof *l->at);
    return jinja_list_value(l);
}

FILTER(join)
{
    const struct jinja_list *l = jinja_items(r, v);
    struct jinja_buffer b = {0};
    struct jinja_text between = {"", 0};
    if (given[0])
        between = jinja_str(r, given[0]);
    for (size_t i = 0; i < l->n; i++) {
        struct jinja_value item = l->at[i];
        if (given[1])
            item = jinja_path(r, &item, given[1]);
        if (i)
            jinja_put_text(r, &b, between);
        jinja_put_str(r, &b, &item);
    }
    return jinja_text(b.bytes ? b.text : "", b.bytes);
}

FILTER(reverse)
{
    (void)given;
    const struct jinja_value backwards[] = {jinja_none, jinja_none, jinja_int(-1)};
    struct jinja_list *l = jinja_items(r, v);
    const struct jinja_value list = jinja_list_value(l);
    return jinja_slice(r, v->kind == JINJA_TEXT ? v : &list, backwards);
}

/* A whole text as a number; false: it is none. */
static bool read_number(struct jinja_text t, int64_t *whole, double *real)
{
    char text[64], *end;
    t = jinja_strip(t, JINJA_LEFT | JINJA_RIGHT, NULL);
    *whole = 0;
    if (t.bytes == 0 || t.bytes >= sizeof text || memchr(t.at, 0, t.bytes) ||
        memchr(t.at, 'x', t.bytes) || memchr(t.at, 'X', t.bytes))
        return false;
    memcpy(text, t.at, t.bytes);
    text[t.bytes] = 0;
    *real = strtod(text, &end);
    if (*end || isnan(*real))
        return false;
    errno = 0;
    *whole = strtoll(text, &end, 10);
    if (*end && fabs(*real) < 0x1p62)
        *whole = (int64_t)*real;
    return errno == 0;
}

/* int and float: of what is no number the default. */
static struct jinja_value convert(struct jinja_run *r, const struct jinja_value *v,
                                  const struct jinja_value *otherwise_value, bool real)
{
    int64_t whole = 0;
    double number = 0;
    bool good = true;
    if (v->kind == JINJA_TEXT)
        good = read_number(v->text, &whole, &number);
    else if (v->kind == JINJA_REAL) {
        number = v->real;
        good = real || fabs(number) < 0x1p62;
        whole = good && !real ? (int64_t)number : 0;
    } else if (jinja_is_number(v))
        number = (double)(whole = jinja_expect_int(r, v, "int"));
    else
        good = false;
    if (good)
        return real ? jinja_real(number) : jinja_int(whole);
    return otherwise_value ? *otherwise_value : real ? jinja_real(0) : jinja_int(0);
}

FILTER(to_int)
{
    return convert(r, v, given[0], false);
}

FILTER(to_float)
{
    return convert(r, v, given[0], true);
}

FILTER(absolute)
{
    (void)given;
    const struct jinja_value zero = jinja_int(0);
    if (v->kind == JINJA_REAL)
        return jinja_real(fabs(v->real));
    jinja_expect_int(r, v, "abs");
    return jinja_less(r, v, &zero) ? jinja_binary(r, jinja_word("-").text, &zero, v) : *v;
}

FILTER(items)
{
    if (v->kind == JINJA_UNDEFINED)
        return jinja_list_value(jinja_list_new(r, 0));
    if (v->kind != JINJA_DICT)
        jinja_fail(r, "items: expected an object, found %s", jinja_kind_name(v));
    return jinja_method(r, v, jinja_word("items").text)->call(r, v, given);
}

static const struct jinja_function filters[] = {
    {"abs", absolute, {NULL}, 0},
    {"capitalize", capitalize, {NULL}, 0},
    {"count", length, {NULL}, 0},
    {"d", otherwise, {"default_value", "boolean"}, 0},
    {"default", otherwise, {"default_value", "boolean"}, 0},
    {"first", first, {NULL}, 0},
    {"float", to_float, {"default"}, 0},
    {"int", to_int, {"default"}, 0},
    {"items", items, {NULL}, 0},
    {"join", join, {"d", "attribute"}, 0},
    {"last", last, {NULL}, 0},
    {"length", length, {NULL}, 0},
    {"list", to_list, {NULL}, 0},
    {"lower", lower, {NULL}, 0},
    {"replace", replace, {"old", "new", "count"}, 2},
    {"reverse", reverse, {NULL}, 0},
    {"safe", safe, {NULL}, 0},
    {"string", to_text, {NULL}, 0},
    {"tojson", to_json, {"ensure_ascii", "indent", "separators", "sort_keys"}, 0},
    {"trim", trim, {"chars"}, 0},
    {"upper", upper, {NULL}, 0},
};

const struct jinja_function *jinja_filter(struct jinja_text name)
{
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++)
        if (jinja_is(name, filters[i].name))
            return &filters[i];
    return jinja_list_filter(name);
}
