#include "model/jinja_select.h"

#include <ctype.h>
#include <string.h>

#include "model/jinja_case.h"

#define FILTER(filter_name)                                                                        \
    static struct jinja_value filter_name(struct jinja_run *r, const struct jinja_value *v,        \
                                          jinja_given given)

/* One word of a path: digits are an index. */
static struct jinja_value step(struct jinja_run *r, const struct jinja_value *v,
                               struct jinja_text word)
{
    int64_t index = 0;
    size_t digits = 0;
    while (digits < word.bytes && digits < 9 && isdigit((unsigned char)word.at[digits]))
        index = index * 10 + (word.at[digits++] - '0');
    struct jinja_value at = jinja_text(word.at, word.bytes);
    if (word.bytes && digits == word.bytes)
        at = jinja_int(index);
    return jinja_item(r, v, &at);
}

struct jinja_value jinja_path(struct jinja_run *r, const struct jinja_value *v,
                              const struct jinja_value *path)
{
    if (path->kind == JINJA_INT)
        return jinja_item(r, v, path);
    struct jinja_text left = jinja_expect_text(r, path, "attribute");
    struct jinja_value at = *v;
    for (;;) {
        const char *dot = left.bytes ? memchr(left.at, '.', left.bytes) : NULL;
        size_t bytes = dot ? (size_t)(dot - left.at) : left.bytes;
        at = step(r, &at, (struct jinja_text){left.at, bytes});
        if (!dot)
            return at;
        left.at += bytes + 1;
        left.bytes -= bytes + 1;
    }
}

/* The filter or test that a text names. */
static const struct jinja_function *named(struct jinja_run *r, const struct jinja_value *name,
                                          bool is_test)
{
    struct jinja_text t = jinja_expect_text(r, name, is_test ? "a test" : "a filter");
    const struct jinja_function *f = is_test ? jinja_test(t) : jinja_filter(t);
    if (!f)
        jinja_fail(r, "expected a %s that is known here, found \"%.*s\"",
                   is_test ? "test" : "filter", t.bytes < 60 ? (int)t.bytes : 60, t.at);
    return f;
}

/* Call f with the arguments from `first` on. */
static struct jinja_value call_rest(struct jinja_run *r, const struct jinja_function *f,
                                    const struct jinja_value *self, jinja_given given, int first)
{
    struct jinja_value at[JINJA_MOST_ARGS];
    struct jinja_args args = {.at = at};
    for (int i = first; i < JINJA_MOST_ARGS && given[i]; i++)
        at[args.n++] = *given[i];
    return jinja_call(r, f, self, &args);
}

FILTER(map)
{
    const struct jinja_list *from = jinja_items(r, v);
    struct jinja_list *l = jinja_list_new(r, from->n);
    if (!given[0] && !given[1])
        jinja_fail(r, "map: expected a filter or attribute=, found neither");
    for (size_t i = 0; i < l->n; i++) {
        jinja_step(r, 1);
        l->at[i] = given[0] ? call_rest(r, named(r, given[0], false), &from->at[i], given, 1)
                            : jinja_path(r, &from->at[i], given[1]);
        if (!given[0] && given[2] && l->at[i].kind == JINJA_UNDEFINED)
            l->at[i] = *given[2];
    }
    return jinja_list_value(l);
}

/* The items for which a test gives `wanted`, or without a test those whose truth value is `wanted`.
 * With an attribute, that member of each item is tested. given[first] is the test's name, and what
 * follows are its arguments. */
static struct jinja_value choose(struct jinja_run *r, const struct jinja_value *v,
                                 jinja_given given, const struct jinja_value *attribute, int first,
                                 bool wanted)
{
    const struct jinja_list *from = jinja_items(r, v);
    struct jinja_list *l = jinja_list_new(r, from->n);
    l->n = 0;
    for (size_t i = 0; i < from->n; i++) {
        jinja_step(r, 1);
        struct jinja_value tested = from->at[i];
        if (attribute)
            tested = jinja_path(r, &tested, attribute);
        if (given[first])
            tested = call_rest(r, named(r, given[first], true), &tested, given, first + 1);
        if (jinja_truth(&tested) == wanted)
            l->at[l->n++] = from->at[i];
    }
    return jinja_list_value(l);
}

