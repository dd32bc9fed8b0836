#include "model/tokenizer_fields.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "model/found.h"

int field_refuse(const struct load *l, const char *where, const char *key, const char *expected,
                 const struct js *v)
{
    return fail(STATUS_BAD_FILE, "%s: %s%s%.*s%sexpected %s, found %s", l->name, where,
                *where && *key ? "." : "", found_bytes(key, strlen(key)), key,
                *where || *key ? ": " : "", expected, found(v).text);
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
    case IS_ZERO:
        return "0";
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
