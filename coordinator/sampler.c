#include "coordinator/sampler.h"

#include <math.h>
#include <stdlib.h>

#include "base/hash.h"
#include "coordinator/adjust.h"

struct sampler_options sampler_defaults(const struct generation_defaults *g)
{
    return (struct sampler_options){.temperature = g->do_sample ? g->temperature : 0,
                                    .top_p = g->top_p,
                                    .min_p = g->min_p,
                                    .typical_p = g->typical_p,
                                    .repetition_penalty = g->repetition_penalty,
                                    .top_k = g->top_k,
                                    .bans = bans_any(&g->bans) ? &g->bans : NULL};
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

int sampler_needs(const struct sampler_options *o, int banned, int vocab)
{
    if (adjust_needs_row(o))
        return 0;
    int n = o->temperature <= 0 ? 1 : o->top_k > 0 && o->top_k < vocab ? o->top_k : vocab;
    n = n + banned < vocab ? n + banned : vocab; // the best may be banned
    return n <= TOP_MOST ? n : 0;
}

void sampler_rank(struct candidate *all, const float *logits, int vocab)
{
    int n = vocab;
    for (int i = 0; i < n; i++)
        all[i] = (struct candidate){isnan(logits[i]) ? INFINITY : logits[i], i};
    for (int shift = 0; shift < 32; shift += 16) {
        sort_by_byte(all + n, all, n, shift);
        sort_by_byte(all, all + n, n, shift + 8);
    }
}

/* The probability of candidate i, relative to that of the best. */
static double mass(const struct sampler_options *o, const struct candidate *best, int i)
{
    return exp(((double)best[i].logit - (double)best[0].logit) / o->temperature);
}

static double mass_of_all(const struct sampler_options *o, const struct candidate *best, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += mass(o, best, i);
    return sum;
}

/* The smallest set of best candidates whose probability reaches top_p of the whole. */
static int cut_top_p(const struct sampler_options *o, const struct candidate *best, int n)
{
    double sum = mass_of_all(o, best, n), kept = 0;
    int count = 0;
    while (count < n && (count == 0 || kept < o->top_p * sum))
        kept += mass(o, best, count++);
    return count;
}

/* Those with at least min_p times the probability of the best. */
static int cut_min_p(const struct sampler_options *o, const struct candidate *best, int n)
{
    int count = 1;
    while (count < n && mass(o, best, count) >= o->min_p)
        count++;
    return count;
}

/* A candidate's place in `best`, and how far its surprise -log p is from the entropy. An array of
 * these lies in scratch memory of candidates, so both structs have one size. */
struct surprise {
    float distance;
    int32_t place;
};
_Static_assert(sizeof(struct surprise) == sizeof(struct candidate),
               "scratch has room for candidates");

static int by_distance(const void *a, const void *b)
{
    const struct surprise *x = a, *y = b;
    if (x->distance != y->distance)
        return x->distance < y->distance ? -1 : 1;
    return x->place - y->place;
}

/* The entropy of the candidates' probabilities, which are their masses by the sum. */
static double entropy_of(const struct sampler_options *o, const struct candidate *best, int n,
                         double sum)
{
    double entropy = 0;
    for (int i = 0; i < n; i++) {
        double p = mass(o, best, i) / sum;
        entropy -= p > 0 ? p * log(p) : 0;
    }
    return entropy;
}

static int by_place(const void *a, const void *b)
{
    const struct surprise *x = a, *y = b;
    return x->place - y->place;
}

/* Locally typical sampling (Meister et al. 2022): with p the probabilities and H their entropy,
 * keep the candidates with the smallest |-log p - H| whose probabilities reach typical_p together,
 * and those equally far. */
static int cut_typical(const struct sampler_options *o, struct candidate *best, int n,
                       struct candidate *scratch)
{
    struct surprise *order = (struct surprise *)(void *)scratch;
    double sum = mass_of_all(o, best, n), entropy = entropy_of(o, best, n, sum), reached = 0;
    int last = 0, kept = 0;
    for (int i = 0; i < n; i++) {
        double surprise = -log(mass(o, best, i) / sum);
        order[i] = (struct surprise){(float)fabs(surprise - entropy), i};
    }
    qsort(order, (size_t)n, sizeof *order, by_distance);
    for (; last < n - 1; last++) {
        reached += mass(o, best, order[last].place) / sum;
        if (reached >= o->typical_p)
            break;
    }
    float farthest = order[last].distance;
    qsort(order, (size_t)n, sizeof *order, by_place);
    for (int i = 0; i < n; i++)
        if (order[i].distance <= farthest)
            best[kept++] = best[i];
    return kept;
}

int sampler_keep(const struct sampler_options *o, struct candidate *best, int n,
                 struct candidate *scratch)
{
    n = o->top_k > 0 && o->top_k < n ? o->top_k : n;
    if (o->top_p < 1)
        n = cut_top_p(o, best, n);
    if (o->min_p > 0)
        n = cut_min_p(o, best, n);
    if (o->typical_p > 0 && o->typical_p < 1)
        n = cut_typical(o, best, n, scratch);
    return n;
}

static int32_t sample(struct sampler *s, struct candidate *best, int n, struct candidate *scratch)
{
    n = sampler_keep(&s->options, best, n, scratch);
    double total = mass_of_all(&s->options, best, n);
    double left = uniform(s->options.seed, s->draws++) * total;
    int i = 0;
    for (; i < n - 1; i++) {
        left -= mass(&s->options, best, i);
        if (left < 0)
            break;
    }
    return best[i].token;
}

int32_t sampler_pick(struct sampler *s, struct candidate *best, int n, struct candidate *scratch)
{
    if (n == 0 || best[0].logit == -INFINITY)
        return PICK_NONE_LEFT;
    return s->options.temperature > 0 ? sample(s, best, n, scratch) : best[0].token;
}
