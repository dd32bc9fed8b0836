/* Checkpoints with the shapes of real models and random weights, for benchmarks and for tests of
 * loading. */
#pragma once

#include <stdint.h>

#include "base/dtype.h"

struct synth_options {
    const char *preset; // "qwen1.5-moe-a2.7b", …: one of synth_presets()
    int layers;         // 0: the preset's own
    uint64_t seed;
    enum dtype type;
    uint64_t shard_bytes; // the most data in a file; 0: 4 GiB
    const char *dir;      // created if it does not exist; must not hold a checkpoint
};

const char *synth_presets(void); // "a|b", for --help
/* Write config.json, generation_config.json, and safetensors files with their index (or one file
 * without), with a progress bar. Each file appears whole, and config.json last. The bytes depend on
 * preset, layers, seed and type alone. A tensor's bytes depend on its name and not on the other
 * tensors, so with fewer layers the first layers are the same. 0, STATUS_USAGE or STATUS_FAILED. */
int synth_write(const struct synth_options *o);
