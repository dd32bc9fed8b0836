/* Reads statements. */
#include <string.h>

#include "model/jinja_reader.h"

enum { MOST_NAME = 60 };

struct jinja_node *jinja_node(struct jinja_reader *p, enum jinja_op op)
{
    struct jinja_node *n = jinja_alloc(p->r, sizeof *n);
    *n = (struct jinja_node){.op = op, .line = p->at->line};
    return n;
}

bool jinja_sees(const struct jinja_reader *p, enum jinja_token_kind kind, const char *text)
{
    return p->at->kind == kind && jinja_is(p->at->text, text);
}

bool jinja_takes(struct jinja_reader *p, const char *text)
{
    bool found = jinja_sees(p, TOKEN_SIGN, text) || jinja_sees(p, TOKEN_NAME, text);
    p->at += found;
    p->r->line = p->at->line;
    return found;
}

void jinja_unexpected(struct jinja_reader *p, const char *expected)
{
    int n = p->at->text.bytes < MOST_NAME ? (int)p->at->text.bytes : MOST_NAME;
    p->r->line = p->at->line;
    if (p->at->kind == TOKEN_END)
        jinja_fail(p->r, "expected %s, found the end of the template", expected);
    if (p->at->kind == TOKEN_CLOSE)
        jinja_fail(p->r, "expected %s, found the end of the tag", expected);
    jinja_fail(p->r, "expected %s, found \"%.*s\"", expected, n, p->at->text.at);
}

void jinja_expects(struct jinja_reader *p, const char *text)
{
    if (!jinja_takes(p, text))
        jinja_unexpected(p, text);
}

/* Keep a name for jinja_reads(). */
static void keep(struct jinja_reader *p, struct jinja_text name)
{
    struct jinja *t = p->t;
    for (size_t i = 0; i < t->n_names; i++) {
        jinja_step(p->r, 1);
        if (t->names[i].bytes == name.bytes && memcmp(t->names[i].at, name.at, name.bytes) == 0)
            return;
    }
    if (t->n_names == p->names_room) {
        size_t room = p->names_room * 2 + 16;
        struct jinja_text *more = jinja_alloc(p->r, room * sizeof *more);
        if (t->n_names)
            memcpy(more, t->names, t->n_names * sizeof *more);
        t->names = more;
        p->names_room = room;
    }
    t->names[t->n_names++] = name;
}

struct jinja_text jinja_expects_name(struct jinja_reader *p)
{
    if (p->at->kind != TOKEN_NAME)
        jinja_unexpected(p, "a name");
    return p->at++->text;
}

static struct jinja_node *statements(struct jinja_reader *p, const char *const *ends);

static void expects_close(struct jinja_reader *p)
{
    if (p->at->kind != TOKEN_CLOSE)
        jinja_unexpected(p, "the end of the tag");
    p->at++;
}

static const char *const end_if[] = {"elif", "else", "endif", NULL};
static const char *const end_else[] = {"endif", NULL};
static const char *const end_for[] = {"else", "endfor", NULL};
static const char *const end_for_else[] = {"endfor", NULL};

/* After `if` or `elif`, up to the endif, which all of them share. */
static struct jinja_node *read_if(struct jinja_reader *p)
{
    struct jinja_node *first = NULL, **end = &first;
    do {
        struct jinja_node *n = jinja_node(p, NODE_IF);
        n->a = jinja_expression_without_choice(p);
        expects_close(p);
        n->body = statements(p, end_if);
        *end = n;
        end = &n->other;
    } while (jinja_takes(p, "elif"));
    if (jinja_takes(p, "else")) {
        expects_close(p);
        *end = statements(p, end_else);
    }
    jinja_expects(p, "endif");
    return first;
}

/* What may be assigned to: a name, name.member, or several with commas. */
static struct jinja_node *target(struct jinja_reader *p)
{
    struct jinja_node *n = jinja_node(p, NODE_NAME), *tuple;
    if (jinja_takes(p, "(")) {
        jinja_enter(p->r);
        n = target(p);
        jinja_leave(p->r);
        jinja_expects(p, ")");
    } else {
        n->text = jinja_expects_name(p);
        if (jinja_takes(p, ".")) {
            tuple = jinja_node(p, NODE_MEMBER);
            tuple->a = n;
            tuple->text = jinja_expects_name(p);
            n = tuple;
        }
    }
    if (!jinja_sees(p, TOKEN_SIGN, ","))
        return n;
    tuple = jinja_node(p, NODE_TUPLE);
    tuple->list = n;
    while (jinja_takes(p, ",")) {
        n->next = jinja_node(p, NODE_NAME);
        n = n->next;
        n->text = jinja_expects_name(p);
    }
    return tuple;
}

static struct jinja_node *read_for(struct jinja_reader *p)
{
    struct jinja_node *n = jinja_node(p, NODE_FOR);
    n->a = target(p);
    if (n->a->op == NODE_MEMBER)
        jinja_fail(p->r, "expected a name for the items of a loop, found a member");
    jinja_expects(p, "in");
    n->b = jinja_expression_without_choice(p);
    if (jinja_takes(p, "if"))
        n->c = jinja_expression(p);
    if (jinja_sees(p, TOKEN_NAME, "recursive"))
        jinja_fail(p->r, "expected a loop that is not recursive, found \"recursive\"");
    expects_close(p);
    p->loops++;
    n->body = statements(p, end_for);
    p->loops--;
    if (jinja_takes(p, "else")) {
        expects_close(p);
        n->other = statements(p, end_for_else);
    }
    jinja_expects(p, "endfor");
    return n;
}

