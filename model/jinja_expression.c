/* Reads expressions. Of operators the loosest come first: if else, or, and, not, comparisons, + and
 * -, ~, * and its kin, **, signs; then members, calls, filters and tests. */
#include <string.h>

#include "model/jinja_reader.h"

static struct jinja_node *unary(struct jinja_reader *p, bool with_filter);

static struct jinja_node *binary(struct jinja_reader *p, enum jinja_op op, struct jinja_text text,
                                 struct jinja_node *a, struct jinja_node *b)
{
    struct jinja_node *n = jinja_node(p, op);
    n->line = a->line;
    n->text = text;
    n->a = a;
    n->b = b;
    return n;
}

/* The sign at this place, if it is one of these; they end with NULL. */
static bool sign_of(const struct jinja_reader *p, const char *const *signs, struct jinja_text *sign)
{
    *sign = p->at->text;
    for (; *signs; signs++)
        if (jinja_sees(p, TOKEN_SIGN, *signs))
            return true;
    return false;
}

static struct jinja_node *power(struct jinja_reader *p)
{
    static const char *const signs[] = {"**", NULL};
    struct jinja_text sign;
    struct jinja_node *n = unary(p, true);
    while (sign_of(p, signs, &sign)) {
        p->at++;
        n = binary(p, NODE_BINARY, sign, n, unary(p, true));
    }
    return n;
}

static struct jinja_node *product(struct jinja_reader *p)
{
    static const char *const signs[] = {"*", "/", "//", "%", NULL};
    struct jinja_text sign;
    struct jinja_node *n = power(p);
    while (sign_of(p, signs, &sign)) {
        p->at++;
        n = binary(p, NODE_BINARY, sign, n, power(p));
    }
    return n;
}

static struct jinja_node *concatenation(struct jinja_reader *p)
{
    static const char *const signs[] = {"~", NULL};
    struct jinja_text sign;
    struct jinja_node *n = product(p);
    while (sign_of(p, signs, &sign)) {
        p->at++;
        n = binary(p, NODE_BINARY, sign, n, product(p));
    }
    return n;
}

static struct jinja_node *sum(struct jinja_reader *p)
{
    static const char *const signs[] = {"+", "-", NULL};
    struct jinja_text sign;
    struct jinja_node *n = concatenation(p);
    while (sign_of(p, signs, &sign)) {
        p->at++;
        n = binary(p, NODE_BINARY, sign, n, concatenation(p));
    }
    return n;
}

/* A comparison's sign, or in, or not in; then go on after it. */
static bool takes_comparison(struct jinja_reader *p, struct jinja_text *sign)
{
    static const char *const signs[] = {"==", "!=", "<", "<=", ">", ">=", NULL};
    if (sign_of(p, signs, sign) || jinja_sees(p, TOKEN_NAME, "in")) {
        *sign = p->at++->text;
        return true;
    }
    struct jinja_reader next = *p;
    next.at += p->at->kind != TOKEN_END;
    if (!jinja_sees(p, TOKEN_NAME, "not") || !jinja_sees(&next, TOKEN_NAME, "in"))
        return false;
    p->at += 2;
    *sign = jinja_word("not in").text;
    return true;
}

static struct jinja_node *comparison(struct jinja_reader *p)
{
    struct jinja_node *first = sum(p), *all = NULL, **end = NULL;
    for (struct jinja_text sign; takes_comparison(p, &sign);) {
        struct jinja_node *n = jinja_node(p, NODE_COMPARE);
        n->text = sign;
        n->b = sum(p);
        if (!all) {
            all = jinja_node(p, NODE_COMPARE);
            all->line = first->line;
            all->a = first;
            end = &all->list;
        }
        *end = n;
        end = &n->next;
    }
    return all ? all : first;
}

static struct jinja_node *negation(struct jinja_reader *p)
{
    if (!jinja_takes(p, "not"))
        return comparison(p);
    struct jinja_node *n = jinja_node(p, NODE_NOT);
    jinja_enter(p->r);
    n->a = negation(p);
    jinja_leave(p->r);
    return n;
}

static struct jinja_node *conjunction(struct jinja_reader *p)
{
    struct jinja_node *n = negation(p);
    while (jinja_takes(p, "and"))
        n = binary(p, NODE_AND, n->text, n, negation(p));
    return n;
}

static struct jinja_node *disjunction(struct jinja_reader *p)
{
    struct jinja_node *n = conjunction(p);
    while (jinja_takes(p, "or"))
        n = binary(p, NODE_OR, n->text, n, conjunction(p));
    return n;
}

struct jinja_node *jinja_expression_without_choice(struct jinja_reader *p)
{
    jinja_enter(p->r);
    struct jinja_node *n = disjunction(p);
    jinja_leave(p->r);
    return n;
}

