/* A finished profile for people, for programs and for Perfetto; docs/profile.md has the terms. */
#pragma once

#include <stdio.h>

#include "base/json.h"
#include "profile/profile.h"

/* Tables: layers of rank 0, then ranks, for prefill and decode apart. */
void profile_print(const struct profile *p, FILE *out);

/* One object, all times in ns; the caller's. */
struct js *profile_json(const struct profile *p);
int profile_write_json(const struct profile *p, const char *path);

/* The logs that were kept, as a file for ui.perfetto.dev: a process for each rank, and arrows from
 * dispatch to a worker's compute to combine. STATUS_FAILED where the file cannot be written. */
int profile_write_trace(const struct profile *p, const char *path);

/* ---- sums of sums (profile_sums.c) ---- */

/* A rank's times in steps of this kind, over all layers and outside them. */
struct phase_times profile_rank_times(const struct profile *p, enum step_kind kind, int rank);
int64_t phase_total(const struct phase_times *t);
struct exchange_times profile_exchange_times(const struct profile *p, enum step_kind kind);
/* What the exchange kept rank 0 from: packing, sending, and waiting, its exposed part. */
int64_t phase_exchange(const struct phase_times *t);
/* Rows, or experts that had any, of the busiest rank over the mean of those that hold experts;
 * of one layer, or of all (-1); 0 where there are none. */
double profile_rows_balance(const struct profile *p, enum step_kind kind, int layer);
double profile_experts_balance(const struct profile *p, enum step_kind kind, int layer);
