/* Statements. */
#include <string.h>

#include "model/jinja_parts.h"

/* What comes after a statement: the next one, or what a break or continue says. */
enum flow { GO_ON, BREAK, CONTINUE };

static enum flow run_all(struct jinja_run *r, const struct jinja_node *first);

static struct jinja_scope *scope_in(struct jinja_run *r, struct jinja_scope *up)
{
    struct jinja_scope *s = jinja_alloc(r, sizeof *s);
    *s = (struct jinja_scope){.up = up};
    return s;
}

/* Run statements in a scope, and give what they print. */
static struct jinja_value capture(struct jinja_run *r, const struct jinja_node *body,
                                  struct jinja_scope *scope)
{
    struct jinja_buffer b = {0}, *out = r->out;
    struct jinja_scope *before = r->scope;
    r->out = &b;
    r->scope = scope;
    run_all(r, body);
    r->out = out;
    r->scope = before;
    return jinja_text(b.bytes ? b.text : "", b.bytes);
}

static struct jinja_dict *space_of(struct jinja_run *r, const struct jinja_node *target)
{
    struct jinja_value v = jinja_eval(r, target->a);
    if (v.kind != JINJA_NAMESPACE)
        jinja_fail(r, "expected a namespace whose member is set, found %s", jinja_kind_name(&v));
    return v.dict;
}

static void assign(struct jinja_run *r, const struct jinja_node *target,
                   const struct jinja_value *v)
{
    if (target->op == NODE_NAME) {
        jinja_dict_put(r, &r->scope->names, target->text, *v);
        return;
    }
    if (target->op == NODE_MEMBER) {
        jinja_dict_put(r, space_of(r, target), target->text, *v);
        return;
    }
    const struct jinja_list *l = jinja_items(r, v);
    size_t i = 0;
    for (const struct jinja_node *t = target->list; t; t = t->next, i++)
        if (i < l->n)
            assign(r, t, &l->at[i]);
    if (i != l->n)
        jinja_fail(r, "expected a value of %zu items, found %zu", i, l->n);
}

/* The items of the loop whose condition holds. */
static const struct jinja_list *chosen(struct jinja_run *r, const struct jinja_node *n)
{
    struct jinja_value v = jinja_eval(r, n->b);
    const struct jinja_list *all = jinja_items(r, &v);
    if (!n->c)
        return all;
    struct jinja_list *some = jinja_list_new(r, all->n);
    struct jinja_scope *before = r->scope;
    some->n = 0;
    for (size_t i = 0; i < all->n; i++) {
        r->scope = scope_in(r, before);
        assign(r, n->a, &all->at[i]);
        struct jinja_value condition = jinja_eval(r, n->c);
        if (jinja_truth(&condition))
            some->at[some->n++] = all->at[i];
    }
    r->scope = before;
    return some;
}

static enum flow run_for(struct jinja_run *r, const struct jinja_node *n)
{
    struct jinja_scope *before = r->scope;
    struct jinja_loop *loop = jinja_alloc(r, sizeof *loop);
    *loop = (struct jinja_loop){chosen(r, n), 0};
    const struct jinja_value value = {.kind = JINJA_LOOP, .loop = loop};
    enum flow flow = GO_ON;
    if (loop->items->n == 0)
        return run_all(r, n->other);
    for (; loop->i < loop->items->n && flow != BREAK; loop->i++) {
        jinja_step(r, 1);
        r->scope = scope_in(r, before);
        assign(r, n->a, &loop->items->at[loop->i]);
        jinja_dict_put(r, &r->scope->names, jinja_word("loop").text, value);
        flow = run_all(r, n->body);
    }
    r->scope = before;
    return GO_ON;
}

/* An if with its elifs, which are one in the other. */
static enum flow run_if(struct jinja_run *r, const struct jinja_node *n)
{
    for (;;) {
        struct jinja_value condition = jinja_eval(r, n->a);
        if (jinja_truth(&condition))
            return run_all(r, n->body);
        if (!n->other || n->other->op != NODE_IF || n->other->next)
            return run_all(r, n->other);
        n = n->other;
    }
}

