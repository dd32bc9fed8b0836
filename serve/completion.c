#include "serve/completion.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"

enum {
    MAX_TOP_K = 1 << 24,
    MAX_NEW = 1 << 24,
    MAX_STOP_IDS = 64,
    MAX_BIASES = 1024,
    DEFAULT_NEW = 128
};

const char *const completion_fields[] = {"prompt",
                                         "messages",
                                         "tools",
                                         "chat_template_kwargs",
                                         "max_tokens",
                                         "max_completion_tokens",
                                         "temperature",
                                         "top_p",
                                         "top_k",
                                         "min_p",
                                         "typical_p",
                                         "repetition_penalty",
                                         "frequency_penalty",
                                         "presence_penalty",
                                         "logit_bias",
                                         "seed",
                                         "stop",
                                         "stop_token_ids",
                                         "ignore_eos",
                                         NULL};

static int read_stop(struct completion *c, const struct js *v)
{
    struct stop_strings *s = &c->stops;
    size_t bytes;
    const char *text = js_string(v, &bytes);
    if (!text || !bytes)
        return param_refuse("stop", "a text, or a list of texts", v);
    s->at[s->n] = text;
    s->bytes[s->n++] = bytes;
    return 0;
}

static int read_stops(struct completion *c, const struct js *fields)
{
    const struct js *v = param_of(fields, "stop");
    if (!v || js_is_string(v))
        return v ? read_stop(c, v) : 0;
    if (!js_is_array(v))
        return param_refuse("stop", "a text, or a list of texts", v);
    if (js_count(v) > MAX_STOPS)
        return fail(STATUS_BAD_FILE, "stop: expected at most %d texts, found %zu", MAX_STOPS,
                    js_count(v));
    int status = 0;
    for (size_t i = 0; i < js_count(v) && !status; i++)
        status = read_stop(c, js_item(v, i));
    return status;
}

static int read_ends(struct completion *c, const struct js *fields, int vocab)
{
    const struct js *ids = param_of(fields, "stop_token_ids");
    int status = param_bool(fields, "ignore_eos", &c->request.ignore_eos);
    if (!status)
        status = read_stops(c, fields);
    if (!status && ids)
        status =
            param_ids("stop_token_ids", ids, MAX_STOP_IDS, vocab, &c->stop_ids, &c->n_stop_ids);
    return status;
}

static int read_reals(struct sampler_options *s, const struct js *fields)
{
    const struct {
        const char *key;
        double least, most, *out;
    } keys[] = {
        {"temperature", 0, 100, &s->temperature},
        {"top_p", 0, 1, &s->top_p},
        {"min_p", 0, 1, &s->min_p},
        {"typical_p", 1e-6, 1, &s->typical_p},
        {"repetition_penalty", 0.01, 100, &s->repetition_penalty},
        {"frequency_penalty", -2, 2, &s->frequency_penalty},
        {"presence_penalty", -2, 2, &s->presence_penalty},
    };
    int status = 0;
    for (size_t i = 0; i < sizeof keys / sizeof *keys && !status; i++)
        status = param_real(fields, keys[i].key, keys[i].least, keys[i].most, keys[i].out);
    return status;
}

static int read_sampling(struct sampler_options *s, const struct js *fields)
{
    int64_t top_k = s->top_k, seed = 0;
    int status = read_reals(s, fields);
    if (!status)
        status = param_int(fields, "top_k", -1, MAX_TOP_K, &top_k);
    if (!status)
        status = param_int(fields, "seed", INT64_MIN, INT64_MAX, &seed);
    s->top_k = top_k > 0 ? (int)top_k : 0;
    s->seed = (uint64_t)seed;
    return status;
}

/* One bias of {"token id": bias}. */
static int read_bias(struct candidate *bias, const struct js_entry *e, int vocab)
{
    char *end;
    long token = strtol(e->key, &end, 10);
    double v = js_number(e->value);
    bool plain = *e->key >= '0' && *e->key <= '9' && (*e->key != '0' || !e->key[1]);
    if (!plain || *end || token >= vocab) // with 05 a token would have two biases
        return fail(STATUS_BAD_FILE, "logit_bias: expected token ids from 0 to %d, found \"%.40s\"",
                    vocab - 1, e->key);
    if (!js_is_number(e->value) || !(v >= -100 && v <= 100))
        return param_refuse("logit_bias", "a number from -100 to 100", e->value);
    *bias = (struct candidate){(float)v, (int32_t)token};
    return 0;
}

