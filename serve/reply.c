#include "serve/reply.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

char *reply_print(struct js *v, size_t *bytes)
{
    char *text = NULL;
    FILE *stream = open_memstream(&text, bytes);
    CHECK_MEMORY(stream && js_print(v, stream, 0) && fclose(stream) == 0,
                 "no memory for an answer");
    js_free(v);
    return text;
}

/* How many bytes of a message are the name of a field, as in "top_p: expected …"; 0: none. */
static size_t name_bytes(const char *text)
{
    size_t n = 0;
    while (islower((unsigned char)text[n]) || text[n] == '_')
        n++;
    return text[n] == ':' ? n : 0;
}

struct js *reply_error(int http, const char *text)
{
    struct js *error = js_new_object(), *v = js_new_object();
    size_t n = name_bytes(text);
    const char *type = http == 401   ? "authentication_error"
                       : http == 429 ? "rate_limit_error"
                       : http < 500  ? "invalid_request_error"
                                     : "server_error";
    js_set(error, "message", js_new_text(text));
    js_set(error, "type", js_new_text(type));
    js_set(error, "param", n ? js_new_string(text, n) : js_new_null());
    js_set(error, "code", js_new_null());
    js_set(v, "error", error);
    return v;
}

/* ---- log probabilities ---- */

/* JSON has no minus infinity. */
static struct js *log_probability(float v)
{
    return js_new_real(v > -9999 ? (double)v : -9999);
}

static struct js *token_text(const struct choice *choice, int32_t token)
{
    size_t bytes;
    const char *text =
        tokenizer_token_bytes(choice->call->terms->completion.tokenizer, token, &bytes);
    return js_new_string(bytes ? text : "", bytes);
}

/* An entry of a chat's: {"token", "logprob", "bytes"}. */
static struct js *content_entry(const struct choice *choice, int32_t token, float logprob)
{
    struct js *v = js_new_object(), *list = js_new_array();
    size_t bytes;
    const char *text =
        tokenizer_token_bytes(choice->call->terms->completion.tokenizer, token, &bytes);
    for (size_t i = 0; i < bytes; i++)
        js_push(list, js_new_int((unsigned char)text[i]));
    js_set(v, "token", token_text(choice, token));
    js_set(v, "logprob", log_probability(logprob));
    js_set(v, "bytes", list);
    return v;
}

static void mark_chat(struct choice *choice, int32_t token)
{
    const struct token_logprobs *l = &choice->logprobs;
    struct js *entry = content_entry(choice, token, l->picked), *top = js_new_array();
    for (int i = 0; i < l->n_best; i++)
        js_push(top, content_entry(choice, l->best[i].token, l->best[i].logit));
    js_set(entry, "top_logprobs", top);
    js_push(choice->marks.content, entry);
}

/* A token of a text's, which is also the name of its log probability: one that is no text by
 * itself, as a part of a character, is told by its bytes, as in bytes:\xf0\x9f, so that no two have
 * the same name. */
static struct js *text_entry(const struct choice *choice, int32_t token)
{
    size_t bytes, n = 0;
    const char *text =
        tokenizer_token_bytes(choice->call->terms->completion.tokenizer, token, &bytes);
    struct js *v = token_text(choice, token);
    const char *shown = js_string(v, &n);
    if (!bytes || (n == bytes && strlen(shown) == n && memcmp(shown, text, n) == 0))
        return v;
    js_free(v);
    char *name = malloc(sizeof "bytes:" + 4 * bytes), *at = name + strlen("bytes:");
    CHECK_MEMORY(name, "no memory for a token of %zu bytes", bytes);
    memcpy(name, "bytes:", sizeof "bytes:");
    for (size_t i = 0; i < bytes; i++, at += 4)
        snprintf(at, 5, "\\x%02x", (unsigned char)text[i]);
    v = js_new_text(name);
    free(name);
    return v;
}

static struct js *best_texts(const struct choice *choice)
{
    const struct token_logprobs *l = &choice->logprobs;
    struct js *best = js_new_object();
    for (int i = 0; i < l->n_best; i++) {
        struct js *name = text_entry(choice, l->best[i].token);
        js_set(best, js_string(name, NULL), log_probability(l->best[i].logit));
        js_free(name);
    }
    return best;
}

