/* The prompt of a command: text or ids, from the command line, a file or stdin, as token ids. */
#pragma once

#include <stdint.h>

#include "model/chat.h"
#include "model/tokenizer.h"

struct prompt_options {
    const char *text;   // -p; "-": stdin
    const char *file;   // -f
    const char *tokens; // --tokens
    bool chat;          // --chat: the text is a user's message
    const char *system; // --system
};

struct prompt {
    int32_t *ids; // malloc'ed
    int n;
};

/* Exactly one of the three must be given. tokenizer may be NULL with --tokens; `model` is where a
 * chat template comes from. */
int prompt_read(struct prompt *p, const struct prompt_options *o, const struct tokenizer *t,
                const char *model);
bool prompt_needs_tokenizer(const struct prompt_options *o);

int prompt_tokenizer(struct tokenizer **t, const char *model); // tokenizer.json of a model
int prompt_template(struct chat *c, const char *model);        // its chat template