FILTER(select_items)
{
    return choose(r, v, given, NULL, 0, true);
}

FILTER(reject_items)
{
    return choose(r, v, given, NULL, 0, false);
}

FILTER(select_attribute)
{
    return choose(r, v, given, given[0], 1, true);
}

FILTER(reject_attribute)
{
    return choose(r, v, given, given[0], 1, false);
}

/* Sort items by their keys; those with equal keys keep their order. The limit of steps bounds its
 * time. */
static void sort_by(struct jinja_run *r, struct jinja_list *items, struct jinja_list *keys,
                    bool backwards)
{
    for (size_t i = 1; i < items->n; i++) {
        struct jinja_value item = items->at[i], key = keys->at[i];
        size_t at = i;
        while (at > 0 && (backwards ? jinja_less(r, &keys->at[at - 1], &key)
                                    : jinja_less(r, &key, &keys->at[at - 1]))) {
            items->at[at] = items->at[at - 1];
            keys->at[at] = keys->at[at - 1];
            at--;
        }
        items->at[at] = item;
        keys->at[at] = key;
    }
}

static struct jinja_value fold(struct jinja_run *r, const struct jinja_value *key,
                               const struct jinja_value *exact)
{
    if (key->kind == JINJA_TEXT && !(exact && jinja_truth(exact)))
        return jinja_case(r, key->text, JINJA_LOWER);
    return *key;
}

FILTER(sort)
{
    const struct jinja_list *from = jinja_items(r, v);
    struct jinja_list *l = jinja_list_new(r, from->n), *keys = jinja_list_new(r, from->n);
    for (size_t i = 0; i < l->n; i++) {
        struct jinja_value key = from->at[i];
        l->at[i] = key;
        if (given[2])
            key = jinja_path(r, &key, given[2]);
        keys->at[i] = fold(r, &key, given[1]);
    }
    sort_by(r, l, keys, given[0] && jinja_truth(given[0]));
    return jinja_list_value(l);
}

FILTER(sort_dict)
{
    if (v->kind != JINJA_DICT)
        jinja_fail(r, "dictsort: expected an object, found %s", jinja_kind_name(v));
    jinja_given none = {NULL};
    struct jinja_value pairs = jinja_method(r, v, jinja_word("items").text)->call(r, v, none);
    struct jinja_list *keys = jinja_list_new(r, pairs.list->n);
    size_t by = 0;
    if (given[1] && jinja_is(jinja_expect_text(r, given[1], "dictsort"), "value"))
        by = 1;
    else if (given[1] && !jinja_is(given[1]->text, "key"))
        jinja_fail(r, "dictsort: by: expected \"key\" or \"value\", found another");
    for (size_t i = 0; i < keys->n; i++)
        keys->at[i] = fold(r, &pairs.list->at[i].list->at[by], given[0]);
    sort_by(r, pairs.list, keys, given[2] && jinja_truth(given[2]));
    return pairs;
}

static const struct jinja_function filters[] = {
    {"dictsort", sort_dict, {"case_sensitive", "by", "reverse"}, 0},
    {"map", map, {"filter", "attribute", "default"}, 0},
    {"reject", reject_items, {"test", "argument"}, 0},
    {"rejectattr", reject_attribute, {"attribute", "test", "argument"}, 1},
    {"select", select_items, {"test", "argument"}, 0},
    {"selectattr", select_attribute, {"attribute", "test", "argument"}, 1},
    {"sort", sort, {"reverse", "case_sensitive", "attribute"}, 0},
};

const struct jinja_function *jinja_list_filter(struct jinja_text name)
{
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++)
        if (jinja_is(name, filters[i].name))
            return &filters[i];
    return NULL;
}
