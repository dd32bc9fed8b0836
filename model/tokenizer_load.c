/* Reads tokenizer.json, field by field. A field is followed, or has a value that changes no id, or
 * is refused with its name; a field that is not known is refused, too, unless it is null. The
 * vocabulary, the merges and the added tokens are read in tokenizer_entries.c. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "model/tokenizer_fields.h"

#define GPT2_PATTERN                                                                               \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

static int refuse_type(const struct load *l, const char *where, const char *expected,
                       const struct js *v)
{
    if (!js_is_object(v))
        return field_refuse(l, where, "", "an object", v);
    return field_refuse(l, where, "type", expected, js_member(v, "type"));
}

typedef int read_item(struct load *l, const char *where, const struct js *v);

/* Read a {"type": "Sequence", list: [...]}, each item by `item`. */
static int read_sequence(struct load *l, const char *where, const struct js *v, const char *list,
                         read_item *item)
{
    const struct field fields[] = {{"type", ANYTHING}, {list, ANYTHING}, {0}};
    const struct js *items = js_member(v, list);
    int status = fields_check(l, where, v, fields);
    if (!status && !js_is_array(items))
        status = field_refuse(l, where, list, "an array", items);
    for (size_t i = 0; !status && i < js_count(items); i++) {
        char place[64];
        snprintf(place, sizeof place, "%s.%s[%zu]", where, list, i);
        status = item(l, place, js_item(items, i));
    }
    return status;
}

/* Is this {"String": text}? */
static bool is_pattern(const struct js *v, const char *text)
{
    return js_count(v) == 1 && field_is(js_member(v, "String"), text);
}

/* Check a Replace, of a normaliser or a decoder, of one text by another. */
static int check_replace(const struct load *l, const char *where, const struct js *v,
                         const char *from, const char *to)
{
    static const struct field fields[] = {
        {"type", ANYTHING}, {"pattern", ANYTHING}, {"content", ANYTHING}, {0}};
    char expected[48];
    int status = fields_check(l, where, v, fields);
    if (status)
        return status;
    snprintf(expected, sizeof expected, "{\"String\": \"%s\"}", from);
    if (!is_pattern(js_member(v, "pattern"), from))
        return field_refuse(l, where, "pattern", expected, js_member(v, "pattern"));
    snprintf(expected, sizeof expected, "\"%s\"", to);
    if (!field_is(js_member(v, "content"), to))
        return field_refuse(l, where, "content", expected, js_member(v, "content"));
    return 0;
}

static int read_prepend(struct load *l, const char *where, const struct js *v)
{
    static const struct field fields[] = {{"type", ANYTHING}, {"prepend", ANYTHING}, {0}};
    if (l->t->mark_first)
        return fail(STATUS_BAD_FILE, "%s: %s: expected one Prepend, found a second", l->name,
                    where);
    l->t->mark_first = true;
    if (!field_is(js_member(v, "prepend"), SPACE_MARK))
        return field_refuse(l, where, "prepend", "\"" SPACE_MARK "\"", js_member(v, "prepend"));
    return fields_check(l, where, v, fields);
}

/* The three kinds may come in any order, which changes nothing: no mark and no space takes part in
 * NFC. */
static int read_normalizer(struct load *l, const char *where, const struct js *v)
{
    static const struct field fields[] = {{"type", ANYTHING}, {0}};
    if (field_has_type(v, "Prepend"))
        return read_prepend(l, where, v);
    if (field_has_type(v, "Replace")) {
        l->t->mark_spaces = true;
        return check_replace(l, where, v, " ", SPACE_MARK);
    }
    if (!field_has_type(v, "NFC"))
        return refuse_type(l, where, "\"NFC\", \"Prepend\" or \"Replace\"", v);
    l->t->nfc = true;
    return fields_check(l, where, v, fields);
}

static int read_normalizers(struct load *l, const struct js *v)
{
    if (!v || js_is_null(v))
        return 0;
    if (field_has_type(v, "Sequence"))
        return read_sequence(l, "normalizer", v, "normalizers", read_normalizer);
    return read_normalizer(l, "normalizer", v);
}

static int add_split(struct load *l, const char *where, const char *pattern, size_t bytes,
                     bool literal)
{
    if (l->t->n_splits == MAX_SPLITS)
        return fail(STATUS_BAD_FILE, "%s: %s: expected at most %d patterns, found more", l->name,
                    where, MAX_SPLITS);
    struct split_pattern *p = split_pattern_new(l->name, where, pattern, bytes, literal);
    if (!p)
        return STATUS_BAD_FILE;
    l->t->splits[l->t->n_splits++] = p;
    return 0;
}

