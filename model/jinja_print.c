/* Values as text: what Python's str(), repr() and json.dumps() make of them. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "model/jinja_parts.h"

static void put(struct jinja_run *r, struct jinja_buffer *b, const char *text)
{
    jinja_put(r, b, text, strlen(text));
}

/* The fewest digits that are read as v again: "d.ddde[+-]dd". */
static void shortest(char *text, size_t room, double v)
{
    int digits = 0;
    do
        snprintf(text, room, "%.*e", digits, v);
    while (strtod(text, NULL) != v && ++digits < 17);
}

/* repr() of a float: the fewest digits, with an exponent below 1e-4 and from 1e16 on. */
static void put_real(struct jinja_run *r, struct jinja_buffer *b, double v)
{
    char text[64], plain[64];
    shortest(text, sizeof text, v);
    char *e = strchr(text, 'e');
    int exponent = atoi(e + 1), decimals = (int)(e - text) - 1 - (*text == '-');
    decimals -= decimals > 0;
    decimals -= exponent;
    if (exponent >= -4 && exponent < 16) {
        snprintf(plain, sizeof plain, "%.*f", decimals > 0 ? decimals : 1, v);
        put(r, b, plain);
    } else {
        put(r, b, text);
    }
}

static void put_number(struct jinja_run *r, struct jinja_buffer *b, const struct jinja_value *v,
                       bool json)
{
    char text[32];
    if (v->kind == JINJA_INT) {
        snprintf(text, sizeof text, "%" PRId64, v->integer);
        put(r, b, text);
    } else if (isnan(v->real)) {
        put(r, b, json ? "NaN" : "nan");
    } else if (isinf(v->real)) {
        put(r, b, v->real < 0 ? "-" : "");
        put(r, b, json ? "Infinity" : "inf");
    } else {
        put_real(r, b, v->real);
    }
}

/* str.isprintable() of one character. */
static bool is_printable(utf8proc_int32_t c)
{
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return false;
    case UTF8PROC_CATEGORY_ZS:
        return c == ' ';
    default:
        return true;
    }
}

/* The escape of a character that repr() does not print as it is. */
static void put_repr_escape(struct jinja_run *r, struct jinja_buffer *b, utf8proc_int32_t c)
{
    char text[16];
    const char *format = c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x";
    if (c == '\n')
        put(r, b, "\\n");
    else if (c == '\r')
        put(r, b, "\\r");
    else if (c == '\t')
        put(r, b, "\\t");
    else {
        snprintf(text, sizeof text, format, (unsigned)c);
        put(r, b, text);
    }
}

static void put_repr_text(struct jinja_run *r, struct jinja_buffer *b, struct jinja_text t)
{
    bool apostrophe = t.bytes && memchr(t.at, '\'', t.bytes);
    char quote = apostrophe && !memchr(t.at, '"', t.bytes) ? '"' : '\'';
    jinja_put(r, b, &quote, 1);
    for (size_t i = 0, n; i < t.bytes; i += n) {
        utf8proc_int32_t c;
        n = (size_t)utf8proc_iterate((const utf8proc_uint8_t *)t.at + i,
                                     (utf8proc_ssize_t)(t.bytes - i), &c);
        if (c == quote || c == '\\')
            put(r, b, "\\");
        if (is_printable(c))
            jinja_put(r, b, t.at + i, n);
        else
            put_repr_escape(r, b, c);
    }
    jinja_put(r, b, &quote, 1);
}

static void put_repr(struct jinja_run *r, struct jinja_buffer *b, const struct jinja_value *v);

static void put_repr_list(struct jinja_run *r, struct jinja_buffer *b, const struct jinja_list *l)
{
    put(r, b, l->tuple ? "(" : "[");
    for (size_t i = 0; i < l->n; i++) {
        put(r, b, i ? ", " : "");
        put_repr(r, b, &l->at[i]);
    }
    put(r, b, l->tuple && l->n == 1 ? ",)" : l->tuple ? ")" : "]");
}

