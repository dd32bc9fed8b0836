/* Values: making them, and what every kind can be asked. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "model/jinja_parts.h"

enum { INPUT_BYTES = 64, INPUT_VALUE_BYTES = 4096, INPUT_STEPS = 1024 };

const struct jinja_value jinja_none = {.kind = JINJA_NONE};

struct jinja_value jinja_bool(bool v)
{
    return (struct jinja_value){.kind = JINJA_BOOL, .truth = v};
}

struct jinja_value jinja_int(int64_t v)
{
    return (struct jinja_value){.kind = JINJA_INT, .integer = v};
}

struct jinja_value jinja_real(double v)
{
    return (struct jinja_value){.kind = JINJA_REAL, .real = v};
}

struct jinja_value jinja_text(const char *at, size_t bytes)
{
    return (struct jinja_value){.kind = JINJA_TEXT, .text = {at, bytes}};
}

struct jinja_value jinja_word(const char *text)
{
    return jinja_text(text, strlen(text));
}

struct jinja_value jinja_undefined(struct jinja_run *r, const char *format, ...)
{
    char why[160];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(why, sizeof why, format, args);
    va_end(args);
    size_t bytes = n < (int)sizeof why ? (size_t)n : sizeof why - 1;
    char *text = jinja_alloc(r, bytes + 1);
    memcpy(text, why, bytes);
    return (struct jinja_value){.kind = JINJA_UNDEFINED, .text = {text, bytes}};
}

struct jinja_list *jinja_list_new(struct jinja_run *r, size_t n)
{
    struct jinja_list *l = jinja_alloc(r, sizeof *l);
    if (n > SIZE_MAX / 2 / sizeof *l->at)
        jinja_fail(r, "expected a shorter list, found one of %zu items", n);
    *l = (struct jinja_list){jinja_alloc(r, n * sizeof *l->at), n, false};
    jinja_step(r, n / 8);
    return l;
}

struct jinja_value jinja_list_value(struct jinja_list *l)
{
    return (struct jinja_value){.kind = JINJA_LIST, .list = l};
}

static void grow(struct jinja_run *r, struct jinja_dict *d)
{
    size_t room = d->room ? d->room * 2 : 4;
    struct jinja_entry *more = jinja_alloc(r, room * sizeof *more);
    if (d->n)
        memcpy(more, d->at, d->n * sizeof *more);
    d->at = more;
    d->room = room;
}

struct jinja_entry *jinja_dict_find(struct jinja_run *r, const struct jinja_dict *d,
                                    struct jinja_text key)
{
    jinja_step(r, d->n / 8);
    for (size_t i = 0; i < d->n; i++)
        if (d->at[i].key.bytes == key.bytes &&
            (key.bytes == 0 || memcmp(d->at[i].key.at, key.at, key.bytes) == 0))
            return &d->at[i];
    return NULL;
}

void jinja_dict_put(struct jinja_run *r, struct jinja_dict *d, struct jinja_text key,
                    struct jinja_value v)
{
    struct jinja_entry *e = jinja_dict_find(r, d, key);
    if (e) {
        e->value = v;
        return;
    }
    if (d->n == d->room)
        grow(r, d);
    d->at[d->n++] = (struct jinja_entry){key, v, false};
}

static struct jinja_value list_from_js(struct jinja_run *r, const struct js *v)
{
    struct jinja_list *l = jinja_list_new(r, js_count(v));
    for (size_t i = 0; i < l->n; i++)
        l->at[i] = jinja_from_js(r, js_item(v, i));
    return jinja_list_value(l);
}

static struct jinja_value dict_from_js(struct jinja_run *r, const struct js *v)
{
    struct jinja_dict *d = jinja_alloc(r, sizeof *d);
    *d = (struct jinja_dict){.room = js_count(v)};
    d->at = jinja_alloc(r, d->room * sizeof *d->at);
    for (struct js_entry e = js_first(v); e.key; e = js_next(v, e))
        d->at[d->n++] =
            (struct jinja_entry){{e.key, e.key_bytes}, jinja_from_js(r, e.value), false};
    return (struct jinja_value){.kind = JINJA_DICT, .dict = d};
}

/* Raise the limits by the size of an input value, so that they bound what a template does with the
 * input, not how long a conversation may be. */
static void allow(struct jinja_run *r, const struct js *v)
{
    size_t bytes = 0;
    if (js_is_string(v))
        js_string(v, &bytes);
    r->most_bytes += INPUT_VALUE_BYTES + INPUT_BYTES * bytes;
    r->most_steps += INPUT_STEPS + bytes;
}