static int read_byte_level(struct load *l, const char *where, const struct js *v)
{
    static const struct field fields[] = {{"type", ANYTHING},
                                          {"add_prefix_space", IS_FALSE | REQUIRED},
                                          {"trim_offsets", IS_BOOL}, // offsets are not ids
                                          {"use_regex", IS_BOOL},
                                          {0}};
    const struct js *use_regex = js_member(v, "use_regex");
    int status = fields_check(l, where, v, fields);
    if (status || (use_regex && !js_bool(use_regex)))
        return status;
    return add_split(l, where, GPT2_PATTERN, strlen(GPT2_PATTERN), false);
}

static int read_split(struct load *l, const char *where, const struct js *v)
{
    static const struct field fields[] = {{"type", ANYTHING},
                                          {"pattern", ANYTHING},
                                          {"behavior", ANYTHING},
                                          {"invert", IS_FALSE | REQUIRED},
                                          {0}};
    const struct js *pattern = js_member(v, "pattern"), *behavior = js_member(v, "behavior");
    int status = fields_check(l, where, v, fields);
    if (status)
        return status;
    if (!field_is(behavior, "Isolated"))
        return field_refuse(l, where, "behavior", "\"Isolated\"", behavior);
    const struct js *regex = js_member(pattern, "Regex"), *literal = js_member(pattern, "String");
    const struct js *text = regex ? regex : literal;
    if (js_count(pattern) != 1 || !js_is_string(text))
        return field_refuse(l, where, "pattern", "an object of one string, Regex or String",
                            pattern);
    char place[80];
    snprintf(place, sizeof place, "%s.pattern", where);
    size_t bytes;
    const char *spelled = js_string(text, &bytes);
    return add_split(l, place, spelled, bytes, text == literal);
}

/* Read an item of the pre-tokenizer's sequence, other than its last. */
static int read_pre_item(struct load *l, const char *where, const struct js *v)
{
    if (field_has_type(v, "ByteLevel"))
        return read_byte_level(l, where, v);
    return field_has_type(v, "Split") ? read_split(l, where, v)
                                      : refuse_type(l, where, "\"Split\" or \"ByteLevel\"", v);
}

/* Read a Metaspace. The older add_prefix_space says the same as prepend_scheme. */
static int read_metaspace(struct load *l, const char *where, const struct js *v)
{
    static const struct field fields[] = {{"type", ANYTHING},
                                          {"replacement", ANYTHING},
                                          {"prepend_scheme", ANYTHING},
                                          {"split", IS_BOOL},
                                          {"add_prefix_space", IS_BOOL},
                                          {"str_rep", ANYTHING},
                                          {0}};
    const struct js *scheme = js_member(v, "prepend_scheme"), *split = js_member(v, "split");
    const struct js *older = js_member(v, "add_prefix_space"), *rep = js_member(v, "str_rep");
    int status = fields_check(l, where, v, fields);
    if (status)
        return status;
    if (!field_is(js_member(v, "replacement"), SPACE_MARK))
        return field_refuse(l, where, "replacement", "\"" SPACE_MARK "\"",
                            js_member(v, "replacement"));
    if (rep && !field_is(rep, SPACE_MARK))
        return field_refuse(l, where, "str_rep", "\"" SPACE_MARK "\"", rep);
    l->t->cut_at_marks = !split || js_bool(split);
    if (!scheme || field_is(scheme, "always"))
        l->t->metaspace = METASPACE_ALWAYS;
    else if (field_is(scheme, "first"))
        l->t->metaspace = METASPACE_FIRST;
    else if (field_is(scheme, "never"))
        l->t->metaspace = METASPACE_NEVER;
    else
        return field_refuse(l, where, "prepend_scheme", "\"always\", \"first\" or \"never\"",
                            scheme);
    if (older && !js_bool(older) && l->t->metaspace != METASPACE_NEVER)
        return field_refuse(l, where, "add_prefix_space", "true, or a prepend_scheme \"never\"",
                            older);
    return 0;
}

/* Read the pre-tokenizer of a vocabulary of bytes: any number of Splits, then a ByteLevel. The
 * ByteLevel must be last, as the Splits work on text and not on bytes. */