/* Statements up to a tag with this word, in which break and continue of loops outside are not
 * allowed. */
static struct jinja_node *body_until(struct jinja_reader *p, const char *word)
{
    const char *const ends[] = {word, NULL};
    int loops = p->loops;
    expects_close(p);
    p->loops = 0;
    struct jinja_node *body = statements(p, ends);
    p->loops = loops;
    jinja_expects(p, word);
    return body;
}

static struct jinja_node *read_set(struct jinja_reader *p)
{
    struct jinja_node *n = jinja_node(p, NODE_SET);
    n->a = target(p);
    if (jinja_takes(p, "=")) {
        n->b = jinja_tuple(p);
        return n;
    }
    n->op = NODE_CAPTURE;
    n->body = body_until(p, "endset");
    return n;
}

static struct jinja_node *read_macro(struct jinja_reader *p)
{
    struct jinja_node *n = jinja_node(p, NODE_MACRO), **end = &n->list;
    n->text = jinja_expects_name(p);
    jinja_expects(p, "(");
    while (!jinja_sees(p, TOKEN_SIGN, ")")) {
        struct jinja_node *argument = jinja_node(p, NODE_NAME);
        argument->text = jinja_expects_name(p);
        if (jinja_takes(p, "="))
            argument->a = jinja_expression(p);
        *end = argument;
        end = &argument->next;
        if (!jinja_takes(p, ","))
            break;
    }
    jinja_expects(p, ")");
    n->body = body_until(p, "endmacro");
    return n;
}

/* {% generation %} marks what a model is trained to generate; here it only prints its body. */
static struct jinja_node *read_generation(struct jinja_reader *p)
{
    struct jinja_node *n = jinja_node(p, NODE_BLOCK);
    n->body = body_until(p, "endgeneration");
    return n;
}

static struct jinja_node *read_jump(struct jinja_reader *p, enum jinja_op op)
{
    if (p->loops == 0)
        jinja_fail(p->r, "expected break and continue in a loop, found one outside");
    return jinja_node(p, op);
}

static struct jinja_node *statement(struct jinja_reader *p)
{
    if (jinja_takes(p, "if"))
        return read_if(p);
    if (jinja_takes(p, "for"))
        return read_for(p);
    if (jinja_takes(p, "set"))
        return read_set(p);
    if (jinja_takes(p, "macro"))
        return read_macro(p);
    if (jinja_takes(p, "generation"))
        return read_generation(p);
    if (jinja_takes(p, "break"))
        return read_jump(p, NODE_BREAK);
    if (jinja_takes(p, "continue"))
        return read_jump(p, NODE_CONTINUE);
    jinja_unexpected(p, "a statement that is known here");
}

/* Is this tag one that ends the statements? */
static bool is_end(const struct jinja_reader *p, const char *const *ends)
{
    struct jinja_reader word = *p;
    word.at++;
    for (; *ends; ends++)
        if (jinja_sees(&word, TOKEN_NAME, *ends))
            return true;
    return false;
}

static struct jinja_node *one(struct jinja_reader *p)
{
    struct jinja_node *n;
    if (p->at->kind == TOKEN_DATA) {
        n = jinja_node(p, NODE_DATA);
        n->value = jinja_text(p->at->text.at, p->at->text.bytes);
        p->at++;
    } else if (p->at->kind == TOKEN_PRINT) {
        p->at++;
        n = jinja_node(p, NODE_PRINT);
        n->a = jinja_tuple(p);
        expects_close(p);
    } else {
        p->at++;
        n = statement(p);
        expects_close(p);
    }
    return n;
}

/* Statements up to a tag that begins with one of these words, and on to that word; or with none of
 * them to the end of the template. */
static struct jinja_node *statements(struct jinja_reader *p, const char *const *ends)
{
    struct jinja_node *first = NULL, **end = &first;
    jinja_enter(p->r);
    for (;;) {
        p->r->line = p->at->line;
        if (p->at->kind == TOKEN_STATEMENT && is_end(p, ends)) {
            p->at++;
            break;
        }
        if (p->at->kind == TOKEN_END) {
            if (*ends)
                jinja_unexpected(p, *ends);
            break;
        }
        *end = one(p);
        end = &(*end)->next;
    }
    jinja_leave(p->r);
    return first;
}

/* Is this the text of a["b"] or a.get("b")? */
static bool is_member(const struct jinja_token *first, const struct jinja_token *k)
{
    return k > first && k->kind == TOKEN_VALUE && k->value.kind == JINJA_TEXT &&
           k[-1].kind == TOKEN_SIGN && (jinja_is(k[-1].text, "[") || jinja_is(k[-1].text, "("));
}

struct jinja_node *jinja_read(struct jinja_run *r, struct jinja_text source, struct jinja *t)
{
    static const char *const none[] = {NULL};
    const struct jinja_token *tokens = jinja_tokens(r, source);
    struct jinja_reader p = {.r = r, .at = tokens, .t = t};
    for (const struct jinja_token *k = tokens; k->kind != TOKEN_END; k++)
        if (k->kind == TOKEN_NAME)
            keep(&p, k->text);
        else if (is_member(tokens, k))
            keep(&p, k->value.text);
    return statements(&p, none);
}
