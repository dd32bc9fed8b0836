/* From a request's body to a call. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "serve/reply.h"

enum { MAX_FIELDS = 64, TEXT_TOKENS = 16, MAX_TEXT_LOGPROBS = 5 };

static const char *const chat_names[] = {
    "model", "stream", "stream_options", "n", "logprobs", "top_logprobs", NULL};
static const char *const text_names[] = {"model",    "stream", "stream_options", "n",
                                         "logprobs", "echo",   "best_of",        NULL};
static const char *const stream_names[] = {"include_usage", "include_obfuscation", NULL};
static const struct known_params stream_fields = {stream_names, NULL, ""};

/* OpenAI's fields for what is not done here. */
static const struct neutral_param others[] = {{"user", ANYTHING, NULL},
                                              {"metadata", ANYTHING, NULL},
                                              {"safety_identifier", ANYTHING, NULL},
                                              {"prompt_cache_key", ANYTHING, NULL},
                                              {"parallel_tool_calls", ANYTHING, NULL},
                                              {"store", FALSE, NULL},
                                              {"tools", EMPTY, NULL},
                                              {"functions", EMPTY, NULL},
                                              {"tool_choice", WORD, "none"},
                                              {"function_call", WORD, "none"},
                                              {"service_tier", WORD, "auto"},
                                              {"suffix", WORD, ""},
                                              {"response_format", TYPE, "text"},
                                              {"modalities", LIST, "text"},
                                              {NULL, ANYTHING, NULL}};

/* Is this field one of a chat, or of a text? Most are of both. */
static bool is_of(const char *name, bool chat)
{
    static const char *const of_chats[] = {"messages", "tools", "chat_template_kwargs", NULL};
    if (strcmp(name, "prompt") == 0)
        return !chat;
    for (int i = 0; of_chats[i]; i++)
        if (strcmp(name, of_chats[i]) == 0)
            return chat;
    return true;
}

static int check_fields(struct call *c)
{
    const char *names[MAX_FIELDS] = {0};
    int n = 0;
    for (int i = 0; completion_fields[i]; i++)
        if (is_of(completion_fields[i], c->chat))
            names[n++] = completion_fields[i];
    for (const char *const *own = c->chat ? chat_names : text_names; *own; own++)
        names[n++] = *own;
    return params_check(c->body, &(struct known_params){names, others, "serve"}, "");
}

static int read_stream(struct call *c)
{
    const struct js *options = param_of(c->body, "stream_options");
    bool obfuscation = false;
    int status = param_bool(c->body, "stream", &c->stream);
    if (status || !options)
        return status;
    if (!js_is_object(options))
        return param_refuse("stream_options", "an object", options);
    if (!c->stream)
        return fail(STATUS_BAD_FILE, "stream_options: expected stream true with it, found false");
    status = params_check(options, &stream_fields, "stream_options: ");
    if (!status)
        status = param_bool(options, "include_usage", &c->include_usage);
    if (!status)
        status = param_bool(options, "include_obfuscation", &obfuscation);
    return status || !obfuscation
               ? status
               : fail(STATUS_BAD_FILE, "include_obfuscation: expected false, found true");
}

static int read_echo(struct call *c)
{
    return c->chat ? 0 : param_bool(c->body, "echo", &c->echo);
}

/* A chat has logprobs true and top_logprobs up to 20, a text logprobs up to 5. */
static int read_logprobs(struct call *c)
{
    int64_t top = -1;
    bool wanted = false;
    int status;
    if (!c->chat) {
        status = param_int(c->body, "logprobs", 0, MAX_TEXT_LOGPROBS, &top);
        c->top_logprobs = (int)top;
        return status;
    }
    status = param_bool(c->body, "logprobs", &wanted);
    if (!status)
        status = param_int(c->body, "top_logprobs", 0, MAX_LOGPROBS, &top);
    if (!status && top >= 0 && !wanted)
        status = fail(STATUS_BAD_FILE, "top_logprobs: expected logprobs true with it, found %s",
                      param_of(c->body, "logprobs") ? "false" : "none");
    c->top_logprobs = !wanted ? -1 : top > 0 ? (int)top : 0;
    return status;
}

static int read_counts(struct call *c)
{
    int64_t n = 1, best = 1;
    int status = param_int(c->body, "n", 1, MAX_CHOICES, &n);
    best = n;
    if (!status && !c->chat)
        status = param_int(c->body, "best_of", n, MAX_CHOICES, &best);
    c->n = (int)n;
    c->best_of = (int)best;
    return status || best == n || !c->stream
               ? status
               : fail(STATUS_BAD_FILE,
                      "best_of: expected n, %" PRId64 ", with stream true, as the best are known "
                      "only at the end, found %" PRId64,
                      n, best);
}

