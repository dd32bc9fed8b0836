/* Continuous batching: sequences that share steps. Each step takes the next row of every sequence
 * that decodes, then as many rows of prompts as the step still holds, oldest sequence first. A
 * sequence that ends gives its slot and KV blocks back at once.
 *
 * A request is admitted only with all the KV blocks that it can ever need, so no sequence waits for
 * another's memory once it runs, and none is ever thrown out. A sequence has a sampler of its own,
 * and a row's result does not depend on its neighbours: a request gives the same tokens alone and
 * in any company. */
#pragma once

#include "coordinator/forward.h"
#include "coordinator/sampler.h"

enum finish { FINISH_STOP, FINISH_LENGTH, FINISH_FAILED };

struct request_result {
    int n_prompt, n_new; // n_new: without the eos that ended the text
    int n_reused;        // tokens of the prompt that were in the KV cache
    enum finish finish;
    const char *error; // with FINISH_FAILED: what was expected and found; valid during on_end
    double ttft_s;     // from admission to the first token
    double decode_s;   // from the first token to the last
};

struct request {
    const int32_t *tokens; // [n] the prompt; the caller's, until on_end
    int n;
    int n_predict; // at most so many new tokens
    bool ignore_eos;
    struct sampler_options sampler;
    /* Called with each new token as it is picked (never with an eos that ends the text); true:
     * stop here. May be NULL. */
    bool (*on_token)(void *context, int32_t token);
    /* NULL, or called for i = 1 .. n - 1, in order, once *scored holds the log probabilities at
     * token i of the prompt, with scored->picked of that token. No beginning is then taken from the
     * KV cache, as the logits of every row are needed. */
    void (*on_scored)(void *context, int i);
    struct token_logprobs *scored; // with on_scored; the caller's
    /* NULL, or called once, when the slot is free again. If it returns another value than 0, the
     * whole run ends with that code. */
    int (*on_end)(void *context, const struct request_result *r);
    void *context;
};

struct scheduler {
    struct coordinator *c;
    struct sequence *sequences; // [max_sequences], by slot
    int *running;               // [n_running] slots, oldest first
    int n_running, max_sequences;
    int32_t *tokens, *seq, *pos; // [chunk] the step's rows
    int32_t *wanted, *owner;     // [max_sequences] rows whose logits are wanted, and their slots
    int n_rows, n_wanted;
    int *failed; // [n_failed] slots of which no next token could be picked in this step
    int n_failed;
    char error[320];                // request_result.error points here
    uint64_t steps, sequence_steps; // sequence_steps: the sum of n_running over steps
};

void scheduler_open(struct scheduler *s, struct coordinator *c);
/* From now on beginnings of prompts are kept (kv_cache_keep), until kv_cache_forget(). Nothing is
 * kept for a model with dynamic scaling, whose keys depend on the prompt's length (rope_tables.h).
 */
void scheduler_keep(struct scheduler *s);
void scheduler_close(struct scheduler *s); // does not call on_end for sequences that still run

/* Can a request ever be admitted? 0, or STATUS_USAGE unless the prompt, tokens [n], has a token,
 * all are below vocab_size, and prompt and new tokens fit in the context and in the KV cache. */
int request_check(const struct coordinator *c, const int32_t *tokens, int n, int n_predict);

/* How many new tokens a prompt of n leaves room for, in the context and in the KV cache; negative
 * if the prompt itself has no room. */
int request_room(const struct coordinator *c, int n);

/* Admit a request that request_check() has accepted; *r is copied. False: no slot, or not enough KV
 * blocks, are free now. */
bool scheduler_admit(struct scheduler *s, const struct request *r);

/* Between two steps: end the request with this context, if it runs, and free its slot and blocks.
 * on_end is not called. */
void scheduler_cancel(struct scheduler *s, const void *context);

/* Run one step; does nothing when n_running is 0. 0, or an error or on_end's code; then the run is
 * over. */
int scheduler_step(struct scheduler *s);
