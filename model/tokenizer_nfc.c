/* NFC as tokenizers does it. utf8proc does the decomposition and the composition. The ordering of
 * combining marks between them is done here, because utf8proc's takes quadratic time in the number
 * of marks on one letter.
 *
 * tokenizers has the tables of Unicode 9. A newer code point that takes part in normalisation is an
 * ordinary letter for it, and so it is here: it is not moved, not decomposed and not composed. (The
 * only exceptions: U+105D2 and U+105DA, which compose with U+0307 since Unicode 16, do so if
 * utf8proc is new enough.) */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/check.h"
#include "model/tokenizer_parts.h"

struct range {
    int32_t first, last;
};

/* Code points that take part in normalisation since Unicode 10 to 16. */
static const struct range newer[] = {
    {0x7fd, 0x7fd},     {0x897, 0x89f},     {0x8ca, 0x8d3},     {0x9fe, 0x9fe},
    {0xafa, 0xaff},     {0xb55, 0xb55},     {0xc04, 0xc04},     {0xc3c, 0xc3c},
    {0xcf3, 0xcf3},     {0xd00, 0xd00},     {0xd3b, 0xd3c},     {0xd81, 0xd81},
    {0xeba, 0xeba},     {0xece, 0xece},     {0x1715, 0x1715},   {0x180f, 0x180f},
    {0x1abf, 0x1ace},   {0x1cf7, 0x1cf7},   {0x1df6, 0x1dfa},   {0xa82c, 0xa82c},
    {0xa8ff, 0xa8ff},   {0x105c9, 0x105c9}, {0x105e4, 0x105e4}, {0x10d24, 0x10d27},
    {0x10d69, 0x10d6d}, {0x10eab, 0x10eac}, {0x10efc, 0x10eff}, {0x10f46, 0x10f50},
    {0x10f82, 0x10f85}, {0x11070, 0x11070}, {0x11073, 0x11074}, {0x110c2, 0x110c2},
    {0x11145, 0x11146}, {0x111ce, 0x111cf}, {0x11241, 0x11241}, {0x1133b, 0x1133b},
    {0x11383, 0x11383}, {0x11385, 0x11385}, {0x1138e, 0x1138e}, {0x11391, 0x11391},
    {0x113b8, 0x113c0}, {0x113c2, 0x113c2}, {0x113c5, 0x113c5}, {0x113c7, 0x113ca},
    {0x113cc, 0x113d0}, {0x113d2, 0x113d2}, {0x113e1, 0x113e2}, {0x1145e, 0x1145e},
    {0x1182c, 0x1183a}, {0x11930, 0x11935}, {0x11937, 0x11938}, {0x1193b, 0x1193e},
    {0x11940, 0x11940}, {0x11942, 0x11943}, {0x119d1, 0x119d7}, {0x119da, 0x119e0},
    {0x119e4, 0x119e4}, {0x11a01, 0x11a0a}, {0x11a33, 0x11a39}, {0x11a3b, 0x11a3e},
    {0x11a47, 0x11a47}, {0x11a51, 0x11a5b}, {0x11a8a, 0x11a99}, {0x11d31, 0x11d36},
    {0x11d3a, 0x11d3a}, {0x11d3c, 0x11d3d}, {0x11d3f, 0x11d45}, {0x11d47, 0x11d47},
    {0x11d8a, 0x11d8e}, {0x11d90, 0x11d91}, {0x11d93, 0x11d97}, {0x11ef3, 0x11ef6},
    {0x11f00, 0x11f01}, {0x11f03, 0x11f03}, {0x11f34, 0x11f3a}, {0x11f3e, 0x11f42},
    {0x11f5a, 0x11f5a}, {0x13440, 0x13440}, {0x13447, 0x13455}, {0x1611e, 0x1612f},
    {0x16d67, 0x16d6a}, {0x16f4f, 0x16f4f}, {0x16f7f, 0x16f87}, {0x16fe4, 0x16fe4},
    {0x16ff0, 0x16ff1}, {0x1cf00, 0x1cf2d}, {0x1cf30, 0x1cf46}, {0x1e08f, 0x1e08f},
    {0x1e130, 0x1e136}, {0x1e2ae, 0x1e2ae}, {0x1e2ec, 0x1e2ef}, {0x1e4ec, 0x1e4ef},
    {0x1e5ee, 0x1e5ef}};

static bool is_newer(int32_t c)
{
    size_t low = 0, high = sizeof newer / sizeof *newer;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (c > newer[middle].last)
            low = middle + 1;
        else
            high = middle;
    }
    return low < sizeof newer / sizeof *newer && c >= newer[low].first;
}

/* True if no byte is 0xcc or more, that is if all code points are below U+0300. Those are not
 * changed by NFC, unless a code point from U+0300 on follows. */
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
    enum { MOST_PARTS = 8 }; // of a code point's decomposition; Unicode has 4 at most
    for (size_t i = 0; i < bytes; i += utf8_first(text + i, bytes - i)) {
        if (out->room - out->count < MOST_PARTS) {
            out->room = out->room * 2 + bytes + MOST_PARTS;
            out->at = realloc(out->at, out->room * sizeof *out->at);
            CHECK_MEMORY(out->at, "no memory for %zu code points", out->room);
        }
        int32_t c = utf8_code_point(text + i, bytes - i);
        if (is_newer(c)) {
            out->at[out->count++] = c;
            continue;
        }
        int boundary = 0;
        utf8proc_ssize_t n =
            utf8proc_decompose_char(utf8_code_point(text + i, bytes - i), out->at + out->count,
                                    MOST_PARTS, UTF8PROC_DECOMPOSE, &boundary);
        CHECK(n >= 0 && n <= MOST_PARTS, "a code point of %td parts", (ptrdiff_t)n);
        out->count += (size_t)n;
    }
}

static int mark_class(int32_t c)
{
    return is_newer(c) ? 0 : utf8proc_get_property(c)->combining_class; // 0: not a mark
}

/* Sort marks by their class, and keep the order of marks of one class: a counting sort. */
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
    CHECK_MEMORY(scratch, "no memory for %zu code points", text->count);
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

/* Compose the text in parts that each begin with a newer code point, so that it does not compose
 * with what comes before it. */
static void compose(struct code_points *text)
{
    size_t count = 0;
    for (size_t i = 0, end; i < text->count; i = end) {
        for (end = i + 1; end < text->count && !is_newer(text->at[end]);)
            end++;
        utf8proc_ssize_t n = utf8proc_normalize_utf32(
            text->at + i, (utf8proc_ssize_t)(end - i),
            UTF8PROC_COMPOSE | UTF8PROC_STABLE); // STABLE: respects the exclusions
        CHECK(n >= 0, "normalisation of valid text: %s", utf8proc_errmsg(n));
        memmove(text->at + count, text->at + i, (size_t)n * sizeof *text->at);
        count += (size_t)n;
    }
    text->count = count;
}

char *text_nfc(const char *text, size_t bytes, size_t *nfc_bytes)
{
    if (is_surely_nfc(text, bytes))
        return NULL;
    struct code_points points = {0};
    decompose(&points, text, bytes);
    order(&points);
    compose(&points);
    char *nfc = malloc(points.count * 4 + 1);
    CHECK_MEMORY(nfc, "no memory for %zu code points", points.count);
    *nfc_bytes = 0;
    for (size_t i = 0; i < points.count; i++) {
        utf8proc_uint8_t *end = (utf8proc_uint8_t *)nfc + *nfc_bytes;
        *nfc_bytes += (size_t)utf8proc_encode_char(points.at[i], end);
    }
    free(points.at);
    return nfc;
}