/* Does the prompt hold several? */
static bool is_list_of_prompts(const struct js *prompt)
{
    const struct js *first = js_item(prompt, 0);
    return js_is_string(first) || js_is_array(first);
}

static uint64_t fresh_seed(void)
{
    uint64_t seed = 0;
    CHECK(getrandom(&seed, sizeof seed, 0) == sizeof seed, "no random bytes");
    return seed >> 1;
}

static int read_choice(struct call *c, const struct completion_terms *terms, int i,
                       const struct js *prompt, uint64_t seed)
{
    struct choice *choice = &c->choices[i];
    struct request *r = &choice->completion.request;
    int most = c->top_logprobs > 0 ? c->top_logprobs : 0;
    *choice = (struct choice){.call = c, .index = i, .logprobs = {.most = most}};
    c->n_choices = i + 1;
    int status = completion_read(&choice->completion, terms, c->body, prompt);
    bool given = param_of(c->body, "seed");
    r->sampler.seed = (given ? r->sampler.seed : seed) + (uint64_t)(i % c->best_of);
    if (c->top_logprobs >= 0 || c->best_of > c->n)
        r->sampler.logprobs = &choice->logprobs;
    r->on_token = call_token;
    r->context = choice;
    if (c->echo && c->top_logprobs >= 0 && !status) {
        r->scored = &choice->logprobs;
        r->on_scored = reply_mark_prompt;
        reply_mark_prompt(choice, 0);
    }
    if (c->echo && !status)
        choice->cut = text_out_follow(&choice->completion.out, r->tokens, (size_t)r->n);
    if (i % c->best_of == 0)
        c->prompt_tokens += r->n;
    return status;
}

static int read_choices(struct call *c)
{
    struct completion_terms terms = c->terms->completion;
    const struct js *prompt = param_of(c->body, "prompt");
    bool several = is_list_of_prompts(prompt);
    size_t n_prompts = several ? js_count(prompt) : 1;
    uint64_t seed = fresh_seed();
    int status = 0;
    if (n_prompts * (size_t)c->best_of > MAX_CHOICES)
        return fail(STATUS_BAD_FILE,
                    "prompt: expected at most %d texts in all, found %zu times %s %d", MAX_CHOICES,
                    n_prompts, c->best_of > c->n ? "best_of" : "n", c->best_of);
    if (!c->terms->n_predict_given)
        terms.n_predict = c->chat ? -1 : TEXT_TOKENS;
    int n = (int)n_prompts * c->best_of;
    c->choices = calloc((size_t)n, sizeof *c->choices);
    CHECK_MEMORY(c->choices, "no memory for %d texts", n);
    for (int i = 0; i < n && !status; i++)
        status = read_choice(c, &terms, i,
                             several ? js_item(prompt, (size_t)(i / c->best_of)) : NULL, seed);
    c->n_left = c->n_choices;
    return status;
}

/* The HTTP status of what is wrong; 0: nothing is. */
static int check_model(const struct call *c)
{
    const struct js *v = param_of(c->body, "model");
    const char *name = js_string(v, NULL);
    if (!v || (name && strcmp(name, c->terms->model) == 0))
        return 0;
    if (!name)
        return param_refuse("model", "a text", v), 400;
    return fail(STATUS_BAD_FILE, "model: expected %s, found \"%.80s\"", c->terms->model, name), 404;
}

static int read_body(struct call *c)
{
    static int (*const steps[])(struct call *) = {check_fields,  read_stream, read_echo,
                                                  read_logprobs, read_counts, read_choices};
    int status = 0;
    if (!js_is_object(c->body))
        return fail(STATUS_BAD_FILE, "expected an object, found %s", js_kind(c->body));
    for (size_t i = 0; i < sizeof steps / sizeof *steps && !status; i++)
        status = steps[i](c);
    return status;
}

static void name_call(struct call *c)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    c->created_s = now.tv_sec;
    c->arrived_ns = clock_ns();
    snprintf(c->id, sizeof c->id, "%s-%016" PRIx64, c->chat ? "chatcmpl" : "cmpl", fresh_seed());
}

struct call *call_read(const char *body, size_t bytes, bool chat, const struct call_terms *terms,
                       struct refusal *why)
{
    struct call *c = calloc(1, sizeof *c);
    CHECK_MEMORY(c, "no memory for a request");
    *c = (struct call){.terms = terms, .chat = chat, .http = 200, .fd = -1, .users = 1};
    pthread_mutex_init(&c->mutex, NULL);
    name_call(c);
    error_capture(true);
    c->body = js_parse(body, bytes, "the body");
    why->http = !c->body || read_body(c) ? 400 : check_model(c);
    snprintf(why->text, sizeof why->text, "%s", error_text());
    error_capture(false);
    if (!why->http)
        return c;
    call_release(c);
    return NULL;
}
