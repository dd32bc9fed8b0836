/* Prints a finished profile as tables, JSON or a file for Perfetto. docs/profile.md defines the
 * terms. */
#pragma once

#include <stdio.h>

#include "base/json.h"
#include "profile/profile.h"

/* Tables of rank 0's layers and of all ranks, first for prefill, then for decode. */
void profile_print(const struct profile *p, FILE *out);

/* One object, all times in ns. The caller frees it. */
struct js *profile_json(const struct profile *p);
/* The same object in a file, with its origin (study/origin.h); 0, or STATUS_FAILED when it cannot
 * be written. */
int profile_write_json(const struct profile *p, const char *path);

/* Write the logs that were kept as a file for ui.perfetto.dev: a process for each rank, and arrows
 * from dispatch through a worker's compute to combine. 0, or STATUS_FAILED when the file cannot be
 * written. */
int profile_write_trace(const struct profile *p, const char *path);

/* ---- sums over layers and phases (profile_sums.c) ---- */

/* A rank's times in steps of this kind, over all layers and outside them. */
struct phase_times profile_rank_times(const struct profile *p, enum step_kind kind, int rank);
/* The sum over all phases. */
int64_t phase_total(const struct phase_times *t);
/* The sum over all layers. */
struct exchange_times profile_exchange_times(const struct profile *p, enum step_kind kind);
/* The time that the exchange cost rank 0: packing, sending and waiting. */
int64_t phase_exchange(const struct phase_times *t);
/* The rows (or the experts that had rows) of the busiest rank over the mean of the ranks that hold
 * experts; of one layer, or of all (layer -1). 0 when there are no rows. */
double profile_rows_balance(const struct profile *p, enum step_kind kind, int layer);
double profile_experts_balance(const struct profile *p, enum step_kind kind, int layer);
