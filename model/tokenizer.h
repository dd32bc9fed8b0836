/* Converts text to token ids and back, as Hugging Face `tokenizers` does by the same
 * tokenizer.json. Two kinds are read: byte-level BPE with NFC and the file's own pre-tokenizer
 * pattern (Qwen, OLMoE), and BPE of characters with marks for spaces and tokens for the bytes of
 * other characters, as converted from SentencePiece (Mixtral, Llama 2); both with added tokens.
 *
 * Every field of the file is either followed or refused, with its name in the error; no field that
 * could change an id is ignored. Ids may differ for code points that are newer than the Unicode
 * version of the PCRE2 library, where a pattern has \p{...}; tests/model/test_tokenizer_split.c
 * lists them. So they may beside an added token with single_word, for those newer than utf8proc's.
 *
 * Encoding and decoding do not change a tokenizer: any number of threads may use it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tokenizer;

/* Read a tokenizer.json. 0, or STATUS_BAD_FILE with *out untouched; fail() has then named the file,
 * the key, what was expected and what was found. `name` is what errors call the text. */
int tokenizer_open(struct tokenizer **out, const char *path);
/* The same of a model's directory, with what its tokenizer_config.json, if there is one, says about
 * tokens, as AutoTokenizer takes it; without a tokenizer.json, of vocab.json and merges.txt. */
int tokenizer_open_model(struct tokenizer **out, const char *dir);
int tokenizer_parse(struct tokenizer **out, const char *json, size_t bytes, const char *name);
void tokenizer_close(struct tokenizer *t); // NULL is legal

/* *ids := the ids of a text, malloc'ed; the caller frees them. The text may hold U+0000. Bytes that
 * are not UTF-8 become U+FFFD, as with Python's errors="replace". No token is added at the
 * beginning or the end. A byte that the vocabulary has no token for is left out, as tokenizers does
 * (complete vocabularies have tokens for all 256). STATUS_USAGE: the text is longer than 64 MiB.
 * STATUS_BAD_FILE: the file's pattern takes more than a fixed number of steps per byte on this
 * text. */
int tokenizer_encode(const struct tokenizer *t, const char *text, size_t bytes, int32_t **ids,
                     size_t *count);

/* The same ids with those that the file's post-processor puts before a text and after it, such as
 * Mixtral's <s>: for a text that is a prompt, and not one that a chat template has made. */
int tokenizer_encode_prompt(const struct tokenizer *t, const char *text, size_t bytes,
                            int32_t **ids, size_t *count);

/* The text of ids: malloc'ed UTF-8, with a 0 at the end that *bytes does not count; bytes may be
 * NULL. Bytes that form no character become U+FFFD, one for the longest
 * beginning of a character; tokenizers differs where tokens of single bytes (<0xHH>) are in a row
 * that is not UTF-8 as a whole: it makes a U+FFFD of each byte of the row, also of those that form
 * characters, which here are shown. Ids without a token (those of the embedding's
 * padding rows) are left out, and with skip_special so are special tokens. */
char *tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t count,
                       bool skip_special, size_t *bytes);

/* How many bytes at the beginning of a whole text decoding leaves out: with SentencePiece's marks
 * the space that stands for the mark before the first word. The text of tokens that continue
 * another text keeps it. */
size_t tokenizer_left_out(const struct tokenizer *t, const char *text, size_t bytes);

bool tokenizer_is_special(const struct tokenizer *t, int32_t id);

/* The bytes that a token stands for, which may be a part of a character; *bytes := 0 for an id
 * without a token. Owned by the tokenizer. */
const char *tokenizer_token_bytes(const struct tokenizer *t, int32_t id, size_t *bytes);

/* Takes bytes in any pieces and gives whole UTF-8 characters. What all pushes and the end give
 * together is the text that tokenizer_decode gives for the same tokens, but for what
 * tokenizer_left_out() says of its beginning. Initialise with {0}. */
struct text_stream {
    char *text;   // the characters that the last call completed, then a 0; owned by the stream
    size_t bytes; // of text
    size_t room;
    unsigned char held[4]; // the beginning of a character that is not complete
    size_t held_bytes;
};
void text_stream_push(struct text_stream *s, const char *bytes, size_t count);
void text_stream_end(struct text_stream *s); // held bytes become U+FFFD
void text_stream_free(struct text_stream *s);
