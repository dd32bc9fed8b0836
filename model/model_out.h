/* What all that write a model's directory share. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "base/json.h"

/* Make a directory for a model's files, or take one that has no files of a model, and check that it
 * has room for so many bytes. *made := whether it was made. 0, STATUS_USAGE or STATUS_FAILED. */
int model_directory_open(const char *dir, double bytes, bool *made);

/* Write the length of a safetensors header and the header, with spaces so that the data begin at a
 * multiple of 64. The stream remembers its errors. */
void model_write_header(FILE *to, const struct js *header);
