/* The part of sampling that works on whole rows of logits: penalties, and finding the best tokens.
 */
#include <math.h>

#include "kernels/cpu/cpu.h"

void cpu_add_seen(struct dev *d, uint32_t *seen, const int32_t *tokens, const int32_t *seq, int n,
                  int vocab)
{
    (void)d;
    for (int i = 0; i < n; i++)
        seen[(size_t)seq[i] * (size_t)seen_words(vocab) + (size_t)tokens[i] / 32] |=
            1u << tokens[i] % 32;
}

static void penalise_row(float *logits, const uint32_t *seen, float factor, int vocab)
{
    for (int word = 0; word < seen_words(vocab); word++)
        for (uint32_t left = seen[word]; left; left &= left - 1) {
            float *z = &logits[word * 32 + __builtin_ctz(left)];
            *z = *z > 0 ? *z / factor : *z * factor;
        }
}

void cpu_penalise(struct dev *d, float *logits, const uint32_t *seen,
                  const struct penalty *penalties, int n, int vocab)
{
    (void)d;
    for (int i = 0; i < n; i++)
        if (penalties[i].factor != 1)
            penalise_row(logits + (size_t)i * (size_t)vocab,
                         seen + (size_t)penalties[i].seq * (size_t)seen_words(vocab),
                         penalties[i].factor, vocab);
}

/* Keep the `most` best tokens by insertion. Tokens come in ascending order, so a token whose logit
 * equals that of one already kept ranks behind it. */
static void top_row(struct candidate *best, const float *logits, int vocab, int most)
{
    int n = 0;
    for (int token = 0; token < vocab; token++) {
        float z = isnan(logits[token]) ? INFINITY : logits[token];
        if (n == most && !(z > best[n - 1].logit))
            continue;
        int at = n < most ? n++ : n - 1;
        for (; at > 0 && z > best[at - 1].logit; at--)
            best[at] = best[at - 1];
        best[at] = (struct candidate){z, token};
    }
}

void cpu_top(struct dev *d, struct candidate *best, const float *logits, int n, int vocab, int most)
{
    int threads = team_size(d, (double)n * vocab * sizeof(float));
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int i = 0; i < n; i++)
        top_row(best + (size_t)i * (size_t)most, logits + (size_t)i * (size_t)vocab, vocab, most);
}
