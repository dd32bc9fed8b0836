/* vocab.json is the vocabulary of a tokenizer.json, and the lines of merges.txt are its merges; its
 * other parts are constants of the class. An added token gets the id that comes next, as in a
 * tokenizer.json, and if the files give it another, it is refused there (tokenizer_entries.c). */
#include "model/tokenizer_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "model/config_source.h"
#include "model/tokenizer_config.h"

enum { MAX_FILE_BYTES = 256 << 20, MAX_CLASS_BYTES = 64 };

#define BYTE_LEVEL(use_regex)                                                                      \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":false,\"use_"             \
    "regex\":" use_regex "}"
#define QWEN_PATTERN                                                                               \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}|"               \
    " ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define DECODER "\"decoder\":" BYTE_LEVEL("true")
#define NFC     "\"normalizer\":{\"type\":\"NFC\"},"

/* What transformers puts around a vocabulary and merges. */
static const struct class
{
    const char *name, *parts;
} classes[] = {
    {"Qwen2Tokenizer",
     "{" NFC "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\","
     "\"pattern\":{\"Regex\":\"" QWEN_PATTERN
     "\"},\"behavior\":\"Isolated\",\"invert\":false}," BYTE_LEVEL("false") "]}," DECODER "}"},
    {"GPT2Tokenizer", "{\"pre_tokenizer\":" BYTE_LEVEL("true") "," DECODER "}"},
    {"GPTNeoXTokenizer", "{" NFC "\"pre_tokenizer\":" BYTE_LEVEL("true") "," DECODER "}"},
};

/* The class of a model_type, where tokenizer_config.json names none. */
static const char *const class_of_type[][2] = {
    {"qwen2_moe", "Qwen2Tokenizer"}, {"qwen2", "Qwen2Tokenizer"},   {"qwen3_moe", "Qwen2Tokenizer"},
    {"qwen3", "Qwen2Tokenizer"},     {"olmoe", "GPTNeoXTokenizer"},
};

#define COUNT(list) (sizeof(list) / sizeof *(list))

struct files {
    const char *dir;
    struct config_source source; // tokenizer_config.json
    struct js *config;           // a copy of it, with what the other files say
    const struct class *class;
    struct js *added; // the added tokens, as in a tokenizer.json
};

bool tokenizer_files_exist(const char *dir)
{
    return file_exists_in(dir, "vocab.json") && file_exists_in(dir, "merges.txt");
}

/* *root := a JSON file of the directory, or NULL if there is none. */
static int load_if_there(struct js **root, const char *dir, const char *name)
{
    char *path = path_join(dir, name);
    int status = 0;
    *root = NULL;
    if (file_exists(path)) {
        *root = js_load(path, MAX_FILE_BYTES);
        status = *root ? 0 : STATUS_BAD_FILE;
    }
    if (*root && !js_is_object(*root))
        status = fail(STATUS_BAD_FILE, "%s: expected an object, found %s", path, js_kind(*root));
    if (status)
        js_free(*root);
    free(path);
    return status;
}

/* *name := the class that config.json's model_type has, or NULL. */
static int class_by_model(const char **name, const char *dir)
{
    struct js *config;
    int status = load_if_there(&config, dir, "config.json");
    *name = NULL;
    if (status)
        return status;
    for (size_t i = 0; i < COUNT(class_of_type); i++)
        if (source_is_text(js_member(config, "model_type"), class_of_type[i][0]))
            *name = class_of_type[i][1];
    js_free(config);
    return 0;
}

/* Each class is known by its older name, too, which ends in Fast. */
static bool is_class(const struct js *v, const char *name)
{
    char fast[MAX_CLASS_BYTES];
    snprintf(fast, sizeof fast, "%sFast", name);
    return source_is_text(v, name) || source_is_text(v, fast);
}

