/* Reading the values of a JSON file of a model: of the right kind and within their bounds, or
 * refused with the file, the key, what was expected and what was found. */
#pragma once

#include <stdbool.h>

#include "base/json.h"

/* One file being read. */
struct config_source {
    const struct js *root; // its object, or one within
    const char *file;      // its name, for errors
};

/* The key's value; NULL when it is absent or null where transformers takes null as absent. */
const struct js *source_value(const struct config_source *s, const char *key);
bool source_is_text(const struct js *v, const char *text);

/* Says that `what` was expected for the key and v was found: STATUS_BAD_FILE. */
int source_expected(const struct config_source *s, const char *key, const char *what,
                    const struct js *v);
int source_check_int(const struct config_source *s, const char *key, const struct js *v, int least,
                     int most);

/* 0, or STATUS_BAD_FILE. Where the key is absent (of source_real: v is NULL), *out keeps what it
 * has. */
int source_int(const struct config_source *s, const char *key, int least, int most, int *out);
int source_bool(const struct config_source *s, const char *key, bool *out);
int source_real(const struct config_source *s, const char *key, const struct js *v, double least,
                double most, double *out);
