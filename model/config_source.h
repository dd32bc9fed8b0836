/* Reads values from a JSON file of a model. A value of the wrong kind or out of bounds is refused
 * with the file, the key, what was expected and what was found. */
#pragma once

#include <stdbool.h>

#include "base/json.h"

/* The file that is read. */
struct config_source {
    const struct js *root; // the file's object, or one within it
    const char *file;      // the file's name, for errors
};

/* The value of a key; NULL if the key is absent, or null and transformers takes that as absent. */
const struct js *source_value(const struct config_source *s, const char *key);
bool source_is_text(const struct js *v, const char *text); // is v the string `text`?

/* Reports that `what` was expected for the key and v was found; returns STATUS_BAD_FILE. */
int source_expected(const struct config_source *s, const char *key, const char *what,
                    const struct js *v);
/* 0, or STATUS_BAD_FILE if v is not an integer in [least, most]. */
int source_check_int(const struct config_source *s, const char *key, const struct js *v, int least,
                     int most);

/* *out := the value of a key (of source_real: v). If it is absent (v is NULL), *out is not changed.
 * 0, or STATUS_BAD_FILE for a value of another kind or out of bounds. */
int source_int(const struct config_source *s, const char *key, int least, int most, int *out);
int source_bool(const struct config_source *s, const char *key, bool *out);
int source_real(const struct config_source *s, const char *key, const struct js *v, double least,
                double most, double *out);
