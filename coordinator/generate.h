/* One sequence from prompt to end: prefill in chunks, then a token a step. */
#pragma once

#include "coordinator/forward.h"
#include "coordinator/sampler.h"

struct generate_options {
    int n_predict; // at most so many new tokens
    bool ignore_eos;
    struct sampler_options sampler;
    /* Called with each new token as it is picked (never with an eos that ends the text); true:
     * stop here. May be NULL. */
    bool (*on_token)(void *context, int32_t token);
    void *context;
};

enum finish { FINISH_STOP, FINISH_LENGTH };

struct generate_result {
    int n_prompt, n_new;
    enum finish finish;
    double ttft_s;   // from the call to the first token
    double decode_s; // from the first token to the last
};

/* tokens [n] are all below vocab_size, n >= 1 and n + n_predict <= coordinator.context, or
 * STATUS_USAGE says so. Uses sequence slot 0. */
int generate(struct coordinator *c, const struct generate_options *o, const int32_t *tokens, int n,
             struct generate_result *result);

/* Feed tokens [n] of slot 0 at positions first …, in chunks; each chunk is handed to on_chunk
 * (unless NULL) while its rows are in c->state. */
int prefill(struct coordinator *c, const int32_t *tokens, int n, int first,
            int (*on_chunk)(void *context, struct coordinator *c, int first, int n), void *context);

int check_tokens(const struct coordinator *c, const int32_t *tokens, int n, int n_predict);
