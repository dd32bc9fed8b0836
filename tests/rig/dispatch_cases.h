/* Valid and invalid dispatches to rank 1 of tests/rig/exchange_rig.h, by name. For every
 * combination of dedup and combine, each field has the last valid and the first invalid value at
 * each of its bounds. Strategy exact sends a dispatch whole, padded sends it in rounds. */
#pragma once

#include "tests/rig/exchange_rig.h"

enum { N = 4, PAIRS = N * K }; // rows of the step: fewer than the largest step may have
#define MOST          INT32_MAX
#define LEAST         INT32_MIN
#define LENGTH(array) ((int)(sizeof(array) / sizeof *(array)))

/* A dispatch to rank 1. As many index entries and rows are sent as count and rows say. */
struct dispatch {
    const char *name;
    int32_t rows, back, count[OWN], index[PAIRS + 1];
    const char *says; // NULL: accepted
};

#define COUNTS "dispatch: expected counts of up to 8 rows in all, found more"
#define HEADER(places, rows, back)                                                                 \
    "dispatch: " #places " places of 4 rows: found " #rows " rows to give " #back " for"

static const struct dispatch dedup_on_rows[] = {
    {"every place of the step", 4, 8, {8}, {0, 1, 2, 3, 0, 1, 2, 3}, NULL},
    {"places of all experts", 4, 8, {3, 2, 3}, {0, 1, 2, 2, 0, 1, 3, 0}, NULL},
    {"nothing", 0, 0, {0}, {0}, NULL},
    {"one place", 1, 1, {0, 1}, {0}, NULL},
    {"one row at two places", 1, 2, {1, 0, 1}, {0, 0}, NULL},
    {"as many rows as places", 2, 2, {1, 0, 1}, {1, 0}, NULL},
    {"one place too many", 4, 9, {8, 0, 1}, {0, 1, 2, 3, 0, 1, 2, 3, 0}, COUNTS},
    {"one place too many of one expert", 4, 9, {9}, {0, 1, 2, 3, 0, 1, 2, 3, 0}, COUNTS},
    {"first count below zero", 4, 8, {-1, 9}, {0, 1, 2, 3, 0, 1, 2, 3}, COUNTS},
    {"last count below zero", 4, 8, {9, 0, -1}, {0, 1, 2, 3, 0, 1, 2, 3}, COUNTS},
    {"counts that are 8 in 32 bits", 4, 8, {MOST, MOST, 10}, {0, 1, 2, 3, 0, 1, 2, 3}, COUNTS},
    {"rows below zero", -1, 2, {1, 0, 1}, {0, 0}, HEADER(2, -1, 2)},
    {"rows far below zero", LEAST, 2, {1, 0, 1}, {0, 0}, HEADER(2, -2147483648, 2)},
    {"more rows than places", 3, 2, {1, 0, 1}, {0, 1}, HEADER(2, 3, 2)},
    {"more rows than the step", 5, 8, {8}, {0, 1, 2, 3, 4, 1, 2, 3}, HEADER(8, 5, 8)},
    {"rows far above", MOST, 8, {8}, {0, 1, 2, 3, 0, 1, 2, 3}, HEADER(8, 2147483647, 8)},
    {"back below zero", 1, -1, {1, 0, 1}, {0, 0}, HEADER(2, 1, -1)},
    {"one too few back", 4, 7, {8}, {0, 1, 2, 3, 0, 1, 2, 3}, HEADER(8, 4, 7)},
    {"one too many back", 4, 9, {8}, {0, 1, 2, 3, 0, 1, 2, 3}, HEADER(8, 4, 9)},
    {"first index below zero",
     4,
     8,
     {8},
     {-1, 1, 2, 3, 0, 1, 2, 3},
     "dispatch: expected rows below 4, found -1"},
    {"last index below zero",
     4,
     8,
     {8},
     {0, 1, 2, 3, 0, 1, 2, LEAST},
     "dispatch: expected rows below 4, found -2147483648"},
    {"first index one too high",
     4,
     8,
     {8},
     {4, 1, 2, 3, 0, 1, 2, 3},
     "dispatch: expected rows below 4, found 4"},
    {"last index one too high",
     2,
     8,
     {4, 0, 4},
     {0, 1, 0, 1, 0, 1, 0, 2},
     "dispatch: expected rows below 2, found 2"},
    {"index far too high",
     4,
     8,
     {8},
     {0, 1, MOST, 3, 0, 1, 2, 3},
     "dispatch: expected rows below 4, found 2147483647"},
    {"places without rows", 0, 2, {2}, {0, 0}, "dispatch: expected rows below 0, found 0"},
};

#define TOO_OFTEN "dispatch: expected up to 2 experts of a row, found more"

