/* The vocabulary: tokens by id, ids by key, and GPT-2's alphabet, which writes each byte as a
 * printable letter: 188 bytes as the code point of the same number, the others as U+0100 and up. */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "model/tokenizer_parts.h"

size_t table_slots(size_t entries)
{
    size_t slots = 16;
    while (slots < entries * 2)
        slots *= 2;
    return slots;
}

void vocabulary_build(struct vocabulary *v, struct arena *memory, size_t most_tokens, int size)
{
    v->size = size;
    v->tokens = arena_alloc(memory, (size_t)size * sizeof *v->tokens);
    size_t slots = table_slots(most_tokens);
    v->slot_mask = slots - 1;
    v->slots = arena_alloc(memory, slots * sizeof *v->slots);
    memset(v->slots, 0xff, slots * sizeof *v->slots);
}

/* The slot of a key, or the free one where it belongs. */
static size_t find_slot(const struct vocabulary *v, const char *key, size_t bytes)
{
    size_t i = hash_bytes(HASH_START, key, bytes) & v->slot_mask;
    for (; v->slots[i] >= 0; i = (i + 1) & v->slot_mask) {
        const struct token *token = &v->tokens[v->slots[i]];
        if (token->key_bytes == bytes && memcmp(token->key, key, bytes) == 0)
            break;
    }
    return i;
}

void vocabulary_insert(struct vocabulary *v, int32_t id)
{
    size_t slot = find_slot(v, v->tokens[id].key, v->tokens[id].key_bytes);
    CHECK(v->slots[slot] < 0, "token %d is there twice", id);
    v->slots[slot] = id;
}

int32_t vocabulary_find(const struct vocabulary *v, const char *key, size_t bytes)
{
    return v->slots[find_slot(v, key, bytes)];
}

static bool prints(int byte)
{
    return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte != 0xad);
}

/* The letter of a byte: the code point of the same number if that is printable, else the next free
 * one from 256 on. */
static int letter_of(int byte)
{
    int unprinted = 0;
    if (prints(byte))
        return byte;
    for (int b = 0; b < byte; b++)
        unprinted += !prints(b);
    return 256 + unprinted;
}

struct alphabet {
    char letters[256][2]; // UTF-8
    unsigned char letter_bytes[256];
    int16_t byte_of[512]; // by letter, -1: none
};

/* The tables of the alphabet. Each thread makes its own, so no lock is needed. */
static const struct alphabet *alphabet(void)
{
    static _Thread_local struct alphabet a;
    if (a.letter_bytes[0])
        return &a;
    memset(a.byte_of, 0xff, sizeof a.byte_of);
    for (int b = 255; b >= 0; b--) {
        int letter = letter_of(b);
        a.byte_of[letter] = (int16_t)b;
        a.letter_bytes[b] = letter < 0x80 ? 1 : 2;
        a.letters[b][0] = (char)(letter < 0x80 ? letter : 0xc0 | letter >> 6);
        a.letters[b][1] = (char)(0x80 | (letter & 0x3f));
    }
    return &a;
}

void vocabulary_find_bytes(struct vocabulary *v)
{
    const struct alphabet *a = alphabet();
    for (int b = 0; b < 256; b++) {
        char spelled[8];
        snprintf(spelled, sizeof spelled, "<0x%02X>", (unsigned)b);
        v->byte_ids[b] = v->characters ? vocabulary_find(v, spelled, 6)
                                       : vocabulary_find(v, a->letters[b], a->letter_bytes[b]);
    }
}

size_t alphabet_spell(const char *text, size_t bytes, char *out)
{
    const struct alphabet *a = alphabet();
    size_t n = 0;
    for (size_t i = 0; i < bytes; i++) {
        unsigned char byte = (unsigned char)text[i];
        memcpy(out + n, a->letters[byte],
               2); // of a one-byte letter the second byte is overwritten next
        n += a->letter_bytes[byte];
    }
    return n;
}

/* The byte that the letter at key[*i] stands for, -1 if it is not in the alphabet; moves *i past
 * it. */
static int read_letter(const struct alphabet *a, const char *key, size_t bytes, size_t *i)
{
    unsigned char c = (unsigned char)key[(*i)++];
    if (c < 0x80)
        return a->byte_of[c];
    if (c > 0xc7 || *i == bytes) // 0xc8 begins U+0200, beyond the alphabet
        return -1;
    return a->byte_of[(c & 0x1f) << 6 | ((unsigned char)key[(*i)++] & 0x3f)];
}

size_t alphabet_read(const char *key, size_t bytes, char *out)
{
    const struct alphabet *a = alphabet();
    size_t n = 0;
    for (size_t i = 0; i < bytes;) {
        int byte = read_letter(a, key, bytes, &i);
        if (byte < 0) {
            memcpy(out, key, bytes);
            return bytes;
        }
        out[n++] = (char)byte;
    }
    return n;
}
