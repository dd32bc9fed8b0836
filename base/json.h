/* Reading and writing JSON. Only json.c includes jansson.
 *
 * A document is a tree of const struct js *, owned by its root. Lookups on NULL or on a value of
 * another kind return NULL, 0 or false, so a chain of lookups needs one check at its end. The
 * parser refuses duplicate keys, bad UTF-8 and depth over 2048: the files come from others.
 * Integers beyond int64 are reals, and NaN, Infinity and reals beyond double are read as Python
 * does; a range check must therefore be one that NaN fails. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct js;

/* Parse a file of at most max_bytes, or a text; `name` is what errors call the text. The caller
 * frees the root. On failure: NULL, and fail(STATUS_BAD_FILE) has said where. js_free(NULL) is
 * legal. */
struct js *js_load(const char *path, size_t max_bytes);
struct js *js_parse(const char *text, size_t bytes, const char *name);
void js_free(struct js *root);

/* What a value is, in words ("an object", "a string", …), for messages. */
const char *js_kind(const struct js *v);
bool js_is_object(const struct js *v);
bool js_is_array(const struct js *v);
bool js_is_string(const struct js *v);
bool js_is_int(const struct js *v);
bool js_is_number(const struct js *v); // int or real
bool js_is_bool(const struct js *v);
bool js_is_null(const struct js *v);

const struct js *js_member(const struct js *object, const char *key);
const struct js *js_item(const struct js *array, size_t i);
size_t js_count(const struct js *array_or_object);
int64_t js_int(const struct js *v);
double js_number(const struct js *v); // may be NaN or infinite
bool js_bool(const struct js *v);
/* The text, owned by v. It may hold U+0000; its length in bytes goes to *bytes, unless that is
 * NULL. */
const char *js_string(const struct js *v, size_t *bytes);

/* An object's entries, in the file's order:
 * for (struct js_entry e = js_first(o); e.key; e = js_next(o, e)) … */
struct js_entry {
    const char *key;
    size_t key_bytes;
    const struct js *value;
    void *at;
};
struct js_entry js_first(const struct js *object);
struct js_entry js_next(const struct js *object, struct js_entry e);

/* Building and printing: values given to js_set and js_push belong to their parent from then on. */
struct js *js_new_object(void);
struct js *js_new_array(void);
struct js *js_new_string(const char *utf8, size_t bytes); // invalid UTF-8 becomes U+FFFD
struct js *js_new_text(const char *utf8);                 // the same, to the 0 at its end
struct js *js_new_int(int64_t v);
struct js *js_new_real(double v);
struct js *js_new_bool(bool v);
struct js *js_new_null(void);
struct js *js_copy(const struct js *v); // of all that is in it
void js_set(struct js *object, const char *key, struct js *value);
void js_push(struct js *array, struct js *value);
/* One line (indent 0) or indented, with a final newline; false when the stream failed. */
bool js_print(const struct js *v, FILE *out, int indent);

const char *js_library(void); // "jansson 2.14", for --version
