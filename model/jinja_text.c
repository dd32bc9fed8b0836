/* Texts, character by character, as Python sees them. They are valid UTF-8. */
#include <string.h>
#include <utf8proc.h>

#include "model/jinja_parts.h"

static bool continues(char byte)
{
    return ((unsigned char)byte & 0xc0) == 0x80;
}

size_t jinja_length(struct jinja_text t)
{
    size_t n = 0;
    for (size_t i = 0; i < t.bytes; i++)
        n += !continues(t.at[i]);
    return n;
}

size_t jinja_offset(struct jinja_text t, size_t index)
{
    size_t at = 0;
    for (; index > 0 && at < t.bytes; index--)
        for (at++; at < t.bytes && continues(t.at[at]);)
            at++;
    return at;
}

bool jinja_valid(struct jinja_text t)
{
    while (t.bytes) {
        utf8proc_int32_t c;
        utf8proc_ssize_t n =
            utf8proc_iterate((const utf8proc_uint8_t *)t.at, (utf8proc_ssize_t)t.bytes, &c);
        if (n <= 0)
            return false;
        t.at += n;
        t.bytes -= (size_t)n;
    }
    return true;
}

/* The first character and its bytes; 0 bytes of an empty text. */
static utf8proc_int32_t first(struct jinja_text t, size_t *bytes)
{
    utf8proc_int32_t c = 0;
    utf8proc_ssize_t n = 0;
    if (t.bytes)
        n = utf8proc_iterate((const utf8proc_uint8_t *)t.at, (utf8proc_ssize_t)t.bytes, &c);
    *bytes = n > 0 ? (size_t)n : t.bytes;
    return c;
}

static utf8proc_int32_t last(struct jinja_text t, size_t *bytes)
{
    size_t n = t.bytes > 0;
    while (n < t.bytes && continues(t.at[t.bytes - n]))
        n++;
    return first((struct jinja_text){t.at + (t.bytes - n), n}, bytes);
}

/* str.isspace() of one character: spaces, and the controls that separate lines or fields. */
static bool is_space(utf8proc_int32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x1f) || c == 0x85 ||
           utf8proc_category(c) == UTF8PROC_CATEGORY_ZS ||
           utf8proc_category(c) == UTF8PROC_CATEGORY_ZL ||
           utf8proc_category(c) == UTF8PROC_CATEGORY_ZP;
}

/* Is the character c to be stripped? */
static bool strips(utf8proc_int32_t c, const struct jinja_text *characters)
{
    if (!characters)
        return is_space(c);
    struct jinja_text left = *characters;
    while (left.bytes) {
        size_t n;
        if (first(left, &n) == c)
            return true;
        left.at += n;
        left.bytes -= n;
    }
    return false;
}

static struct jinja_text strip(struct jinja_text t, int sides, const struct jinja_text *characters)
{
    size_t n;
    while ((sides & JINJA_LEFT) && t.bytes && strips(first(t, &n), characters)) {
        t.at += n;
        t.bytes -= n;
    }
    while ((sides & JINJA_RIGHT) && t.bytes && strips(last(t, &n), characters))
        t.bytes -= n;
    return t;
}

struct jinja_text jinja_strip(struct jinja_text t, int sides, const struct jinja_value *characters)
{
    return strip(t, sides, characters ? &characters->text : NULL);
}

size_t jinja_space_begin(struct jinja_text t)
{
    return t.bytes - strip(t, JINJA_LEFT, NULL).bytes;
}

size_t jinja_space_end(struct jinja_text t)
{
    return strip(t, JINJA_RIGHT, NULL).bytes;
}
