/* Reads the lists of tokenizer.json: vocabulary, merges, added tokens.
 *
 * tokenizers gives an added token the id that the vocabulary has for its content. For contents that
 * the vocabulary lacks, it counts on from the number of vocabulary entries. It ignores the file's
 * "id"; here a file whose "id" differs is refused. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "model/found.h"
#include "model/tokenizer_fields.h"

static int check_model(struct load *l, const struct js *model)
{
    static const struct field fields[] = {{"type", ANYTHING},
                                          {"dropout", IS_NULL | IS_ZERO},
                                          {"unk_token", ANYTHING},
                                          {"continuing_subword_prefix", IS_NULL | IS_EMPTY},
                                          {"end_of_word_suffix", IS_NULL | IS_EMPTY},
                                          {"fuse_unk", IS_NULL | IS_BOOL},
                                          {"byte_fallback", IS_NULL | IS_BOOL},
                                          {"ignore_merges", IS_NULL | IS_BOOL},
                                          {"vocab", ANYTHING},
                                          {"merges", ANYTHING},
                                          {0}};
    const struct js *type = js_member(model, "type");
    if (js_is_object(model) && type && !field_is(type, "BPE"))
        return field_refuse(l, "model", "type", "\"BPE\"", type);
    l->t->ignore_merges = js_bool(js_member(model, "ignore_merges"));
    l->t->byte_fallback = js_bool(js_member(model, "byte_fallback"));
    l->t->fuse_unknown = js_bool(js_member(model, "fuse_unk"));
    return fields_check(l, "model", model, fields);
}

/* Write a key and the bytes it stands for to *strings, and move that past them. */
static void fill_token(const struct load *l, struct token *token, char **strings, const char *key,
                       size_t bytes)
{
    char *own = *strings;
    memcpy(own, key, bytes);
    token->key = own;
    token->key_bytes = (uint32_t)bytes;
    token->text = own + bytes;
    token->text_bytes =
        (uint32_t)(l->t->vocabulary.characters ? spaces_read(key, bytes, own + bytes)
                                               : alphabet_read(key, bytes, own + bytes));
    *strings = own + bytes + token->text_bytes;
}

/* Check that ids are in range. *largest := the largest, *key_bytes := the bytes of all keys. */
static int measure_vocabulary(const struct load *l, const struct js *vocab, int32_t *largest,
                              size_t *key_bytes)
{
    *largest = -1;
    *key_bytes = 0;
    if (js_is_object(vocab) && js_count(vocab) == 0)
        return fail(STATUS_BAD_FILE,
                    "%s: model.vocab: expected an object of tokens and ids, found an empty one",
                    l->name);
    if (!js_is_object(vocab))
        return field_refuse(l, "model", "vocab", "an object of tokens and ids", vocab);
    for (struct js_entry e = js_first(vocab); e.key; e = js_next(vocab, e)) {
        int64_t id = js_is_int(e.value) ? js_int(e.value) : -1;
        if (id < 0 || id > MAX_TOKEN_ID)
            return field_refuse(l, "model.vocab", e.key, "an id from 0 to 16777215", e.value);
        *largest = id > *largest ? (int32_t)id : *largest;
        *key_bytes += e.key_bytes;
    }
    return 0;
}

static int read_vocabulary(struct load *l, const struct js *vocab, size_t n_added)
{
    struct tokenizer *t = l->t;
    struct vocabulary *v = &t->vocabulary;
    int32_t largest;
    size_t key_bytes;
    int status = measure_vocabulary(l, vocab, &largest, &key_bytes);
    if (status)
        return status;
    size_t most = js_count(vocab) + n_added;
    if (most > MAX_TOKEN_ID)
        return fail(STATUS_BAD_FILE, "%s: model.vocab: expected at most %d tokens, found %zu",
                    l->name, MAX_TOKEN_ID, most);
    int size = most > (size_t)largest + 1 ? (int)most : largest + 1;
    vocabulary_build(v, &t->memory, most, size);
    char *strings = arena_alloc(&t->memory, 2 * key_bytes);
    for (struct js_entry e = js_first(vocab); e.key; e = js_next(vocab, e)) {
        int32_t id = (int32_t)js_int(e.value);
        if (v->tokens[id].key)
            return field_refuse(l, "model.vocab", e.key, "an id of its own", e.value);
        fill_token(l, &v->tokens[id], &strings, e.key, e.key_bytes);
        v->tokens[id].in_model = true;
        vocabulary_insert(v, id);
    }
    vocabulary_find_bytes(v);
    v->size = largest + 1;
    return 0;
}