static void put_repr_dict(struct jinja_run *r, struct jinja_buffer *b, const struct jinja_dict *d)
{
    put(r, b, "{");
    for (size_t i = 0; i < d->n; i++) {
        put(r, b, i ? ", " : "");
        put_repr_text(r, b, d->at[i].key);
        put(r, b, ": ");
        d->at[i].read = true;
        put_repr(r, b, &d->at[i].value);
    }
    put(r, b, "}");
}

/* Of what is not a text: str() and repr() are the same. */
static void put_other(struct jinja_run *r, struct jinja_buffer *b, const struct jinja_value *v)
{
    switch (v->kind) {
    case JINJA_UNDEFINED:
        break;
    case JINJA_NONE:
        put(r, b, "None");
        break;
    case JINJA_BOOL:
        put(r, b, v->truth ? "True" : "False");
        break;
    case JINJA_INT:
    case JINJA_REAL:
        put_number(r, b, v, false);
        break;
    case JINJA_LIST:
        put_repr_list(r, b, v->list);
        break;
    case JINJA_DICT:
        put_repr_dict(r, b, v->dict);
        break;
    default:
        jinja_fail(r, "expected a value to print, found %s", jinja_kind_name(v));
    }
}

static void put_repr(struct jinja_run *r, struct jinja_buffer *b, const struct jinja_value *v)
{
    jinja_enter(r);
    if (v->kind == JINJA_UNDEFINED)
        put(r, b, "Undefined");
    else if (v->kind == JINJA_TEXT)
        put_repr_text(r, b, v->text);
    else
        put_other(r, b, v);
    jinja_leave(r);
}

void jinja_put_str(struct jinja_run *r, struct jinja_buffer *b, const struct jinja_value *v)
{
    if (v->kind == JINJA_TEXT)
        jinja_put_text(r, b, v->text);
    else
        put_other(r, b, v);
}

/* How json.dumps() is to print. */
struct json_form {
    bool ascii, sorted;
    int indent; // spaces a level; -1: all on one line
    struct jinja_text item, key;
};

static void put_json_escape(struct jinja_run *r, struct jinja_buffer *b, utf8proc_int32_t c)
{
    static const char from[] = "\"\\\n\r\t\f\b", to[] = "\"\\nrtfb";
    const char *known = c > 0 && c < 128 ? strchr(from, (char)c) : NULL;
    char text[16];
    if (known)
        snprintf(text, sizeof text, "\\%c", to[known - from]);
    else if (c < 0x10000)
        snprintf(text, sizeof text, "\\u%04x", (unsigned)c);
    else
        snprintf(text, sizeof text, "\\u%04x\\u%04x", 0xd800u + ((unsigned)(c - 0x10000) >> 10),
                 0xdc00u + ((unsigned)(c - 0x10000) & 0x3ff));
    put(r, b, text);
}

static void put_json_text(struct jinja_run *r, struct jinja_buffer *b, struct jinja_text t,
                          const struct json_form *f)
{
    put(r, b, "\"");
    for (size_t i = 0, n; i < t.bytes; i += n) {
        utf8proc_int32_t c;
        n = (size_t)utf8proc_iterate((const utf8proc_uint8_t *)t.at + i,
                                     (utf8proc_ssize_t)(t.bytes - i), &c);
        if (c < 32 || c == '"' || c == '\\' || (f->ascii && c >= 127))
            put_json_escape(r, b, c);
        else
            jinja_put(r, b, t.at + i, n);
    }
    put(r, b, "\"");
}

static void put_line(struct jinja_run *r, struct jinja_buffer *b, const struct json_form *f,
                     int level)
{
    if (f->indent < 0)
        return;
    put(r, b, "\n");
    for (int i = 0; i < level * f->indent; i++)
        put(r, b, " ");
}

static void put_json(struct jinja_run *r, struct jinja_buffer *b, const struct jinja_value *v,
                     const struct json_form *f, int level);

