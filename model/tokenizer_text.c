/* UTF-8. Invalid bytes are replaced as the decoders of Python and Rust do: the longest beginning of
 * a valid character, or if there is none a single byte, becomes one U+FFFD. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/check.h"
#include "model/tokenizer_parts.h"

void bytes_reserve(struct bytes *b, size_t more)
{
    if (b->room - b->count >= more)
        return;
    b->room = b->room * 2 + more + 64;
    b->at = realloc(b->at, b->room);
    CHECK_MEMORY(b->at, "no memory for %zu bytes of text", b->room);
}

void bytes_push(struct bytes *b, const char *more, size_t count)
{
    bytes_reserve(b, count);
    if (count)
        memcpy(b->at + b->count, more, count);
    b->count += count;
}

void id_list_push(struct id_list *l, int32_t id)
{
    if (l->count == l->room) {
        l->room = l->room * 2 + 64;
        l->at = realloc(l->at, l->room * sizeof *l->at);
        CHECK_MEMORY(l->at, "no memory for %zu ids", l->room);
    }
    l->at[l->count++] = id;
}

enum utf8 { UTF8_WHOLE, UTF8_BROKEN, UTF8_PART };

/* What kind of bytes a text begins with; *step := how many they are. Checking the range of the
 * second byte excludes overlong forms, surrogates and code points above U+10FFFF. */
static enum utf8 utf8_step(const char *text, size_t bytes, size_t *step)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t length = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    unsigned char low = s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : 0x80;
    unsigned char high = s[0] == 0xed ? 0x9f : s[0] == 0xf4 ? 0x8f : 0xbf;
    *step = 1;
    if (length == 0 || s[0] > 0xf4)
        return UTF8_BROKEN;
    for (; *step < length; ++*step) {
        if (*step == bytes)
            return UTF8_PART;
        if (s[*step] < low || s[*step] > high)
            return UTF8_BROKEN;
        low = 0x80;
        high = 0xbf;
    }
    return UTF8_WHOLE;
}

bool utf8_valid(const char *text, size_t bytes)
{
    for (size_t i = 0, step; i < bytes; i += step)
        if (utf8_step(text + i, bytes - i, &step) != UTF8_WHOLE)
            return false;
    return true;
}

size_t utf8_first(const char *text, size_t bytes)
{
    size_t step;
    utf8_step(text, bytes, &step);
    return step;
}

static void stream_reserve(struct text_stream *s, size_t more)
{
    CHECK(more < SIZE_MAX / 8, "a token of %zu bytes", more);
    if (s->room - s->bytes < more) {
        s->room = s->room * 2 + more;
        s->text = realloc(s->text, s->room);
        CHECK_MEMORY(s->text, "no memory for %zu bytes of text", s->room);
    }
}

static void stream_put(struct text_stream *s, const void *bytes, size_t count)
{
    memcpy(s->text + s->bytes, bytes, count);
    s->bytes += count;
}

/* Move the held bytes to the text as far as they are complete or certainly invalid. */
static void stream_settle(struct text_stream *s)
{
    while (s->held_bytes) {
        size_t step;
        enum utf8 kind = utf8_step((char *)s->held, s->held_bytes, &step);
        if (kind == UTF8_PART)
            return;
        if (kind == UTF8_WHOLE)
            stream_put(s, s->held, step);
        else
            stream_put(s, "\xef\xbf\xbd", 3);
        s->held_bytes -= step;
        memmove(s->held, s->held + step, s->held_bytes);
    }
}

void text_stream_push(struct text_stream *s, const char *bytes, size_t count)
{
    s->bytes = 0;
    stream_reserve(s, 3 * (count + sizeof s->held) + 1); // each byte may become a U+FFFD
    for (size_t i = 0; i < count; i++) {
        if (!s->held_bytes && (unsigned char)bytes[i] < 0x80) {
            s->text[s->bytes++] = bytes[i];
            continue;
        }
        s->held[s->held_bytes++] = (unsigned char)bytes[i];
        stream_settle(s);
    }
    s->text[s->bytes] = 0;
}

void text_stream_end(struct text_stream *s)
{
    s->bytes = 0;
    stream_reserve(s, 4);
    if (s->held_bytes) // they are the beginning of one character
        stream_put(s, "\xef\xbf\xbd", 3);
    s->held_bytes = 0;
    s->text[s->bytes] = 0;
}

void text_stream_free(struct text_stream *s)
{
    free(s->text);
    *s = (struct text_stream){0};
}

/* Does a code point have Unicode's property White_Space, as \s in Rust? */
static bool is_space(int32_t c)
{
    return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

int32_t utf8_code_point(const char *text, size_t bytes)
{
    utf8proc_int32_t c;
    utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)bytes, &c);
    return c;
}

size_t space_at_start(const char *text, size_t bytes)
{
    size_t i = 0;
    while (i < bytes && is_space(utf8_code_point(text + i, bytes - i)))
        i += utf8_first(text + i, bytes - i);
    return i;
}

size_t space_at_end(const char *text, size_t bytes)
{
    size_t left = bytes;
    while (left) {
        size_t start = left - 1;
        while (start && ((unsigned char)text[start] & 0xc0) == 0x80)
            start--;
        if (!is_space(utf8_code_point(text + start, left - start)))
            break;
        left = start;
    }
    return bytes - left;
}

/* Unicode's word characters (UTS 18, as \w in Rust): Alphabetic, marks, decimal digits, connecting
 * punctuation and the two joiners. What is Alphabetic is a letter, a letter number, a mark or one
 * of the letters in circles and squares. */
static bool is_word(int32_t c)
{
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        return c == 0x200c || c == 0x200d || (c >= 0x24b6 && c <= 0x24e9) ||
               (c >= 0x1f130 && c <= 0x1f149) || (c >= 0x1f150 && c <= 0x1f169) ||
               (c >= 0x1f170 && c <= 0x1f189);
    }
}

bool word_at_start(const char *text, size_t bytes)
{
    return bytes && is_word(utf8_code_point(text, bytes));
}

bool word_at_end(const char *text, size_t bytes)
{
    size_t start = bytes ? bytes - 1 : 0;
    while (start && ((unsigned char)text[start] & 0xc0) == 0x80)
        start--;
    return bytes && is_word(utf8_code_point(text + start, bytes - start));
}
