/* Methods of texts, lists and objects. Python has more: those are refused by name, since a template
 * that asks for one expects it to be there. */
#include <string.h>

#include "model/jinja_case.h"
#include "model/jinja_parts.h"

#define METHOD(method_name)                                                                        \
    static struct jinja_value method_name(struct jinja_run *r, const struct jinja_value *self,     \
                                          jinja_given given)

static bool is_given(const struct jinja_value *v)
{
    return v && v->kind != JINJA_NONE;
}

static const struct jinja_value *characters(struct jinja_run *r, const struct jinja_value *v)
{
    if (!is_given(v))
        return NULL;
    jinja_expect_text(r, v, "strip");
    return v;
}

static struct jinja_value strip(struct jinja_run *r, const struct jinja_value *self, int sides,
                                const struct jinja_value *v)
{
    const struct jinja_value *these = characters(r, v);
    jinja_step(r, self->text.bytes / 16 * (these ? 1 + these->text.bytes : 1));
    struct jinja_text t = jinja_strip(self->text, sides, these);
    return jinja_text(t.at, t.bytes);
}

METHOD(text_strip)
{
    return strip(r, self, JINJA_LEFT | JINJA_RIGHT, given[0]);
}

METHOD(text_lstrip)
{
    return strip(r, self, JINJA_LEFT, given[0]);
}

METHOD(text_rstrip)
{
    return strip(r, self, JINJA_RIGHT, given[0]);
}

static bool has_end(struct jinja_text t, struct jinja_text part, bool at_start)
{
    return part.bytes <= t.bytes &&
           (part.bytes == 0 ||
            memcmp(at_start ? t.at : t.at + (t.bytes - part.bytes), part.at, part.bytes) == 0);
}

/* startswith and endswith take one text, or several as a tuple. */
static bool has_an_end(struct jinja_run *r, const struct jinja_value *self,
                       const struct jinja_value *v, bool at_start)
{
    if (v->kind != JINJA_LIST || !v->list->tuple)
        return has_end(self->text, jinja_expect_text(r, v, at_start ? "startswith" : "endswith"),
                       at_start);
    for (size_t i = 0; i < v->list->n; i++)
        if (has_an_end(r, self, &v->list->at[i], at_start))
            return true;
    return false;
}

METHOD(text_startswith)
{
    return jinja_bool(has_an_end(r, self, given[0], true));
}

METHOD(text_endswith)
{
    return jinja_bool(has_an_end(r, self, given[0], false));
}

METHOD(text_removeprefix)
{
    struct jinja_text t = self->text, part = jinja_expect_text(r, given[0], "removeprefix");
    size_t skip = has_end(t, part, true) ? part.bytes : 0;
    return jinja_text(t.at + skip, t.bytes - skip);
}

METHOD(text_removesuffix)
{
    struct jinja_text t = self->text, part = jinja_expect_text(r, given[0], "removesuffix");
    return jinja_text(t.at, t.bytes - (has_end(t, part, false) ? part.bytes : 0));
}

static const char *find(struct jinja_text t, struct jinja_text part)
{
    return part.bytes <= t.bytes ? memmem(t.at, t.bytes, part.at, part.bytes) : NULL;
}

/* Pieces are counted first, then cut. */
static size_t count_pieces(struct jinja_run *r, struct jinja_text t, struct jinja_text by,
                           int64_t most)
{
    size_t n = 1;
    jinja_step(r, t.bytes / 16);
    for (const char *at; most-- != 0 && (at = find(t, by)); n++) {
        at += by.bytes;
        t.bytes -= (size_t)(at - t.at);
        t.at = at;
    }
    return n;
}

static struct jinja_value split_by(struct jinja_run *r, struct jinja_text t, struct jinja_text by,
                                   int64_t most)
{
    if (by.bytes == 0)
        jinja_fail(r, "split: expected a text to split at, found an empty one");
    struct jinja_list *l = jinja_list_new(r, count_pieces(r, t, by, most));
    for (size_t i = 0; i < l->n; i++) {
        const char *at = i + 1 < l->n ? find(t, by) : t.at + t.bytes;
        size_t bytes = (size_t)(at - t.at), skip = i + 1 < l->n ? bytes + by.bytes : bytes;
        l->at[i] = jinja_text(t.at, bytes);
        t.at += skip;
        t.bytes -= skip;
    }
    return jinja_list_value(l);
}

/* The bytes of the first word of t, which begins with one. */
static size_t word_bytes(struct jinja_text t)
{
    size_t n = 0;
    while (n < t.bytes && jinja_space_begin((struct jinja_text){t.at + n, t.bytes - n}) == 0)
        n += jinja_offset((struct jinja_text){t.at + n, t.bytes - n}, 1);
    return n;
}

