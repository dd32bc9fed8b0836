/* Expressions. */
#include <string.h>

#include "model/jinja_parts.h"

/* What Jinja has for every template, but not here. */
static void refuse_global(struct jinja_run *r, struct jinja_text name)
{
    static const char *const names[] = {"self", "cycler", "joiner", "lipsum"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (jinja_is(name, names[i]))
            jinja_fail(r, "expected a function that is known here, found %s", names[i]);
}

static struct jinja_value variable(struct jinja_run *r, struct jinja_text name)
{
    for (const struct jinja_scope *s = r->scope; s; s = s->up) {
        struct jinja_entry *e = jinja_dict_find(r, &s->names, name);
        if (e)
            return e->value;
    }
    if (jinja_is_function(name))
        return (struct jinja_value){.kind = JINJA_FUNCTION, .text = name};
    refuse_global(r, name);
    return jinja_undefined(r, "expected a variable \"%.*s\", found none",
                           name.bytes < 60 ? (int)name.bytes : 60, name.at);
}

static size_t count(const struct jinja_node *n)
{
    size_t found = 0;
    for (; n; n = n->next)
        found++;
    return found;
}

static struct jinja_value make_list(struct jinja_run *r, const struct jinja_node *n)
{
    struct jinja_list *l = jinja_list_new(r, count(n->list));
    size_t i = 0;
    l->tuple = n->op == NODE_TUPLE;
    for (const struct jinja_node *item = n->list; item; item = item->next)
        l->at[i++] = jinja_eval(r, item);
    return jinja_list_value(l);
}

static struct jinja_value make_dict(struct jinja_run *r, const struct jinja_node *n)
{
    struct jinja_dict *d = jinja_alloc(r, sizeof *d);
    *d = (struct jinja_dict){0};
    for (const struct jinja_node *key = n->list; key; key = key->next->next) {
        struct jinja_value k = jinja_eval(r, key);
        jinja_dict_put(r, d, jinja_expect_text(r, &k, "a key"), jinja_eval(r, key->next));
    }
    return (struct jinja_value){.kind = JINJA_DICT, .dict = d};
}

static struct jinja_args arguments(struct jinja_run *r, const struct jinja_node *list)
{
    struct jinja_args args = {.at = jinja_alloc(r, count(list) * sizeof *args.at)};
    for (const struct jinja_node *n = list; n; n = n->next)
        if (n->op == NODE_KEYWORD)
            jinja_dict_put(r, &args.keywords, n->text, jinja_eval(r, n->a));
        else
            args.at[args.n++] = jinja_eval(r, n);
    return args;
}

/* The number of a function's argument of this name. */
static int argument(struct jinja_run *r, const struct jinja_function *f, struct jinja_text name)
{
    for (int i = 0; i < JINJA_MOST_ARGS && f->args[i]; i++)
        if (jinja_is(name, f->args[i]))
            return i;
    jinja_fail(r, "%s: expected an argument that is known here, found %.*s", f->name,
               name.bytes < 60 ? (int)name.bytes : 60, name.at);
}

struct jinja_value jinja_call(struct jinja_run *r, const struct jinja_function *f,
                              const struct jinja_value *self, const struct jinja_args *args)
{
    jinja_given given = {NULL};
    for (size_t i = 0; i < args->n; i++) {
        if (i >= JINJA_MOST_ARGS || !f->args[i])
            jinja_fail(r, "%s: expected at most %zu arguments, found %zu", f->name, i, args->n);
        given[i] = &args->at[i];
    }
    for (size_t i = 0; i < args->keywords.n; i++) {
        int number = argument(r, f, args->keywords.at[i].key);
        if (given[number])
            jinja_fail(r, "%s: expected %s once, found it twice", f->name, f->args[number]);
        given[number] = &args->keywords.at[i].value;
    }
    for (int i = 0; i < f->least; i++)
        if (!given[i])
            jinja_fail(r, "%s: expected %s, found none", f->name, f->args[i]);
    return f->call(r, self, given);
}

static struct jinja_value call(struct jinja_run *r, const struct jinja_node *n)
{
    struct jinja_value callee = jinja_eval(r, n->a);
    struct jinja_args args = arguments(r, n->list);
    r->line = n->line;
    switch (callee.kind) {
    case JINJA_METHOD:
        return jinja_call(r, callee.method->function, &callee.method->self, &args);
    case JINJA_FUNCTION:
        return jinja_call_function(r, callee.text, &args);
    case JINJA_MACRO:
        return jinja_call_macro(r, callee.macro, &args);
    case JINJA_UNDEFINED:
        jinja_fail(r, "%.*s", (int)callee.text.bytes, callee.text.at);
    default:
        jinja_fail(r, "expected something to call, found %s", jinja_kind_name(&callee));
    }
}

void jinja_refuse_safe(struct jinja_run *r, const struct jinja_value *v)
{
    if (v->safe)
        jinja_fail(r, "expected a text marked safe only where it is printed, joined by ~ or "
                      "compared, found it elsewhere");
}

static struct jinja_value apply(struct jinja_run *r, const struct jinja_node *n,
                                const struct jinja_function *f)
{
    struct jinja_value self = jinja_eval(r, n->a);
    struct jinja_args args = arguments(r, n->list);
    r->line = n->line;
    if (n->op == NODE_FILTER)
        jinja_refuse_safe(r, &self);
    return jinja_call(r, f, &self, &args);
}

static struct jinja_value sign(struct jinja_run *r, const struct jinja_node *n)
{
    struct jinja_value v = jinja_eval(r, n->a), zero = jinja_int(0);
    if (v.kind == JINJA_REAL)
        return jinja_real(n->op == NODE_MINUS ? -v.real : v.real);
    return jinja_binary(r, jinja_word(n->op == NODE_MINUS ? "-" : "+").text, &zero, &v);
}

/* a < b <= c: each pair must hold, and nothing after the first that does not is evaluated. */
static struct jinja_value compare(struct jinja_run *r, const struct jinja_node *n)
{
    struct jinja_value a = jinja_eval(r, n->a);
    for (const struct jinja_node *next = n->list; next; next = next->next) {
        struct jinja_value b = jinja_eval(r, next->b);
        if (!jinja_compare(r, next->text, &a, &b))
            return jinja_bool(false);
        a = b;
    }
    return jinja_bool(true);
}

static struct jinja_value choose(struct jinja_run *r, const struct jinja_node *n)
{
    struct jinja_value condition = jinja_eval(r, n->b);
    if (jinja_truth(&condition))
        return jinja_eval(r, n->a);
    return n->c ? jinja_eval(r, n->c)
                : jinja_undefined(r, "expected an else of the expression, found none");
}

static struct jinja_value either(struct jinja_run *r, const struct jinja_node *n)
{
    struct jinja_value a = jinja_eval(r, n->a);
    return jinja_truth(&a) == (n->op == NODE_OR) ? a : jinja_eval(r, n->b);
}

static struct jinja_value item(struct jinja_run *r, const struct jinja_node *n)
{
    struct jinja_value a = jinja_eval(r, n->a), b = jinja_eval(r, n->b);
    return jinja_item(r, &a, &b);
}

static struct jinja_value slice(struct jinja_run *r, const struct jinja_node *n)
{
    struct jinja_value a = jinja_eval(r, n->a), range[3];
    const struct jinja_node *end = n->list;
    for (int i = 0; i < 3; i++, end = end->next)
        range[i] = jinja_eval(r, end);
    return jinja_slice(r, &a, range);
}

static struct jinja_value binary(struct jinja_run *r, const struct jinja_node *n)
{
    struct jinja_value a = jinja_eval(r, n->a), b = jinja_eval(r, n->b);
    r->line = n->line;
    return jinja_binary(r, n->text, &a, &b);
}

static struct jinja_value member(struct jinja_run *r, const struct jinja_node *n)
{
    struct jinja_value a = jinja_eval(r, n->a);
    return jinja_member(r, &a, n->text);
}

static struct jinja_value negate(struct jinja_run *r, const struct jinja_node *n)
{
    struct jinja_value a = jinja_eval(r, n->a);
    return jinja_bool(!jinja_truth(&a));
}

static struct jinja_value eval(struct jinja_run *r, const struct jinja_node *n)
{
    switch (n->op) {
    case NODE_CONST:
        return n->value;
    case NODE_NAME:
        return variable(r, n->text);
    case NODE_LIST:
    case NODE_TUPLE:
        return make_list(r, n);
    case NODE_DICT:
        return make_dict(r, n);
    case NODE_MEMBER:
        return member(r, n);
    case NODE_ITEM:
        return item(r, n);
    case NODE_SLICE:
        return slice(r, n);
    case NODE_CALL:
        return call(r, n);
    case NODE_FILTER:
        return apply(r, n, jinja_filter(n->text));
    case NODE_TEST:
        return apply(r, n, jinja_test(n->text));
    case NODE_NOT:
        return negate(r, n);
    case NODE_MINUS:
    case NODE_PLUS:
        return sign(r, n);
    case NODE_AND:
    case NODE_OR:
        return either(r, n);
    case NODE_BINARY:
        return binary(r, n);
    case NODE_COMPARE:
        return compare(r, n);
    default:
        return choose(r, n);
    }
}

struct jinja_value jinja_eval(struct jinja_run *r, const struct jinja_node *n)
{
    jinja_enter(r);
    r->line = n->line;
    struct jinja_value v = eval(r, n);
    jinja_leave(r);
    return v;
}
