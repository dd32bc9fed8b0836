#include "base/json_numbers.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/* No file has these numbers for their own sake: no key's range reaches so far. */
#define SPELLED_NAN      "1.7976931348623155e308"
#define SPELLED_INFINITY "1.7976931348623157e308"
#define IS_NAN           1.7976931348623155e308
#define IS_INFINITY      1.7976931348623157e308

/* A literal of the text, and the text that takes its place; NULL: it stays. */
struct literal {
    size_t bytes;
    const char *spelled;
    bool is_whole; // stays, with ".0" behind it
};

static bool begins(const char *text, size_t bytes, const char *word)
{
    return bytes >= strlen(word) && memcmp(text, word, strlen(word)) == 0;
}

/* The characters of a number: digits, sign, point and exponent. The parser checks their order. */
static size_t number_bytes(const char *text, size_t bytes)
{
    size_t n = 0;
    while (n < bytes && text[n] && strchr("+-.eE0123456789", text[n]))
        n++;
    return n;
}

/* Is the number infinite as a double; and is it an integer that int64_t cannot hold? */
static void measure(const char *text, size_t n, bool *infinite, bool *large)
{
    char *own = strndup(text, n);
    CHECK_MEMORY(own, "no memory for a number");
    *infinite = isinf(strtod(own, NULL));
    errno = 0;
    *large = n > 18 && !strpbrk(own, ".eE") && (strtoll(own, NULL, 10), errno == ERANGE);
    free(own);
}

static struct literal number_at(const char *text, size_t bytes)
{
    struct literal l = {.bytes = number_bytes(text, bytes)};
    bool infinite, large;
    if (l.bytes < 4) // too short to be large, and nearly all are
        return l;
    measure(text, l.bytes, &infinite, &large);
    if (infinite)
        l.spelled = text[0] == '-' ? "-" SPELLED_INFINITY : SPELLED_INFINITY;
    l.is_whole = large && !infinite;
    return l;
}

static size_t string_bytes(const char *text, size_t bytes)
{
    size_t n = 1;
    while (n < bytes && text[n] != '"')
        n += text[n] == '\\' ? 2 : 1;
    return n < bytes ? n + 1 : bytes;
}

static struct literal literal_at(const char *text, size_t bytes)
{
    if (text[0] == '"')
        return (struct literal){.bytes = string_bytes(text, bytes)};
    if (begins(text, bytes, "NaN"))
        return (struct literal){.bytes = 3, .spelled = SPELLED_NAN};
    if (begins(text, bytes, "Infinity"))
        return (struct literal){.bytes = 8, .spelled = SPELLED_INFINITY};
    if (begins(text, bytes, "-Infinity"))
        return (struct literal){.bytes = 9, .spelled = "-" SPELLED_INFINITY};
    if (text[0] == '-' || isdigit((unsigned char)text[0]))
        return number_at(text, bytes);
    return (struct literal){.bytes = 1};
}

/* Go through the text until `most` bytes of the copy are made: *in := how many of the text that
 * took. The copy goes to out, unless that is NULL. Returns its length. */
static size_t spell(const char *text, size_t bytes, size_t most, char *out, size_t *in)
{
    size_t at = 0, made = 0;
    while (at < bytes && made < most) {
        struct literal l = literal_at(text + at, bytes - at);
        const char *from = l.spelled ? l.spelled : text + at;
        size_t n = l.spelled ? strlen(l.spelled) : l.bytes;
        if (made + n > most && !l.spelled) // within a literal that stays
            n = l.bytes = most - made;
        if (out)
            memcpy(out + made, from, n);
        if (out && l.is_whole)
            memcpy(out + made + n, ".0", 2);
        made += n + (l.is_whole ? 2 : 0);
        at += l.bytes;
    }
    *in = at;
    return made;
}

char *json_numbers_spell(const char *text, size_t bytes, size_t *out_bytes)
{
    size_t in, n = spell(text, bytes, SIZE_MAX, NULL, &in);
    char *copy = malloc(n + 1);
    CHECK_MEMORY(copy, "no memory for a text of %zu bytes", n);
    spell(text, bytes, SIZE_MAX, copy, &in);
    *out_bytes = n;
    if (n != bytes || memcmp(copy, text, n) != 0)
        return copy;
    free(copy);
    return NULL;
}

size_t json_numbers_place(const char *text, size_t bytes, size_t at)
{
    size_t in;
    spell(text, bytes, at, NULL, &in);
    return in;
}

double json_numbers_value(double real)
{
    if (real == IS_NAN)
        return (double)NAN;
    return real == IS_INFINITY ? (double)INFINITY : real == -IS_INFINITY ? -(double)INFINITY : real;
}
