/* Reads the fields of a request, as a line of epmoe batch or a body of epmoe serve has them. An
 * error names the field and says what was expected and found; it is STATUS_BAD_FILE throughout. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/json.h"

/* A field for what is not done here. It is taken with the value that asks for nothing: null, or
 * false, 0, 1, an empty list; the word; an object whose type is the word; or a list of the word
 * alone. */
struct neutral_param {
    const char *name;
    enum neutral { ANYTHING, FALSE, ZERO, ONE, EMPTY, WORD, TYPE, LIST } value;
    const char *word;
};

/* Which fields an object may have. */
struct known_params {
    const char *const *names;            // ends with NULL
    const struct neutral_param *neutral; // ends with a NULL name; or NULL
    const char *by;                      // who does no other: "batch"
};

/* Refuse a field: it says what was expected for the key, and what was found. */
int param_refuse(const char *key, const char *expected, const struct js *v);
/* The value of a field; NULL if it is absent or null, which both mean the default. */
const struct js *param_of(const struct js *object, const char *key);
/* Refuse a field that is not known: a misspelled field would otherwise change the result without a
 * word. `where` begins the error. */
int params_check(const struct js *object, const struct known_params *known, const char *where);

/* *value := a field of the object, if it is there. */
int param_int(const struct js *object, const char *key, int64_t least, int64_t most,
              int64_t *value);
int param_real(const struct js *object, const char *key, double least, double most, double *value);
int param_bool(const struct js *object, const char *key, bool *value);
/* Read a list of at most `most` token ids below `vocab`; *ids is malloc'ed. */
int param_ids(const char *key, const struct js *list, size_t most, int vocab, int32_t **ids,
              size_t *n);
