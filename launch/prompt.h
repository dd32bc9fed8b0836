/* The prompt of a command: text or ids, from the command line, a file or stdin, as token ids. */
#pragma once

#include <stdint.h>

#include "model/tokenizer.h"

struct prompt_options {
    const char *text;   // -p; "-": stdin
    const char *file;   // -f
    const char *tokens; // --tokens
};

struct prompt {
    int32_t *ids; // malloc'ed
    int n;
};

/* Exactly one of the three must be given. tokenizer may be NULL with --tokens. */
int prompt_read(struct prompt *p, const struct prompt_options *o, const struct tokenizer *t);
bool prompt_needs_tokenizer(const struct prompt_options *o);
