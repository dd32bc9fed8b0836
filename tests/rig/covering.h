/* A covering table. Each row chooses a level of each factor; any two levels of two different
 * factors are together in at least one row. That takes far fewer rows than all combinations. The
 * table is made the same way each time: a row begins with the first pair that is in no row yet, and
 * each of its other factors gets the level that adds the most new pairs. The test that uses the
 * table calls covering_check(), which checks the rows without using what made them. */
#pragma once

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"

enum { MOST_FACTORS = 10, MOST_LEVELS = 16, MOST_COVERING_ROWS = 250 };

struct covering {
    int n_factors;
    int levels[MOST_FACTORS]; // of each factor
    /* Whether level a of factor f and level b of factor g can be chosen together. */
    bool (*allowed)(int f, int a, int g, int b);
    int n;
    int row[MOST_COVERING_ROWS][MOST_FACTORS];
    bool met[MOST_FACTORS][MOST_LEVELS][MOST_FACTORS][MOST_LEVELS]; // used only by covering_make()
};

/* Pairs that level a of factor f would add to a row; -1 when it is not allowed there. */
static inline int covering_gain(const struct covering *c, const int *row, int f, int a)
{
    int gain = 0;
    for (int g = 0; g < c->n_factors; g++) {
        if (row[g] < 0 || g == f)
            continue;
        if (!c->allowed(f, a, g, row[g]) || !c->allowed(g, row[g], f, a))
            return -1;
        gain += !c->met[f][a][g][row[g]];
    }
    return gain;
}

/* The level of factor f that adds the most pairs to row c->n. Of equal ones it takes the first from
 * level c->n on, so that ties are decided for another level in each row. */
static inline int covering_choose(const struct covering *c, const int *row, int f)
{
    int best = -1, most = -1;
    for (int i = 0; i < c->levels[f]; i++) {
        int a = (i + c->n) % c->levels[f], gain = covering_gain(c, row, f, a);
        if (gain > most) {
            most = gain;
            best = a;
        }
    }
    CHECK(best >= 0, "no level of factor %d is allowed in row %d", f, c->n);
    return best;
}

/* The first pair at or after (f, a, g, b) that is allowed and in no row; false when there is none.
 */
static inline bool covering_next_pair(const struct covering *c, int *f, int *a, int *g, int *b)
{
    for (*f = 0; *f < c->n_factors; ++*f)
        for (*a = 0; *a < c->levels[*f]; ++*a)
            for (*g = *f + 1; *g < c->n_factors; ++*g)
                for (*b = 0; *b < c->levels[*g]; ++*b)
                    if (!c->met[*f][*a][*g][*b] && c->allowed(*f, *a, *g, *b))
                        return true;
    return false;
}

/* Make the rows, from n_factors, levels and allowed. */
static inline void covering_make(struct covering *c)
{
    int f, a, g, b;
    for (c->n = 0; covering_next_pair(c, &f, &a, &g, &b); c->n++) {
        CHECK(c->n < MOST_COVERING_ROWS, "more than %d rows", MOST_COVERING_ROWS);
        int *row = c->row[c->n];
        memset(row, -1, sizeof c->row[c->n]);
        row[f] = a;
        row[g] = b;
        for (int i = 0; i < c->n_factors; i++)
            if (row[i] < 0)
                row[i] = covering_choose(c, row, i);
        for (int i = 0; i < c->n_factors; i++)
            for (int j = 0; j < c->n_factors; j++)
                c->met[i][row[i]][j][row[j]] = true;
    }
}

/* Whether two levels are together in a row. */
static inline bool covering_has(const struct covering *c, int f, int a, int g, int b)
{
    for (int i = 0; i < c->n; i++)
        if (c->row[i][f] == a && c->row[i][g] == b)
            return true;
    return false;
}

/* How many pairs are wrong: allowed but in no row, or in a row but not allowed. */
static inline int covering_check(const struct covering *c)
{
    int wrong = 0;
    for (int f = 0; f < c->n_factors; f++)
        for (int a = 0; a < c->levels[f]; a++)
            for (int g = 0; g < c->n_factors; g++)
                for (int b = 0; b < c->levels[g]; b++)
                    if (g != f && covering_has(c, f, a, g, b) != c->allowed(f, a, g, b)) {
                        printf("factor %d level %d, factor %d level %d\n", f, a, g, b);
                        wrong++;
                    }
    return wrong;
}
