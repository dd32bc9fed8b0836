#include "coordinator/picker.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "coordinator/adjust.h"
#include "kernels/ops.h"

void picker_open(struct picker *p, struct dev *d, int vocab, int rows, int sequences)
{
    size_t words = (size_t)seen_words(vocab), n = (size_t)rows;
    size_t best = n * TOP_MOST * sizeof *p->best, penalties = n * sizeof *p->penalties;
    *p = (struct picker){
        .vocab = vocab,
        .seen = dev_alloc(d, (size_t)sequences * words * sizeof *p->seen),
        .nothing = dev_alloc_host(d, words * sizeof *p->nothing),
        .all = dev_alloc_host(d, 2 * (size_t)vocab * sizeof *p->all),
        .raw = dev_alloc_host(d, (size_t)vocab * sizeof *p->raw),
        .counts = dev_alloc_host(d, (size_t)vocab * sizeof *p->counts),
        .seq = dev_alloc_host(d, n * sizeof *p->seq),
        .samplers = dev_alloc_host(d, n * sizeof *p->samplers),
        .picked = dev_alloc_host(d, n * sizeof *p->picked),
        .needs = dev_alloc_host(d, n * sizeof *p->needs),
        .n_banned = dev_alloc_host(d, n * sizeof *p->n_banned),
        .banned = dev_alloc_host(d, n * words * sizeof *p->banned),
        .penalties_host = dev_alloc_host(d, penalties),
        .best_host = dev_alloc_host(d, best),
    };
    p->penalties = dev_alloc_copy(d, p->penalties_host, penalties);
    p->best = dev_alloc_copy(d, p->best_host, best);
    p->merged = dev_alloc_host(d, best);
}

void picker_begin(struct picker *p, struct dev *d, int seq, const int32_t *tokens, int n)
{
    size_t words = (size_t)seen_words(p->vocab), bytes = words * sizeof *p->seen;
    uint32_t *said = n ? calloc(words, sizeof *said) : p->nothing;
    CHECK_MEMORY(said, "no memory for %zu words", words);
    for (int i = 0; i < n; i++)
        said[tokens[i] / 32] |= 1u << tokens[i] % 32;
    dev_upload(d, p->seen + (size_t)seq * words, said, bytes);
    if (n)
        free(said); // memory that is not the device's has been copied
}

void picker_see(struct picker *p, struct dev *d, const int32_t *tokens, const int32_t *seq, int n)
{
    add_seen(d, p->seen, tokens, seq, n, p->vocab);
}

static void penalise_rows(struct picker *p, struct dev *d, float *logits, int n)
{
    bool any = false;
    for (int i = 0; i < n; i++) {
        const struct sampler_options *o = &p->samplers[i]->options;
        // adjust_row() penalises the rows that come to the host as a whole
        float factor = adjust_needs_row(o) ? 1 : (float)o->repetition_penalty;
        p->penalties_host[i] = (struct penalty){p->seq[i], factor};
        any = any || factor != 1;
    }
    if (!any)
        return;
    dev_upload(d, p->penalties, p->penalties_host, (size_t)n * sizeof *p->penalties);
    penalise(d, logits, p->seen, p->penalties, n, p->vocab);
}

static uint32_t *banned_of(const struct picker *p, int row)
{
    return p->banned + (size_t)row * (size_t)seen_words(p->vocab);
}

/* Mark the tokens that may not come next in a row, after clearing what an earlier step marked. */
static void mark_banned(struct picker *p, int row)
{
    const struct sampler *s = p->samplers[row];
    uint32_t *banned = banned_of(p, row);
    if (p->n_banned[row])
        memset(banned, 0, (size_t)seen_words(p->vocab) * sizeof *banned);
    p->n_banned[row] = s->options.bans ? bans_mark(s->options.bans, &s->history, banned) : 0;
}

static int most_needed(const struct picker *p, int n)
{
    int most = 0;
    for (int i = 0; i < n; i++)
        most = p->needs[i] > most ? p->needs[i] : most;
    return most;
}

int picker_needs(struct picker *p, int n)
{
    bool whole = false;
    for (int i = 0; i < n; i++) {
        const struct sampler_options *o = &p->samplers[i]->options;
        mark_banned(p, i);
        p->needs[i] = sampler_needs(o, p->n_banned[i], p->vocab);
        whole = whole || p->needs[i] == 0 || o->repetition_penalty != 1;
    }
    return whole ? 0 : most_needed(p, n);
}

/* p->picked[row] := what the row's sampler chooses from the n best, which are overwritten. */
static void pick_row(struct picker *p, int row, struct candidate *best, int n,
                     struct candidate *scratch)
{
    struct sampler *s = p->samplers[row];
    p->picked[row] = PICK_BROKEN;
    if (!isfinite(best[0].logit))
        return;
    if (p->n_banned[row])
        n = bans_drop(banned_of(p, row), best, n);
    p->picked[row] = sampler_pick(s, best, n, scratch);
}

void picker_pick_from(struct picker *p, struct candidate *best, int most, int n)
{
    for (int i = 0; i < n; i++)
        pick_row(p, i, best + (size_t)(i * most), p->needs[i], p->all);
}

/* p->picked[row] := what the row's sampler chooses from its logits [vocab], which change. */
static void pick_whole_row(struct picker *p, int row, float *logits)
{
    struct sampler *s = p->samplers[row];
    struct token_logprobs *l = s->options.logprobs;
    if (adjust_needs_row(&s->options)) {
        memcpy(p->raw, logits, (size_t)p->vocab * sizeof *p->raw);
        adjust_row(s, logits, p->counts, p->vocab);
    }
    sampler_rank(p->all, logits, p->vocab);
    pick_row(p, row, p->all, p->vocab, p->all + p->vocab);
    if (l && p->picked[row] >= 0) {
        logprobs_of_best(l, p->raw, p->vocab);
        logprobs_of_picked(l, p->raw, p->picked[row]);
    }
}

int picker_pick(struct picker *p, struct dev *d, float *logits, float *host, int n)
{
    size_t vocab = (size_t)p->vocab;
    int most = most_needed(p, n);
    penalise_rows(p, d, logits, n);
    for (int i = 0; i < n; i++) {
        size_t row = (size_t)i * vocab;
        if (p->needs[i] == 0)
            dev_download(d, host + row, logits + row, vocab * sizeof *host);
    }
    if (most) {
        top_tokens(d, p->best, logits, n, p->vocab, most);
        dev_download(d, p->best_host, p->best, (size_t)(n * most) * sizeof *p->best);
    }
    int status = dev_wait(d);
    for (int i = 0; i < n && !status; i++) {
        if (p->needs[i] == 0)
            pick_whole_row(p, i, host + (size_t)i * vocab);
        else
            pick_row(p, i, p->best_host + (size_t)(i * most), p->needs[i], p->all);
    }
    return status;
}
