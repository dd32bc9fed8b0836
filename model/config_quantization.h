/* quantization_config of config.json. */
#pragma once

#include "model/config_source.h"

/* 0 if the weights are as they were trained, or in fp8 with scales for blocks, which loading
 * multiplies out (checkpoint_fp8.h). STATUS_BAD_FILE for every other way to quantise them: the
 * error names it, and says what to do instead. */
int config_check_quantization(const struct config_source *s);
