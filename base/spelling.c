#include "base/spelling.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { MAX_LETTERS = 40, FAR = 1 << 20 };

static int least(int a, int b)
{
    return a < b ? a : b;
}

/* How many letters must be replaced, left out, put in or swapped with their neighbour to make b of
 * a (the distance of Damerau and Levenshtein, in its form with one edit a place). */
static int distance_of(const char *a, const char *b)
{
    int d[MAX_LETTERS + 1][MAX_LETTERS + 1], n = (int)strlen(a), m = (int)strlen(b);
    if (n > MAX_LETTERS || m > MAX_LETTERS)
        return FAR;
    for (int i = 0; i <= n; i++)
        for (int j = 0; j <= m; j++) {
            if (i == 0 || j == 0) {
                d[i][j] = i + j;
                continue;
            }
            d[i][j] = least(least(d[i - 1][j], d[i][j - 1]) + 1,
                            d[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                d[i][j] = least(d[i][j], d[i - 2][j - 2] + 1);
        }
    return d[n][m];
}

static bool begins(const char *text, const char *with)
{
    return strlen(with) >= 3 && strncmp(text, with, strlen(with)) == 0;
}

void spelling_try(struct spelling *s, const char *candidate)
{
    int length = (int)strlen(s->word), distance = distance_of(s->word, candidate);
    bool like = distance <= (length < 3 ? 0 : length < 6 ? 1 : length / 3);
    if (begins(s->word, candidate) || begins(candidate, s->word))
        like = true;
    if (like && (!s->best || distance < s->distance)) {
        s->best = candidate;
        s->distance = distance;
    }
}

const char *spelling_hint(struct spelling *s)
{
    s->hint[0] = 0;
    if (s->best)
        snprintf(s->hint, sizeof s->hint, "; did you mean %s?", s->best);
    return s->hint;
}