static void put_json_list(struct jinja_run *r, struct jinja_buffer *b, const struct jinja_list *l,
                          const struct json_form *f, int level)
{
    put(r, b, "[");
    for (size_t i = 0; i < l->n; i++) {
        if (i)
            jinja_put_text(r, b, f->item);
        put_line(r, b, f, level + 1);
        put_json(r, b, &l->at[i], f, level + 1);
    }
    if (l->n)
        put_line(r, b, f, level);
    put(r, b, "]");
}

static int by_key(const void *a, const void *b)
{
    const struct jinja_text *x = &((const struct jinja_entry *)a)->key,
                            *y = &((const struct jinja_entry *)b)->key;
    size_t n = x->bytes < y->bytes ? x->bytes : y->bytes;
    int order = n ? memcmp(x->at, y->at, n) : 0;
    return order ? order : (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static void put_json_dict(struct jinja_run *r, struct jinja_buffer *b, const struct jinja_dict *d,
                          const struct json_form *f, int level)
{
    struct jinja_entry *at = d->at;
    for (size_t i = 0; i < d->n; i++)
        at[i].read = true;
    if (f->sorted && d->n) {
        at = jinja_alloc(r, d->n * sizeof *at);
        memcpy(at, d->at, d->n * sizeof *at);
        qsort(at, d->n, sizeof *at, by_key);
    }
    put(r, b, "{");
    for (size_t i = 0; i < d->n; i++) {
        if (i)
            jinja_put_text(r, b, f->item);
        put_line(r, b, f, level + 1);
        put_json_text(r, b, at[i].key, f);
        jinja_put_text(r, b, f->key);
        put_json(r, b, &at[i].value, f, level + 1);
    }
    if (d->n)
        put_line(r, b, f, level);
    put(r, b, "}");
}

static void put_json(struct jinja_run *r, struct jinja_buffer *b, const struct jinja_value *v,
                     const struct json_form *f, int level)
{
    jinja_enter(r);
    if (v->kind == JINJA_TEXT)
        put_json_text(r, b, v->text, f);
    else if (v->kind == JINJA_LIST)
        put_json_list(r, b, v->list, f, level);
    else if (v->kind == JINJA_DICT)
        put_json_dict(r, b, v->dict, f, level);
    else if (v->kind == JINJA_INT || v->kind == JINJA_REAL)
        put_number(r, b, v, true);
    else if (v->kind == JINJA_BOOL)
        put(r, b, v->truth ? "true" : "false");
    else if (v->kind == JINJA_NONE)
        put(r, b, "null");
    else
        jinja_fail(r, "tojson: expected a value that JSON has, found %s", jinja_kind_name(v));
    jinja_leave(r);
}

static void read_separators(struct jinja_run *r, struct json_form *f, const struct jinja_value *v)
{
    if (v->kind != JINJA_LIST || v->list->n != 2)
        jinja_fail(r, "tojson: separators: expected two texts, found %s", jinja_kind_name(v));
    f->item = jinja_expect_text(r, &v->list->at[0], "tojson: separators");
    f->key = jinja_expect_text(r, &v->list->at[1], "tojson: separators");
}

/* given: ensure_ascii, indent, separators, sort_keys. */
void jinja_put_json(struct jinja_run *r, struct jinja_buffer *b, const struct jinja_value *v,
                    jinja_given given)
{
    struct json_form f = {.indent = -1, .key = jinja_word(": ").text};
    f.ascii = given[0] && jinja_truth(given[0]);
    f.sorted = given[3] && jinja_truth(given[3]);
    if (given[1] && given[1]->kind != JINJA_NONE) {
        int64_t indent = jinja_expect_int(r, given[1], "tojson: indent");
        if (indent < 0 || indent > 16)
            jinja_fail(r, "tojson: indent: expected 0 to 16, found %" PRId64, indent);
        f.indent = (int)indent;
    }
    f.item = jinja_word(f.indent >= 0 ? "," : ", ").text;
    if (given[2] && given[2]->kind != JINJA_NONE)
        read_separators(r, &f, given[2]);
    put_json(r, b, v, &f, 0);
}