/* Of a vocabulary of characters: the unknown token must be in it. */
static int read_unknown(const struct load *l, const struct js *unknown)
{
    size_t bytes = 0;
    const char *content = js_string(unknown, &bytes);
    l->t->unknown = content ? vocabulary_find(&l->t->vocabulary, content, bytes) : -1;
    if (unknown && !js_is_null(unknown) && l->t->unknown < 0)
        return field_refuse(l, "model", "unk_token", "null, or a token of model.vocab", unknown);
    return 0;
}

/* Of a vocabulary of bytes accept an unknown token, and tokens for the bytes of what has none, only
 * if every byte has a token, so that neither can occur. */
static int check_unknown(const struct load *l, const struct js *model)
{
    const struct js *unknown = js_member(model, "unk_token");
    const struct js *fallback = js_member(model, "byte_fallback");
    int missing = 0;
    if (l->t->vocabulary.characters)
        return read_unknown(l, unknown);
    for (int b = 0; b < 256; b++)
        missing += l->t->vocabulary.byte_ids[b] < 0;
    if (missing && unknown && !js_is_null(unknown))
        return field_refuse(l, "model", "unk_token",
                            "null, since some bytes have no token in model.vocab", unknown);
    if (missing && js_bool(fallback))
        return field_refuse(l, "model", "byte_fallback",
                            "false, since some bytes have no token in model.vocab", fallback);
    if (missing)
        note("%s: %d of 256 bytes have no token and will be left out of texts", l->name, missing);
    return 0;
}

struct pair {
    const char *left, *right;
    size_t left_bytes, right_bytes;
};

/* Read a merge, which is "left right" or ["left", "right"]. */
static bool read_pair(const struct js *v, struct pair *p)
{
    if (js_is_array(v)) {
        p->left = js_string(js_item(v, 0), &p->left_bytes);
        p->right = js_string(js_item(v, 1), &p->right_bytes);
        return js_count(v) == 2 && p->left && p->right;
    }
    size_t bytes;
    p->left = js_string(v, &bytes);
    const char *space = p->left ? memchr(p->left, ' ', bytes) : NULL;
    if (!space)
        return false;
    p->left_bytes = (size_t)(space - p->left);
    p->right = space + 1;
    p->right_bytes = bytes - p->left_bytes - 1;
    return !memchr(p->right, ' ', p->right_bytes);
}

static int merge_failed(const struct load *l, size_t i, const char *missing, size_t bytes)
{
    return fail(STATUS_BAD_FILE,
                "%s: model.merges[%zu]: expected both sides and their sum in model.vocab, found no "
                "\"%.*s\" there",
                l->name, i, found_bytes(missing, bytes), missing);
}

static int read_merge(struct load *l, const struct js *v, size_t i, struct bytes *sum)
{
    const struct vocabulary *vocabulary = &l->t->vocabulary;
    struct pair p;
    if (!read_pair(v, &p))
        return fail(STATUS_BAD_FILE,
                    "%s: model.merges[%zu]: expected two tokens, as \"a b\" or [\"a\", \"b\"], "
                    "found %s",
                    l->name, i, js_kind(v));
    sum->count = 0;
    bytes_push(sum, p.left, p.left_bytes);
    bytes_push(sum, p.right, p.right_bytes);
    struct merge merge = {
        .left = vocabulary_find(vocabulary, p.left, p.left_bytes),
        .right = vocabulary_find(vocabulary, p.right, p.right_bytes),
        .result = vocabulary_find(vocabulary, sum->at ? sum->at : "", sum->count),
        .rank = (uint32_t)i,
    };
    if (merge.left < 0)
        return merge_failed(l, i, p.left, p.left_bytes);
    if (merge.right < 0)
        return merge_failed(l, i, p.right, p.right_bytes);
    if (merge.result < 0)
        return merge_failed(l, i, sum->at, sum->count);
    merge_table_put(&l->t->merges, merge);
    return 0;
}

