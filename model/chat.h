/* Makes a prompt of messages, as the checkpoint's own ChatML template does.
 *
 * A chat template is a program in Jinja, which is not executed here. The templates of Qwen1.5,
 * Qwen2 and Qwen2.5 without tools, and plain ChatML, are recognised as a whole, in any spelling
 * (chat_template.c), and their default system prompt is read from them. Any other template is
 * refused, and the error names its kind if that is known. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct chat {
    char *system; // the default system prompt; NULL: none
    size_t system_bytes;
    /* True for the earliest Qwen1.5 template: if the last message is an answer, no second answer is
     * begun after it. */
    bool no_second_answer;
    bool known_roles; // True for Qwen2.5's: it prints system, user and assistant messages only
};

struct chat_message {
    const char *role, *content;
    size_t role_bytes, content_bytes;
};

/* Read the template of a checkpoint directory: chat_template.jinja, or chat_template of
 * tokenizer_config.json (of a list the one named "default"). 0, or STATUS_BAD_FILE, also when there
 * is no template. */
int chat_open(struct chat *c, const char *dir);
/* Read a template from a text; `name` is what errors call it. */
int chat_parse(struct chat *c, const char *text, size_t bytes, const char *name);
void chat_close(struct chat *c);

/* The prompt of n >= 1 messages; it ends where the assistant's answer begins. If the first message
 * is not a system message, `system` is put before it (NULL: the template's default). The result is
 * malloc'ed, with a 0 at the end that *bytes does not count; NULL after fail() if the template does
 * not print a message of such a role. */
char *chat_render(const struct chat *c, const char *system, const struct chat_message *messages,
                  size_t n, size_t *bytes);