static int read_splits(struct load *l, const char *where, const struct js *v)
{
    const struct js *items = js_member(v, "pretokenizers");
    size_t count = js_count(items), at_byte_level = 0;
    while (at_byte_level < count && !field_has_type(js_item(items, at_byte_level), "ByteLevel"))
        at_byte_level++;
    int status = read_sequence(l, where, v, "pretokenizers", read_pre_item);
    if (!status && at_byte_level + 1 != count)
        status = fail(STATUS_BAD_FILE,
                      "%s: pre_tokenizer.pretokenizers: expected one \"ByteLevel\", the last of "
                      "them, found another order",
                      l->name);
    return status;
}

/* Read the pre-tokenizer. Where it has a ByteLevel, the vocabulary is one of bytes; a vocabulary of
 * characters has a Metaspace or none, which leaves the text between added tokens whole. */
static int read_pre_tokenizer(struct load *l, const struct js *v)
{
    const char *where = "pre_tokenizer";
    bool metaspace = field_has_type(v, "Metaspace");
    l->t->vocabulary.characters = metaspace || !v || js_is_null(v);
    if (metaspace)
        return read_metaspace(l, where, v);
    if (l->t->vocabulary.characters)
        return 0;
    if (field_has_type(v, "ByteLevel"))
        return read_byte_level(l, where, v);
    if (!field_has_type(v, "Sequence"))
        return refuse_type(l, where, "\"Sequence\", \"ByteLevel\" or \"Metaspace\"", v);
    return read_splits(l, where, v);
}

/* Read the decoder or the post-processor of byte-level BPE, whose fields change no id. */
static int read_plain_byte_level(struct load *l, const char *where, const struct js *v)
{
    static const struct field fields[] = {{"type", ANYTHING},
                                          {"add_prefix_space", IS_BOOL},
                                          {"trim_offsets", IS_BOOL},
                                          {"use_regex", IS_BOOL},
                                          {0}};
    return field_has_type(v, "ByteLevel") ? fields_check(l, where, v, fields)
                                          : refuse_type(l, where, "\"ByteLevel\"", v);
}

static int read_plain_decoder(struct load *l, const char *where, const struct js *v)
{
    static const struct field fields[] = {{"type", ANYTHING}, {0}};
    return fields_check(l, where, v, fields);
}

static int read_strip(struct load *l, const char *where, const struct js *v)
{
    static const struct field fields[] = {
        {"type", ANYTHING}, {"content", ANYTHING}, {"start", ANYTHING}, {"stop", IS_ZERO}, {0}};
    const struct js *start = js_member(v, "start"), *content = js_member(v, "content");
    l->t->strip_first = true;
    int status = fields_check(l, where, v, fields);
    if (!status && (!js_is_int(start) || js_int(start) != 1))
        status = field_refuse(l, where, "start", "1", start);
    if (!status && !field_is(content, " "))
        status = field_refuse(l, where, "content", "\" \"", content);
    return status;
}

/* Read the decoder of a vocabulary of characters: Replace, ByteFallback and Fuse, and then a Strip
 * or none. */
static int read_characters_decoder(struct load *l, const struct js *v)
{
    static const char *const types[] = {"Replace", "ByteFallback", "Fuse", "Strip"};
    static const struct field fields[] = {{"type", ANYTHING}, {"decoders", ANYTHING}, {0}};
    const struct js *list = js_member(v, "decoders");
    if (!field_has_type(v, "Sequence"))
        return refuse_type(l, "decoder", "\"Sequence\"", v);
    int status = fields_check(l, "decoder", v, fields);
    if (!status && (js_count(list) < 3 || js_count(list) > 4))
        status = field_refuse(l, "decoder", "decoders",
                              "a list of Replace, ByteFallback, Fuse, and perhaps Strip", list);
    for (size_t i = 0; i < js_count(list) && !status; i++) {
        char where[40], expected[24];
        const struct js *item = js_item(list, i);
        snprintf(where, sizeof where, "decoder.decoders[%zu]", i);
        snprintf(expected, sizeof expected, "\"%s\"", types[i]);
        if (!field_has_type(item, types[i]))
            status = refuse_type(l, where, expected, item);
        else if (i == 0)
            status = check_replace(l, where, item, SPACE_MARK, " ");
        else
            status = i == 3 ? read_strip(l, where, item) : read_plain_decoder(l, where, item);
    }
    return status;
}

static int read_decoder(struct load *l, const struct js *v)
{
    return l->t->vocabulary.characters ? read_characters_decoder(l, v)
                                       : read_plain_byte_level(l, "decoder", v);
}