static int find_class(struct files *f)
{
    static const char *const expected =
        "Qwen2Tokenizer, GPT2Tokenizer or GPTNeoXTokenizer, which are read from vocab.json and "
        "merges.txt, or beside another class a tokenizer.json: transformers' "
        "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR) writes one";
    const struct js *said = source_value(&f->source, "tokenizer_class");
    const char *by_model;
    int status = class_by_model(&by_model, f->dir);
    if (status)
        return status;
    if (said && by_model && !is_class(said, by_model))
        return source_expected(&f->source, "tokenizer_class", by_model, said);
    for (size_t i = 0; i < COUNT(classes); i++)
        if (said ? is_class(said, classes[i].name)
                 : by_model && strcmp(by_model, classes[i].name) == 0)
            f->class = &classes[i];
    if (!f->class)
        return source_expected(&f->source, "tokenizer_class", expected, said);
    js_set(f->config, "tokenizer_class", js_new_text(f->class->name));
    return 0;
}

struct numbered {
    int64_t id;
    struct js *token;
};

static int by_id(const void *a, const void *b)
{
    int64_t x = ((const struct numbered *)a)->id, y = ((const struct numbered *)b)->id;
    return (x > y) - (x < y);
}

/* Make a list of n tokens, in the order of their ids, and end the array. */
static void list_tokens(struct files *f, struct numbered *tokens, size_t n)
{
    qsort(tokens, n, sizeof *tokens, by_id);
    for (size_t i = 0; i < n; i++) {
        js_set(tokens[i].token, "id", js_new_int(tokens[i].id));
        js_push(f->added, tokens[i].token);
    }
    free(tokens);
}

static struct numbered *new_tokens(const struct js *object)
{
    struct numbered *tokens = calloc(js_count(object) + 1, sizeof *tokens);
    CHECK_MEMORY(tokens, "no memory for %zu added tokens", js_count(object));
    return tokens;
}

/* added_tokens_decoder: {"id": a token as in tokenizer.json, but without its id}. */
static int read_decoder(struct files *f, const struct js *decoder)
{
    size_t n = 0;
    int status = 0;
    if (!js_is_object(decoder))
        return source_expected(&f->source, "added_tokens_decoder", "an object", decoder);
    struct numbered *tokens = new_tokens(decoder);
    for (struct js_entry e = js_first(decoder); e.key && !status; e = js_next(decoder, e)) {
        char *end, key[48];
        int64_t id = strtol(e.key, &end, 10);
        snprintf(key, sizeof key, "added_tokens_decoder.%.20s", e.key);
        if (e.key[0] < '0' || e.key[0] > '9' || *end)
            status = source_expected(&f->source, key, "an id as the key", e.value);
        else if (!js_is_object(e.value))
            status = source_expected(&f->source, key, "an object", e.value);
        else
            tokens[n++] = (struct numbered){id, js_copy(e.value)};
    }
    list_tokens(f, tokens, n);
    return status;
}

/* Does a token, or one of a list of tokens, have this text? The tokens of an object of names do not
 * count: transformers does not compare those of added_tokens.json with them. */
static bool names_token(const struct js *v, const struct js *content)
{
    size_t bytes;
    const char *text = js_string(content, &bytes);
    bool named = false;
    for (size_t i = 0; js_is_array(v) && i < js_count(v) && !named; i++)
        named = names_token(js_item(v, i), content);
    if (js_is_object(v))
        v = js_member(v, "content");
    size_t found_bytes;
    const char *found = js_string(v, &found_bytes);
    return named || (found && found_bytes == bytes && memcmp(found, text, bytes) == 0);
}

static bool is_special(const struct files *f, const struct js *content)
{
    for (int i = 0; i < SPECIAL_TOKEN_KEYS; i++)
        if (names_token(js_member(f->config, special_token_keys[i]), content))
            return true;
    return false;
}

/* A token of added_tokens.json, which has no flags: it is found in the normalised text, unless it
 * is special. */
static struct js *plain_token(const struct files *f, const char *text, size_t bytes)
{
    static const char *const flags[] = {"single_word", "lstrip", "rstrip"};
    struct js *token = js_new_object(), *content = js_new_string(text, bytes);
    bool special = is_special(f, content);
    for (size_t i = 0; i < COUNT(flags); i++)
        js_set(token, flags[i], js_new_bool(false));
    js_set(token, "normalized", js_new_bool(!special));
    js_set(token, "special", js_new_bool(special));
    js_set(token, "content", content);
    return token;
}

