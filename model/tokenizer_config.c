/* AutoTokenizer adds the tokens that the file names as special ones to those of tokenizer.json,
 * unless that has them. added_tokens_decoder takes the place of tokenizer.json's list, so the two
 * must be the same. */
#include "model/tokenizer_config.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "model/config_source.h"
#include "model/known_keys.h"

static const char *const flags[] = {"single_word", "lstrip", "rstrip", "normalized", "special"};
enum { FLAGS = sizeof flags / sizeof *flags };

const char *const special_token_keys[SPECIAL_TOKEN_KEYS] = {"bos_token",
                                                            "eos_token",
                                                            "unk_token",
                                                            "sep_token",
                                                            "pad_token",
                                                            "cls_token",
                                                            "mask_token",
                                                            "model_specific_special_tokens",
                                                            "extra_special_tokens",
                                                            "additional_special_tokens"};

struct reading {
    struct config_source source;
    const struct js *added; // tokenizer.json's added_tokens
    struct js *extra, *end_of_text;
};

static bool same_text(const struct js *a, const struct js *b)
{
    size_t n, m;
    const char *x = js_string(a, &n), *y = js_string(b, &m);
    return x && y && n == m && memcmp(x, y, n) == 0;
}

static const struct js *find(const struct js *list, const struct js *content)
{
    for (size_t i = 0; i < js_count(list); i++)
        if (same_text(js_member(js_item(list, i), "content"), content))
            return js_item(list, i);
    return NULL;
}

/* A token is a string, or an object as in tokenizer.json. */
static int add_token(struct reading *r, const char *key, const struct js *v)
{
    const struct js *content = js_is_object(v) ? js_member(v, "content") : v;
    size_t bytes = 0;
    const char *text = js_string(content, &bytes);
    if (js_is_null(v))
        return 0;
    if (!text || bytes == 0)
        return source_expected(&r->source, key, "a token: a string, or an object with content", v);
    if (find(r->added, content) || find(r->extra, content))
        return 0;
    struct js *token = js_new_object();
    js_set(token, "content", js_new_string(text, bytes));
    for (int i = 0; i < FLAGS - 1; i++)
        js_set(token, flags[i], js_new_bool(js_bool(js_member(v, flags[i]))));
    js_set(token, "special", js_new_bool(true));
    js_push(r->extra, token);
    return 0;
}

/* Each class has a token of its own, <|endoftext|>, for some keys, unless the file says another, or
 * null. */
static bool has_default(const struct reading *r, const char *key)
{
    static const struct {
        const char *class, *fast, *keys;
    } defaults[] = {
        {"Qwen2Tokenizer", "Qwen2TokenizerFast", "eos_token unk_token pad_token"},
        {"GPT2Tokenizer", "GPT2TokenizerFast", "bos_token eos_token unk_token"},
        {"GPTNeoXTokenizer", "GPTNeoXTokenizerFast", "bos_token eos_token unk_token"},
    };
    const struct js *class = source_value(&r->source, "tokenizer_class");
    for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++)
        if ((!class && i == 0) || source_is_text(class, defaults[i].class) ||
            source_is_text(class, defaults[i].fast))
            return strstr(defaults[i].keys, key) != NULL;
    return false;
}

/* One token, or a list of tokens, or an object of names and tokens. */
static int add_tokens(struct reading *r, const char *key)
{
    const struct js *v = js_member(r->source.root, key);
    int status = 0;
    if (!v && has_default(r, key))
        v = r->end_of_text;
    if (js_is_array(v)) {
        for (size_t i = 0; i < js_count(v) && !status; i++)
            status = add_token(r, key, js_item(v, i));
    } else if (js_is_object(v) && !js_member(v, "content")) {
        for (struct js_entry e = js_first(v); e.key && !status; e = js_next(v, e))
            status = add_token(r, key, e.value);
    } else if (v) {
        status = add_token(r, key, v);
    }
    return status;
}

static int check_decoder_token(struct reading *r, const char *id, const struct js *v)
{
    const struct js *content = js_member(v, "content"), *token = find(r->added, content);
    char key[64], own[32];
    snprintf(key, sizeof key, "added_tokens_decoder.%.30s", id);
    if (!token)
        return source_expected(&r->source, key, "a token of tokenizer.json", content);
    snprintf(own, sizeof own, "%" PRId64, js_int(js_member(token, "id")));
    if (strcmp(own, id) != 0)
        return fail(STATUS_BAD_FILE, "%s: %s: expected the id that tokenizer.json has, %s",
                    r->source.file, key, own);
    for (int i = 0; i < FLAGS; i++)
        if (js_bool(js_member(v, flags[i])) != js_bool(js_member(token, flags[i])))
            return fail(STATUS_BAD_FILE, "%s: %s.%s: expected %s as in tokenizer.json",
                        r->source.file, key, flags[i],
                        js_bool(js_member(token, flags[i])) ? "true" : "false");
    return 0;
}

static int check_decoder(struct reading *r)
{
    const struct js *decoder = source_value(&r->source, "added_tokens_decoder");
    int status = 0;
    if (!decoder)
        return 0;
    if (!js_is_object(decoder))
        return source_expected(&r->source, "added_tokens_decoder", "an object", decoder);
    for (struct js_entry e = js_first(decoder); e.key && !status; e = js_next(decoder, e))
        status = check_decoder_token(r, e.key, e.value);
    if (!status && js_count(decoder) != js_count(r->added))
        status = fail(STATUS_BAD_FILE,
                      "%s: added_tokens_decoder: expected the %zu added tokens of tokenizer.json, "
                      "found %zu",
                      r->source.file, js_count(r->added), js_count(decoder));
    return status;
}

/* The older key counts only beside no list of the newer one. */
static bool is_replaced(const struct js *config, const char *key)
{
    return strcmp(key, "additional_special_tokens") == 0 &&
           js_is_array(js_member(config, "extra_special_tokens"));
}

int tokenizer_config_tokens(struct js **extra, const struct js *config, const char *name,
                            const struct js *added_tokens)
{
    struct reading r = {.source = {config, name}, .added = added_tokens};
    if (!js_is_object(config))
        return fail(STATUS_BAD_FILE, "%s: expected an object, found %s", name, js_kind(config));
    int status = known_keys_check(&r.source, KEYS_OF_TOKENIZER);
    if (!status)
        status = check_decoder(&r);
    r.extra = js_new_array();
    r.end_of_text = js_new_string("<|endoftext|>", 13);
    for (int i = 0; i < SPECIAL_TOKEN_KEYS && !status; i++)
        if (!is_replaced(config, special_token_keys[i]))
            status = add_tokens(&r, special_token_keys[i]);
    js_free(r.end_of_text);
    if (status)
        js_free(r.extra);
    else
        *extra = r.extra;
    return status;
}

int tokenizer_config_agrees(const struct tokenizer *t, const struct js *config, const char *name)
{
    const bool first = t->mark_first || t->metaspace > METASPACE_NEVER;
    const struct {
        const char *key;
        bool found;
    } keys[] = {{"add_bos_token", t->n_before > 0},
                {"add_eos_token", t->n_after > 0},
                {"add_prefix_space", first}};
    struct config_source source = {config, name};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const struct js *v = js_member(config, keys[i].key);
        char expected[64];
        snprintf(expected, sizeof expected, "%s, as the tokenizer's own file has it",
                 keys[i].found ? "true" : "false");
        if (v && !js_is_null(v) && (!js_is_bool(v) || js_bool(v) != keys[i].found))
            return source_expected(&source, keys[i].key, expected, v);
    }
    return 0;
}
