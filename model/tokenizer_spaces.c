/* Spaces as SentencePiece writes them. In its vocabularies a space is the letter U+2581, the mark,
 * and a word begins with one; so a mark is put before a text that begins with a word. A
 * tokenizer.json says this in one of two ways: as normalisers (Prepend and Replace), before added
 * tokens with `normalized` are found, or as the pre-tokenizer Metaspace, after that. */
#include <stdlib.h>
#include <string.h>

#include "model/tokenizer_parts.h"

/* *out := the text, with a mark before it and a mark for each space, as asked for. */
static void put_marks(struct bytes *out, const char *text, size_t bytes, bool first, bool spaces)
{
    if (first)
        bytes_push(out, SPACE_MARK, SPACE_MARK_BYTES);
    for (size_t i = 0, end; i < bytes; i = end) {
        const char *space = spaces ? memchr(text + i, ' ', bytes - i) : NULL;
        end = space ? (size_t)(space - text) : bytes;
        bytes_push(out, text + i, end - i);
        if (space)
            bytes_push(out, SPACE_MARK, SPACE_MARK_BYTES);
        end += space != NULL;
    }
}

char *tokenizer_normalize(const struct tokenizer *t, const char *text, size_t bytes,
                          size_t *normal_bytes)
{
    size_t nfc_bytes = bytes;
    char *nfc = t->nfc ? text_nfc(text, bytes, &nfc_bytes) : NULL;
    struct bytes marked = {0};
    *normal_bytes = nfc_bytes;
    if (!t->mark_first && !t->mark_spaces)
        return nfc;
    put_marks(&marked, nfc ? nfc : text, nfc_bytes, t->mark_first, t->mark_spaces);
    free(nfc);
    *normal_bytes = marked.count;
    return marked.at;
}

static bool is_mark(const char *text, size_t bytes)
{
    return bytes >= SPACE_MARK_BYTES && memcmp(text, SPACE_MARK, SPACE_MARK_BYTES) == 0;
}

/* A piece from each mark to the next. */
static int cut_at_marks(struct encoding *e, const char *text, size_t bytes)
{
    int status = 0;
    for (size_t start = 0, end; start < bytes && !status; start = end) {
        size_t from = start + (is_mark(text + start, bytes - start) ? SPACE_MARK_BYTES : 0);
        const char *next = memmem(text + from, bytes - from, SPACE_MARK, SPACE_MARK_BYTES);
        end = next ? (size_t)(next - text) : bytes;
        status = bpe_piece(e, text + start, end - start);
    }
    return status;
}

int metaspace_pieces(struct encoding *e, const char *text, size_t bytes)
{
    const struct tokenizer *t = e->t;
    bool begins_with_one = text[0] == ' ' || is_mark(text, bytes);
    bool wanted =
        t->metaspace == METASPACE_ALWAYS || (t->metaspace == METASPACE_FIRST && text == e->start);
    struct bytes marked = {0};
    put_marks(&marked, text, bytes, wanted && !begins_with_one, true);
    int status = t->cut_at_marks ? cut_at_marks(e, marked.at, marked.count)
                                 : bpe_piece(e, marked.at, marked.count);
    free(marked.at);
    return status;
}

static int hex_digit(char c)
{
    static const char digits[] = "0123456789abcdefABCDEF";
    const char *found = c ? strchr(digits, c) : NULL;
    int value = found ? (int)(found - digits) : -1;
    return value < 16 ? value : value - 6;
}

size_t spaces_read(const char *key, size_t bytes, char *out)
{
    size_t n = 0;
    if (bytes == 6 && memcmp(key, "<0x", 3) == 0 && key[5] == '>' && hex_digit(key[3]) >= 0 &&
        hex_digit(key[4]) >= 0) {
        out[0] = (char)(hex_digit(key[3]) << 4 | hex_digit(key[4]));
        return 1;
    }
    for (size_t i = 0, step; i < bytes; i += step) {
        bool mark = is_mark(key + i, bytes - i);
        step = mark ? SPACE_MARK_BYTES : 1;
        out[n++] = mark ? ' ' : key[i];
    }
    return n;
}
