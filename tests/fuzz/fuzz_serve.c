/* The body of a request to the server: any bytes, after one that says which path. A call that is
 * accepted can run, and its answer is what it should be: one object, or events that each hold one;
 * one that is refused says why. The bytes are also tried as Host, Origin and Authorization. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "serve/guard.h"
#include "serve/reply.h"
#include "tests/fuzz/fuzz_requests.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct call_terms terms;

static void check_request(const struct request *r)
{
    const struct sampler_options *s = &r->sampler;
    check_runnable(r);
    CHECK(s->frequency_penalty >= -2 && s->presence_penalty <= 2, "penalties");
    for (int i = 0; i < s->n_biases; i++)
        CHECK(s->biases[i].token >= 0 &&
                  s->biases[i].token < terms.completion.c->config.vocab_size &&
                  s->biases[i].logit >= -100 && s->biases[i].logit <= 100,
              "a bias");
}

/* Say the prompt again, as a model might, to the end of the choice. */
static void run_choice(struct choice *x)
{
    const struct request *r = &x->completion.request;
    struct request_result result = {.n_prompt = r->n, .finish = FINISH_LENGTH};
    bool ends = false;
    check_request(r);
    for (int i = 1; i < r->n && r->on_scored; i++) {
        r->scored->picked = -1;
        r->on_scored(r->context, i);
    }
    while (result.n_new < r->n_predict && !ends) {
        x->logprobs.picked = -1;
        x->logprobs.n_best = x->logprobs.most > 0 ? 1 : 0;
        x->logprobs.best[0] = (struct candidate){-1, r->tokens[0]};
        ends = r->on_token(r->context, r->tokens[result.n_new++ % r->n]);
    }
    result.finish = ends ? FINISH_STOP : FINISH_LENGTH;
    call_end(x, &result);
}

static void check_json(const char *text, size_t bytes, const struct call *c)
{
    struct js *v = js_parse(text, bytes, "answer");
    CHECK(v, "%s", error_text());
    CHECK(js_string(js_member(v, "id"), NULL), "no id");
    CHECK(c->best_of >= c->n && (c->best_of == c->n || !c->stream), "best_of");
    CHECK(c->stream ||
              js_count(js_member(v, "choices")) == (size_t)(c->n_choices / c->best_of * c->n),
          "choices");
    js_free(v);
}

/* Each event is "data: ", one line of JSON and an empty line; the last says [DONE]. */
static void check_events(const char *text, size_t bytes, const struct call *c)
{
    static const char data[] = "data: ", last[] = "[DONE]";
    bool done = false;
    while (bytes) {
        const char *end = memmem(text, bytes, "\n\n", 2);
        CHECK(end && !done && memcmp(text, data, sizeof data - 1) == 0, "no event");
        const char *json = text + sizeof data - 1;
        done = (size_t)(end - json) == sizeof last - 1 && memcmp(json, last, sizeof last - 1) == 0;
        if (!done)
            check_json(json, (size_t)(end - json), c);
        bytes -= (size_t)(end + 2 - text);
        text = end + 2;
    }
    CHECK(done, "no end");
}

static void check_call(const char *body, size_t bytes, bool chat)
{
    struct refusal why;
    struct call *c = call_read(body, bytes, chat, &terms, &why);
    bool done;
    if (!c) {
        CHECK(why.http >= 400 && why.http < 500 && *why.text, "refused without a word");
        js_free(reply_error(why.http, why.text));
        return;
    }
    error_capture(true);
    for (int i = 0; i < c->n_choices; i++)
        run_choice(&c->choices[i]);
    CHECK(c->done && c->n_left == 0, "it has not ended");
    size_t n = c->out_bytes;
    char *out = malloc(n + 1);
    CHECK(call_take(c, out, n, &done) == n && done && n, "no answer");
    if (c->stream)
        check_events(out, n, c);
    else
        check_json(out, n, c);
    free(out);
    call_release(c);
}

static void check_guard(const char *text)
{
    char word[] = "key", *keys[] = {word};
    struct guard g = {.keys = keys, .n_keys = 1, .names = {"a.b"}, .n_names = 1};
    bool other;
    CHECK(guard_key(&g, text) == (strncasecmp(text, "Bearer ", 7) == 0 && !strcmp(text + 7, word)),
          "a key");
    guard_host(&g, text);
    CHECK(!guard_origin(&g, text, "a.b", &other) || strcasestr(text, "a.b"), "an origin");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!terms.model)
        terms = (struct call_terms){.completion = request_terms(), .model = "fuzz"};
    if (size < 1)
        return 0;
    char *text = malloc(size);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = 0;
    check_guard(text);
    free(text);
    check_call((const char *)data + 1, size - 1, data[0] & 1);
    return 0;
}