static void mark_text(struct choice *choice, int32_t token, bool is_known)
{
    struct marks *m = &choice->marks;
    js_push(m->tokens, text_entry(choice, token));
    js_push(m->values, is_known ? log_probability(choice->logprobs.picked) : js_new_null());
    js_push(m->best, is_known ? best_texts(choice) : js_new_null());
    js_push(m->starts, js_new_int((int64_t)choice->characters + (choice->told.held_bytes > 0)));
}

static void open_marks(struct marks *m, bool chat)
{
    if (chat)
        *m = (struct marks){.content = js_new_array()};
    else
        *m = (struct marks){NULL, js_new_array(), js_new_array(), js_new_array(), js_new_array()};
}

/* The text goes on behind a token; special tokens are part of it in the prompt alone. What is no
 * UTF-8 counts as the U+FFFD that the text has in its place. */
static void count_characters(struct choice *choice, int32_t token, bool of_prompt)
{
    const struct tokenizer *t = choice->call->terms->completion.tokenizer;
    size_t bytes;
    const char *text = tokenizer_token_bytes(t, token, &bytes);
    if (!of_prompt && tokenizer_is_special(t, token))
        return;
    text_stream_push(&choice->told, text, bytes);
    for (size_t i = 0; i < choice->told.bytes; i++) // bytes that continue a character begin with 10
        choice->characters += ((unsigned char)choice->told.text[i] & 0xc0) != 0x80;
}

/* is_known: there are log probabilities for it, as for every token but the first of a prompt. */
static void mark(struct choice *choice, int32_t token, bool of_prompt, bool is_known)
{
    struct marks *m = &choice->marks;
    if (!m->content && !m->tokens)
        open_marks(m, choice->call->chat);
    if (choice->call->chat)
        mark_chat(choice, token);
    else
        mark_text(choice, token, is_known);
    count_characters(choice, token, of_prompt);
}

void reply_mark(struct choice *choice, int32_t token)
{
    if (choice->call->top_logprobs >= 0)
        mark(choice, token, false, true);
}

void reply_mark_prompt(void *context, int i)
{
    struct choice *choice = context;
    mark(choice, choice->completion.request.tokens[i], true, i > 0);
}

void marks_close(struct marks *m)
{
    js_free(m->content);
    js_free(m->tokens);
    js_free(m->values);
    js_free(m->best);
    js_free(m->starts);
    *m = (struct marks){0};
}

/* The marks so far, as an answer has them; they are the answer's from now on. */
static struct js *take_marks(struct choice *choice)
{
    struct marks *m = &choice->marks;
    if (choice->call->top_logprobs < 0)
        return js_new_null();
    if (!m->content && !m->tokens)
        open_marks(m, choice->call->chat);
    struct js *v = js_new_object();
    if (choice->call->chat) {
        js_set(v, "content", m->content);
    } else {
        js_set(v, "tokens", m->tokens);
        js_set(v, "token_logprobs", m->values);
        js_set(v, "top_logprobs", m->best);
        js_set(v, "text_offset", m->starts);
    }
    *m = (struct marks){0};
    return v;
}

/* ---- answers ---- */

static struct js *head(const struct call *c, bool chunk)
{
    struct js *v = js_new_object();
    const char *object = !c->chat ? "text_completion"
                         : chunk  ? "chat.completion.chunk"
                                  : "chat.completion";
    js_set(v, "id", js_new_text(c->id));
    js_set(v, "object", js_new_text(object));
    js_set(v, "created", js_new_int(c->created_s));
    js_set(v, "model", js_new_text(c->terms->model));
    return v;
}

static struct js *usage_of(const struct call *c)
{
    struct js *v = js_new_object(), *details = js_new_object();
    int64_t reused = 0;
    for (int i = 0; i < c->n_choices; i += c->best_of)
        reused += c->choices[i].n_reused;
    js_set(details, "cached_tokens", js_new_int(reused));
    js_set(v, "prompt_tokens", js_new_int(c->prompt_tokens));
    js_set(v, "completion_tokens", js_new_int(c->new_tokens));
    js_set(v, "total_tokens", js_new_int(c->prompt_tokens + c->new_tokens));
    js_set(v, "prompt_tokens_details", details);
    return v;
}

