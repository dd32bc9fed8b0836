/* How a checkpoint wants its text to be generated: generation_config.json, by the rules of
 * transformers 5. Every key is honoured, has no effect, or is refused by name (known_keys.h). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct config;
struct config_source;

enum { MAX_BANNED = 256 };

/* Tokens that may not come next. Ids are below the vocabulary's size. */
struct token_bans {
    int min_new_tokens, min_length; // no eos before so many tokens: new ones, or with the prompt
    int no_repeat_ngram;            // n: no n tokens in a row twice; 0: off
    int n_suppressed, n_at_begin, n_bad_words;
    int32_t suppressed[MAX_BANNED]; // [n_suppressed] never
    int32_t at_begin[MAX_BANNED];   // [n_at_begin] not as the first new token
    /* [n_bad_words] sequences one after the other, each its length and its tokens: the last may not
     * follow the others */
    int32_t bad_words[MAX_BANNED];
};

struct generation_defaults {
    bool do_sample;
    double temperature, top_p, min_p, typical_p, repetition_penalty;
    int top_k;                      // 0: off
    int max_new_tokens, max_length; // 0: not said; max_length has the prompt in it
    struct token_bans bans;
};

/* Transformers' defaults. */
struct generation_defaults generation_unsaid(void);

/* Read generation_config.json, or config.json where there is no such file: what is said replaces
 * what *g has, and eos_token_id replaces c->eos. 0 or STATUS_BAD_FILE. */
int generation_read(const struct config_source *s, struct config *c, struct generation_defaults *g);

/* How many new tokens follow a prompt of n tokens if the user does not say: max_new_tokens, or if
 * there is none `otherwise`, cut to max_length; at least one. */
int generation_length(const struct generation_defaults *g, int n, int otherwise);

/* c->eos := eos_token_id of a file, unless it is null or absent. Ids beyond the vocabulary are left
 * out, since no text can come to them. 0 or STATUS_BAD_FILE. */
int generation_read_eos(const struct config_source *s, struct config *c);
