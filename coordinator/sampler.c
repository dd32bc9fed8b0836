#include "coordinator/sampler.h"

#include <math.h>

#include "base/hash.h"

struct sampler_options sampler_defaults(const struct generation_defaults *g)
{
    return (struct sampler_options){.temperature = g->do_sample ? g->temperature : 0,
                                    .top_p = g->top_p,
                                    .repetition_penalty = g->repetition_penalty,
                                    .top_k = g->top_k};
}

/* splitmix64 of (seed, draw): a uniform number in [0, 1) with 53 bits. */
static double uniform(uint64_t seed, uint64_t draw)
{
    uint64_t z = hash_mix(seed * 0xda942042e4dd58b5u + (draw + 1) * 0x9e3779b97f4a7c15u);
    return (double)(z >> 11) * 0x1p-53;
}

/* A key that sorts logits from the largest to the smallest: a larger logit has a smaller key, and
 * -0 has the key of 0. */
static uint32_t descending_key(float logit)
{
    uint32_t bits = float_to_bits(logit + 0.0f);
    return bits >> 31 ? bits : ~bits & 0x7fffffff;
}

/* One pass of a radix sort, by one byte of the key; candidates with equal bytes stay in order. */
static void sort_by_byte(struct candidate *to, const struct candidate *from, int n, int shift)
{
    int next[256] = {0}, before = 0;
    for (int i = 0; i < n; i++)
        next[descending_key(from[i].logit) >> shift & 0xff]++;
    for (int i = 0; i < 256; i++) {
        int count = next[i];
        next[i] = before;
        before += count;
    }
    for (int i = 0; i < n; i++)
        to[next[descending_key(from[i].logit) >> shift & 0xff]++] = from[i];
}

int sampler_needs(const struct sampler_options *o, int vocab)
{
    if (o->temperature <= 0)
        return 1;
    int n = o->top_k > 0 && o->top_k < vocab ? o->top_k : vocab;
    return n <= TOP_MOST ? n : 0;
}

int sampler_rank(const struct sampler_options *o, struct candidate *all, const float *logits,
                 int vocab)
{
    int n = vocab, k = o->top_k;
    for (int i = 0; i < n; i++) // NaN has no order: it counts as the smallest
        all[i] = (struct candidate){isnan(logits[i]) ? -INFINITY : logits[i], i};
    for (int shift = 0; shift < 32; shift += 16) {
        sort_by_byte(all + n, all, n, shift);
        sort_by_byte(all, all + n, n, shift + 8);
    }
    return k > 0 && k < n ? k : n;
}

/* The smallest set of best candidates whose probability reaches top_p of the whole. */
static int cut_top_p(const struct sampler_options *o, const struct candidate *best, int n,
                     double *total)
{
    double t = o->temperature, most = best[0].logit, sum = 0, kept = 0;
    for (int i = 0; i < n; i++)
        sum += exp((best[i].logit - most) / t);
    int count = 0;
    while (count < n && (count == 0 || kept < o->top_p * sum))
        kept += exp((best[count++].logit - most) / t);
    *total = kept;
    return count;
}

static int32_t sample(struct sampler *s, const struct candidate *best, int n)
{
    double t = s->options.temperature, most = best[0].logit, total;
    n = cut_top_p(&s->options, best, n, &total);
    double left = uniform(s->options.seed, s->draws++) * total;
    int i = 0;
    for (; i < n - 1; i++) {
        left -= exp((best[i].logit - most) / t);
        if (left < 0)
            break;
    }
    return best[i].token;
}

int32_t sampler_pick(struct sampler *s, const struct candidate *best, int n)
{
    return s->options.temperature > 0 ? sample(s, best, n) : best[0].token;
}
