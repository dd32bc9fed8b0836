/* Messages to a prompt, as the checkpoint's own ChatML template does it.
 *
 * A chat template is a program in Jinja. The templates of Qwen1.5 and Qwen2 (and plain ChatML) are
 * recognised whole, whatever their spelling (see chat_template.c), and their default system prompt
 * is read from them; one of another kind is refused by name, never guessed at. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct chat {
    char *system; // the default system prompt; NULL: none
    size_t system_bytes;
    /* The earliest Qwen1.5 template: an answer that comes last is not followed by another one. */
    bool no_second_answer;
};

struct chat_message {
    const char *role, *content;
    size_t role_bytes, content_bytes;
};

/* The template of a checkpoint directory: chat_template.jinja, or chat_template (the one named
 * "default" of a list) of tokenizer_config.json. 0 or STATUS_BAD_FILE, also when there is none. */
int chat_open(struct chat *c, const char *dir);
int chat_parse(struct chat *c, const char *text, size_t bytes, const char *name);
void chat_close(struct chat *c);

/* The prompt of messages [n >= 1], ending where the assistant's answer begins. `system` (NULL: the
 * template's own) is for conversations that do not begin with a system message. malloc'ed, and a 0
 * that *bytes does not count. */
char *chat_render(const struct chat *c, const char *system, const struct chat_message *messages,
                  size_t n, size_t *bytes);
