/* Reading a JSON object by a table of its keys: a key that is not in the table is refused, and so
 * are one that is missing, a value of another kind, and a number out of range. */
#pragma once

#include <stdbool.h>

#include "base/arena.h"
#include "base/json.h"

enum json_kind {
    JSON_REAL,   // double
    JSON_WHOLE,  // int
    JSON_TEXT,   // const char *, in the arena
    JSON_OBJECT, // const struct js *
    JSON_LIST,   // likewise
};

struct json_key {
    const char *name; // NULL ends the table
    enum json_kind kind;
    void *to;           // what the value goes to; NULL: it is only checked
    double least, most; // of numbers
    bool optional;      // if it is missing or null, *to stays as it is
};

/* `where` is the object's place in the file, "" for the root, "model." for an object under that
 * key. 0, or STATUS_BAD_FILE with file, key, what was expected and what was found. */
int json_table_read(const char *file, const char *where, const struct js *object,
                    const struct json_key *keys, struct arena *memory);

/* Take a file's values over from its root; to: what they go to. 0 or STATUS_BAD_FILE. */
typedef int json_reader(void *to, const struct js *root, const char *file, struct arena *memory);
/* The same from a text, or from a file of at most max_bytes; `name` is what errors call the text.
 */
int json_read_text(void *to, json_reader *read, const char *text, size_t bytes, const char *name,
                   struct arena *memory);
int json_read_file(void *to, json_reader *read, const char *path, size_t max_bytes,
                   struct arena *memory);