/* Add the ids of one special token of a template, those that special_tokens gives its name. */
static int add_around(struct load *l, const char *where, const struct js *v,
                      const struct js *special_tokens, int32_t *ids, int *n)
{
    const char *name = js_string(js_member(js_member(v, "SpecialToken"), "id"), NULL);
    const struct js *list = name ? js_member(js_member(special_tokens, name), "ids") : NULL;
    if (!js_is_array(list))
        return field_refuse(l, where, "single",
                            "the sequence A and special tokens that special_tokens has", v);
    for (size_t i = 0; i < js_count(list); i++) {
        const struct js *id = js_item(list, i);
        if (!js_is_int(id) || js_int(id) < 0 || js_int(id) > MAX_TOKEN_ID || *n == MAX_AROUND)
            return field_refuse(l, where, "special_tokens",
                                "at most 8 ids of tokens before a text and after it", id);
        ids[(*n)++] = (int32_t)js_int(id);
    }
    return 0;
}

/* Read a template post-processor: special tokens before and after the sequence A. */
static int read_template(struct load *l, const char *where, const struct js *v)
{
    static const struct field fields[] = {{"type", ANYTHING},
                                          {"single", ANYTHING},
                                          {"pair", ANYTHING},
                                          {"special_tokens", ANYTHING},
                                          {0}};
    struct tokenizer *t = l->t;
    const struct js *single = js_member(v, "single"), *names = js_member(v, "special_tokens");
    int status = fields_check(l, where, v, fields), sequences = 0;
    if (!status && t->n_before + t->n_after && js_count(single) != 1)
        return fail(STATUS_BAD_FILE,
                    "%s: %s: expected one template that adds tokens, found a second", l->name,
                    where);
    for (size_t i = 0; i < js_count(single) && !status; i++) {
        const struct js *item = js_item(single, i), *sequence = js_member(item, "Sequence");
        if (sequence && field_is(js_member(sequence, "id"), "A"))
            sequences++;
        else if (sequences)
            status = add_around(l, where, item, names, t->after, &t->n_after);
        else
            status = add_around(l, where, item, names, t->before, &t->n_before);
    }
    if (!status && sequences != 1)
        status =
            fail(STATUS_BAD_FILE, "%s: %s.single: expected the sequence A once, found it %d times",
                 l->name, where, sequences);
    return status;
}

static int read_post_item(struct load *l, const char *where, const struct js *v)
{
    if (field_has_type(v, "TemplateProcessing"))
        return read_template(l, where, v);
    return read_plain_byte_level(l, where, v);
}

static int read_post_processor(struct load *l, const struct js *v)
{
    if (!v || js_is_null(v))
        return 0;
    if (field_has_type(v, "Sequence"))
        return read_sequence(l, "post_processor", v, "processors", read_post_item);
    return read_post_item(l, "post_processor", v);
}

/* The tokens that a template adds must exist. */
static int check_around(const struct load *l, const int32_t *ids, int n)
{
    const struct vocabulary *v = &l->t->vocabulary;
    for (int i = 0; i < n; i++)
        if (ids[i] >= v->size || !v->tokens[ids[i]].key)
            return fail(STATUS_BAD_FILE,
                        "%s: post_processor.special_tokens: expected ids of tokens, found %" PRId32
                        ", which none has",
                        l->name, ids[i]);
    return 0;
}

int tokenizer_read(struct tokenizer *t, const struct js *root, const char *name,
                   const struct js *extra)
{
    static const struct field fields[] = {{"version", ANYTHING},        {"truncation", ANYTHING},
                                          {"padding", ANYTHING},        {"added_tokens", ANYTHING},
                                          {"normalizer", ANYTHING},     {"pre_tokenizer", ANYTHING},
                                          {"post_processor", ANYTHING}, {"decoder", ANYTHING},
                                          {"model", ANYTHING},          {0}};
    static const struct {
        const char *key;
        int (*read)(struct load *l, const struct js *v);
    } parts[] = {{"normalizer", read_normalizers},
                 {"pre_tokenizer", read_pre_tokenizer},
                 {"post_processor", read_post_processor},
                 {"decoder", read_decoder}};
    struct load l = {t, name, extra};
    const struct js *version = js_member(root, "version");
    int status = fields_check(&l, "", root, fields);
    if (!status && version && !field_is(version, "1.0"))
        status = field_refuse(&l, "", "version", "\"1.0\"", version);
    for (size_t i = 0; i < sizeof parts / sizeof *parts && !status; i++)
        status = parts[i].read(&l, js_member(root, parts[i].key));
    if (!status)
        status = read_model(&l, js_member(root, "model"), js_member(root, "added_tokens"));
    if (!status)
        status = check_around(&l, t->before, t->n_before);
    return status ? status : check_around(&l, t->after, t->n_after);
}
