#include "coordinator/scheduler.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/pulse.h"
#include "coordinator/score.h"
#include "coordinator/unembed.h"

struct sequence {
    struct request request;
    struct request_result result;
    struct sampler sampler;
    int32_t *said; // [request.n + n_predict] the prompt and the new tokens
    int32_t token; // the newest, not yet in the cache; of a failed slot PICK_...
    int at;        // how many positions are in the cache, or in the step being gathered
    int64_t start_ns, first_ns;
};

static void *array(int n, size_t bytes)
{
    void *a = calloc((size_t)n, bytes);
    CHECK_MEMORY(a, "no memory for %d entries of %zu bytes", n, bytes);
    return a;
}

void scheduler_open(struct scheduler *s, struct coordinator *c)
{
    int n = c->kv.max_sequences;
    *s = (struct scheduler){.c = c, .max_sequences = n};
    s->sequences = array(n, sizeof *s->sequences);
    s->running = array(n, sizeof *s->running);
    s->wanted = array(n, sizeof *s->wanted);
    s->owner = array(n, sizeof *s->owner);
    s->failed = array(n, sizeof *s->failed);
    s->tokens = array(c->chunk, sizeof *s->tokens);
    s->seq = array(c->chunk, sizeof *s->seq);
    s->pos = array(c->chunk, sizeof *s->pos);
}

/* Free the slot and its blocks. */
static void release(struct scheduler *s, int slot)
{
    int i = 0;
    while (s->running[i] != slot)
        i++;
    s->n_running--;
    struct sequence *q = &s->sequences[slot];
    if (q->result.finish != FINISH_FAILED)
        kv_cache_written(&s->c->kv, slot, q->said, q->at);
    for (; i < s->n_running; i++)
        s->running[i] = s->running[i + 1];
    kv_cache_release(&s->c->kv, slot);
    free(q->said);
    q->said = NULL;
}

void scheduler_keep(struct scheduler *s)
{
    if (s->c->rope.table.stride == 0)
        kv_cache_keep(&s->c->kv);
}

void scheduler_close(struct scheduler *s)
{
    while (s->n_running)
        release(s, s->running[0]);
    free(s->sequences);
    free(s->running);
    free(s->wanted);
    free(s->owner);
    free(s->failed);
    free(s->tokens);
    free(s->seq);
    free(s->pos);
}

int request_check(const struct coordinator *c, const int32_t *tokens, int n, int n_predict)
{
    if (n < 1)
        return fail(STATUS_USAGE, "the prompt is empty: expected at least one token");
    if (n > c->context || n_predict > c->context - n)
        return fail(STATUS_USAGE,
                    "expected a prompt and new tokens of at most %d positions, found %d and %d; "
                    "-c sets the context, -n the new tokens",
                    c->context, n, n_predict);
    if (n + n_predict > kv_cache_positions(&c->kv))
        return fail(STATUS_USAGE,
                    "expected a prompt and new tokens of at most %d positions in the KV cache, "
                    "found %d and %d; --kv-memory sets it",
                    kv_cache_positions(&c->kv), n, n_predict);
    for (int i = 0; i < n; i++)
        if (tokens[i] < 0 || tokens[i] >= c->config.vocab_size)
            return fail(STATUS_USAGE, "expected token ids from 0 to %d, found %d",
                        c->config.vocab_size - 1, tokens[i]);
    return 0;
}

int request_room(const struct coordinator *c, int n)
{
    int room = kv_cache_positions(&c->kv);
    return (room < c->context ? room : c->context) - n;
}

static int free_slot(const struct scheduler *s)
{
    for (int slot = 0; slot < s->max_sequences; slot++)
        if (s->c->kv.taken[slot] == 0) // a running sequence has at least one block
            return slot;
    return -1;
}

