/* Tokens that may not come next: what transformers' logits processors set to minus infinity
 * (no_repeat_ngram_size, bad_words_ids, min_length, min_new_tokens, suppress_tokens,
 * begin_suppress_tokens). They are left out of a row's candidates before the sampler sees them. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "model/generation.h"

/* What a sequence has said so far, the prompt first, and the tokens that would end it. */
struct history {
    const int32_t *tokens; // [n]
    int n, n_prompt;
    const int32_t *eos; // [n_eos]
    int n_eos;          // 0: no token ends it
};

/* Does b ban anything? b may be NULL. */
bool bans_any(const struct token_bans *b);
/* Set the bits of the tokens that may not come next in banned [seen_words(vocab)], which must be
 * zero; all tokens of b and h are below vocab. Returns how many bits it has set. */
int bans_mark(const struct token_bans *b, const struct history *h, uint32_t *banned);
/* Remove the banned ones of the n candidates; the others stay in order. Returns how many are left.
 */
int bans_drop(const uint32_t *banned, struct candidate *best, int n);
