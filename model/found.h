/* Writes a JSON value as an error shows it after "found": 12, "llama", true, null, an object. A
 * long string is cut. Use it inside the call to fail(): found(v).text. */
#pragma once

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"

struct found {
    char text[96];
};

/* How many bytes of a text an error quotes: at most 60, and only whole characters. */
static inline int found_bytes(const char *text, size_t bytes)
{
    enum { SHOWN = 60 };
    size_t n = bytes < SHOWN ? bytes : SHOWN;
    while (n < bytes && n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
        n--;
    return (int)n;
}

static inline struct found found(const struct js *v)
{
    struct found f;
    size_t bytes = 0;
    if (js_is_string(v)) {
        const char *text = js_string(v, &bytes);
        int n = found_bytes(text, bytes);
        snprintf(f.text, sizeof f.text, "\"%.*s%s\"", n, text, (size_t)n < bytes ? "…" : "");
    } else if (js_is_int(v))
        snprintf(f.text, sizeof f.text, "%" PRId64, js_int(v));
    else if (js_is_number(v) && !isfinite(js_number(v)))
        snprintf(f.text, sizeof f.text, "%s",
                 isnan(js_number(v)) ? "NaN"
                 : js_number(v) < 0  ? "-Infinity"
                                     : "Infinity");
    else if (js_is_number(v)) {
        int n = snprintf(f.text, sizeof f.text, "%.9g", js_number(v));
        if (!strpbrk(f.text, ".e")) // 2048.0 is no integer
            snprintf(f.text + n, sizeof f.text - (size_t)n, ".0");
    } else if (js_is_bool(v))
        snprintf(f.text, sizeof f.text, "%s", js_bool(v) ? "true" : "false");
    else
        snprintf(f.text, sizeof f.text, "%s", js_kind(v));
    return f;
}

/* Where a list or an object with so many entries was expected: how many a value has, or what else
 * it is. */
static inline struct found found_count(const struct js *v)
{
    struct found f = found(v);
    if (js_is_array(v) || js_is_object(v))
        snprintf(f.text, sizeof f.text, "%zu", js_count(v));
    return f;
}