bool scheduler_admit(struct scheduler *s, const struct request *r)
{
    int slot = free_slot(s), reused, reusable = r->on_scored ? 1 : r->n;
    if (slot < 0 ||
        !kv_cache_begin(&s->c->kv, slot, r->tokens, reusable, r->n + r->n_predict, &reused))
        return false;
    struct sequence *q = &s->sequences[slot];
    *q = (struct sequence){.request = *r, .at = reused, .start_ns = clock_ns()};
    q->result =
        (struct request_result){.n_prompt = r->n, .n_reused = reused, .finish = FINISH_LENGTH};
    q->said = array(r->n + r->n_predict, sizeof *q->said);
    memcpy(q->said, r->tokens, (size_t)r->n * sizeof *q->said);
    q->sampler.options = r->sampler;
    q->sampler.history = (struct history){.tokens = q->said,
                                          .n = r->n,
                                          .n_prompt = r->n,
                                          .eos = s->c->config.eos,
                                          .n_eos = r->ignore_eos ? 0 : s->c->config.n_eos};
    rope_tables_begin(&s->c->rope, &s->c->dev, &s->c->config, slot, r->n);
    picker_begin(&s->c->picker, &s->c->dev, slot, r->tokens, reused);
    s->running[s->n_running++] = slot;
    return true;
}

void scheduler_cancel(struct scheduler *s, const void *context)
{
    for (int i = 0; i < s->n_running; i++)
        if (s->sequences[s->running[i]].request.context == context) {
            release(s, s->running[i]);
            return;
        }
}

static bool is_decoding(const struct sequence *q)
{
    return q->at >= q->request.n;
}

/* Add n rows of a sequence to the step. pick: the token after the last one is to be picked, so that
 * row's logits are wanted. */
static void add_rows_of(struct scheduler *s, int slot, const int32_t *tokens, int n, bool pick)
{
    struct sequence *q = &s->sequences[slot];
    for (int i = 0; i < n; i++, s->n_rows++) {
        s->tokens[s->n_rows] = tokens[i];
        s->seq[s->n_rows] = slot;
        s->pos[s->n_rows] = q->at++;
    }
    if (pick) {
        s->wanted[s->n_wanted] = s->n_rows - 1;
        s->owner[s->n_wanted++] = slot;
    }
}

/* Rows of decoding sequences come first: they are few, and somebody waits for each. */
static void gather_step(struct scheduler *s)
{
    int room = s->c->chunk;
    s->n_rows = s->n_wanted = 0;
    for (int i = 0; i < s->n_running && s->n_rows < room; i++) {
        struct sequence *q = &s->sequences[s->running[i]];
        if (is_decoding(q))
            add_rows_of(s, s->running[i], &q->token, 1, true);
    }
    pulse_decoding(s->n_rows);
    for (int i = 0; i < s->n_running && s->n_rows < room; i++) {
        struct sequence *q = &s->sequences[s->running[i]];
        int left = q->request.n - q->at, n = left < room - s->n_rows ? left : room - s->n_rows;
        if (left > 0)
            add_rows_of(s, s->running[i], q->request.tokens + q->at, n, n == left);
    }
    s->steps++;
    s->sequence_steps += (uint64_t)s->n_running;
}

static bool is_eos(const struct config *m, int32_t token)
{
    for (int i = 0; i < m->n_eos; i++)
        if (m->eos[i] == token)
            return true;
    return false;
}

/* Append a sequence's next token and call on_token. True: the text ends here. */
static bool take_token(struct scheduler *s, struct sequence *q, int32_t token)
{
    const struct request *r = &q->request;
    if (r->n_predict == 0)
        return true;
    q->token = token;
    if (!q->first_ns)
        q->first_ns = clock_ns();
    if (!r->ignore_eos && is_eos(&s->c->config, q->token)) {
        q->result.finish = FINISH_STOP;
        return true;
    }
    q->said[q->sampler.history.n++] = token;
    q->result.n_new++;
    bool stop = r->on_token && r->on_token(r->context, q->token);
    if (stop)
        q->result.finish = FINISH_STOP;
    return stop || q->result.n_new == r->n_predict;
}

static int end(struct scheduler *s, int slot)
{
    struct sequence *q = &s->sequences[slot];
    int64_t now = clock_ns(), first = q->first_ns ? q->first_ns : now;
    q->result.ttft_s = (double)(first - q->start_ns) * 1e-9;
    q->result.decode_s = (double)(now - first) * 1e-9;
    release(s, slot);
    return q->request.on_end ? q->request.on_end(q->request.context, &q->result) : 0;
}

/* c->picker.picked [n] := the tokens that follow rows wanted[done, done + n). If the output matrix
 * is on several ranks, only the best candidates travel, unless a sampler needs whole rows. */