struct jinja_node *jinja_expression(struct jinja_reader *p)
{
    jinja_enter(p->r);
    struct jinja_node *n = disjunction(p);
    while (jinja_takes(p, "if")) {
        n = binary(p, NODE_CHOICE, n->text, n, disjunction(p));
        if (jinja_takes(p, "else"))
            n->c = jinja_expression(p);
    }
    jinja_leave(p->r);
    return n;
}

/* Does a tuple end here? */
static bool ends(const struct jinja_reader *p)
{
    return p->at->kind == TOKEN_CLOSE || jinja_sees(p, TOKEN_SIGN, ")") ||
           jinja_sees(p, TOKEN_SIGN, "=") || jinja_sees(p, TOKEN_NAME, "in");
}

/* Items with commas between them, up to `close`, which is left there; NULL: to where a tuple ends.
 * *comma: there was one. */
static struct jinja_node *items(struct jinja_reader *p, const char *close, bool *comma)
{
    struct jinja_node *first = NULL, **end = &first;
    *comma = false;
    while (close ? !jinja_sees(p, TOKEN_SIGN, close) : !ends(p)) {
        *end = jinja_expression(p);
        end = &(*end)->next;
        if (!jinja_takes(p, ","))
            break;
        *comma = true;
    }
    return first;
}

struct jinja_node *jinja_tuple(struct jinja_reader *p)
{
    bool comma;
    struct jinja_node *first = items(p, NULL, &comma);
    if (!first)
        jinja_unexpected(p, "an expression");
    if (!comma)
        return first;
    struct jinja_node *n = jinja_node(p, NODE_TUPLE);
    n->list = first;
    return n;
}

static struct jinja_node *parentheses(struct jinja_reader *p)
{
    bool comma;
    struct jinja_node *first = items(p, ")", &comma), *n = first;
    jinja_expects(p, ")");
    if (first && !comma)
        return first;
    n = jinja_node(p, NODE_TUPLE);
    n->list = first;
    return n;
}

static struct jinja_node *list(struct jinja_reader *p)
{
    bool comma;
    struct jinja_node *n = jinja_node(p, NODE_LIST);
    n->list = items(p, "]", &comma);
    jinja_expects(p, "]");
    return n;
}

static struct jinja_node *dict(struct jinja_reader *p)
{
    struct jinja_node *n = jinja_node(p, NODE_DICT), **end = &n->list;
    while (!jinja_sees(p, TOKEN_SIGN, "}")) {
        struct jinja_node *key = jinja_expression(p);
        jinja_expects(p, ":");
        key->next = jinja_expression(p);
        *end = key;
        end = &key->next->next;
        if (!jinja_takes(p, ","))
            break;
    }
    jinja_expects(p, "}");
    return n;
}

/* A name, or one of the constants that look like names. */
static struct jinja_node *name(struct jinja_reader *p)
{
    struct jinja_text text = p->at++->text;
    bool yes = jinja_is(text, "true") || jinja_is(text, "True");
    bool no = jinja_is(text, "false") || jinja_is(text, "False");
    bool none = jinja_is(text, "none") || jinja_is(text, "None");
    struct jinja_node *n = jinja_node(p, yes || no || none ? NODE_CONST : NODE_NAME);
    n->text = text;
    n->value = none ? jinja_none : jinja_bool(yes);
    return n;
}

/* A number, or one or more strings after each other. */
static struct jinja_node *constant(struct jinja_reader *p)
{
    struct jinja_node *n = jinja_node(p, NODE_CONST);
    n->value = p->at++->value;
    while (n->value.kind == JINJA_TEXT && p->at->kind == TOKEN_VALUE &&
           p->at->value.kind == JINJA_TEXT)
        n->value = jinja_binary(p->r, jinja_word("+").text, &n->value, &p->at++->value);
    return n;
}

static struct jinja_node *primary(struct jinja_reader *p)
{
    static const char *const words[] = {"in", "is", "not", "and", "or", "if", "else", NULL};
    for (int i = 0; words[i]; i++)
        if (jinja_sees(p, TOKEN_NAME, words[i]))
            jinja_unexpected(p, "a value");
    if (p->at->kind == TOKEN_NAME)
        return name(p);
    if (p->at->kind == TOKEN_VALUE)
        return constant(p);
    if (jinja_takes(p, "("))
        return parentheses(p);
    if (jinja_takes(p, "["))
        return list(p);
    if (jinja_takes(p, "{"))
        return dict(p);
    jinja_unexpected(p, "a value");
}

/* Arguments up to the closing parenthesis: values first, then name=value. */
static struct jinja_node *arguments(struct jinja_reader *p)
{
    struct jinja_node *first = NULL, **end = &first;
    while (!jinja_sees(p, TOKEN_SIGN, ")")) {
        struct jinja_reader next = *p;
        next.at += p->at->kind != TOKEN_END;
        if (p->at->kind == TOKEN_NAME && jinja_sees(&next, TOKEN_SIGN, "=")) {
            struct jinja_node *n = jinja_node(p, NODE_KEYWORD);
            n->text = p->at->text;
            p->at += 2;
            n->a = jinja_expression(p);
            *end = n;
        } else {
            *end = jinja_expression(p);
        }
        end = &(*end)->next;
        if (!jinja_takes(p, ","))
            break;
    }
    jinja_expects(p, ")");
    return first;
}

