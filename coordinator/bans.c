#include "coordinator/bans.h"

#include <string.h>

bool bans_any(const struct token_bans *b)
{
    return b && (b->min_new_tokens || b->min_length || b->no_repeat_ngram || b->n_suppressed ||
                 b->n_at_begin || b->n_bad_words);
}

static bool has_bit(const uint32_t *bits, int32_t token)
{
    return bits[token / 32] >> token % 32 & 1;
}

/* Ban a token. Returns how many tokens that adds: 1, or 0 if it was banned already. */
static int ban(uint32_t *banned, int32_t token)
{
    int is_new = !has_bit(banned, token);
    banned[token / 32] |= 1u << token % 32;
    return is_new;
}

static int ban_list(uint32_t *banned, const int32_t *tokens, int n)
{
    int count = 0;
    for (int i = 0; i < n; i++)
        count += ban(banned, tokens[i]);
    return count;
}

/* Ban each token that would complete an n-gram of `size` tokens that the history already has: where
 * the newest size - 1 tokens stood before, the token that followed them. */
static int ban_repeated(uint32_t *banned, const struct history *h, int size)
{
    int count = 0, before = size - 1;
    if (h->n < size)
        return 0;
    const int32_t *newest = h->tokens + h->n - before;
    for (int i = 0; i + before < h->n; i++)
        if (memcmp(h->tokens + i, newest, (size_t)before * sizeof *newest) == 0)
            count += ban(banned, h->tokens[i + before]);
    return count;
}

static bool ends_it(const struct history *h, int32_t token)
{
    for (int i = 0; i < h->n_eos; i++)
        if (h->eos[i] == token)
            return true;
    return false;
}

/* Ban the last token of each bad sequence whose other tokens are the newest ones. The token of a
 * sequence of one is always banned, unless it ends the text. */
static int ban_words(uint32_t *banned, const struct history *h, const int32_t *words, int n_words)
{
    int count = 0;
    for (int at = 0; at < n_words; at += 1 + words[at]) {
        const int32_t *word = words + at + 1;
        int before = words[at] - 1;
        if (before > h->n || (before == 0 && ends_it(h, word[0])))
            continue;
        const int32_t *newest = h->tokens + h->n - before;
        if (memcmp(word, newest, (size_t)before * sizeof *word) == 0)
            count += ban(banned, word[before]);
    }
    return count;
}

int bans_mark(const struct token_bans *b, const struct history *h, uint32_t *banned)
{
    int n_new = h->n - h->n_prompt, count = 0;
    if (b->no_repeat_ngram)
        count += ban_repeated(banned, h, b->no_repeat_ngram);
    count += ban_words(banned, h, b->bad_words, b->n_bad_words);
    if (n_new < b->min_new_tokens || h->n < b->min_length)
        count += ban_list(banned, h->eos, h->n_eos);
    count += ban_list(banned, b->suppressed, b->n_suppressed);
    if (n_new == 0)
        count += ban_list(banned, b->at_begin, b->n_at_begin);
    return count;
}

int bans_drop(const uint32_t *banned, struct candidate *best, int n)
{
    int kept = 0;
    for (int i = 0; i < n; i++)
        if (!has_bit(banned, best[i].token))
            best[kept++] = best[i];
    return kept;
}
