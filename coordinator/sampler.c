#include "coordinator/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

struct candidate {
    float logit;
    int32_t token;
};

struct sampler_options sampler_defaults(const struct generation_defaults *g)
{
    return (struct sampler_options){.temperature = g->do_sample ? g->temperature : 0,
                                    .top_p = g->top_p,
                                    .repetition_penalty = g->repetition_penalty,
                                    .top_k = g->top_k};
}

void sampler_open(struct sampler *s, const struct sampler_options *o, int vocab_size)
{
    *s = (struct sampler){.options = *o, .vocab_size = vocab_size};
    s->seen = calloc((size_t)vocab_size, 1);
    s->scratch = malloc((size_t)vocab_size * sizeof *s->scratch);
    CHECK(s->seen && s->scratch, "no memory for a sampler of %d tokens", vocab_size);
}

void sampler_close(struct sampler *s)
{
    free(s->seen);
    free(s->scratch);
    memset(s, 0, sizeof *s);
}

void sampler_see(struct sampler *s, int32_t token)
{
    s->seen[token] = 1;
}

/* splitmix64 of (seed, draw): a uniform number in [0, 1) with 53 bits. */
static double uniform(uint64_t seed, uint64_t draw)
{
    uint64_t z = seed * 0xda942042e4dd58b5u + (draw + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return (double)(z >> 11) * 0x1p-53;
}

/* Better first; among equals the lower token, so that the order is total. */
static int by_logit(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit > y->logit ? -1 : 1;
    return (x->token > y->token) - (x->token < y->token);
}

/* A token that was seen loses: positive logits shrink, negative ones grow. */
static float penalised(const struct sampler *s, const float *logits, int token)
{
    float z = logits[token], penalty = (float)s->options.repetition_penalty;
    if (isnan(z))
        return -INFINITY; // broken weights: an order is needed all the same
    if (!s->seen[token] || penalty == 1)
        return z;
    return z > 0 ? z / penalty : z * penalty;
}

static int32_t greedy(const struct sampler *s, const float *logits)
{
    int32_t best = 0;
    float best_logit = penalised(s, logits, 0);
    for (int32_t i = 1; i < s->vocab_size; i++) {
        float z = penalised(s, logits, i);
        if (z > best_logit) {
            best = i;
            best_logit = z;
        }
    }
    return best;
}

/* The k best move to the front, unordered (quickselect); k < n. */
static void select_best(struct candidate *c, int n, int k)
{
    int low = 0, high = n - 1;
    while (low < high) {
        struct candidate pivot = c[low + (high - low) / 2];
        int i = low, j = high;
        while (i <= j) {
            while (by_logit(&c[i], &pivot) < 0)
                i++;
            while (by_logit(&c[j], &pivot) > 0)
                j--;
            if (i <= j) {
                struct candidate t = c[i];
                c[i++] = c[j];
                c[j--] = t;
            }
        }
        if (k <= j)
            high = j;
        else if (k >= i)
            low = i;
        else
            return;
    }
}

/* Candidates, best first, cut to top-k; returns how many. */
static int rank_candidates(struct sampler *s, const float *logits)
{
    int n = s->vocab_size, k = s->options.top_k;
    for (int i = 0; i < n; i++)
        s->scratch[i] = (struct candidate){penalised(s, logits, i), i};
    if (k > 0 && k < n) {
        select_best(s->scratch, n, k);
        n = k;
    }
    qsort(s->scratch, (size_t)n, sizeof *s->scratch, by_logit);
    return n;
}

/* The smallest set of best candidates whose probability reaches top_p of the whole. */
static int cut_top_p(const struct sampler *s, int n, double *total)
{
    double t = s->options.temperature, best = s->scratch[0].logit, sum = 0, kept = 0;
    for (int i = 0; i < n; i++)
        sum += exp((s->scratch[i].logit - best) / t);
    int count = 0;
    while (count < n && (count == 0 || kept < s->options.top_p * sum))
        kept += exp((s->scratch[count++].logit - best) / t);
    *total = kept;
    return count;
}

static int32_t sample(struct sampler *s, const float *logits)
{
    int n = rank_candidates(s, logits);
    double t = s->options.temperature, best = s->scratch[0].logit, total;
    n = cut_top_p(s, n, &total);
    double left = uniform(s->options.seed, s->draws++) * total;
    int i = 0;
    for (; i < n - 1; i++) {
        left -= exp((s->scratch[i].logit - best) / t);
        if (left < 0)
            break;
    }
    return s->scratch[i].token;
}

int32_t sampler_pick(struct sampler *s, const float *logits)
{
    int32_t token = s->options.temperature > 0 ? sample(s, logits) : greedy(s, logits);
    sampler_see(s, token);
    return token;
}