/* The prompt's text and the new bytes from `from` on. A character that both have a part of is in
 * the new bytes, not a U+FFFD at the prompt's end. */
static struct js *text_of(const struct choice *choice, size_t from, bool with_prompt)
{
    const struct completion *c = &choice->completion;
    const char *fresh = c->out.bytes ? c->out.text + from : "";
    if (!with_prompt)
        return js_new_string(fresh, c->out.bytes - from);
    size_t before;
    char *prompt =
        tokenizer_decode(c->out.tokenizer, c->prompt, (size_t)c->request.n, false, &before);
    before -= choice->cut ? strlen("\xef\xbf\xbd") : 0;
    prompt = realloc(prompt, before + c->out.bytes - from + 1);
    CHECK_MEMORY(prompt, "no memory for a text");
    memcpy(prompt + before, fresh, c->out.bytes - from);
    struct js *v = js_new_string(prompt, before + c->out.bytes - from);
    free(prompt);
    return v;
}

static struct js *choice_of(struct choice *choice, struct js *text)
{
    struct js *v = js_new_object();
    js_set(v, "index", js_new_int(choice->index));
    if (!choice->call->chat)
        js_set(v, "text", text);
    js_set(v, "logprobs", take_marks(choice));
    js_set(v, "finish_reason", choice->finish ? js_new_text(choice->finish) : js_new_null());
    return v;
}

static struct js *whole_choice(struct choice *choice)
{
    const struct call *c = choice->call;
    struct js *text = text_of(choice, 0, c->echo), *made = choice_of(choice, text);
    if (c->chat) {
        struct js *message = js_new_object();
        js_set(message, "role", js_new_text("assistant"));
        js_set(message, "content", text);
        js_set(made, "message", message);
    }
    return made;
}

static double mean_logprob(const struct choice *choice)
{
    int n = choice->completion.n_new;
    return n ? choice->sum / n : -INFINITY;
}

/* The best of the choices that are not in the answer yet, among all best_of of a prompt. */
static struct choice *best_left(struct choice *choices, const struct call *c, const bool *taken)
{
    struct choice *best = NULL;
    for (int i = 0; i < c->best_of; i++)
        if (!taken[i] && (!best || mean_logprob(&choices[i]) > mean_logprob(best)))
            best = &choices[i];
    return best;
}

/* Push the n choices of one prompt, whose numbers in the answer begin with `first`. */
static void push_choices(struct js *list, struct choice *choices, const struct call *c, int first)
{
    bool taken[MAX_CHOICES] = {false};
    for (int i = 0; i < c->n; i++) {
        struct choice *x = c->best_of > c->n ? best_left(choices, c, taken) : &choices[i];
        taken[x - choices] = true;
        x->index = first + i;
        js_push(list, whole_choice(x));
    }
}

struct js *reply_whole(const struct call *c)
{
    struct js *v = head(c, false), *list = js_new_array();
    for (int i = 0; i < c->n_choices; i += c->best_of)
        push_choices(list, &c->choices[i], c, i / c->best_of * c->n);
    js_set(v, "choices", list);
    js_set(v, "usage", usage_of(c));
    return v;
}

struct js *reply_chunk(struct choice *choice)
{
    const struct call *c = choice->call;
    size_t from = choice->carried;
    struct js *v = head(c, true), *list = js_new_array();
    struct js *text = text_of(choice, from, c->echo && !choice->begun);
    struct js *made = choice_of(choice, text);
    if (c->chat) {
        struct js *delta = js_new_object();
        if (!choice->begun)
            js_set(delta, "role", js_new_text("assistant"));
        js_set(delta, "content", text);
        js_set(made, "delta", delta);
    }
    choice->begun = true;
    choice->carried = choice->completion.out.bytes;
    js_push(list, made);
    js_set(v, "choices", list);
    if (c->include_usage)
        js_set(v, "usage", js_new_null());
    return v;
}

struct js *reply_usage_chunk(const struct call *c)
{
    struct js *v = head(c, true);
    js_set(v, "choices", js_new_array());
    js_set(v, "usage", usage_of(c));
    return v;
}
