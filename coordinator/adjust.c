#include "coordinator/adjust.h"

#include <string.h>

#include "coordinator/distribution.h"

bool adjust_needs_row(const struct sampler_options *o)
{
    return o->frequency_penalty != 0 || o->presence_penalty != 0 || o->n_biases || o->logprobs;
}

static void add_biases(const struct sampler_options *o, float *logits)
{
    for (int i = 0; i < o->n_biases; i++)
        logits[o->biases[i].token] += o->biases[i].logit;
}

/* As the kernel `penalise`: each distinct token of the history is penalised once. */
static void penalise_repetition(const struct sampler *s, float *logits, int32_t *counts)
{
    const struct history *h = &s->history;
    float factor = (float)s->options.repetition_penalty;
    for (int i = 0; i < h->n && factor != 1; i++) {
        float *z = &logits[h->tokens[i]];
        if (counts[h->tokens[i]]++ == 0)
            *z = *z > 0 ? *z / factor : *z * factor;
    }
    for (int i = 0; i < h->n; i++)
        counts[h->tokens[i]] = 0;
}

static void penalise_counts(const struct sampler *s, float *logits, int32_t *counts)
{
    const struct history *h = &s->history;
    double frequency = s->options.frequency_penalty, presence = s->options.presence_penalty;
    for (int i = h->n_prompt; i < h->n; i++)
        counts[h->tokens[i]]++;
    for (int i = h->n_prompt; i < h->n; i++) {
        int32_t token = h->tokens[i];
        if (counts[token])
            logits[token] = (float)((double)logits[token] - counts[token] * frequency - presence);
        counts[token] = 0;
    }
}

void adjust_row(const struct sampler *s, float *logits, int32_t *counts, int vocab)
{
    memset(counts, 0, (size_t)vocab * sizeof *counts);
    add_biases(&s->options, logits);
    penalise_repetition(s, logits, counts);
    penalise_counts(s, logits, counts);
}

/* Insert a candidate where it belongs among the best, which drop their last if they are full. */
static void insert(struct token_logprobs *l, struct candidate c)
{
    int at = l->n_best < l->most ? l->n_best++ : l->most - 1;
    for (; at > 0 && l->best[at - 1].logit < c.logit; at--)
        l->best[at] = l->best[at - 1];
    l->best[at] = c;
}

void logprobs_of_best(struct token_logprobs *l, const float *logits, int vocab)
{
    l->log_sum = log_sum(logits, vocab);
    l->n_best = 0;
    for (int t = 0; t < vocab && l->most > 0; t++)
        if (l->n_best < l->most || logits[t] > l->best[l->most - 1].logit)
            insert(l, (struct candidate){logits[t], t});
    for (int i = 0; i < l->n_best; i++)
        l->best[i].logit = (float)((double)l->best[i].logit - l->log_sum);
}

void logprobs_of_picked(struct token_logprobs *l, const float *logits, int32_t token)
{
    l->picked = (float)((double)logits[token] - l->log_sum);
}
