/* The prompt of a request: a text, token ids, or the messages of a chat. */
#include <stdlib.h>

#include "base/log.h"
#include "serve/completion.h"
#include "serve/messages.h"

/* The names that the request gives the template, and those of the command line that it does not. */
static struct js *read_kwargs(const struct completion_terms *terms, const struct js *given)
{
    struct js *kwargs = given ? js_copy(given) : js_new_object();
    if (terms->no_thinking && !js_member(kwargs, "enable_thinking"))
        js_set(kwargs, "enable_thinking", js_new_bool(false));
    return kwargs;
}

static int render(const struct completion_terms *terms, const struct js *fields, char **text,
                  size_t *bytes)
{
    const struct js *given = param_of(fields, "chat_template_kwargs");
    const struct js *tools = param_of(fields, "tools");
    struct js *messages = NULL;
    if (!terms->chat)
        return fail(STATUS_BAD_FILE, "%s", terms->no_chat);
    int status = messages_read(&messages, terms->chat, param_of(fields, "messages"));
    if (!status && tools)
        status = tools_check(tools);
    if (!status && given && !js_is_object(given))
        status = param_refuse("chat_template_kwargs", "an object", given);
    if (!status) {
        struct js *kwargs = read_kwargs(terms, given);
        const struct chat_request q = {messages, js_count(tools) ? tools : NULL, kwargs,
                                       terms->system};
        *text = chat_render(terms->chat, &q, bytes);
        status = *text ? 0 : STATUS_BAD_FILE;
        js_free(kwargs);
    }
    js_free(messages);
    return status;
}

int completion_tokens(const struct completion_terms *terms, const struct js *prompt, int32_t **ids,
                      size_t *n)
{
    size_t bytes;
    const char *text = js_string(prompt, &bytes);
    if (js_is_array(prompt))
        return param_ids("prompt", prompt, INT32_MAX / 2, terms->c->config.vocab_size, ids, n);
    return text ? tokenizer_encode_prompt(terms->tokenizer, text, bytes, ids, n)
                : param_refuse("prompt", "a string, or a list of token ids", prompt);
}

/* Fields for chat templates have nothing to do with other prompts. */
static int check_no_chat(const struct js *fields, const char *name)
{
    const struct js *v = param_of(fields, name);
    return v && (!js_is_array(v) || js_count(v))
               ? fail(STATUS_BAD_FILE, "%s: expected messages with it, found prompt", name)
               : 0;
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
        return check_no_chat(fields, "tools") || check_no_chat(fields, "chat_template_kwargs")
                   ? STATUS_BAD_FILE
                   : completion_tokens(terms, prompt, ids, n);
    int status = render(terms, fields, &text, &bytes);
    if (!status)
        status = tokenizer_encode(terms->tokenizer, text, bytes, ids, n);
    free(text);
    return status;
}
