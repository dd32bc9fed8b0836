/* What can be told about the files of a model's weights, from their headers, or if they are missing
 * from the index alone. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "model/checkpoint.h"
#include "model/config.h"

struct weight_files {
    int files, missing; // how many files there should be, and how many of them are missing
    // the rest is 0 if a file is missing
    uint64_t bytes;            // of all files
    struct packed_kind packed; // how matrices are kept in them
    bool types[3];             // by enum dtype: are there tensors of this type?
    bool fp8;                  // and in fp8, with scales?
    uint64_t embed;            // bytes of the embedding
};

/* Look at the directory of a model of this config. If no file is missing, check its tensors, too
 * (weights_check). 0 or STATUS_BAD_FILE; a missing file is no error. */
int weight_files_look(struct weight_files *w, const char *dir, struct config *m);