/* At whitespace: words without what is around them, and after `most` of them the rest. */
static struct jinja_value split_words(struct jinja_run *r, struct jinja_text t, int64_t most)
{
    struct jinja_list *l = jinja_list_new(r, t.bytes / 2 + 1);
    jinja_step(r, t.bytes);
    for (l->n = 0; (t = jinja_strip(t, JINJA_LEFT, NULL)).bytes; l->n++, most--) {
        size_t bytes = most == 0 ? t.bytes : word_bytes(t);
        l->at[l->n] = jinja_text(t.at, bytes);
        t.at += bytes;
        t.bytes -= bytes;
    }
    return jinja_list_value(l);
}

METHOD(text_split)
{
    int64_t most = given[1] ? jinja_expect_int(r, given[1], "split") : -1;
    most = most < 0 ? -1 : most;
    if (!is_given(given[0]))
        return split_words(r, self->text, most);
    return split_by(r, self->text, jinja_expect_text(r, given[0], "split"), most);
}

METHOD(text_splitlines)
{
    (void)given;
    struct jinja_text t = self->text;
    for (size_t i = 0; i < t.bytes; i++)
        if (((unsigned char)t.at[i] < 32 && t.at[i] != '\n' && t.at[i] != '\t') ||
            (unsigned char)t.at[i] >= 0x80)
            jinja_fail(r, "splitlines: expected printable ASCII, tabs and newlines, found others");
    bool ended = t.bytes && t.at[t.bytes - 1] == '\n';
    t.bytes -= ended;
    if (t.bytes == 0 && !ended)
        return jinja_list_value(jinja_list_new(r, 0));
    return split_by(r, t, jinja_word("\n").text, -1);
}

METHOD(text_replace)
{
    struct jinja_text t = self->text, from = jinja_expect_text(r, given[0], "replace"),
                      to = jinja_expect_text(r, given[1], "replace");
    int64_t most = given[2] ? jinja_expect_int(r, given[2], "replace") : -1;
    struct jinja_buffer b = {0};
    if (from.bytes == 0)
        jinja_fail(r, "replace: expected a text to replace, found an empty one");
    for (const char *at; most-- != 0 && (at = find(t, from));) {
        jinja_step(r, 1);
        jinja_put(r, &b, t.at, (size_t)(at - t.at));
        jinja_put_text(r, &b, to);
        t.bytes -= (size_t)(at - t.at) + from.bytes;
        t.at = at + from.bytes;
    }
    jinja_put_text(r, &b, t);
    return jinja_text(b.bytes ? b.text : "", b.bytes);
}

METHOD(text_join)
{
    const struct jinja_list *l = jinja_items(r, given[0]);
    struct jinja_buffer b = {0};
    for (size_t i = 0; i < l->n; i++) {
        if (i)
            jinja_put_text(r, &b, self->text);
        jinja_put_text(r, &b, jinja_expect_text(r, &l->at[i], "join"));
    }
    return jinja_text(b.bytes ? b.text : "", b.bytes);
}

METHOD(text_find)
{
    struct jinja_text part = jinja_expect_text(r, given[0], "find");
    jinja_step(r, self->text.bytes / 16);
    const char *at = part.bytes ? find(self->text, part) : self->text.at;
    if (!at)
        return jinja_int(-1);
    return jinja_int(
        (int64_t)jinja_length((struct jinja_text){self->text.at, (size_t)(at - self->text.at)}));
}

METHOD(text_count)
{
    struct jinja_text part = jinja_expect_text(r, given[0], "count");
    if (part.bytes == 0)
        return jinja_int((int64_t)jinja_length(self->text) + 1);
    return jinja_int((int64_t)count_pieces(r, self->text, part, -1) - 1);
}

METHOD(text_upper)
{
    (void)given;
    return jinja_case(r, self->text, JINJA_UPPER);
}

METHOD(text_lower)
{
    (void)given;
    return jinja_case(r, self->text, JINJA_LOWER);
}

METHOD(text_title)
{
    (void)given;
    return jinja_case(r, self->text, JINJA_TITLE);
}

METHOD(text_capitalize)
{
    (void)given;
    return jinja_case(r, self->text, JINJA_CAPITALIZE);
}

METHOD(dict_items)
{
    (void)given;
    struct jinja_list *l = jinja_list_new(r, self->dict->n);
    for (size_t i = 0; i < l->n; i++) {
        struct jinja_entry *e = &self->dict->at[i];
        struct jinja_list *pair = jinja_list_new(r, 2);
        pair->tuple = e->read = true;
        pair->at[0] = jinja_text(e->key.at, e->key.bytes);
        pair->at[1] = e->value;
        l->at[i] = jinja_list_value(pair);
    }
    return jinja_list_value(l);
}