static int pick(struct scheduler *s, int done, int n)
{
    struct coordinator *c = s->c;
    struct picker *p = &c->picker;
    for (int i = 0; i < n; i++) {
        p->seq[i] = s->owner[done + i];
        p->samplers[i] = &s->sequences[s->owner[done + i]].sampler;
    }
    int enough = picker_needs(p, n), most = unembed_is_shared(c) ? enough : 0;
    int status = most ? unembed_best(c, s->wanted + done, n, most, p->merged)
                      : unembed(c, s->wanted + done, n);
    trace_mark(c->trace, PHASE_SAMPLE);
    if (!status && most)
        picker_pick_from(p, p->merged, most, n);
    return status || most ? status
                          : picker_pick(p, &c->dev, c->state.logits, c->state.logits_host, n);
}

static bool has_failed(const struct scheduler *s, int slot)
{
    for (int i = 0; i < s->n_failed; i++)
        if (s->failed[i] == slot)
            return true;
    return false;
}

/* Note that no token could be picked for a slot, and why (PICK_...); of two reasons the first
 * counts. end_failed() explains it later, when it may overwrite the step's rows. */
static void note_failed(struct scheduler *s, int slot, int32_t why)
{
    if (has_failed(s, slot))
        return;
    s->sequences[slot].token = why;
    s->failed[s->n_failed++] = slot;
}

/* Compute log probabilities of prompt tokens from this step's rows, for requests with on_scored. */
static int score_prompts(struct scheduler *s)
{
    for (int row = 0; row < s->n_rows;) {
        struct sequence *q = &s->sequences[s->seq[row]];
        const struct request *r = &q->request;
        int first = s->pos[row], n = 1;
        while (row + n < s->n_rows && s->seq[row + n] == s->seq[row])
            n++;
        if (r->on_scored && first < r->n) {
            int status = score_rows(s->c, r, row, first, n);
            if (status == SCORE_BROKEN)
                note_failed(s, s->seq[row], PICK_BROKEN);
            else if (status)
                return status;
        }
        row += n;
    }
    return 0;
}

static int end_failed(struct scheduler *s, int slot)
{
    struct sequence *q = &s->sequences[slot];
    int status = 0;
    if (q->token == PICK_BROKEN)
        status = probe_explain(s->c, slot, q->said, q->at, s->error, sizeof s->error);
    else
        snprintf(s->error, sizeof s->error,
                 "expected a token that may come after position %d, found none: the checkpoint's "
                 "generation_config.json bans all",
                 q->at - 1);
    q->result.finish = FINISH_FAILED;
    q->result.error = s->error;
    return status ? status : end(s, slot);
}

/* Let other sequences reuse the blocks of prompts that this step has completed. */
static void offer_prompts(struct scheduler *s)
{
    for (int i = 0; i < s->n_wanted && s->c->kv.prefixes; i++) {
        const struct sequence *q = &s->sequences[s->owner[i]];
        if (q->at == q->request.n)
            kv_cache_written(&s->c->kv, s->owner[i], q->said, q->at);
    }
}

/* Pick and append the next tokens, c->logit_rows rows at a time, as unembed() takes no more. */
static int take_tokens(struct scheduler *s)
{
    struct coordinator *c = s->c;
    int status = score_prompts(s);
    for (int done = 0, n; done < s->n_wanted && !status; done += n) {
        int left = s->n_wanted - done;
        n = left < c->logit_rows ? left : c->logit_rows;
        status = pick(s, done, n);
        for (int i = 0; i < n && !status; i++) {
            int slot = s->owner[done + i];
            if (has_failed(s, slot))
                continue;
            if (c->picker.picked[i] < 0 && s->sequences[slot].request.n_predict > 0)
                note_failed(s, slot, c->picker.picked[i]);
            else if (take_token(s, &s->sequences[slot], c->picker.picked[i]))
                status = end(s, slot);
        }
    }
    for (int i = 0; i < s->n_failed && !status; i++)
        status = end_failed(s, s->failed[i]);
    s->n_failed = 0;
    trace_mark(c->trace, PHASE_OUTSIDE);
    return status;
}

int scheduler_step(struct scheduler *s)
{
    if (s->n_running == 0)
        return 0;
    gather_step(s);
    struct coordinator *c = s->c;
    int status = forward(c, &(struct batch){s->n_rows, s->tokens, s->seq, s->pos});
    if (status)
        return status;
    picker_see(&c->picker, &c->dev, c->state.inputs, c->state.inputs + s->n_rows, s->n_rows);
    offer_prompts(s);
    return take_tokens(s);
}