struct jinja_value jinja_from_js(struct jinja_run *r, const struct js *v)
{
    struct jinja_value made = jinja_none;
    size_t bytes;
    allow(r, v);
    jinja_enter(r);
    if (js_is_string(v)) {
        const char *text = js_string(v, &bytes);
        made = jinja_text(text, bytes);
    } else if (js_is_bool(v)) {
        made = jinja_bool(js_bool(v));
    } else if (js_is_int(v)) {
        made = jinja_int(js_int(v));
    } else if (js_is_number(v)) {
        made = jinja_real(js_number(v));
    } else if (js_is_array(v)) {
        made = list_from_js(r, v);
    } else if (js_is_object(v)) {
        made = dict_from_js(r, v);
    }
    jinja_leave(r);
    return made;
}

bool jinja_truth(const struct jinja_value *v)
{
    switch (v->kind) {
    case JINJA_UNDEFINED:
    case JINJA_NONE:
        return false;
    case JINJA_BOOL:
        return v->truth;
    case JINJA_INT:
        return v->integer != 0;
    case JINJA_REAL:
        return v->real != 0;
    case JINJA_TEXT:
        return v->text.bytes > 0;
    case JINJA_LIST:
        return v->list->n > 0;
    case JINJA_DICT:
        return v->dict->n > 0;
    default:
        return true;
    }
}

bool jinja_is_number(const struct jinja_value *v)
{
    return v->kind == JINJA_INT || v->kind == JINJA_REAL || v->kind == JINJA_BOOL;
}

bool jinja_is(struct jinja_text t, const char *word)
{
    return t.bytes == strlen(word) && memcmp(t.at, word, t.bytes) == 0;
}

const char *jinja_kind_name(const struct jinja_value *v)
{
    static const char *const names[] = {
        [JINJA_UNDEFINED] = "nothing",     [JINJA_NONE] = "none",
        [JINJA_BOOL] = "a truth value",    [JINJA_INT] = "a whole number",
        [JINJA_REAL] = "a number",         [JINJA_TEXT] = "a text",
        [JINJA_LIST] = "a list",           [JINJA_DICT] = "an object",
        [JINJA_NAMESPACE] = "a namespace", [JINJA_LOOP] = "loop",
        [JINJA_MACRO] = "a macro",         [JINJA_METHOD] = "a method",
        [JINJA_FUNCTION] = "a function",
    };
    return names[v->kind];
}

static struct jinja_list *characters(struct jinja_run *r, struct jinja_text t)
{
    struct jinja_list *l = jinja_list_new(r, jinja_length(t));
    for (size_t i = 0; i < l->n; i++) {
        size_t bytes = jinja_offset(t, 1);
        l->at[i] = jinja_text(t.at, bytes);
        t.at += bytes;
        t.bytes -= bytes;
    }
    return l;
}

static struct jinja_list *keys(struct jinja_run *r, const struct jinja_dict *d)
{
    struct jinja_list *l = jinja_list_new(r, d->n);
    for (size_t i = 0; i < d->n; i++)
        l->at[i] = jinja_text(d->at[i].key.at, d->at[i].key.bytes);
    return l;
}

struct jinja_list *jinja_items(struct jinja_run *r, const struct jinja_value *v)
{
    switch (v->kind) {
    case JINJA_UNDEFINED:
        return jinja_list_new(r, 0);
    case JINJA_TEXT:
        return characters(r, v->text);
    case JINJA_LIST:
        return v->list;
    case JINJA_DICT:
        return keys(r, v->dict);
    default:
        jinja_fail(r, "expected something with items, found %s", jinja_kind_name(v));
    }
}

struct jinja_text jinja_expect_text(struct jinja_run *r, const struct jinja_value *v,
                                    const char *what)
{
    if (v->kind == JINJA_UNDEFINED)
        jinja_fail(r, "%s: %.*s", what, (int)v->text.bytes, v->text.at);
    if (v->kind != JINJA_TEXT)
        jinja_fail(r, "%s: expected a text, found %s", what, jinja_kind_name(v));
    return v->text;
}

int64_t jinja_expect_int(struct jinja_run *r, const struct jinja_value *v, const char *what)
{
    if (v->kind == JINJA_BOOL)
        return v->truth;
    if (v->kind != JINJA_INT)
        jinja_fail(r, "%s: expected a whole number, found %s", what, jinja_kind_name(v));
    return v->integer;
}

struct jinja_text jinja_str(struct jinja_run *r, const struct jinja_value *v)
{
    struct jinja_buffer b = {0};
    if (v->kind == JINJA_TEXT)
        return v->text;
    jinja_put_str(r, &b, v);
    return (struct jinja_text){b.bytes ? b.text : "", b.bytes};
}
