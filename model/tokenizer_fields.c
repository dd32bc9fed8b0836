#include "model/tokenizer_fields.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

int field_cut(const char *text, size_t bytes)
{
    size_t n = bytes < 60 ? bytes : 60;
    while (n && n < bytes && ((unsigned char)text[n] & 0xc0) == 0x80)
        n--;
    return (int)n;
}

/* A value in a few words. */
static const char *describe(const struct js *v, char out[64])
{
    size_t bytes;
    const char *text = js_string(v, &bytes);
    if (text)
        snprintf(out, 64, "\"%.*s\"", field_cut(text, bytes), text);
    else if (js_is_int(v))
        snprintf(out, 64, "%" PRId64, js_int(v));
    else if (js_is_bool(v))
        snprintf(out, 64, "%s", js_bool(v) ? "true" : "false");
    else
        snprintf(out, 64, "%s", js_kind(v));
    return out;
}

int field_refuse(const struct load *l, const char *where, const char *key, const char *expected,
                 const struct js *found)
{
    char text[64];
    return fail(STATUS_BAD_FILE, "%s: %s%s%.*s%sexpected %s, found %s", l->name, where,
                *where && *key ? "." : "", field_cut(key, strlen(key)), key,
                *where || *key ? ": " : "", expected, describe(found, text));
}

static bool is_allowed(const struct js *v, unsigned allowed)
{
    size_t bytes = 1;
    if (js_is_string(v))
        js_string(v, &bytes);
    return (allowed & ANYTHING) || ((allowed & IS_NULL) && js_is_null(v)) ||
           ((allowed & IS_FALSE) && js_is_bool(v) && !js_bool(v)) ||
           ((allowed & IS_TRUE) && js_is_bool(v) && js_bool(v)) ||
           ((allowed & IS_EMPTY) && bytes == 0) ||
           ((allowed & IS_ZERO) && js_is_number(v) && js_number(v) == 0);
}

static const char *allowed_words(unsigned allowed)
{
    switch (allowed & ~(unsigned)REQUIRED) {
    case IS_NULL:
        return "null";
    case IS_FALSE:
        return "false";
    case IS_BOOL:
        return "true or false";
    case IS_NULL | IS_FALSE:
        return "null or false";
    case IS_NULL | IS_BOOL:
        return "null, true or false";
    case IS_NULL | IS_EMPTY:
        return "null or \"\"";
    case IS_NULL | IS_ZERO:
        return "null or 0";
    default:
        return "a value";
    }
}

static bool is_known(const struct field *fields, const char *key)
{
    for (; fields->key; fields++)
        if (strcmp(fields->key, key) == 0)
            return true;
    return false;
}

int fields_check(const struct load *l, const char *where, const struct js *object,
                 const struct field *fields)
{
    if (!js_is_object(object))
        return field_refuse(l, where, "", "an object", object);
    for (struct js_entry e = js_first(object); e.key; e = js_next(object, e))
        if (!js_is_null(e.value) && !is_known(fields, e.key))
            return field_refuse(l, where, e.key, "no such key", e.value);
    for (; fields->key; fields++) {
        const struct js *v = js_member(object, fields->key);
        if (v ? !is_allowed(v, fields->allowed) : fields->allowed & REQUIRED)
            return field_refuse(l, where, fields->key, allowed_words(fields->allowed), v);
    }
    return 0;
}

bool field_is(const struct js *v, const char *text)
{
    size_t bytes;
    const char *found = js_string(v, &bytes);
    return found && bytes == strlen(text) && memcmp(found, text, bytes) == 0;
}

bool field_has_type(const struct js *v, const char *type)
{
    return field_is(js_member(v, "type"), type);
}
