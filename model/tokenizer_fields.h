/* Checks the fields of tokenizer.json by tables that say what each may be. For tokenizer_load.c and
 * tokenizer_entries.c. An error names the file, the key, what was expected and what was found. */
#pragma once

#include <stdbool.h>

#include "base/json.h"
#include "model/tokenizer_parts.h"

struct load {
    struct tokenizer *t;
    const char *name;       // of the file
    const struct js *extra; // added tokens that the file does not have
};

/* What a field may be, as a mask. ANYTHING: another function checks it. */
enum {
    IS_NULL = 1,
    IS_FALSE = 2,
    IS_TRUE = 4,
    IS_BOOL = IS_FALSE | IS_TRUE,
    IS_EMPTY = 8,
    IS_ZERO = 16,
    ANYTHING = 32,
    REQUIRED = 64
};

struct field {
    const char *key; // NULL ends a table
    unsigned allowed;
};

/* Reports "file: where.key: expected ..., found ..." and returns STATUS_BAD_FILE. `where` is the
 * path of an object ("": the file's); key "" means the value at `where` itself. */
int field_refuse(const struct load *l, const char *where, const char *key, const char *expected,
                 const struct js *v);
/* Check that `object` is an object, that its fields are as the table says, and that all other
 * fields are null. 0 or STATUS_BAD_FILE. */
int fields_check(const struct load *l, const char *where, const struct js *object,
                 const struct field *fields);
bool field_is(const struct js *v, const char *text);       // the string `text`
bool field_has_type(const struct js *v, const char *type); // an object of this "type"

/* Read the vocabulary, the merges and the added tokens (tokenizer_entries.c). 0 or STATUS_BAD_FILE.
 */
int read_model(struct load *l, const struct js *model, const struct js *added_tokens);