static struct jinja_node *call(struct jinja_reader *p, struct jinja_node *a)
{
    struct jinja_node *n = binary(p, NODE_CALL, a->text, a, NULL);
    n->list = arguments(p);
    return n;
}

static struct jinja_node *member(struct jinja_reader *p, struct jinja_node *a)
{
    struct jinja_node *n;
    if (p->at->kind == TOKEN_VALUE && p->at->value.kind == JINJA_INT) {
        n = binary(p, NODE_ITEM, a->text, a, constant(p));
        return n;
    }
    n = binary(p, NODE_MEMBER, p->at->text, a, NULL);
    n->text = jinja_expects_name(p);
    return n;
}

/* One end of a slice, or nothing of it. */
static struct jinja_node *slice_end(struct jinja_reader *p)
{
    if (!jinja_sees(p, TOKEN_SIGN, ":") && !jinja_sees(p, TOKEN_SIGN, "]"))
        return jinja_expression(p);
    struct jinja_node *n = jinja_node(p, NODE_CONST);
    n->value = jinja_none;
    return n;
}

/* What follows [, after the brackets have been opened. */
static struct jinja_node *subscript(struct jinja_reader *p, struct jinja_node *a)
{
    struct jinja_node *from = slice_end(p), *n = binary(p, NODE_ITEM, a->text, a, from);
    if (jinja_takes(p, ":")) {
        n->op = NODE_SLICE;
        n->b = NULL;
        n->list = from;
        from->next = slice_end(p);
        jinja_takes(p, ":");
        from->next->next = slice_end(p);
    }
    jinja_expects(p, "]");
    return n;
}

static struct jinja_node *postfix(struct jinja_reader *p, struct jinja_node *n)
{
    for (;;) {
        if (jinja_takes(p, "."))
            n = member(p, n);
        else if (jinja_takes(p, "["))
            n = subscript(p, n);
        else if (jinja_takes(p, "("))
            n = call(p, n);
        else
            return n;
    }
}

static struct jinja_node *filter(struct jinja_reader *p, struct jinja_node *a)
{
    struct jinja_node *n = binary(p, NODE_FILTER, a->text, a, NULL);
    n->text = jinja_expects_name(p);
    if (!jinja_filter(n->text))
        jinja_fail(p->r, "expected a filter that is known here, found %.*s", (int)n->text.bytes,
                   n->text.at);
    if (jinja_takes(p, "("))
        n->list = arguments(p);
    return n;
}

/* May an argument without parentheses follow a test? */
static bool sees_argument(const struct jinja_reader *p)
{
    static const char *const words[] = {"else", "or", "and", "is", "if", "not", "in", NULL};
    for (int i = 0; words[i]; i++)
        if (jinja_sees(p, TOKEN_NAME, words[i]))
            return false;
    return p->at->kind == TOKEN_NAME || p->at->kind == TOKEN_VALUE ||
           jinja_sees(p, TOKEN_SIGN, "[") || jinja_sees(p, TOKEN_SIGN, "{");
}

static struct jinja_node *test(struct jinja_reader *p, struct jinja_node *a)
{
    bool negated = jinja_takes(p, "not");
    struct jinja_node *n = binary(p, NODE_TEST, a->text, a, NULL), *not_it;
    n->text = jinja_expects_name(p);
    if (!jinja_test(n->text))
        jinja_fail(p->r, "expected a test that is known here, found %.*s", (int)n->text.bytes,
                   n->text.at);
    if (jinja_takes(p, "("))
        n->list = arguments(p);
    else if (sees_argument(p))
        n->list = postfix(p, primary(p));
    if (!negated)
        return n;
    not_it = jinja_node(p, NODE_NOT);
    not_it->a = n;
    return not_it;
}

static struct jinja_node *filters(struct jinja_reader *p, struct jinja_node *n)
{
    for (;;) {
        if (jinja_takes(p, "|"))
            n = filter(p, n);
        else if (jinja_takes(p, "is"))
            n = test(p, n);
        else if (jinja_takes(p, "("))
            n = call(p, n);
        else
            return n;
    }
}

static struct jinja_node *unary(struct jinja_reader *p, bool with_filter)
{
    struct jinja_node *n;
    jinja_enter(p->r);
    bool minus = jinja_takes(p, "-");
    if (minus || jinja_takes(p, "+")) {
        n = jinja_node(p, minus ? NODE_MINUS : NODE_PLUS);
        n->a = unary(p, false);
    } else {
        n = primary(p);
    }
    n = postfix(p, n);
    if (with_filter)
        n = filters(p, n);
    jinja_leave(p->r);
    return n;
}
