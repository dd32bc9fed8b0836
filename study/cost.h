/* What a step costs: a list of what has a price, how often a setting has each, and prices fitted to
 * measured times. docs/measuring.md derives the model. Times are in seconds. */
#pragma once

#include "exchange/options.h"
#include "study/traffic.h"

enum cost {
    COST_MESSAGE,    // between a coordinator and a worker, either way
    COST_LAP,        // an exchange of a layer, however many messages it has
    COST_OUT,        // a byte that leaves the coordinator
    COST_BACK,       // and one that comes back
    COST_NARROWED,   // in addition, a byte on a wire that is narrower than the model
    COST_AFTER_WORK, // in addition, a lap between which ranks compute
    COST_ROW,        // a row through one expert
    COST_EXPERT,     // an expert with rows in a step
    COST_STEP,       // what the coordinator does once a step
    COST_HOME_ROW,   // and for each row, all layers together
    COST_POSITION,   // a row's attention to one position, all layers together
    COST_OUTPUT,     // a row whose logits are made
    COSTS
};
/* The key of a price in files and reports: its name with its unit. */
const char *cost_key(enum cost c);
/* Costs of the exchange by itself come first; the others are of a model. */
enum { COSTS_OF_LAPS = COST_AFTER_WORK };

/* How often each is there in a setting; or what each costs. */
struct costs {
    double of[COSTS];
};

static inline double costs_time(const struct costs *counted, const struct costs *prices)
{
    double sum = 0;
    for (int i = 0; i < COSTS; i++)
        sum += counted->of[i] * prices->of[i];
    return sum;
}

/* Experts that a rank runs in a layer of a step, and rows through them. */
struct load {
    double rows, experts;
};

static inline double load_time(const struct load *l, const struct costs *prices)
{
    return l->rows * prices->of[COST_ROW] + l->experts * prices->of[COST_EXPERT];
}

/* loads [ranks] += those of a layer of a step: each expert's rows, on its rank. rank_of [experts];
 * NULL: all are on rank 0. */
void loads_add(struct load *loads, const struct traffic *t, const int32_t *rank_of, int experts);

/* What the layers of a step keep the ranks busy with, whichever counts: the slowest rank of each
 * layer; or all of them, over the `at_once` ranks that can compute at the same time, where that
 * takes longer. loads [layers][ranks]; at_once 0: every rank has a device of its own. */
struct load loads_counting(const struct load *loads, int layers, int ranks, int at_once,
                           const struct costs *prices);

enum setting_kind { SETTING_LAP, SETTING_EXPERTS, SETTING_ALONE, SETTING_STEP, SETTING_KINDS };
const char *setting_kind_name(enum setting_kind k);

/* Something that is measured twice. `counted` has all but a step's rows and experts, which follow
 * from its loads and the prices. */
struct setting {
    enum setting_kind kind;
    int rows, position; // of the step; the position of its last row
    int ranks;
    struct exchange_options way; // of laps and steps
    bool held_out;               // the fit does not see it
    struct costs counted;
    const struct load *loads; // [layers][ranks] of a step; NULL of any other kind
    int layers, at_once;
    double lap_bytes, lap_messages; // of its largest lap
    double measured, again;         // seconds
    double predicted;               // cost_fit() and cost_predict() fill it
};

/* The lesser of both: what else runs on a machine only adds time. */
static inline double setting_seconds(const struct setting *s)
{
    return s->measured < s->again ? s->measured : s->again;
}
/* (predicted - measured) / measured */
static inline double setting_error(const struct setting *s)
{
    return (s->predicted - setting_seconds(s)) / setting_seconds(s);
}

/* What a setting counts, with a step's rows and experts at these prices. */
struct costs setting_counts(const struct setting *s, const struct costs *prices);

/* x [n], none below 0, with the least sum of squares |A x - b|^2, from ata = A^T A [n][n] and
 * atb = A^T b [n] (Lawson and Hanson 1974). n <= COSTS. */
void least_squares(double *x, const double *ata, const double *atb, int n);

/* Prices, none below 0, that make the sum of squared relative errors of the settings that are not
 * held out least, each setting once; and the predictions of all. A price that no setting has is
 * 0. */
void cost_fit(struct costs *prices, struct setting *settings, int n);
void cost_predict(struct setting *settings, int n, const struct costs *prices);

/* Shares, 0.1 being 10 %; 0 where there is no setting of the kind. */
struct goodness {
    int fitted, held_out;
    double r2; // 1 - the sum of squared relative errors over that of a single constant's
    double fitted_median, held_out_median, held_out_most; // |relative errors|
    double noise; // the median of |measured - again| over their mean
};
struct goodness goodness_of(const struct setting *settings, int n);
