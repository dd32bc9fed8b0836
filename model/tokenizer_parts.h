/* What the tokenizer's own files share. No other file includes this.
 *
 *   tokenizer.c          the calls of tokenizer.h: the stages of encoding in order, decoding
 *   tokenizer_load.c     tokenizer.json, field by field: tokenizer_fields.h, tokenizer_entries.c
 *   tokenizer_vocab.c    token <-> id, and the alphabet that writes bytes as letters
 *   tokenizer_files.c    makes the same of vocab.json and merges.txt (tokenizer_files.h)
 *   tokenizer_added.c    added tokens: found in a text before it is split
 *   tokenizer_text.c     UTF-8
 *   tokenizer_nfc.c      NFC
 *   tokenizer_spaces.c   spaces as SentencePiece writes them
 *   tokenizer_pattern.c  the file's pattern, from Oniguruma's dialect to PCRE2's
 *   tokenizer_split.c    splits a text into pieces by the patterns
 *   tokenizer_bpe.c      a piece into ids */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "model/tokenizer.h"

enum {
    MAX_SPLITS = 16,
    MAX_AROUND = 8, // tokens that a post-processor puts before a text, or after it
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
void bytes_reserve(struct bytes *b, size_t more); // makes room for `more` items after count
void bytes_push(struct bytes *b, const char *more, size_t count);
void id_list_push(struct id_list *l, int32_t id);

struct token {
    const char *key;  // as the file spells it; NULL: no token has this id
    const char *text; // the bytes it stands for
    uint32_t key_bytes, text_bytes;
    bool in_model;       // model.vocab has it, so BPE may make it
    bool added, special; // as the file says
    bool skipped;        // decoding with skip_special leaves it out
};

struct vocabulary {
    struct token *tokens; // [size], by id
    int size;
    int32_t *slots; // [slot_mask + 1] a hash table of ids by key, with open addressing; -1: free
    size_t slot_mask;
    int32_t byte_ids[256]; // the token of each single byte, -1: none
    bool characters;       // keys are characters, and <0xHH> for bytes, not GPT-2's letters
};

/* A power of two that keeps a hash table of this many entries at most half full. */
size_t table_slots(size_t entries);
void vocabulary_build(struct vocabulary *v, struct arena *memory, size_t most_tokens, int size);
void vocabulary_insert(struct vocabulary *v, int32_t id); // tokens[id] is filled, its key is new
int32_t vocabulary_find(const struct vocabulary *v, const char *key, size_t bytes);
void vocabulary_find_bytes(struct vocabulary *v); // fills byte_ids; characters is set

/* GPT-2's alphabet writes each byte as a printable letter of one or two bytes of UTF-8. Write
 * `bytes` bytes in it; returns the length. */
size_t alphabet_spell(const char *text, size_t bytes, char *out); // out: room for 2 * bytes
/* The bytes that the letters of a key stand for; if one is not in the alphabet, the key itself. */
size_t alphabet_read(const char *key, size_t bytes, char *out); // out: room for bytes

/* SentencePiece writes a space as this letter, U+2581, so that a token may have spaces in it. */
#define SPACE_MARK "\xe2\x96\x81"
enum { SPACE_MARK_BYTES = sizeof SPACE_MARK - 1 };
/* The text of a key in which spaces are marks and <0xHH> is a byte. Returns its length. */
size_t spaces_read(const char *key, size_t bytes, char *out); // out: room for bytes

struct merge {
    int32_t left, right; // left -1: a free slot
    int32_t result;
    uint32_t rank; // merges of lower rank are done first
};
struct merge_table {
    struct merge *slots; // [slot_mask + 1], by (left, right)
    int32_t *results;    // [most_merges], by rank
    size_t slot_mask;
};
void merge_table_build(struct merge_table *m, struct arena *memory, size_t most_merges);
/* Add a merge; it replaces one of the same pair. */
void merge_table_put(struct merge_table *m, struct merge merge);

struct added_token {
    const char *pattern; // what is looked for: the content, or its NFC
    uint32_t pattern_bytes;
    int32_t id;
    bool single_word;             // counts only where no letter or digit is beside it
    bool strip_left, strip_right; // includes the white space on that side
};
struct trie_node {
    int32_t child, sibling; // -1: none
    int32_t added;          // index of the added token that ends here, -1: none
    unsigned char byte;
};
struct trie {
    struct trie_node *nodes;
    int32_t count;
    int32_t first[256]; // the node of each first byte, -1: none
    const struct added_token *added;
};
void trie_build(struct trie *t, struct arena *memory, const struct added_token *added,
                size_t pattern_bytes);
bool trie_add(struct trie *t, int32_t index); // false: the trie has the same pattern already

/* The pre-tokenizer of SentencePiece's kind: spaces become marks, and one is put before the text
 * between added tokens, unless it begins with one: never, where the whole text begins, always. */
enum metaspace { NO_METASPACE, METASPACE_NEVER, METASPACE_FIRST, METASPACE_ALWAYS };

struct tokenizer {
    struct arena memory;
    struct vocabulary vocabulary;
    struct merge_table merges;
    bool nfc, mark_first,
        mark_spaces; // the normaliser: NFC, a mark before a text, marks for spaces
    enum metaspace metaspace;
    bool cut_at_marks; // the metaspace pre-tokenizer begins a piece at each mark
    struct split_pattern *splits[MAX_SPLITS]; // applied one after the other
    int n_splits;
    bool ignore_merges, byte_fallback, fuse_unknown;
    int32_t unknown; // the token of characters that have none, -1: they are left out
    struct added_token *added;
    struct trie before_normal, after_normal;       // added tokens with normalized false, true
    int32_t before[MAX_AROUND], after[MAX_AROUND]; // what the post-processor puts around a text
    int n_before, n_after;
    bool strip_first; // decoding leaves out a space at the beginning of a text
};

/* Fill a zeroed tokenizer (tokenizer_load.c); extra: more added tokens (tokenizer_config.h), or
 * NULL. After an error, too, the caller must call tokenizer_close(). */
struct js;
int tokenizer_read(struct tokenizer *t, const struct js *root, const char *name,
                   const struct js *extra);

/* The scratch of one call of tokenizer_encode. */
struct encoding {
    const struct tokenizer *t;
    const char *start; // where the whole text begins; NULL: in no text of this stage
    struct id_list ids;
    struct split_scratch *split;
    struct bpe_scratch *bpe;
};

/* A function that encodes a piece of text. */
typedef int encode_text(struct encoding *e, const char *text, size_t bytes);
/* Add the ids of the added tokens in a text, and call `rest` for each text between them, in order.
 * 0 or the first error. */
int added_split(struct encoding *e, const struct trie *t, const char *text, size_t bytes,
                encode_text *rest);

/* Call `piece` for each piece that all patterns together cut the text into, in order. */
int split_text(struct encoding *e, const char *text, size_t bytes, encode_text *piece);
struct split_scratch *split_scratch_new(const struct tokenizer *t, size_t text_bytes);
void split_scratch_free(struct split_scratch *s);
/* Compile a pattern; with `literal`, text to be found as it is. NULL after fail(), with the file
 * `name` and the key `where` in the error. */
struct split_pattern *split_pattern_new(const char *name, const char *where, const char *pattern,
                                        size_t bytes, bool literal);
void split_pattern_free(struct split_pattern *p);

/* PCRE2's spelling of an Oniguruma pattern, appended to out. False: *why says what stands at byte
 * *at that the two engines may read differently. */
bool pattern_translate(struct bytes *out, const char *pattern, size_t bytes, const char **why,
                       size_t *at);

/* The pieces that the metaspace pre-tokenizer makes of a text, to bpe_piece(). */
int metaspace_pieces(struct encoding *e, const char *text, size_t bytes);

int bpe_piece(struct encoding *e, const char *piece, size_t bytes);
struct bpe_scratch *bpe_scratch_new(void);
void bpe_scratch_free(struct bpe_scratch *s);

bool utf8_valid(const char *text, size_t bytes);
int32_t utf8_code_point(const char *text, size_t bytes); // the first character of valid UTF-8
size_t utf8_first(const char *text, size_t bytes);       // how many bytes that character has
/* The NFC of valid UTF-8, malloc'ed; NULL if the text certainly is in NFC. */
char *text_nfc(const char *text, size_t bytes, size_t *nfc_bytes);
/* What the normaliser makes of valid UTF-8, malloc'ed; NULL: the text itself. */
char *tokenizer_normalize(const struct tokenizer *t, const char *text, size_t bytes,
                          size_t *normal_bytes);
/* How many bytes of white space (Unicode's White_Space) valid UTF-8 has at its end, and at its
 * beginning. */
size_t space_at_end(const char *text, size_t bytes);
size_t space_at_start(const char *text, size_t bytes);
/* Is the last, or the first, character of valid UTF-8 one of a word (Unicode's \w, UTS 18)? */
bool word_at_end(const char *text, size_t bytes);
bool word_at_start(const char *text, size_t bytes);
