/* The configuration and the tensors of a synthetic checkpoint, before any of it is written. */
#pragma once

#include <stdbool.h>

#include "base/arena.h"
#include "base/json.h"
#include "model/synth.h"

struct synth_tensor {
    const char *name;
    int n_dims;
    int64_t shape[2];
    int file;
    uint64_t bytes;
};

struct synth_plan {
    enum dtype type;
    struct js *config, *generation;
    struct synth_tensor *tensors; // in the order of a forward pass
    size_t count, room;
    int n_files;
    uint64_t elements, bytes;
    struct arena memory;
};

/* 0, or STATUS_USAGE for options that no preset allows. */
int synth_plan_open(struct synth_plan *p, const struct synth_options *o);
void synth_plan_close(struct synth_plan *p);
