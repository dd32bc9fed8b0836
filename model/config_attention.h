/* The keys of config.json about positions in attention. For config.c, which calls each once, after
 * the sizes. 0, or STATUS_BAD_FILE after fail() has named the key. */
#pragma once

#include "model/config.h"
#include "model/config_source.h"

int config_read_rope(const struct config_source *s, struct config *c);
int config_read_windows(const struct config_source *s, struct config *c);
