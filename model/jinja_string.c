/* The value of a string in a template: Python's escapes, as Jinja decodes them. */
#include <ctype.h>
#include <string.h>
#include <utf8proc.h>

#include "model/jinja_lexer.h"

struct reader {
    struct jinja_run *r;
    const char *at, *end;
    char *to;
};

static void put(struct reader *s, uint32_t c)
{
    if (c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        jinja_fail(s->r, "expected an escape for a character, found U+%04X", c);
    s->to += utf8proc_encode_char((utf8proc_int32_t)c, (utf8proc_uint8_t *)s->to);
}

static uint32_t digit(char c)
{
    return isdigit((unsigned char)c) ? (uint32_t)(c - '0')
                                     : (uint32_t)(tolower((unsigned char)c) - 'a' + 10);
}

/* Read `least` to `most` digits of an escape: \x41, \u00e9, \U0001f600, \101. */
static void read_code(struct reader *s, int least, int most, uint32_t base)
{
    uint32_t c = 0;
    int n = 0;
    for (; n < most && s->at < s->end && isxdigit((unsigned char)*s->at) && digit(*s->at) < base;
         n++)
        c = c * base + digit(*s->at++);
    if (n < least)
        jinja_fail(s->r, "expected an escape of %d digits, found %d", least, n);
    put(s, c);
}

/* An escape that is none is left as it is. */
static void read_escape(struct reader *s)
{
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    char c = *s->at++;
    const char *known = strchr(from, c);
    if (c == 'x')
        read_code(s, 2, 2, 16);
    else if (c == 'u')
        read_code(s, 4, 4, 16);
    else if (c == 'U')
        read_code(s, 8, 8, 16);
    else if (c >= '0' && c <= '7') {
        s->at--;
        read_code(s, 1, 3, 8);
    } else if (c == 'N' || (unsigned char)c >= 0x80) {
        jinja_fail(s->r, "expected an escape that is known here, found \\%s",
                   c == 'N' ? "N" : "before a character beyond ASCII");
    } else if (known) {
        *s->to++ = to[known - from];
    } else if (c != '\n') {
        *s->to++ = '\\';
        *s->to++ = c;
    }
}

struct jinja_value jinja_string(struct jinja_run *r, struct jinja_text t)
{
    char *text = jinja_alloc(r, t.bytes + 1); // no escape is shorter than its character
    struct reader s = {r, t.at, t.at + t.bytes, text};
    while (s.at < s.end) {
        if (*s.at != '\\') {
            *s.to++ = *s.at++;
            continue;
        }
        s.at++;
        if (s.at < s.end)
            read_escape(&s);
    }
    return jinja_text(text, (size_t)(s.to - text));
}
