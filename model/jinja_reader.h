/* What jinja_read.c (statements) and jinja_expression.c share. */
#pragma once

#include "model/jinja_lexer.h"

struct jinja_reader {
    struct jinja_run *r;
    const struct jinja_token *at;
    struct jinja *t; // its names are collected
    size_t names_room;
    int loops; // around the place, for break and continue
};

struct jinja_node *jinja_node(struct jinja_reader *p, enum jinja_op op);
bool jinja_sees(const struct jinja_reader *p, enum jinja_token_kind kind, const char *text);
/* Is it this sign, or this name? Then go on after it. */
bool jinja_takes(struct jinja_reader *p, const char *text);
void jinja_expects(struct jinja_reader *p, const char *text);
struct jinja_text jinja_expects_name(struct jinja_reader *p);
void jinja_unexpected(struct jinja_reader *p, const char *expected) __attribute__((noreturn));

/* An expression; without_choice: not `a if b else c`, as in the tags of if and
 * for. */
struct jinja_node *jinja_expression(struct jinja_reader *p);
struct jinja_node *jinja_expression_without_choice(struct jinja_reader *p);
/* One expression, or several with commas, which are a tuple. */
struct jinja_node *jinja_tuple(struct jinja_reader *p);
