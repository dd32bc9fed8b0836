/* Text to token ids and back, as Hugging Face `tokenizers` does it from the same tokenizer.json:
 * NFC, the file's own pre-tokenizer pattern, byte-level BPE, added tokens.
 *
 * Every field of the file is honoured or refused by name; nothing that could change an id is passed
 * over in silence. One thing may differ, for code points newer than the library at hand: \p{...} in
 * a pattern follows PCRE2's version of Unicode. tests/model/test_tokenizer_split.c holds the list.
 *
 * A tokenizer is not changed by use: any number of threads may encode and decode with it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tokenizer;

/* Read a tokenizer.json. 0, or STATUS_BAD_FILE with *out untouched; fail() has then named the file,
 * the key, what was expected and what was found. `name` is what errors call the text. */
int tokenizer_open(struct tokenizer **out, const char *path);
int tokenizer_parse(struct tokenizer **out, const char *json, size_t bytes, const char *name);
void tokenizer_close(struct tokenizer *t); // NULL is legal

/* Ids of a text, which may hold U+0000; *ids is malloc'ed and the caller's. Bytes that are not
 * UTF-8 count as U+FFFD, like Python's errors="replace". Nothing is added in front or behind. A
 * byte that the vocabulary has no token for is left out (tokenizers does that; complete
 * vocabularies have all 256). STATUS_USAGE: the text is longer than 64 MiB. STATUS_BAD_FILE: the
 * file's pattern takes more than a fixed number of steps per byte on this text. */
int tokenizer_encode(const struct tokenizer *t, const char *text, size_t bytes, int32_t **ids,
                     size_t *count);

/* The text of some ids: malloc'ed UTF-8 and a 0 that *bytes (NULL: not wanted) does not count.
 * Bytes that form no character become U+FFFD. Ids without a token (the embedding's padding rows)
 * are nothing. Special tokens are left out on demand. */
char *tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t count,
                       bool skip_special, size_t *bytes);

/* The id of a token by its content (an added token, or a vocabulary entry as the file spells it),
 * -1 if there is none. */
int tokenizer_token_id(const struct tokenizer *t, const char *content);
int tokenizer_size(const struct tokenizer *t); // 1 + the largest id
bool tokenizer_is_special(const struct tokenizer *t, int32_t id);

/* The bytes that a token stands for, often only a part of a character; *bytes 0 for an id without
 * a token. Owned by the tokenizer. */
const char *tokenizer_token_bytes(const struct tokenizer *t, int32_t id, size_t *bytes);

/* Bytes in, whole characters out: never half a UTF-8 character. What the pushes and the end give,
 * put together, is what tokenizer_decode gives for the same tokens. Start from {0}. */
struct text_stream {
    char *text;   // what the last call completed, then a 0; owned by the stream
    size_t bytes; // of text
    size_t room;
    unsigned char held[4]; // the beginning of a character
    size_t held_bytes;
};
void text_stream_push(struct text_stream *s, const char *bytes, size_t count);
void text_stream_end(struct text_stream *s); // what is still held becomes U+FFFD
void text_stream_free(struct text_stream *s);
