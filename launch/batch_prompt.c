/* The prompt of a request: a text, token ids, or the messages of a chat. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "launch/batch_fields.h"

static const char *const message_fields[] = {"role", "content", NULL};
static const char *const part_fields[] = {"type", "text", NULL};

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
            status = batch_check_fields(part, part_fields, false, where);
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
    int status = batch_check_fields(v, message_fields, false, where);
    m->role = js_string(js_member(v, "role"), &m->role_bytes);
    if (!status && (!m->role || !m->role_bytes))
        status = fail(STATUS_BAD_FILE, "%sexpected a role, found %s", where,
                      m->role ? "an empty string" : js_kind(js_member(v, "role")));
    return status ? status : read_content(m, js_member(v, "content"), where, joined);
}

static int render(const struct job_terms *terms, const struct js *v, char **text, size_t *bytes)
{
    size_t n = js_count(v);
    if (!js_is_array(v) || n == 0)
        return batch_refuse("messages", "a list of at least one message", v);
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

static int read_text(struct job *j, const struct job_terms *terms, const struct js *prompt,
                     const struct js *messages, size_t *n)
{
    size_t bytes;
    char *rendered = NULL;
    const char *text = js_string(prompt, &bytes);
    int status = 0;
    if (messages) {
        status = render(terms, messages, &rendered, &bytes);
        text = rendered;
    } else if (!text) {
        status = batch_refuse("prompt", "a string, or a list of token ids", prompt);
    }
    if (!status)
        status = tokenizer_encode(terms->tokenizer, text, bytes, &j->prompt, n);
    free(rendered);
    return status;
}

int batch_read_prompt(struct job *j, const struct job_terms *terms)
{
    const struct js *prompt = batch_field(j->fields, "prompt");
    const struct js *messages = batch_field(j->fields, "messages");
    size_t n = 0;
    if (!prompt == !messages)
        return fail(STATUS_BAD_FILE, "expected prompt or messages, found %s",
                    prompt ? "both" : "neither");
    int status = js_is_array(prompt)
                     ? batch_read_ids("prompt", prompt, INT32_MAX / 2, &j->prompt, &n)
                     : read_text(j, terms, prompt, messages, &n);
    j->request.tokens = j->prompt;
    j->request.n = (int)n;
    return status;
}
