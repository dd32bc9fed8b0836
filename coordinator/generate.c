#include "coordinator/generate.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"

int check_tokens(const struct coordinator *c, const int32_t *tokens, int n, int n_predict)
{
    if (n < 1)
        return fail(STATUS_USAGE, "the prompt is empty: expected at least one token");
    if (n > c->context || n_predict > c->context - n)
        return fail(STATUS_USAGE,
                    "expected a prompt and new tokens of at most %d positions, found %d and %d; "
                    "-c sets the context, -n the new tokens",
                    c->context, n, n_predict);
    for (int i = 0; i < n; i++)
        if (tokens[i] < 0 || tokens[i] >= c->config.vocab_size)
            return fail(STATUS_USAGE, "expected token ids from 0 to %d, found %d",
                        c->config.vocab_size - 1, tokens[i]);
    return 0;
}

int prefill(struct coordinator *c, const int32_t *tokens, int n, int first,
            int (*on_chunk)(void *context, struct coordinator *c, int first, int n), void *context)
{
    int status = 0;
    int32_t *seq = calloc((size_t)c->chunk, sizeof *seq);
    int32_t *pos = calloc((size_t)c->chunk, sizeof *pos);
    CHECK(seq && pos, "no memory for a chunk of %d rows", c->chunk);
    CHECK(kv_cache_extend(&c->kv, 0, first + n), "no KV block left for %d positions", first + n);
    for (int done = 0; done < n && !status; done += c->chunk) {
        int rows = n - done < c->chunk ? n - done : c->chunk;
        for (int i = 0; i < rows; i++)
            pos[i] = first + done + i;
        struct batch b = {rows, tokens + done, seq, pos};
        status = forward(c, &b);
        if (!status && on_chunk)
            status = on_chunk(context, c, done, rows);
    }
    free(seq);
    free(pos);
    return status;
}

static bool is_eos(const struct config *m, int32_t token)
{
    for (int i = 0; i < m->n_eos; i++)
        if (m->eos[i] == token)
            return true;
    return false;
}

/* Pick from the last row of the last step, hand it on; true when the text ends here. */
static bool next_token(struct coordinator *c, struct sampler *s, const struct generate_options *o,
                       int last_row, int32_t *token, struct generate_result *r)
{
    int32_t row = last_row;
    *token = sampler_pick(s, forward_logits(c, &row, 1));
    if (!o->ignore_eos && is_eos(&c->config, *token)) {
        r->finish = FINISH_STOP;
        return true;
    }
    r->n_new++;
    bool stop = o->on_token && o->on_token(o->context, *token);
    r->finish = stop ? FINISH_STOP : FINISH_LENGTH;
    return stop || r->n_new == o->n_predict;
}

static int decode(struct coordinator *c, const struct generate_options *o, struct sampler *s, int n,
                  struct generate_result *r)
{
    int64_t start = clock_ns();
    int32_t token;
    int last_row = (n - 1) % c->chunk, status = 0; // of the prompt's last chunk
    bool ended = next_token(c, s, o, last_row, &token, r);
    r->ttft_s += seconds_since(start);
    start = clock_ns();
    for (int at = n; !ended && !status; at++) {
        status = prefill(c, &token, 1, at, NULL, NULL);
        if (!status)
            ended = next_token(c, s, o, 0, &token, r);
    }
    r->decode_s = seconds_since(start);
    return status;
}

int generate(struct coordinator *c, const struct generate_options *o, const int32_t *tokens, int n,
             struct generate_result *r)
{
    int64_t start = clock_ns();
    *r = (struct generate_result){.n_prompt = n, .finish = FINISH_LENGTH};
    int status = check_tokens(c, tokens, n, o->n_predict);
    if (status)
        return status;
    struct sampler sampler;
    sampler_open(&sampler, &o->sampler, c->config.vocab_size);
    for (int i = 0; i < n; i++)
        sampler_see(&sampler, tokens[i]);
    status = prefill(c, tokens, n, 0, NULL, NULL);
    r->ttft_s = seconds_since(start);
    if (!status && o->n_predict > 0)
        status = decode(c, o, &sampler, n, r);
    kv_cache_release(&c->kv, 0);
    sampler_close(&sampler);
    return status;
}
