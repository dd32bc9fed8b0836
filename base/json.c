#include "base/json.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/file.h"
#include "base/json_numbers.h"
#include "base/log.h"

/* struct js is never defined. A struct js * is a json_t * under a name that needs no jansson. */
static json_t *in(const struct js *v)
{
    return (json_t *)(uintptr_t)v;
}

static struct js *out(json_t *v)
{
    return (struct js *)v;
}

static json_t *parse(const char *text, size_t bytes, json_error_t *error)
{
    return json_loadb(text, bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY,
                      error);
}

struct js *js_parse(const char *text, size_t bytes, const char *name)
{
    json_error_t error;
    size_t respelled_bytes, place;
    json_t *root = parse(text, bytes, &error);
    char *respelled = root ? NULL : json_numbers_spell(text, bytes, &respelled_bytes);
    if (respelled)
        root = parse(respelled, respelled_bytes, &error);
    place = root ? 0 : (size_t)error.position;
    if (respelled && !root)
        place = json_numbers_place(text, bytes, place);
    free(respelled);
    if (!root)
        fail(STATUS_BAD_FILE, "%s: expected JSON, found at byte %zu (line %d): %s", name, place,
             error.line, error.text);
    return out(root);
}

struct js *js_load(const char *path, size_t max_bytes)
{
    size_t bytes;
    char *text = file_read(path, max_bytes, &bytes);
    if (!text)
        return NULL;
    struct js *root = js_parse(text, bytes, path);
    free(text);
    return root;
}

void js_free(struct js *root)
{
    json_decref(in(root));
}

const char *js_kind(const struct js *v)
{
    if (!v)
        return "nothing";
    switch (json_typeof(in(v))) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a real number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    default:
        return "null";
    }
}

bool js_is_object(const struct js *v)
{
    return json_is_object(in(v));
}

bool js_is_array(const struct js *v)
{
    return json_is_array(in(v));
}

bool js_is_string(const struct js *v)
{
    return json_is_string(in(v));
}

bool js_is_int(const struct js *v)
{
    return json_is_integer(in(v));
}

bool js_is_number(const struct js *v)
{
    return json_is_number(in(v));
}

bool js_is_bool(const struct js *v)
{
    return json_is_boolean(in(v));
}

bool js_is_null(const struct js *v)
{
    return json_is_null(in(v));
}

const struct js *js_member(const struct js *object, const char *key)
{
    return out(json_object_get(in(object), key));
}

const struct js *js_item(const struct js *array, size_t i)
{
    return out(json_array_get(in(array), i));
}

size_t js_count(const struct js *v)
{
    return js_is_object(v) ? json_object_size(in(v)) : json_array_size(in(v));
}

int64_t js_int(const struct js *v)
{
    return json_integer_value(in(v));
}

double js_number(const struct js *v)
{
    return json_numbers_value(json_number_value(in(v)));
}

bool js_bool(const struct js *v)
{
    return json_is_true(in(v));
}

const char *js_string(const struct js *v, size_t *bytes)
{
    if (bytes)
        *bytes = json_string_length(in(v));
    return json_string_value(in(v));
}

static struct js_entry entry_at(void *at)
{
    if (!at)
        return (struct js_entry){0};
    return (struct js_entry){
        .key = json_object_iter_key(at),
        .key_bytes = json_object_iter_key_len(at),
        .value = out(json_object_iter_value(at)),
        .at = at,
    };
}

struct js_entry js_first(const struct js *object)
{
    return entry_at(json_object_iter(in(object)));
}

struct js_entry js_next(const struct js *object, struct js_entry e)
{
    return entry_at(json_object_iter_next(in(object), e.at));
}

static struct js *made(json_t *v)
{
    CHECK_MEMORY(v, "no memory for a JSON value");
    return out(v);
}

struct js *js_new_object(void)
{
    return made(json_object());
}

struct js *js_new_array(void)
{
    return made(json_array());
}

struct js *js_new_string(const char *utf8, size_t bytes)
{
    json_t *v = json_stringn(utf8, bytes);
    if (v)
        return out(v);
    // not UTF-8: copy each valid character, and put U+FFFD for each byte that starts none
    char *mended = malloc(bytes * 3 + 1);
    CHECK_MEMORY(mended, "no memory for a string");
    size_t n = 0;
    for (size_t i = 0; i < bytes;) {
        size_t length = 1;
        while (length <= 4 && i + length <= bytes) {
            json_t *piece = json_stringn(utf8 + i, length);
            json_decref(piece);
            if (piece)
                break;
            length++;
        }
        bool good = length <= 4 && i + length <= bytes;
        memcpy(mended + n, good ? utf8 + i : "\xef\xbf\xbd", good ? length : 3);
        n += good ? length : 3;
        i += good ? length : 1;
    }
    v = json_stringn(mended, n);
    free(mended);
    return made(v);
}

struct js *js_new_text(const char *utf8)
{
    return js_new_string(utf8, strlen(utf8));
}

struct js *js_new_int(int64_t v)
{
    return made(json_integer(v));
}

struct js *js_new_real(double v)
{
    return made(json_real(v));
}

struct js *js_new_bool(bool v)
{
    return made(json_boolean(v));
}

struct js *js_new_null(void)
{
    return made(json_null());
}

struct js *js_copy(const struct js *v)
{
    return made(json_deep_copy((const json_t *)(const void *)v));
}

void js_set(struct js *object, const char *key, struct js *value)
{
    CHECK(json_object_set_new(in(object), key, in(value)) == 0, "cannot set %s", key);
}

void js_push(struct js *array, struct js *value)
{
    CHECK(json_array_append_new(in(array), in(value)) == 0, "cannot append");
}

bool js_print(const struct js *v, FILE *stream, int indent)
{
    size_t flags = JSON_ENCODE_ANY | JSON_REAL_PRECISION(9);
    flags |= indent ? JSON_INDENT((size_t)indent) : 0;
    return json_dumpf(in(v), stream, flags) == 0 && fputc('\n', stream) != EOF;
}

const char *js_library(void)
{
    return "jansson " JANSSON_VERSION;
}
