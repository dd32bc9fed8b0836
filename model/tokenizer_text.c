/* UTF-8 and NFC. Broken UTF-8 is mended like Python's and Rust's decoders do: the longest beginning
 * of a character, or else one byte, becomes one U+FFFD. utf8proc knows the decompositions and the
 * compositions; the ordering between them is done here, because utf8proc's is quadratic in the
 * number of marks on one letter. */
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
    CHECK(b->at, "no memory for %zu bytes of text", b->room);
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
        CHECK(l->at, "no memory for %zu ids", l->room);
    }
    l->at[l->count++] = id;
}

enum utf8 { UTF8_WHOLE, UTF8_BROKEN, UTF8_PART };

/* What stands at the start of a text, and in how many bytes. The second byte's range keeps out
 * overlong forms, surrogates and what is above U+10FFFF. */
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
        CHECK(s->text, "no memory for %zu bytes of text", s->room);
    }
}

static void stream_put(struct text_stream *s, const void *bytes, size_t count)
{
    memcpy(s->text + s->bytes, bytes, count);
    s->bytes += count;
}

/* Passes on what is decided about the held bytes. */
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
    if (s->held_bytes) // the beginning of one character
        stream_put(s, "\xef\xbf\xbd", 3);
    s->held_bytes = 0;
    s->text[s->bytes] = 0;
}

void text_stream_free(struct text_stream *s)
{
    free(s->text);
    *s = (struct text_stream){0};
}

/* Unicode's White_Space, which is what Rust's \s means. */
static bool is_space(int32_t c)
{
    return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

static int32_t code_point(const char *text, size_t bytes)
{
    utf8proc_int32_t c;
    utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)bytes, &c);
    return c;
}

size_t space_at_start(const char *text, size_t bytes)
{
    size_t i = 0;
    while (i < bytes && is_space(code_point(text + i, bytes - i)))
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
        if (!is_space(code_point(text + start, left - start)))
            break;
        left = start;
    }
    return bytes - left;
}

/* No code point below U+0300 takes part in normalisation, unless one above does: their UTF-8 begins
 * with bytes below 0xcc. */
static bool is_surely_nfc(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if ((unsigned char)text[i] >= 0xcc)
            return false;
    return true;
}

struct code_points {
    int32_t *at;
    size_t count, room;
};

static void decompose(struct code_points *out, const char *text, size_t bytes)
{
    enum { MOST_PARTS = 8 }; // of one code point; Unicode has 4
    for (size_t i = 0; i < bytes; i += utf8_first(text + i, bytes - i)) {
        if (out->room - out->count < MOST_PARTS) {
            out->room = out->room * 2 + bytes + MOST_PARTS;
            out->at = realloc(out->at, out->room * sizeof *out->at);
            CHECK(out->at, "no memory for %zu code points", out->room);
        }
        int boundary = 0;
        utf8proc_ssize_t n =
            utf8proc_decompose_char(code_point(text + i, bytes - i), out->at + out->count,
                                    MOST_PARTS, UTF8PROC_DECOMPOSE, &boundary);
        CHECK(n >= 0 && n <= MOST_PARTS, "a code point of %td parts", (ptrdiff_t)n);
        out->count += (size_t)n;
    }
}

static int mark_class(int32_t c)
{
    return utf8proc_get_property(c)->combining_class; // 0: not a mark
}

/* Sorts marks by their class and keeps the order of equals: a counting sort. */
static void order_marks(int32_t *marks, size_t count, int32_t *scratch)
{
    size_t start[257] = {0};
    for (size_t i = 0; i < count; i++)
        start[mark_class(marks[i]) + 1]++;
    for (int k = 1; k <= 256; k++)
        start[k] += start[k - 1];
    for (size_t i = 0; i < count; i++)
        scratch[start[mark_class(marks[i])]++] = marks[i];
    memcpy(marks, scratch, count * sizeof *marks);
}

static void order(struct code_points *text)
{
    int32_t *scratch = malloc(text->count * sizeof *scratch + 1);
    CHECK(scratch, "no memory for %zu code points", text->count);
    for (size_t i = 0; i < text->count;) {
        size_t end = i;
        while (end < text->count && mark_class(text->at[end]))
            end++;
        if (end - i > 1)
            order_marks(text->at + i, end - i, scratch);
        i = end + 1;
    }
    free(scratch);
}

char *text_nfc(const char *text, size_t bytes, size_t *nfc_bytes)
{
    if (is_surely_nfc(text, bytes))
        return NULL;
    struct code_points points = {0};
    decompose(&points, text, bytes);
    order(&points);
    utf8proc_ssize_t count =
        utf8proc_normalize_utf32(points.at, (utf8proc_ssize_t)points.count,
                                 UTF8PROC_COMPOSE | UTF8PROC_STABLE); // STABLE: exclusions hold
    CHECK(count >= 0, "normalisation of valid text: %s", utf8proc_errmsg(count));
    char *nfc = malloc((size_t)count * 4 + 1);
    CHECK(nfc, "no memory for %td code points", (ptrdiff_t)count);
    *nfc_bytes = 0;
    for (utf8proc_ssize_t i = 0; i < count; i++)
        *nfc_bytes +=
            (size_t)utf8proc_encode_char(points.at[i], (utf8proc_uint8_t *)nfc + *nfc_bytes);
    free(points.at);
    return nfc;
}
