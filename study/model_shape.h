/* What of a model the prices of its steps depend on, from its files alone. */
#pragma once

#include "model/checkpoint.h"
#include "model/config.h"
#include "study/fit.h"

/* Of an open checkpoint's model, with weights of a type. */
struct fit_model model_shape(const struct config *m, uint64_t digest, enum dtype dtype,
                             const char *name);

/* The same of a model by its name. 0, or STATUS_USAGE or STATUS_BAD_FILE. */
int model_shape_read(struct fit_model *shape, const char *name, enum dtype dtype,
                     struct arena *memory);