/* added_tokens.json: {"content": id}. */
static int read_added_tokens(struct files *f)
{
    struct js *list;
    size_t n = 0;
    int status = load_if_there(&list, f->dir, "added_tokens.json");
    if (status)
        return status;
    struct numbered *tokens = new_tokens(list);
    for (struct js_entry e = js_first(list); e.key && !status; e = js_next(list, e)) {
        if (js_is_int(e.value))
            tokens[n++] = (struct numbered){js_int(e.value), plain_token(f, e.key, e.key_bytes)};
        else
            status = fail(STATUS_BAD_FILE, "%s/added_tokens.json: %.40s: expected an id, found %s",
                          f->dir, e.key, js_kind(e.value));
    }
    list_tokens(f, tokens, n);
    js_free(list);
    return status;
}

/* special_tokens_map.json counts before the same keys of tokenizer_config.json. */
static int read_special_tokens_map(struct files *f)
{
    struct js *map;
    int status = load_if_there(&map, f->dir, "special_tokens_map.json");
    if (status)
        return status;
    for (struct js_entry e = js_first(map); e.key; e = js_next(map, e))
        js_set(f->config, e.key, js_copy(e.value));
    js_free(map);
    return 0;
}

static int read_added(struct files *f)
{
    const struct js *decoder = js_member(f->config, "added_tokens_decoder");
    if (decoder)
        return read_decoder(f, decoder);
    int status = read_special_tokens_map(f);
    return status ? status : read_added_tokens(f);
}

/* *merges := the lines of merges.txt. */
static int read_merges(struct js **merges, const char *dir)
{
    char *path = path_join(dir, "merges.txt");
    size_t bytes, number = 0;
    char *text = file_read(path, MAX_FILE_BYTES, &bytes);
    int status = text ? 0 : STATUS_BAD_FILE;
    struct js *list = js_new_array();
    for (size_t at = 0, n; text && at < bytes && !status; at += n + 1) {
        const char *end = memchr(text + at, '\n', bytes - at);
        n = end ? (size_t)(end - (text + at)) : bytes - at;
        size_t length = n && text[at + n - 1] == '\r' ? n - 1 : n;
        const char *space = memchr(text + at, ' ', length);
        number++;
        if (space && memchr(text + at, 0, length) == NULL)
            js_push(list, js_new_string(text + at, length));
        else
            status = fail(STATUS_BAD_FILE,
                          "%s: line %zu: expected two tokens with a space between, found %s", path,
                          number, length ? "no space, or a zero byte" : "an empty line");
    }
    free(text);
    free(path);
    if (status)
        js_free(list);
    else
        *merges = list;
    return status;
}

/* Put the parts together. */
static int make_root(struct js **root, struct files *f)
{
    struct js *merges, *vocab;
    char *path = path_join(f->dir, "vocab.json");
    int status = read_merges(&merges, f->dir);
    if (!status && !(vocab = js_load(path, MAX_FILE_BYTES))) {
        js_free(merges);
        status = STATUS_BAD_FILE;
    }
    free(path);
    if (status)
        return status;
    struct js *model = js_new_object();
    js_set(model, "type", js_new_text("BPE"));
    js_set(model, "vocab", vocab);
    js_set(model, "merges", merges);
    *root = js_parse(f->class->parts, strlen(f->class->parts), f->class->name);
    CHECK(*root, "the parts of %s", f->class->name);
    js_set(*root, "model", model);
    js_set(*root, "added_tokens", f->added);
    f->added = NULL;
    return 0;
}

int tokenizer_files_read(struct js **root, struct js **config, const char *dir,
                         const struct js *said, const char *name)
{
    struct files f = {.dir = dir, .config = said ? js_copy(said) : js_new_object()};
    f.source = (struct config_source){f.config, name};
    f.added = js_new_array();
    int status = js_is_object(f.config) ? find_class(&f)
                                        : fail(STATUS_BAD_FILE, "%s: expected an object, found %s",
                                               name, js_kind(f.config));
    if (!status)
        status = read_added(&f);
    if (!status)
        status = make_root(root, &f);
    js_free(f.added);
    if (status)
        js_free(f.config);
    else
        *config = f.config;
    return status;
}
