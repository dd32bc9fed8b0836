#include "launch/prompt.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "launch/launch.h"
#include "model/hub.h"
#include "model/synth_made.h"

enum { MAX_PROMPT_BYTES = 256 << 20 };

bool prompt_needs_tokenizer(const struct prompt_options *o)
{
    return !o->tokens;
}

static char *read_stdin(size_t *bytes)
{
    size_t room = 1 << 16, n = 0;
    char *text = malloc(room + 1);
    for (size_t got; text && (got = fread(text + n, 1, room - n, stdin)) > 0;) {
        n += got;
        if (n == room)
            text = realloc(text, (room *= 2) + 1);
    }
    CHECK_MEMORY(text, "no memory for stdin");
    if (ferror(stdin)) {
        fail(STATUS_BAD_FILE, "-: cannot be read: %s", strerror(errno));
        free(text);
        return NULL;
    }
    text[n] = 0;
    *bytes = n;
    return text;
}

/* Drop each CR before an LF, and one LF at the end. */
static void tidy(char *text, size_t *bytes)
{
    size_t n = 0;
    for (size_t i = 0; i < *bytes; i++)
        if (text[i] != '\r' || i + 1 == *bytes || text[i + 1] != '\n')
            text[n++] = text[i];
    n -= n > 0 && text[n - 1] == '\n';
    text[n] = 0;
    *bytes = n;
}

static char *read_text(const struct prompt_options *o, size_t *bytes)
{
    char *text = NULL;
    if (o->file && strcmp(o->file, "-") != 0)
        text = file_read(o->file, MAX_PROMPT_BYTES, bytes);
    else if (o->file || strcmp(o->text, "-") == 0)
        text = read_stdin(bytes);
    else {
        *bytes = strlen(o->text);
        return strdup(o->text);
    }
    if (text && !o->raw)
        tidy(text, bytes);
    return text;
}

int prompt_tokenizer(struct tokenizer **t, const char *model)
{
    char *dir;
    if (synth_is_made(model))
        return fail(STATUS_USAGE,
                    "%s: expected a model with a tokenizer, found one made of shapes, which has "
                    "none: run takes --tokens 1,2,3 with --ids, logits and perplexity --tokens",
                    model);
    int status = hub_resolve(&dir, model);
    if (status)
        return status;
    status = tokenizer_open_model(t, dir);
    free(dir);
    return status;
}

int prompt_template(struct chat *c, const char *model)
{
    char *dir;
    int status = hub_resolve(&dir, model);
    if (status)
        return status;
    status = chat_open(c, dir);
    free(dir);
    return status;
}

int prompt_check_thinking(const struct chat *c, bool no_thinking)
{
    if (!no_thinking || (c && chat_reads(c, "enable_thinking")))
        return 0;
    return fail(STATUS_USAGE,
                "--no-thinking: expected a model whose chat template reads "
                "enable_thinking, found one %s",
                c ? "whose template does not" : "without a template");
}

int prompt_check_system(const struct chat *c, const char *system)
{
    return c || !system
               ? 0
               : fail(STATUS_USAGE,
                      "--system: expected a model with a chat template, found one without");
}

/* The prompt that a template makes of a user's message; NULL after fail(). */
static char *render(const struct chat *c, const struct prompt_options *o, const char *text,
                    size_t *bytes)
{
    struct js *messages = js_new_array(), *message = js_new_object(), *kwargs = js_new_object();
    js_set(message, "role", js_new_text("user"));
    js_set(message, "content", js_new_string(text, *bytes));
    js_push(messages, message);
    if (o->no_thinking)
        js_set(kwargs, "enable_thinking", js_new_bool(false));
    const struct chat_request q = {messages, NULL, kwargs, o->system};
    char *rendered = chat_render(c, &q, bytes);
    js_free(messages);
    js_free(kwargs);
    return rendered;
}

/* Replace *text, a user's message, by the prompt that the chat template makes of it. */
static int apply_template(char **text, size_t *bytes, const struct prompt_options *o,
                          const char *model)
{
    struct chat chat;
    int status = prompt_template(&chat, model);
    if (status)
        return status;
    status = prompt_check_thinking(&chat, o->no_thinking);
    char *rendered = status ? NULL : render(&chat, o, *text, bytes);
    if (rendered) {
        free(*text);
        *text = rendered;
    } else if (!status) {
        status = STATUS_BAD_FILE;
    }
    chat_close(&chat);
    return status;
}

static int check_options(const struct prompt_options *o)
{
    int given = (o->text != NULL) + (o->file != NULL) + (o->tokens != NULL);
    if (given != 1)
        return fail(STATUS_USAGE, "expected one of -p, -f and --tokens, found %d of them", given);
    if (o->chat && o->tokens)
        return fail(STATUS_USAGE, "expected --chat with -p or -f, found it with --tokens");
    if (o->raw && !o->file && (!o->text || strcmp(o->text, "-") != 0))
        return fail(STATUS_USAGE, "expected --raw with -f or -p -, found another prompt");
    if (o->system && !o->chat)
        return fail(STATUS_USAGE, "expected --system with --chat, found it alone");
    if (o->no_thinking && !o->chat)
        return fail(STATUS_USAGE, "expected --no-thinking with --chat, found it alone");
    return 0;
}

int prompt_read(struct prompt *p, const struct prompt_options *o, const struct tokenizer *t,
                const char *model)
{
    int status = check_options(o);
    if (status)
        return status;
    if (o->tokens)
        return parse_ids(o->tokens, &p->ids, &p->n);
    size_t bytes, count = 0;
    char *text = read_text(o, &bytes);
    if (!text)
        return STATUS_BAD_FILE;
    if (o->chat)
        status = apply_template(&text, &bytes, o, model);
    if (!status)
        status = o->chat ? tokenizer_encode(t, text, bytes, &p->ids, &count)
                         : tokenizer_encode_prompt(t, text, bytes, &p->ids, &count);
    p->n = (int)count;
    p->bytes = bytes;
    free(text);
    if (!status && count == 0) {
        free(p->ids);
        p->ids = NULL;
        return fail(STATUS_USAGE, "the prompt is empty: expected at least one token");
    }
    return status;
}
