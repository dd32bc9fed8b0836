/* Makes a prompt of messages, as the checkpoint's own chat template does: the text that
 * transformers' apply_chat_template makes. A template is a program in Jinja, which jinja.h runs. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/json.h"

struct jinja;

struct chat {
    struct jinja *plain;
    struct jinja *with_tools; // for requests with tools; NULL: they use `plain`, too
    struct js *tokens;        // an object: bos_token and its kin, which templates print
};

struct chat_request {
    const struct js *messages; // an array of at least one object
    const struct js *tools;    // an array of objects, or NULL
    const struct js *kwargs;   // an object: more variables of the template, by name; or NULL
    const char *system;        // a system message to put first unless there is one; or NULL
};

/* Read the template of a checkpoint directory: chat_template.jinja, or chat_template of
 * tokenizer_config.json (of a list the ones named "default" and, for requests with tools,
 * "tool_use"). 0, or STATUS_BAD_FILE, also when there is no template or it is one that cannot be
 * run here. */
int chat_open(struct chat *c, const char *dir);
/* Read a template from a text; `name` is what errors call it. */
int chat_parse(struct chat *c, const char *text, size_t bytes, const char *name);
void chat_close(struct chat *c);
/* Does the template read a variable or a member of this name, such as "enable_thinking"? */
bool chat_reads(const struct chat *c, const char *name);

/* The prompt; it ends where the assistant's answer begins, unless kwargs has add_generation_prompt
 * false. Members of messages that are null count as absent. The result is malloc'ed, with a 0 at
 * the end that *bytes does not count. NULL after fail(STATUS_BAD_FILE): the template raised an
 * exception, failed, left out the content of a message, or does not read tools or a name in
 * kwargs. */
char *chat_render(const struct chat *c, const struct chat_request *q, size_t *bytes);
