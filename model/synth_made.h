/* A synthetic model that is in no file. Its name "synth:PRESET" or "synth:PRESET:LAYERS" is given
 * where a directory is expected. Its bytes are those that synth_write() would write with seed 0 in
 * bf16, and are made whenever a caller maps them. It is for measuring with models that are larger
 * than the disk, or without the time to read them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "kernels/kernels.h"
#include "model/synth_plan.h"

struct synth_made;

bool synth_is_made(const char *model); // does it begin with "synth:"?

/* 0, or STATUS_USAGE for a name that is not known. */
int synth_made_open(struct synth_made **s, const char *model);
void synth_made_close(struct synth_made *s); // NULL is legal
const struct synth_plan *synth_made_plan(const struct synth_made *s);

/* out := bytes [first, first + bytes) of a tensor; both must be multiples of an element's size. Any
 * thread may call it. */
void synth_made_fill(const struct synth_made *s, const char *tensor, uint64_t first, size_t bytes,
                     void *out);

/* *v := the tensor's bytes from byte `first` on, as noise that a device makes itself. False: the
 * tensor is not noise. */
bool synth_made_values(const struct synth_made *s, const char *tensor, uint64_t first,
                       struct values *v);

/* The text of the model's config.json, malloc'ed; NULL after fail(). */
char *synth_made_config(const char *model, size_t *bytes);