/* Is this the first line of a merges.txt ("#version: ..."), which old converters left in the list?
 */
static bool is_version_line(const struct js *v)
{
    const char *text = js_string(v, NULL);
    return text && strncmp(text, "#version", 8) == 0;
}

static int read_merges(struct load *l, const struct js *merges)
{
    size_t count = js_count(merges);
    if (!js_is_array(merges) || count > UINT32_MAX)
        return field_refuse(l, "model", "merges", "an array", merges);
    merge_table_build(&l->t->merges, &l->t->memory, count);
    struct bytes sum = {0};
    int status = 0;
    for (size_t i = 0; i < count && !status; i++) {
        const struct js *v = js_item(merges, i);
        if (js_is_array(v) != js_is_array(js_item(merges, 0)))
            status = field_refuse(l, "model", "merges", "strings or pairs, not both", v);
        else if (!is_version_line(v))
            status = read_merge(l, v, i, &sum);
    }
    free(sum.at);
    return status;
}

/* *id := the id that an added token must have; *next is the one for the next new content. */
static int place_added(struct load *l, const char *where, const struct js *v, int32_t *next,
                       int32_t *id)
{
    struct vocabulary *vocabulary = &l->t->vocabulary;
    size_t bytes;
    const char *content = js_string(js_member(v, "content"), &bytes);
    *id = vocabulary_find(vocabulary, content, bytes);
    if (*id >= 0 && vocabulary->tokens[*id].added)
        return field_refuse(l, where, "content", "a content of its own", js_member(v, "content"));
    bool is_new = *id < 0;
    if (is_new)
        *id = (*next)++;
    struct token *token = &vocabulary->tokens[*id];
    const struct js *said = js_member(v, "id"); // of an extra token nobody does
    if (!said && is_new && token->key)
        return fail(STATUS_BAD_FILE,
                    "%s: model.vocab: expected no token with the id %" PRId32
                    ", which \"%.*s\" of tokenizer_config.json gets",
                    l->name, *id, found_bytes(content, bytes), content);
    if (said && (!js_is_int(said) || js_int(said) != *id || (is_new && token->key))) {
        char expected[96];
        snprintf(expected, sizeof expected, "%" PRId32 " (%s)", *id,
                 is_new ? "the next after the vocabulary" : "as in model.vocab");
        return field_refuse(l, where, "id", expected, said);
    }
    if (is_new) {
        char *strings = arena_alloc(&l->t->memory, 2 * bytes);
        fill_token(l, token, &strings, content, bytes);
        vocabulary_insert(vocabulary, *id);
        vocabulary->size = *id >= vocabulary->size ? *id + 1 : vocabulary->size;
    }
    token->added = true;
    token->special = js_bool(js_member(v, "special"));
    return 0;
}

/* Set what is looked for in a text, and what decoding gives. For a token with "normalized", both
 * are made of the normalised content: decoding gives the bytes that its letters stand for, if all
 * of them are in the alphabet. */
static void set_pattern(struct load *l, struct added_token *added, const struct js *v)
{
    struct token *token = &l->t->vocabulary.tokens[added->id];
    added->pattern = token->key;
    added->pattern_bytes = token->key_bytes;
    size_t bytes;
    bool normalized = js_bool(js_member(v, "normalized"));
    char *normal =
        normalized ? tokenizer_normalize(l->t, token->key, token->key_bytes, &bytes) : NULL;
    if (!normal)
        return;
    char *strings = arena_alloc(&l->t->memory, 2 * bytes);
    struct token spelled;
    fill_token(l, &spelled, &strings, normal, bytes);
    added->pattern = spelled.key;
    added->pattern_bytes = spelled.key_bytes;
    token->text = spelled.text;
    token->text_bytes = spelled.text_bytes;
    free(normal);
}