static int read_biases(struct completion *c, const struct js *fields, int vocab)
{
    const struct js *v = param_of(fields, "logit_bias");
    struct sampler_options *s = &c->request.sampler;
    size_t n = js_count(v);
    int status = 0;
    if (!v)
        return 0;
    if (js_is_object(v) && n > MAX_BIASES)
        return fail(STATUS_BAD_FILE, "logit_bias: expected at most %d token ids, found %zu",
                    MAX_BIASES, n);
    if (!js_is_object(v))
        return param_refuse("logit_bias", "an object of token ids and their biases", v);
    c->biases = calloc(n + 1, sizeof *c->biases);
    CHECK_MEMORY(c->biases, "no memory for %zu biases", n);
    for (struct js_entry e = js_first(v); e.key && !status; e = js_next(v, e))
        status = read_bias(&c->biases[s->n_biases++], &e, vocab);
    s->biases = c->biases;
    return status;
}

static int read_length(struct completion *c, const struct completion_terms *terms,
                       const struct js *fields)
{
    int64_t most = -1;
    int left = request_room(terms->c, c->request.n), wish = terms->n_predict;
    bool newer = param_of(fields, "max_completion_tokens");
    if (newer && param_of(fields, "max_tokens"))
        return fail(STATUS_BAD_FILE, "expected max_tokens or max_completion_tokens, found both");
    int status =
        param_int(fields, newer ? "max_completion_tokens" : "max_tokens", 0, MAX_NEW, &most);
    if (left < 0) // then request_check() refuses the prompt
        left = 0;
    if (wish == NEW_BY_CHECKPOINT)
        wish = generation_length(&terms->c->defaults, c->request.n, DEFAULT_NEW);
    if (wish >= 0 && wish < left)
        left = wish;
    c->request.n_predict = most >= 0 ? (int)most : left;
    return status;
}

/* What request_check() would refuse, by the names that fields have. */
static int check_length(const struct completion *c, const struct completion_terms *terms,
                        const struct js *fields)
{
    const char *prompt = param_of(fields, "messages") ? "messages" : "prompt";
    int n = c->request.n, room = request_room(terms->c, n);
    if (n < 1)
        return fail(STATUS_BAD_FILE, "%s: the prompt is empty: expected at least one token",
                    prompt);
    char limit[64];
    int context = terms->c->context;
    snprintf(limit, sizeof limit,
             room + n < context ? "the KV cache has %d positions" : "the context has %d positions",
             room + n);
    if (room < 0)
        return fail(STATUS_BAD_FILE, "%s: expected at most %d tokens, found %d: %s", prompt,
                    room + n, n, limit);
    if (c->request.n_predict <= room)
        return 0;
    return fail(STATUS_BAD_FILE,
                "%s: expected at most %d new tokens after %d of the prompt, found %d: %s",
                param_of(fields, "max_tokens") ? "max_tokens" : "max_completion_tokens", room, n,
                c->request.n_predict, limit);
}

int completion_read(struct completion *c, const struct completion_terms *terms,
                    const struct js *fields, const struct js *prompt)
{
    size_t n = 0;
    *c = (struct completion){.request = {.sampler = sampler_defaults(&terms->c->defaults)},
                             .out = {.tokenizer = terms->tokenizer, .stops = &c->stops}};
    int status = read_sampling(&c->request.sampler, fields);
    if (!status)
        status = read_biases(c, fields, terms->c->config.vocab_size);
    if (!status)
        status = read_ends(c, fields, terms->c->config.vocab_size);
    if (!status)
        status = prompt ? completion_tokens(terms, prompt, &c->prompt, &n)
                        : completion_prompt(terms, fields, &c->prompt, &n);
    c->request.tokens = c->prompt;
    c->request.n = (int)n;
    // an answer to messages is a message of its own, as transformers' decode() of the new tokens
    bool is_answer = !prompt && param_of(fields, "messages");
    c->out.begins = is_answer || (!status && text_out_begins(terms->tokenizer, c->prompt, n));
    if (!status)
        status = read_length(c, terms, fields);
    if (!status)
        status = check_length(c, terms, fields);
    return status ? status : request_check(terms->c, c->prompt, c->request.n, c->request.n_predict);
}

bool completion_push(struct completion *c, int32_t token)
{
    for (size_t i = 0; i < c->n_stop_ids; i++)
        if (c->stop_ids[i] == token)
            return c->stopped = true;
    if (c->n_new == c->room) {
        c->room = c->room * 2 + 64;
        c->new_ids = realloc(c->new_ids, (size_t)c->room * sizeof *c->new_ids);
        CHECK_MEMORY(c->new_ids, "no memory for %d ids", c->room);
    }
    c->new_ids[c->n_new++] = token;
    return text_out_push(&c->out, token);
}

const char *completion_end(struct completion *c, const struct request_result *r, int *n_new)
{
    text_out_end(&c->out);
    *n_new = r->n_new - c->stopped;
    return r->finish == FINISH_STOP || c->out.stopped || c->stopped ? "stop" : "length";
}

void completion_close(struct completion *c)
{
    free(c->prompt);
    free(c->stop_ids);
    free(c->biases);
    free(c->new_ids);
    text_out_free(&c->out);
}
