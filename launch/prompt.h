/* Reads the prompt of a command, as text or ids from the command line, a file or stdin, and makes
 * token ids of it. */
#pragma once

#include <stdint.h>

#include "model/chat.h"
#include "model/tokenizer.h"

struct prompt_options {
    const char *text;   // -p; "-": stdin
    const char *file;   // -f
    bool raw;           // --raw: as the file or stdin has it; else see prompt_read()
    const char *tokens; // --tokens
    bool chat;          // --chat: the text is the message of a user
    const char *system; // --system
    bool no_thinking;   // --no-thinking
};

struct prompt {
    int32_t *ids; // malloc'ed
    int n;
    size_t bytes; // of the text that they are; 0 with --tokens
};

/* Exactly one of text, file and tokens must be given. t may be NULL with tokens. With chat, the
 * template is that of the model. Of a text from a file or stdin one newline at its end is dropped,
 * as editors and echo add it and a model goes on differently after it, and CR LF become LF. 0,
 * STATUS_USAGE or STATUS_BAD_FILE. */
int prompt_read(struct prompt *p, const struct prompt_options *o, const struct tokenizer *t,
                const char *model);
bool prompt_needs_tokenizer(const struct prompt_options *o);

/* Open the tokenizer, or the chat template, of a model; 0, STATUS_BAD_FILE, or STATUS_USAGE for a
 * model that is made in memory and has none. */
int prompt_tokenizer(struct tokenizer **t, const char *model);
int prompt_template(struct chat *c, const char *model);
/* Check --no-thinking, if it was given: the template (NULL: there is none) must read
 * enable_thinking. 0 or STATUS_USAGE. */
int prompt_check_thinking(const struct chat *c, bool no_thinking);
/* The same of --system (NULL: it was not given), which any template takes. */
int prompt_check_system(const struct chat *c, const char *system);