static int read_added_token(struct load *l, const char *where, const struct js *v, bool extra,
                            int32_t *next, struct added_token *added)
{
    static const struct field fields[] = {
        {"id", ANYTHING | REQUIRED},         {"content", ANYTHING | REQUIRED},
        {"single_word", IS_BOOL | REQUIRED}, {"lstrip", IS_BOOL | REQUIRED},
        {"rstrip", IS_BOOL | REQUIRED},      {"normalized", IS_BOOL | REQUIRED},
        {"special", IS_BOOL | REQUIRED},     {0}};
    const struct js *content = js_member(v, "content");
    size_t bytes = 0;
    int status = extra ? 0 : fields_check(l, where, v, fields);
    if (status)
        return status;
    if (!js_string(content, &bytes) || bytes == 0 || bytes > MAX_ADDED_BYTES)
        return field_refuse(l, where, "content", "a string of 1 to 1024 bytes", content);
    status = place_added(l, where, v, next, &added->id);
    if (status)
        return status;
    added->single_word = js_bool(js_member(v, "single_word"));
    added->strip_left = js_bool(js_member(v, "lstrip"));
    added->strip_right = js_bool(js_member(v, "rstrip"));
    set_pattern(l, added, v);
    return 0;
}

/* Mark a token that decoding leaves out with skip_special. In tokenizers that is one whose pattern
 * is the content of a special token. */
static void mark_skipped(struct tokenizer *t, const struct added_token *added)
{
    int32_t id = vocabulary_find(&t->vocabulary, added->pattern, added->pattern_bytes);
    const struct token *found = id < 0 ? NULL : &t->vocabulary.tokens[id];
    t->vocabulary.tokens[added->id].skipped = found && found->added && found->special;
}

/* The added tokens: those of the file, then the extra ones. */
static const struct js *added_item(const struct load *l, const struct js *list, size_t i)
{
    size_t n = js_count(list);
    return i < n ? js_item(list, i) : js_item(l->extra, i - n);
}

static int build_tries(struct load *l, const struct js *list)
{
    struct tokenizer *t = l->t;
    size_t count = js_count(list) + js_count(l->extra), pattern_bytes = 0;
    for (size_t i = 0; i < count; i++)
        pattern_bytes += t->added[i].pattern_bytes;
    trie_build(&t->before_normal, &t->memory, t->added, pattern_bytes);
    trie_build(&t->after_normal, &t->memory, t->added, pattern_bytes);
    for (size_t i = 0; i < count; i++) {
        const struct js *normalized = js_member(added_item(l, list, i), "normalized");
        mark_skipped(t, &t->added[i]);
        if (!trie_add(js_bool(normalized) ? &t->after_normal : &t->before_normal, (int32_t)i))
            return fail(STATUS_BAD_FILE,
                        "%s: added_tokens[%zu].content: expected normalised contents that differ, "
                        "found one that is there already",
                        l->name, i);
    }
    return 0;
}

static int read_added_tokens(struct load *l, const struct js *list, size_t vocabulary_count)
{
    struct tokenizer *t = l->t;
    size_t count = js_count(list) + js_count(l->extra);
    int32_t next = (int32_t)vocabulary_count;
    if (list && !js_is_array(list))
        return field_refuse(l, "", "added_tokens", "an array", list);
    t->added = arena_alloc(&t->memory, count * sizeof *t->added);
    for (size_t i = 0; i < count; i++) {
        char where[40];
        snprintf(where, sizeof where, "added_tokens[%zu]", i);
        int status = read_added_token(l, where, added_item(l, list, i), i >= js_count(list), &next,
                                      &t->added[i]);
        if (status)
            return status;
    }
    return build_tries(l, list);
}

int read_model(struct load *l, const struct js *model, const struct js *added_tokens)
{
    const struct js *vocab = js_member(model, "vocab");
    int status = check_model(l, model);
    if (!status)
        status = read_vocabulary(l, vocab, js_count(added_tokens) + js_count(l->extra));
    if (!status)
        status = check_unknown(l, model);
    if (!status)
        status = read_merges(l, js_member(model, "merges"));
    if (!status)
        status = read_added_tokens(l, added_tokens, js_count(vocab));
    return status;
}
