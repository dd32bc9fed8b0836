/* The calls of tokenizer.h. Encoding has these stages, each of which works on the text that the one
 * before it left: find added tokens in the raw text, normalise, find added tokens in the normalised
 * text, split it by the pre-tokenizer, BPE. */
#include "model/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "model/tokenizer_config.h"
#include "model/tokenizer_files.h"
#include "model/tokenizer_parts.h"

enum { MAX_FILE_BYTES = 256 << 20 };

/* Owns root and config. Without a config (NULL) the tokens of tokenizer.json are all. */
static int read_tree(struct tokenizer **out, struct js *root, const char *name, struct js *config,
                     const char *config_name)
{
    struct js *extra = NULL;
    struct tokenizer *t = calloc(1, sizeof *t);
    CHECK_MEMORY(t, "no memory for a tokenizer");
    int status = root ? 0 : STATUS_BAD_FILE;
    if (!status && config)
        status =
            tokenizer_config_tokens(&extra, config, config_name, js_member(root, "added_tokens"));
    if (!status)
        status = tokenizer_read(t, root, name, extra);
    if (!status && config)
        status = tokenizer_config_agrees(t, config, config_name);
    js_free(root);
    js_free(extra);
    js_free(config);
    if (status) {
        tokenizer_close(t);
        return status;
    }
    *out = t;
    return 0;
}

int tokenizer_open(struct tokenizer **out, const char *path)
{
    return read_tree(out, js_load(path, MAX_FILE_BYTES), path, NULL, NULL);
}

/* vocab.json and merges.txt in place of a tokenizer.json. */
static int open_files(struct tokenizer **out, const char *dir, const struct js *said,
                      const char *config_name)
{
    struct js *root, *config;
    char *name = path_join(dir, "vocab.json with merges.txt");
    int status = tokenizer_files_read(&root, &config, dir, said, config_name);
    if (!status)
        status = read_tree(out, root, name, config, config_name);
    free(name);
    return status;
}

int tokenizer_open_model(struct tokenizer **out, const char *dir)
{
    char *path = path_join(dir, "tokenizer.json"),
         *config = path_join(dir, "tokenizer_config.json");
    struct js *said = NULL;
    int status = 0;
    if (file_exists(config)) {
        said = js_load(config, MAX_FILE_BYTES);
        status = said ? 0 : STATUS_BAD_FILE;
    }
    if (!status && !file_exists(path) && tokenizer_files_exist(dir)) {
        status = open_files(out, dir, said, config);
        js_free(said);
    } else if (!status && !file_exists(path) && file_exists_in(dir, "tokenizer.model")) {
        status = fail(STATUS_BAD_FILE,
                      "%s: expected a tokenizer.json, found tokenizer.model alone: transformers' "
                      "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR) makes one of it",
                      dir);
        js_free(said);
    } else if (!status) {
        status = read_tree(out, js_load(path, MAX_FILE_BYTES), path, said, config);
    }
    free(path);
    free(config);
    return status;
}

int tokenizer_parse(struct tokenizer **out, const char *json, size_t bytes, const char *name)
{
    return read_tree(out, js_parse(json, bytes, name), name, NULL, NULL);
}

void tokenizer_close(struct tokenizer *t)
{
    if (!t)
        return;
    for (int i = 0; i < t->n_splits; i++)
        split_pattern_free(t->splits[i]);
    arena_free(&t->memory);
    free(t);
}

static int encode_pieces(struct encoding *e, const char *text, size_t bytes)
{
    return e->t->metaspace ? metaspace_pieces(e, text, bytes)
                           : split_text(e, text, bytes, bpe_piece);
}

/* Encode text that lies between the added tokens of the raw text. */
static int encode_normalized(struct encoding *e, const char *text, size_t bytes)
{
    size_t normal_bytes = bytes;
    char *made = tokenizer_normalize(e->t, text, bytes, &normal_bytes);
    const char *normal = made ? made : text, *start = e->start;
    e->start = text == start ? normal : NULL;
    int status = added_split(e, &e->t->after_normal, normal, normal_bytes, encode_pieces);
    e->start = start;
    free(made);
    return status;
}