static void run_set(struct jinja_run *r, const struct jinja_node *n)
{
    struct jinja_value v =
        n->op == NODE_SET ? jinja_eval(r, n->b) : capture(r, n->body, scope_in(r, r->scope));
    assign(r, n->a, &v);
}

static void define(struct jinja_run *r, const struct jinja_node *n)
{
    struct jinja_macro *m = jinja_alloc(r, sizeof *m);
    *m = (struct jinja_macro){n, r->scope};
    jinja_dict_put(r, &r->scope->names, n->text,
                   (struct jinja_value){.kind = JINJA_MACRO, .macro = m});
}

static enum flow run_block(struct jinja_run *r, const struct jinja_node *n)
{
    struct jinja_scope *before = r->scope;
    r->scope = scope_in(r, before);
    enum flow flow = run_all(r, n->body);
    r->scope = before;
    return flow;
}

static void print(struct jinja_run *r, const struct jinja_node *n)
{
    struct jinja_value v = jinja_eval(r, n->a);
    jinja_put_str(r, r->out, &v);
}

static enum flow run_one(struct jinja_run *r, const struct jinja_node *n)
{
    switch (n->op) {
    case NODE_DATA:
        jinja_put_text(r, r->out, n->value.text);
        return GO_ON;
    case NODE_PRINT:
        print(r, n);
        return GO_ON;
    case NODE_IF:
        return run_if(r, n);
    case NODE_FOR:
        return run_for(r, n);
    case NODE_SET:
    case NODE_CAPTURE:
        run_set(r, n);
        return GO_ON;
    case NODE_MACRO:
        define(r, n);
        return GO_ON;
    case NODE_BLOCK:
        return run_block(r, n);
    case NODE_BREAK:
        return BREAK;
    default:
        return CONTINUE;
    }
}

static enum flow run_all(struct jinja_run *r, const struct jinja_node *first)
{
    enum flow flow = GO_ON;
    for (const struct jinja_node *n = first; n && flow == GO_ON; n = n->next) {
        jinja_enter(r);
        r->line = n->line;
        flow = run_one(r, n);
        jinja_leave(r);
    }
    return flow;
}

void jinja_exec(struct jinja_run *r, const struct jinja_node *first)
{
    run_all(r, first);
}

/* The value of a macro's argument: given by place or name, or its default. */
static struct jinja_value argument(struct jinja_run *r, const struct jinja_node *p, size_t i,
                                   const struct jinja_args *args)
{
    struct jinja_entry *named = jinja_dict_find(r, &args->keywords, p->text);
    if (named && i < args->n)
        jinja_fail(r, "expected %.*s once, found it twice", (int)p->text.bytes, p->text.at);
    if (named) {
        named->read = true;
        return named->value;
    }
    if (i < args->n)
        return args->at[i];
    return p->a ? jinja_eval(r, p->a)
                : jinja_undefined(r, "expected an argument \"%.*s\", found none",
                                  (int)p->text.bytes, p->text.at);
}

struct jinja_value jinja_call_macro(struct jinja_run *r, const struct jinja_macro *m,
                                    const struct jinja_args *args)
{
    struct jinja_scope *before = r->scope, *own = scope_in(r, m->scope);
    size_t i = 0;
    r->scope = own;
    for (const struct jinja_node *p = m->node->list; p; p = p->next, i++)
        jinja_dict_put(r, &own->names, p->text, argument(r, p, i, args));
    if (args->n > i)
        jinja_fail(r, "%.*s: expected at most %zu arguments, found %zu", (int)m->node->text.bytes,
                   m->node->text.at, i, args->n);
    for (i = 0; i < args->keywords.n; i++)
        if (!args->keywords.at[i].read)
            jinja_fail(r, "%.*s: expected arguments that it has, found %.*s",
                       (int)m->node->text.bytes, m->node->text.at,
                       (int)args->keywords.at[i].key.bytes, args->keywords.at[i].key.at);
    r->scope = before;
    return capture(r, m->node->body, own);
}
