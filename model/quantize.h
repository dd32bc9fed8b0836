/* epmoe quantize: a checkpoint's matrices in fewer bits, packed as a device has them in memory. */
#pragma once

#include "base/quant.h"

struct quantize_options {
    const char *model, *dir; // a model's directory or a synthetic model; dir must not hold a model
    enum quant matrices, blocks; // as struct precision has them, one at least not QUANT_NONE
    int threads;
};

/* Write model.safetensors as model/packed.h describes it, the small files of the model's directory,
 * and config.json last, with a progress bar. Each file appears whole, and all of them or none. 0,
 * STATUS_USAGE, STATUS_BAD_FILE or STATUS_FAILED. */
int quantize_write(const struct quantize_options *o);