static int encode_valid(const struct tokenizer *t, const char *text, size_t bytes, int32_t **ids,
                        size_t *count)
{
    struct encoding e = {
        .t = t,
        .start = text,
        .split = split_scratch_new(t, bytes),
        .bpe = bpe_scratch_new(),
    };
    int status = added_split(&e, &t->before_normal, text, bytes, encode_normalized);
    split_scratch_free(e.split);
    bpe_scratch_free(e.bpe);
    if (status) {
        free(e.ids.at);
        return status;
    }
    if (!e.ids.at) { // the caller gets an array to free even if there are no ids
        e.ids.at = malloc(1);
        CHECK_MEMORY(e.ids.at, "no memory for no ids");
    }
    *ids = e.ids.at;
    *count = e.ids.count;
    return 0;
}

int tokenizer_encode(const struct tokenizer *t, const char *text, size_t bytes, int32_t **ids,
                     size_t *count)
{
    if (bytes > MAX_TEXT_BYTES)
        return fail(STATUS_USAGE, "a text: expected at most %d bytes, found %zu", MAX_TEXT_BYTES,
                    bytes);
    if (utf8_valid(text, bytes))
        return encode_valid(t, text, bytes, ids, count);
    struct text_stream mended = {0};
    struct bytes whole = {0};
    text_stream_push(&mended, text, bytes);
    bytes_push(&whole, mended.text, mended.bytes);
    text_stream_end(&mended);
    bytes_push(&whole, mended.text, mended.bytes);
    int status = encode_valid(t, whole.at, whole.count, ids, count);
    text_stream_free(&mended);
    free(whole.at);
    return status;
}

int tokenizer_encode_prompt(const struct tokenizer *t, const char *text, size_t bytes,
                            int32_t **ids, size_t *count)
{
    size_t n = 0, before = (size_t)t->n_before, after = (size_t)t->n_after;
    int32_t *inner;
    int status = tokenizer_encode(t, text, bytes, &inner, &n);
    if (status)
        return status;
    int32_t *all = malloc((before + n + after + 1) * sizeof *all);
    CHECK_MEMORY(all, "no memory for %zu ids", before + n + after);
    memcpy(all, t->before, before * sizeof *all);
    memcpy(all + before, inner, n * sizeof *all);
    memcpy(all + before + n, t->after, after * sizeof *all);
    free(inner);
    *ids = all;
    *count = before + n + after;
    return 0;
}

static const struct token *find_token(const struct tokenizer *t, int32_t id)
{
    bool known = id >= 0 && id < t->vocabulary.size && t->vocabulary.tokens[id].key;
    return known ? &t->vocabulary.tokens[id] : NULL;
}

char *tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t count,
                       bool skip_special, size_t *bytes)
{
    struct text_stream s = {0};
    struct bytes text = {0};
    for (size_t i = 0; i < count; i++) {
        const struct token *token = find_token(t, ids[i]);
        if (!token || (skip_special && token->skipped))
            continue;
        text_stream_push(&s, token->text, token->text_bytes);
        bytes_push(&text, s.text, s.bytes);
    }
    text_stream_end(&s);
    bytes_push(&text, s.text, s.bytes + 1); // the 0 at the end, too
    text_stream_free(&s);
    size_t left_out = tokenizer_left_out(t, text.at, text.count - 1);
    memmove(text.at, text.at + left_out, text.count - left_out);
    if (bytes)
        *bytes = text.count - 1 - left_out;
    return text.at;
}

size_t tokenizer_left_out(const struct tokenizer *t, const char *text, size_t bytes)
{
    return t->strip_first && bytes && text[0] == ' ';
}

bool tokenizer_is_special(const struct tokenizer *t, int32_t id)
{
    const struct token *token = find_token(t, id);
    return token && token->skipped;
}

const char *tokenizer_token_bytes(const struct tokenizer *t, int32_t id, size_t *bytes)
{
    const struct token *token = find_token(t, id);
    *bytes = token ? token->text_bytes : 0;
    return token ? token->text : "";
}
