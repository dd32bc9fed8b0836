#include "model/generation.h"

#include <string.h>

#include "base/log.h"
#include "model/config.h"
#include "model/config_source.h"
#include "model/found.h"
#include "model/known_keys.h"

enum { MOST_TOKENS = 1 << 30, MOST_TOP_K = 1 << 24, MOST_NGRAM = 1 << 20 };

struct generation_defaults generation_unsaid(void)
{
    return (struct generation_defaults){
        .temperature = 1, .top_p = 1, .typical_p = 1, .repetition_penalty = 1, .top_k = 50};
}

static int add_eos(const struct config_source *s, struct config *c, const struct js *id)
{
    if (!js_is_int(id))
        return source_expected(s, "eos_token_id", "whole numbers", id);
    if (js_int(id) < 0 || js_int(id) >= c->vocab_size) {
        note("%s: eos_token_id: no token has the id %s, so no text ends by it", s->file,
             found(id).text);
        return 0;
    }
    for (int i = 0; i < c->n_eos; i++)
        if (c->eos[i] == js_int(id))
            return 0;
    if (c->n_eos == MAX_EOS)
        return fail(STATUS_BAD_FILE, "%s: eos_token_id: expected at most %d ids, found more",
                    s->file, MAX_EOS);
    c->eos[c->n_eos++] = (int32_t)js_int(id);
    return 0;
}

int generation_read_eos(const struct config_source *s, struct config *c)
{
    const struct js *v = source_value(s, "eos_token_id");
    if (!v)
        return 0;
    if (!js_is_array(v) && !js_is_int(v))
        return source_expected(s, "eos_token_id", "an id, a list of ids or null", v);
    c->n_eos = 0;
    int status = js_is_int(v) ? add_eos(s, c, v) : 0;
    for (size_t i = 0; i < js_count(v) && !status; i++)
        status = add_eos(s, c, js_item(v, i));
    return status;
}

/* As source_int, but null is absent: transformers writes it for what was never set. */
static int read_int(const struct config_source *s, const char *key, int most, int *out)
{
    return source_value(s, key) ? source_int(s, key, 0, most, out) : 0;
}

static int too_many(const struct config_source *s, const char *key)
{
    return fail(STATUS_BAD_FILE, "%s: %s: expected at most %d ids, found more", s->file, key,
                MAX_BANNED);
}

/* A list of ids. Those beyond the vocabulary are left out: they cannot come anyway. */
static int read_ids(const struct config_source *s, const char *key, int vocab, int32_t *ids, int *n)
{
    const struct js *v = source_value(s, key);
    if (v && !js_is_array(v))
        return source_expected(s, key, "a list of ids", v);
    *n = v ? 0 : *n;
    for (size_t i = 0; i < js_count(v); i++) {
        const struct js *id = js_item(v, i);
        if (!js_is_int(id))
            return source_expected(s, key, "ids", id);
        if (js_int(id) < 0 || js_int(id) >= vocab)
            continue;
        if (*n == MAX_BANNED)
            return too_many(s, key);
        ids[(*n)++] = (int32_t)js_int(id);
    }
    return 0;
}

static int add_bad_word(const struct config_source *s, const struct js *word, int vocab,
                        struct token_bans *b)
{
    const char *key = "bad_words_ids";
    size_t n = js_count(word);
    if (!js_is_array(word) || n == 0)
        return source_expected(s, key, "lists of at least one id", word);
    if (n + 1 > (size_t)(MAX_BANNED - b->n_bad_words))
        return too_many(s, key);
    b->bad_words[b->n_bad_words++] = (int32_t)n;
    for (size_t i = 0; i < n; i++) {
        int status = source_check_int(s, key, js_item(word, i), 0, vocab - 1);
        if (status)
            return status;
        b->bad_words[b->n_bad_words++] = (int32_t)js_int(js_item(word, i));
    }
    return 0;
}

static int read_bad_words(const struct config_source *s, int vocab, struct token_bans *b)
{
    const struct js *v = source_value(s, "bad_words_ids");
    int status = 0;
    if (v && !js_is_array(v))
        return source_expected(s, "bad_words_ids", "a list of lists of ids", v);
    b->n_bad_words = v ? 0 : b->n_bad_words;
    for (size_t i = 0; i < js_count(v) && !status; i++)
        status = add_bad_word(s, js_item(v, i), vocab, b);
    return status;
}

static int read_bans(const struct config_source *s, int vocab, struct token_bans *b)
{
    int status = read_ids(s, "suppress_tokens", vocab, b->suppressed, &b->n_suppressed);
    if (!status)
        status = read_ids(s, "begin_suppress_tokens", vocab, b->at_begin, &b->n_at_begin);
    return status ? status : read_bad_words(s, vocab, b);
}

static int read_ints(const struct config_source *s, struct generation_defaults *g)
{
    const struct {
        const char *key;
        int most, *out;
    } keys[] = {
        {"top_k", MOST_TOP_K, &g->top_k},
        {"max_new_tokens", MOST_TOKENS, &g->max_new_tokens},
        {"max_length", MOST_TOKENS, &g->max_length},
        {"min_new_tokens", MOST_TOKENS, &g->bans.min_new_tokens},
        {"min_length", MOST_TOKENS, &g->bans.min_length},
        {"no_repeat_ngram_size", MOST_NGRAM, &g->bans.no_repeat_ngram},
    };
    int status = 0;
    for (size_t i = 0; i < sizeof keys / sizeof *keys && !status; i++)
        status = read_int(s, keys[i].key, keys[i].most, keys[i].out);
    return status;
}

static int read_numbers(const struct config_source *s, struct generation_defaults *g)
{
    const struct {
        const char *key;
        double least, most, *out;
    } keys[] = {
        {"temperature", 0, 1000, &g->temperature},
        {"top_p", 0, 1, &g->top_p},
        {"min_p", 0, 1, &g->min_p},
        {"typical_p", 1e-6, 1, &g->typical_p},
        {"repetition_penalty", 0.01, 100, &g->repetition_penalty},
    };
    int status = 0;
    for (size_t i = 0; i < sizeof keys / sizeof *keys && !status; i++)
        status = source_real(s, keys[i].key, source_value(s, keys[i].key), keys[i].least,
                             keys[i].most, keys[i].out);
    return status;
}

static int check_cache(const struct config_source *s)
{
    const struct js *v = source_value(s, "cache_implementation");
    if (!v || (js_is_string(v) && !source_is_text(v, "quantized")))
        return 0;
    return source_expected(s, "cache_implementation", "a cache that keeps its values as they are",
                           v);
}

int generation_read(const struct config_source *s, struct config *c, struct generation_defaults *g)
{
    const struct js *sample = source_value(s, "do_sample");
    if (sample && !js_is_bool(sample))
        return source_expected(s, "do_sample", "true or false", sample);
    g->do_sample = sample ? js_bool(sample) : g->do_sample;
    int status = known_keys_check(s, KEYS_OF_GENERATION);
    if (!status)
        status = check_cache(s);
    if (!status)
        status = read_ints(s, g);
    if (!status)
        status = read_numbers(s, g);
    if (!status)
        status = read_bans(s, c->vocab_size, &g->bans);
    return status ? status : generation_read_eos(s, c);
}

int generation_length(const struct generation_defaults *g, int n, int otherwise)
{
    int left = g->max_length > n ? g->max_length - n : 1;
    if (g->max_new_tokens)
        return g->max_new_tokens;
    return g->max_length && left < otherwise ? left : otherwise;
}
