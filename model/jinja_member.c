/* a.name, a[item] and a[from:to:step]. */
#include <string.h>

#include "model/jinja_parts.h"

static struct jinja_value missing(struct jinja_run *r, const struct jinja_value *v,
                                  struct jinja_text name)
{
    return jinja_undefined(r, "expected %s with a member \"%.*s\", found none", jinja_kind_name(v),
                           name.bytes < 40 ? (int)name.bytes : 40, name.at);
}

static void refuse(struct jinja_run *r, const struct jinja_value *v)
{
    jinja_refuse_safe(r, v);
    if (v->kind == JINJA_UNDEFINED)
        jinja_fail(r, "%.*s", (int)v->text.bytes, v->text.at);
}

/* The item before or after this one, at i. */
static struct jinja_value neighbour(struct jinja_run *r, const struct jinja_loop *l, size_t i,
                                    const char *which)
{
    if (i < l->items->n)
        return l->items->at[i];
    return jinja_undefined(r, "expected %s item in the loop, found none", which);
}

static struct jinja_value loop_member(struct jinja_run *r, const struct jinja_loop *l,
                                      struct jinja_text name)
{
    const struct {
        const char *name;
        int64_t value;
    } numbers[] = {
        {"index", (int64_t)l->i + 1},
        {"index0", (int64_t)l->i},
        {"revindex", (int64_t)(l->items->n - l->i)},
        {"revindex0", (int64_t)(l->items->n - l->i) - 1},
        {"length", (int64_t)l->items->n},
        {"depth", 1}, // of loops in a recursive one, which are refused
        {"depth0", 0},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (jinja_is(name, numbers[i].name))
            return jinja_int(numbers[i].value);
    if (jinja_is(name, "first"))
        return jinja_bool(l->i == 0);
    if (jinja_is(name, "last"))
        return jinja_bool(l->i + 1 >= l->items->n);
    if (jinja_is(name, "previtem"))
        return neighbour(r, l, l->i - 1, "a previous");
    if (jinja_is(name, "nextitem"))
        return neighbour(r, l, l->i + 1, "a next");
    jinja_fail(r, "expected a member of loop that is known here, found loop.%.*s", (int)name.bytes,
               name.at);
}

static struct jinja_value entry_of(struct jinja_run *r, const struct jinja_value *v,
                                   struct jinja_text name)
{
    struct jinja_entry *e = jinja_dict_find(r, v->dict, name);
    if (!e)
        return missing(r, v, name);
    e->read = true;
    return e->value;
}

static struct jinja_value method_of(struct jinja_run *r, const struct jinja_value *v,
                                    struct jinja_text name)
{
    const struct jinja_function *f = jinja_method(r, v, name);
    if (!f)
        return missing(r, v, name);
    struct jinja_method *m = jinja_alloc(r, sizeof *m);
    *m = (struct jinja_method){*v, f};
    return (struct jinja_value){.kind = JINJA_METHOD, .method = m};
}

struct jinja_value jinja_member(struct jinja_run *r, const struct jinja_value *v,
                                struct jinja_text name)
{
    refuse(r, v);
    if (v->kind == JINJA_LOOP)
        return loop_member(r, v->loop, name);
    if (v->kind == JINJA_NAMESPACE)
        return entry_of(r, v, name);
    if (jinja_is_number(v))
        jinja_fail(r, "expected a value with members, found %s", jinja_kind_name(v));
    struct jinja_value method = method_of(r, v, name);
    if (method.kind == JINJA_METHOD || v->kind != JINJA_DICT)
        return method;
    return entry_of(r, v, name);
}

/* The place of an index of a list or text of n items; n: there is none. */
static size_t place(int64_t index, size_t n)
{
    if (index < 0)
        index += (int64_t)n;
    return index < 0 || (uint64_t)index > n ? n : (size_t)index;
}

static struct jinja_value character(struct jinja_text t, size_t i)
{
    size_t from = jinja_offset(t, i);
    struct jinja_text rest = {t.at + from, t.bytes - from};
    return jinja_text(rest.at, jinja_offset(rest, 1));
}

static struct jinja_value at_index(struct jinja_run *r, const struct jinja_value *v, int64_t index)
{
    size_t n = 0;
    if (v->kind == JINJA_TEXT) {
        jinja_step(r, v->text.bytes / 64);
        n = jinja_length(v->text);
    } else if (v->kind == JINJA_LIST) {
        n = v->list->n;
    }
    size_t i = place(index, n);
    if (i < n)
        return v->kind == JINJA_TEXT ? character(v->text, i) : v->list->at[i];
    return jinja_undefined(r, "expected %s with an item %lld, found none", jinja_kind_name(v),
                           (long long)index);
}

struct jinja_value jinja_item(struct jinja_run *r, const struct jinja_value *v,
                              const struct jinja_value *at)
{
    refuse(r, v);
    if (at->kind == JINJA_INT || at->kind == JINJA_BOOL)
        return at_index(r, v, jinja_expect_int(r, at, "an index"));
    if (at->kind != JINJA_TEXT)
        return jinja_undefined(r, "expected a text or a whole number as index, found %s",
                               jinja_kind_name(at));
    if (v->kind == JINJA_DICT && jinja_dict_find(r, v->dict, at->text))
        return entry_of(r, v, at->text);
    return jinja_member(r, v, at->text);
}

/* One end of a slice, as Python clamps it: from 0 to n, or from -1 to n - 1 where it steps
 * backwards. */
static int64_t clamp(struct jinja_run *r, const struct jinja_value *v, int64_t otherwise, int64_t n,
                     bool backwards)
{
    if (v->kind == JINJA_NONE)
        return otherwise;
    int64_t i = jinja_expect_int(r, v, "a slice"), least = backwards ? -1 : 0;
    if (i < 0)
        i = i < -n ? -1 : i + n;
    i = i < least ? least : i;
    return i > n + least ? n + least : i;
}

static struct jinja_value text_of(struct jinja_run *r, const struct jinja_list *characters)
{
    struct jinja_buffer b = {0};
    for (size_t i = 0; i < characters->n; i++)
        jinja_put_text(r, &b, characters->at[i].text);
    return jinja_text(b.bytes ? b.text : "", b.bytes);
}

struct jinja_value jinja_slice(struct jinja_run *r, const struct jinja_value *v,
                               const struct jinja_value *range)
{
    refuse(r, v);
    if (v->kind != JINJA_TEXT && v->kind != JINJA_LIST)
        jinja_fail(r, "expected a text or a list to cut, found %s", jinja_kind_name(v));
    const struct jinja_list *from = jinja_items(r, v);
    int64_t n = (int64_t)from->n, count = 0;
    int64_t step = range[2].kind == JINJA_NONE ? 1 : jinja_expect_int(r, &range[2], "a slice");
    if (step == 0)
        jinja_fail(r, "expected a slice with a step other than 0, found 0");
    bool back = step < 0;
    int64_t first = clamp(r, &range[0], back ? n - 1 : 0, n, back);
    int64_t end = clamp(r, &range[1], back ? -1 : n, n, back);
    step = step > n ? n + 1 : step < -n ? -n - 1 : step; // both pass the other end
    struct jinja_list *l = jinja_list_new(r, from->n);
    l->tuple = from->tuple;
    for (int64_t i = first; back ? i > end : i < end; i += step)
        l->at[count++] = from->at[i];
    l->n = (size_t)count;
    return v->kind == JINJA_TEXT ? text_of(r, l) : jinja_list_value(l);
}
