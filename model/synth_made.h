/* A synthetic model that no disk holds: "synth:PRESET" or "synth:PRESET:LAYERS" where a directory
 * is expected. Its bytes are those that synth_write() writes with seed 0 in bf16, made whenever
 * they are mapped; for measurements of models larger than the disk, or faster than it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "kernels/kernels.h"
#include "model/synth_plan.h"

struct synth_made;

bool synth_is_made(const char *model); // does it begin with "synth:"?

/* 0 or STATUS_USAGE. */
int synth_made_open(struct synth_made **s, const char *model);
void synth_made_close(struct synth_made *s); // NULL is legal
const struct synth_plan *synth_made_plan(const struct synth_made *s);

/* Bytes [first, first + bytes) of one of its tensors, whole elements; any thread. */
void synth_made_fill(const struct synth_made *s, const char *tensor, uint64_t first, size_t bytes,
                     void *out);

/* The same, from byte `first` on, for a device to make. False: they are not noise. */
bool synth_made_values(const struct synth_made *s, const char *tensor, uint64_t first,
                       struct values *v);

/* Its config.json, or NULL after fail(); the caller frees it. */
char *synth_made_config(const char *model, size_t *bytes);
