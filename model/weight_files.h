/* The files that hold a model's weights, as far as can be told without them and from their
 * headers. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "model/config.h"

struct weight_files {
    int files, missing; // expected, and how many of them are not here
    uint64_t bytes;     // of those that are here,
    bool types[3];      // enum dtype: tensors of this type are there,
    uint64_t embed;     // bytes of the embedding; the last three 0 while a file is missing
};

/* Look at the directory of a model of this config; where no file is missing, check its tensors
 * (weights_check), too. 0 or STATUS_BAD_FILE; a missing file is no error. */
int weight_files_look(struct weight_files *w, const char *dir, const struct config *m);
