/* The prompt of a request: a text, token ids, or the messages of a chat. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "serve/completion.h"

static const char *const message_names[] = {"role", "content", NULL};
static const char *const part_names[] = {"type", "text", NULL};

/* What an answer of OpenAI's API has beside these when it is sent back as a part of a conversation.
 */
static const struct neutral_param answer_fields[] = {
    {"refusal", EMPTY, NULL},       {"annotations", EMPTY, NULL}, {"audio", EMPTY, NULL},
    {"function_call", EMPTY, NULL}, {"tool_calls", EMPTY, NULL},  {NULL, ANYTHING, NULL}};
static const struct known_params message_fields = {message_names, answer_fields, "a chat"};
static const struct known_params part_fields = {part_names, NULL, ""};

/* The text of a message's content: a string, or a list of parts {"type": "text", "text": ...},
 * whose texts follow each other. *joined := what the caller frees, or NULL. */
static int read_content(struct chat_message *m, const struct js *content, const char *where,
                        char **joined)
{
    m->content = js_string(content, &m->content_bytes);
    if (m->content)
        return 0;
    if (!js_is_array(content))
        return fail(STATUS_BAD_FILE, "%sexpected content that is a string or text parts, found %s",
                    where, js_kind(content));
    FILE *stream = open_memstream(joined, &m->content_bytes);
    CHECK_MEMORY(stream, "no memory for a message");
    int status = 0;
    for (size_t i = 0; i < js_count(content) && !status; i++) {
        const struct js *part = js_item(content, i);
        const char *type = js_string(js_member(part, "type"), NULL);
        size_t bytes;
        const char *text = js_string(js_member(part, "text"), &bytes);
        if (!type || strcmp(type, "text") != 0 || !text)
            status = fail(STATUS_BAD_FILE,
                          "%spart %zu of content: expected {\"type\": \"text\", "
                          "\"text\": a string}, found %s%.40s",
                          where, i + 1, type ? "type " : "no type", type ? type : "");
        else
            status = params_check(part, &part_fields, where);
        fwrite(text ? text : "", 1, text ? bytes : 0, stream);
    }
    CHECK_MEMORY(fclose(stream) == 0, "no memory for a message");
    m->content = *joined;
    return status;
}

static int read_message(struct chat_message *m, const struct js *v, size_t number, char **joined)
{
    char where[48];
    snprintf(where, sizeof where, "messages: %zu: ", number);
    if (!js_is_object(v))
        return fail(STATUS_BAD_FILE, "%sexpected an object, found %s", where, js_kind(v));
    int status = params_check(v, &message_fields, where);
    m->role = js_string(js_member(v, "role"), &m->role_bytes);
    if (!status && (!m->role || !m->role_bytes))
        status = fail(STATUS_BAD_FILE, "%sexpected a role, found %s", where,
                      m->role ? "an empty string" : js_kind(js_member(v, "role")));
    return status ? status : read_content(m, js_member(v, "content"), where, joined);
}

static int render(const struct completion_terms *terms, const struct js *v, char **text,
                  size_t *bytes)
{
    size_t n = js_count(v);
    if (!js_is_array(v) || n == 0)
        return param_refuse("messages", "a list of at least one message", v);
    if (!terms->chat)
        return fail(STATUS_BAD_FILE, "%s", terms->no_chat);
    struct chat_message *messages = calloc(n, sizeof *messages);
    char **joined = calloc(n, sizeof *joined);
    CHECK_MEMORY(messages && joined, "no memory for %zu messages", n);
    int status = 0;
    for (size_t i = 0; i < n && !status; i++)
        status = read_message(&messages[i], js_item(v, i), i + 1, &joined[i]);
    if (!status) {
        *text = chat_render(terms->chat, terms->system, messages, n, bytes);
        status = *text ? 0 : STATUS_BAD_FILE;
    }
    for (size_t i = 0; i < n; i++)
        free(joined[i]);
    free(joined);
    free(messages);
    return status;
}

static int encode(const struct completion_terms *terms, const char *text, size_t bytes,
                  int32_t **ids, size_t *n)
{
    return tokenizer_encode(terms->tokenizer, text, bytes, ids, n);
}

int completion_tokens(const struct completion_terms *terms, const struct js *prompt, int32_t **ids,
                      size_t *n)
{
    size_t bytes;
    const char *text = js_string(prompt, &bytes);
    if (js_is_array(prompt))
        return param_ids("prompt", prompt, INT32_MAX / 2, ids, n);
    return text ? encode(terms, text, bytes, ids, n)
                : param_refuse("prompt", "a string, or a list of token ids", prompt);
}

int completion_prompt(const struct completion_terms *terms, const struct js *fields, int32_t **ids,
                      size_t *n)
{
    const struct js *prompt = param_of(fields, "prompt"), *messages = param_of(fields, "messages");
    char *text = NULL;
    size_t bytes;
    if (!prompt == !messages)
        return fail(STATUS_BAD_FILE, "expected prompt or messages, found %s",
                    prompt ? "both" : "neither");
    if (prompt)
        return completion_tokens(terms, prompt, ids, n);
    int status = render(terms, messages, &text, &bytes);
    if (!status)
        status = encode(terms, text, bytes, ids, n);
    free(text);
    return status;
}
