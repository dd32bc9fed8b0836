/* The tokens of a template. For jinja_read.c and jinja_expression.c. */
#pragma once

#include "model/jinja_parts.h"

enum jinja_token_kind {
    TOKEN_DATA,      // text to print
    TOKEN_PRINT,     // {{
    TOKEN_STATEMENT, // {%
    TOKEN_CLOSE,     // }} or %}
    TOKEN_NAME,      // text
    TOKEN_SIGN,      // text
    TOKEN_VALUE,     // a text, or a number
    TOKEN_END,       //
};

struct jinja_token {
    enum jinja_token_kind kind;
    int line;
    struct jinja_text text;
    struct jinja_value value;
};

/* All tokens of a template, the last of them TOKEN_END. Whitespace around tags is removed by
 * transformers' settings (trim_blocks, lstrip_blocks) and by the signs - and + in tags; comments
 * are left out; the text of {% raw %} is data. */
const struct jinja_token *jinja_tokens(struct jinja_run *r, struct jinja_text source);
/* The value of a string whose quotes are around t. */
struct jinja_value jinja_string(struct jinja_run *r, struct jinja_text t);