METHOD(dict_keys)
{
    (void)given;
    return jinja_list_value(jinja_items(r, self));
}

METHOD(dict_values)
{
    (void)given;
    struct jinja_list *l = jinja_list_new(r, self->dict->n);
    for (size_t i = 0; i < l->n; i++) {
        self->dict->at[i].read = true;
        l->at[i] = self->dict->at[i].value;
    }
    return jinja_list_value(l);
}

METHOD(dict_get)
{
    struct jinja_entry *e =
        given[0]->kind == JINJA_TEXT ? jinja_dict_find(r, self->dict, given[0]->text) : NULL;
    if (e)
        e->read = true;
    return e ? e->value : given[1] ? *given[1] : jinja_none;
}

METHOD(dict_copy)
{
    (void)r;
    (void)given;
    return *self; // it cannot change
}

METHOD(list_index)
{
    for (size_t i = 0; i < self->list->n; i++)
        if (jinja_equal(r, &self->list->at[i], given[0]))
            return jinja_int((int64_t)i);
    jinja_fail(r, "index: expected an item of the list, found another value");
}

METHOD(list_count)
{
    int64_t n = 0;
    for (size_t i = 0; i < self->list->n; i++)
        n += jinja_equal(r, &self->list->at[i], given[0]);
    return jinja_int(n);
}

static const struct jinja_function text_methods[] = {
    {"strip", text_strip, {"chars"}, 0},
    {"lstrip", text_lstrip, {"chars"}, 0},
    {"rstrip", text_rstrip, {"chars"}, 0},
    {"startswith", text_startswith, {"prefix"}, 1},
    {"endswith", text_endswith, {"suffix"}, 1},
    {"removeprefix", text_removeprefix, {"prefix"}, 1},
    {"removesuffix", text_removesuffix, {"suffix"}, 1},
    {"split", text_split, {"sep", "maxsplit"}, 0},
    {"splitlines", text_splitlines, {NULL}, 0},
    {"replace", text_replace, {"old", "new", "count"}, 2},
    {"join", text_join, {"iterable"}, 1},
    {"find", text_find, {"sub"}, 1},
    {"count", text_count, {"sub"}, 1},
    {"upper", text_upper, {NULL}, 0},
    {"lower", text_lower, {NULL}, 0},
    {"title", text_title, {NULL}, 0},
    {"capitalize", text_capitalize, {NULL}, 0},
};

static const struct jinja_function dict_methods[] = {
    {"items", dict_items, {NULL}, 0},   {"keys", dict_keys, {NULL}, 0},
    {"values", dict_values, {NULL}, 0}, {"get", dict_get, {"key", "default"}, 1},
    {"copy", dict_copy, {NULL}, 0},
};

static const struct jinja_function list_methods[] = {
    {"index", list_index, {"value"}, 1},
    {"count", list_count, {"value"}, 1},
};

/* What Python's types have beside these. */
static const char *const other_methods[][40] = {
    {"casefold",  "center",      "encode",  "expandtabs", "format",     "format_map",   "index",
     "isalnum",   "isalpha",     "isascii", "isdecimal",  "isdigit",    "isidentifier", "islower",
     "isnumeric", "isprintable", "isspace", "istitle",    "isupper",    "ljust",        "maketrans",
     "partition", "rfind",       "rindex",  "rjust",      "rpartition", "rsplit",       "swapcase",
     "translate", "zfill",       NULL},
    {"clear", "fromkeys", "pop", "popitem", "setdefault", "update", NULL},
    {"append", "clear", "copy", "extend", "insert", "pop", "remove", "reverse", "sort", NULL},
};

const struct jinja_function *jinja_method(struct jinja_run *r, const struct jinja_value *self,
                                          struct jinja_text name)
{
    static const struct {
        enum jinja_kind kind;
        const struct jinja_function *at;
        size_t n;
    } tables[] = {
        {JINJA_TEXT, text_methods, sizeof text_methods / sizeof *text_methods},
        {JINJA_DICT, dict_methods, sizeof dict_methods / sizeof *dict_methods},
        {JINJA_LIST, list_methods, sizeof list_methods / sizeof *list_methods},
    };
    for (size_t k = 0; k < sizeof tables / sizeof *tables; k++) {
        if (tables[k].kind != self->kind)
            continue;
        for (size_t i = 0; i < tables[k].n; i++)
            if (jinja_is(name, tables[k].at[i].name))
                return &tables[k].at[i];
        for (const char *const *other = other_methods[k]; *other; other++)
            if (jinja_is(name, *other))
                jinja_fail(r, "expected a method that is known here, found .%s of %s", *other,
                           jinja_kind_name(self));
    }
    return NULL;
}
