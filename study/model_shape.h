/* What of a model the prices of its steps depend on, from its files alone. */
#pragma once

#include "model/checkpoint.h"
#include "model/config.h"
#include "study/fit.h"

/* Of a model by its name, in its checkpoint's type; *m := its config. 0, or STATUS_USAGE or
 * STATUS_BAD_FILE. */
int model_shape_read(struct fit_model *shape, struct config *m, const char *name,
                     struct arena *memory);
