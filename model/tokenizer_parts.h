/* What the tokenizer's own files share; nobody else includes this.
 *
 *   tokenizer.c          the calls of tokenizer.h: the stages of encoding in order, decoding
 *   tokenizer_load.c     tokenizer.json, field by field: tokenizer_fields.h, tokenizer_entries.c
 *   tokenizer_vocab.c    token <-> id, and the alphabet that spells bytes as letters
 *   tokenizer_added.c    added tokens: found in a text before anything else happens to it
 *   tokenizer_text.c     UTF-8
 *   tokenizer_nfc.c      NFC
 *   tokenizer_pattern.c  the file's pattern, from Oniguruma's dialect to PCRE2's
 *   tokenizer_split.c    the pattern at work: a text into pieces
 *   tokenizer_bpe.c      a piece into ids */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "model/tokenizer.h"

enum {
    MAX_SPLITS = 16,
    MAX_ADDED_BYTES = 1024,
    MAX_TOKEN_ID = (1 << 24) - 1,
    MAX_TEXT_BYTES = 64 << 20
};

/* Growing arrays. */
struct bytes {
    char *at;
    size_t count, room;
};
struct id_list {
    int32_t *at;
    size_t count, room;
};
void bytes_reserve(struct bytes *b, size_t more); // room for more after count
void bytes_push(struct bytes *b, const char *more, size_t count);
void id_list_push(struct id_list *l, int32_t id);

struct token {
    const char *key;  // as the file spells it; NULL: no token has this id
    const char *text; // the bytes it stands for
    uint32_t key_bytes, text_bytes;
    bool in_model;       // model.vocab has it: BPE may make it
    bool added, special; // as the file says
    bool skipped;        // by a decoder that leaves out special tokens
};

struct vocabulary {
    struct token *tokens; // [size], by id
    int size;
    int32_t *slots; // [slot_mask + 1]: key -> id by open addressing, -1: free
    size_t slot_mask;
    int32_t byte_ids[256]; // the token that is this one byte, -1: none
};

/* A power of two that keeps a hash table of this many entries at most half full. */
size_t table_slots(size_t entries);
void vocabulary_build(struct vocabulary *v, struct arena *memory, size_t most_tokens, int size);
void vocabulary_insert(struct vocabulary *v, int32_t id); // tokens[id] is filled, its key is new
int32_t vocabulary_find(const struct vocabulary *v, const char *key, size_t bytes);
void vocabulary_find_bytes(struct vocabulary *v); // fills byte_ids

/* GPT-2's alphabet: a printable letter for each byte, of one or two bytes of UTF-8. */
size_t alphabet_spell(const char *text, size_t bytes, char *out); // out: room for 2 * bytes
/* The bytes that a key stands for; its own bytes if a letter of it is not in the alphabet. */
size_t alphabet_read(const char *key, size_t bytes, char *out); // out: room for bytes

struct merge {
    int32_t left, right; // left -1: a free slot
    int32_t result;
    uint32_t rank; // lower merges first
};
struct merge_table {
    struct merge *slots; // [slot_mask + 1], by (left, right)
    int32_t *results;    // [most_merges], by rank
    size_t slot_mask;
};
void merge_table_build(struct merge_table *m, struct arena *memory, size_t most_merges);
void merge_table_put(struct merge_table *m,
                     struct merge merge); // replaces a merge of the same pair

struct added_token {
    const char *pattern; // what is looked for: the content, or NFC of it
    uint32_t pattern_bytes;
    int32_t id;
    bool strip_left, strip_right; // takes in the white space on that side
};
struct trie_node {
    int32_t child, sibling; // -1: none
    int32_t added;          // index of the added token that ends here, -1: none
    unsigned char byte;
};
struct trie {
    struct trie_node *nodes;
    int32_t count;
    int32_t first[256]; // node of a pattern's first byte, -1: none
    const struct added_token *added;
};
void trie_build(struct trie *t, struct arena *memory, const struct added_token *added,
                size_t pattern_bytes);
bool trie_add(struct trie *t, int32_t index); // false: the same pattern is there already

struct tokenizer {
    struct arena memory;
    struct vocabulary vocabulary;
    struct merge_table merges;
    bool nfc, ignore_merges;
    struct added_token *added;
    struct trie before_nfc, after_nfc;        // added tokens with normalized false, true
    struct split_pattern *splits[MAX_SPLITS]; // one after the other
    int n_splits;
};

/* tokenizer_load.c: fill a zeroed tokenizer. On an error it may be half full: tokenizer_close. */
struct js;
int tokenizer_read(struct tokenizer *t, const struct js *root, const char *name);

/* The scratch of one call of tokenizer_encode. */
struct encoding {
    const struct tokenizer *t;
    struct id_list ids;
    struct split_scratch *split;
    struct bpe_scratch *bpe;
};

/* Calls in each added token and the text around it, in order; 0 or the first error. */
typedef int encode_text(struct encoding *e, const char *text, size_t bytes);
int added_split(struct encoding *e, const struct trie *t, const char *text, size_t bytes,
                encode_text *rest);

/* The text's pieces after all patterns, in order. */
int split_text(struct encoding *e, const char *text, size_t bytes, encode_text *piece);
struct split_scratch *split_scratch_new(const struct tokenizer *t, size_t text_bytes);
void split_scratch_free(struct split_scratch *s);
/* NULL: fail() has been called with `name` (file) and `where` (key). */
struct split_pattern *split_pattern_new(const char *name, const char *where, const char *pattern,
                                        size_t bytes, bool literal);
void split_pattern_free(struct split_pattern *p);

/* PCRE2's spelling of an Oniguruma pattern, appended to out. False: *why says what stands at byte
 * *at that the two engines may read differently. */
bool pattern_translate(struct bytes *out, const char *pattern, size_t bytes, const char **why,
                       size_t *at);

int bpe_piece(struct encoding *e, const char *piece, size_t bytes);
struct bpe_scratch *bpe_scratch_new(void);
void bpe_scratch_free(struct bpe_scratch *s);

/* True for UTF-8 without a flaw. */
bool utf8_valid(const char *text, size_t bytes);
int32_t utf8_code_point(const char *text, size_t bytes); // a valid text's first character
size_t utf8_first(const char *text, size_t bytes);       // and its bytes
/* NFC of valid UTF-8, malloc'ed; NULL if the text is seen at a glance to be in NFC already. */
char *text_nfc(const char *text, size_t bytes, size_t *nfc_bytes);
/* Bytes of white space (Unicode's White_Space) at the end and at the beginning of valid UTF-8. */
size_t space_at_end(const char *text, size_t bytes);
size_t space_at_start(const char *text, size_t bytes);