static const struct dispatch dedup_on_sum[] = {
    {"every place of the step", 4, 4, {4, 4}, {0, 1, 2, 3, 0, 1, 2, 3}, NULL},
    {"nothing", 0, 0, {0}, {0}, NULL},
    {"one place", 1, 1, {0, 0, 1}, {0}, NULL},
    {"a row of as many experts as it may have", 1, 1, {1, 1}, {0, 0}, NULL},
    {"as many rows as places", 2, 2, {1, 0, 1}, {1, 0}, NULL},
    {"one place too many", 4, 4, {4, 4, 1}, {0, 1, 2, 3, 0, 1, 2, 3, 0}, COUNTS},
    {"a count below zero", 4, 4, {-1, 9}, {0, 1, 2, 3, 0, 1, 2, 3}, COUNTS},
    {"rows and back below zero", -1, -1, {1, 0, 1}, {0, 0}, HEADER(2, -1, -1)},
    {"more rows than places", 3, 3, {1, 0, 1}, {0, 1}, HEADER(2, 3, 3)},
    {"more rows than the step", 5, 5, {8}, {0, 1, 2, 3, 4, 1, 2, 3}, HEADER(8, 5, 5)},
    {"fewer back than rows", 4, 3, {4, 4}, {0, 1, 2, 3, 0, 1, 2, 3}, HEADER(8, 4, 3)},
    {"more back than rows", 3, 4, {4, 4}, {0, 1, 2, 0, 1, 2, 0, 1}, HEADER(8, 3, 4)},
    {"back below zero", 1, -1, {1, 0, 1}, {0, 0}, HEADER(2, 1, -1)},
    {"back for every place", 4, 8, {4, 4}, {0, 1, 2, 3, 0, 1, 2, 3}, HEADER(8, 4, 8)},
    {"index below zero",
     4,
     4,
     {4, 4},
     {0, 1, 2, 3, 0, 1, 2, -1},
     "dispatch: expected rows below 4, found -1"},
    {"index one too high",
     4,
     4,
     {4, 4},
     {4, 1, 2, 3, 0, 1, 2, 3},
     "dispatch: expected rows below 4, found 4"},
    {"a row of one expert too many", 1, 1, {1, 1, 1}, {0, 0, 0}, TOO_OFTEN},
    {"the last row of one expert too many", 4, 4, {4, 4}, {0, 1, 3, 3, 0, 1, 2, 3}, TOO_OFTEN},
};

static const struct dispatch dedup_off_rows[] = {
    {"every place of the step", 8, 8, {8}, {0}, NULL},
    {"places of all experts", 8, 8, {3, 2, 3}, {0}, NULL},
    {"nothing", 0, 0, {0}, {0}, NULL},
    {"one place", 1, 1, {0, 1}, {0}, NULL},
    {"one place too many", 9, 9, {8, 0, 1}, {0}, COUNTS},
    {"a count below zero", 8, 8, {9, 0, -1}, {0}, COUNTS},
    {"one row too few", 7, 8, {8}, {0}, HEADER(8, 7, 8)},
    {"one row too many", 9, 8, {8}, {0}, HEADER(8, 9, 8)},
    {"rows below zero", -1, 1, {1}, {0}, HEADER(1, -1, 1)},
    {"one too few back", 8, 7, {8}, {0}, HEADER(8, 8, 7)},
    {"one too many back", 8, 9, {8}, {0}, HEADER(8, 8, 9)},
    {"back below zero", 1, -1, {1}, {0}, HEADER(1, 1, -1)},
};

static const struct dispatch dedup_off_sum[] = {
    {"every place of the step", 8, 4, {4, 4}, {0, 1, 2, 3, 0, 1, 2, 3}, NULL},
    {"nothing", 0, 0, {0}, {0}, NULL},
    {"one place", 1, 1, {0, 0, 1}, {0}, NULL},
    {"a sum of as many as it may have", 2, 1, {1, 1}, {0, 0}, NULL},
    {"as many sums as places", 2, 2, {1, 0, 1}, {1, 0}, NULL},
    {"one place too many", 9, 4, {4, 4, 1}, {0, 1, 2, 3, 0, 1, 2, 3, 0}, COUNTS},
    {"a count below zero", 8, 4, {9, -1}, {0, 1, 2, 3, 0, 1, 2, 3}, COUNTS},
    {"one row too few", 7, 4, {4, 4}, {0, 1, 2, 3, 0, 1, 2, 3}, HEADER(8, 7, 4)},
    {"one row too many", 9, 4, {4, 4}, {0, 1, 2, 3, 0, 1, 2, 3}, HEADER(8, 9, 4)},
    {"rows below zero", -1, 1, {1, 1}, {0, 0}, HEADER(2, -1, 1)},
    {"back below zero", 2, -1, {1, 1}, {0, 0}, HEADER(2, 2, -1)},
    {"more back than places", 2, 3, {1, 1}, {0, 1}, HEADER(2, 2, 3)},
    {"more back than the step", 8, 5, {4, 4}, {0, 1, 2, 3, 4, 1, 2, 3}, HEADER(8, 8, 5)},
    {"index below zero",
     8,
     4,
     {4, 4},
     {-1, 1, 2, 3, 0, 1, 2, 3},
     "dispatch: expected rows below 4, found -1"},
    {"index one too high",
     8,
     4,
     {4, 4},
     {0, 1, 2, 3, 0, 1, 2, 4},
     "dispatch: expected rows below 4, found 4"},
    {"index of a row, not of a sum",
     8,
     3,
     {4, 4},
     {0, 1, 2, 2, 0, 1, 3, 3},
     "dispatch: expected rows below 3, found 3"},
    {"a sum of one too many", 3, 1, {1, 1, 1}, {0, 0, 0}, TOO_OFTEN},
};

static const struct table {
    enum dedup dedup;
    enum combine combine;
    const struct dispatch *cases;
    int n;
} tables[] = {
    {DEDUP_ON, COMBINE_ROWS, dedup_on_rows, LENGTH(dedup_on_rows)},
    {DEDUP_ON, COMBINE_SUM, dedup_on_sum, LENGTH(dedup_on_sum)},
    {DEDUP_OFF, COMBINE_ROWS, dedup_off_rows, LENGTH(dedup_off_rows)},
    {DEDUP_OFF, COMBINE_SUM, dedup_off_sum, LENGTH(dedup_off_sum)},
};
