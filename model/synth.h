/* Checkpoints of true shapes and random weights, for benchmarks and tests of loading. */
#pragma once

#include <stdint.h>

#include "base/dtype.h"

struct synth_options {
    const char *preset; // "qwen1.5-moe-a2.7b", …: one of synth_presets()
    int layers;         // 0: the preset's own
    uint64_t seed;
    enum dtype type;
    uint64_t shard_bytes; // of data in a file at most; 0: 4 GiB
    const char *dir;      // made when absent; must not hold a checkpoint
};

const char *synth_presets(void); // "a|b", for --help
/* Writes config.json, generation_config.json and safetensors shards with their index (or one file),
 * streamed, with a progress bar; each file appears whole and config.json last. The bytes depend on
 * preset, layers, seed and type alone; a tensor's on its name, so that fewer layers give the same
 * first layers. 0, STATUS_USAGE or STATUS_FAILED. */
int synth_write(const struct synth_options *o);
