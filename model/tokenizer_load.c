/* Reads tokenizer.json, field by field. A field is followed, or has a value that changes no id, or
 * is refused with its name; a field that is not known is refused, too, unless it is null. The
 * vocabulary, the merges and the added tokens are read in tokenizer_entries.c. */
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

static int read_normalizer(struct load *l, const char *where, const struct js *v)
{
    static const struct field fields[] = {{"type", ANYTHING}, {0}};
    if (!field_has_type(v, "NFC"))
        return refuse_type(l, where, "\"NFC\"", v);
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

/* Read the pre-tokenizer: any number of Splits, then a ByteLevel. The ByteLevel must be last, as
 * the Splits work on text and not on bytes. */
static int read_pre_tokenizer(struct load *l, const struct js *v)
{
    const char *where = "pre_tokenizer";
    if (field_has_type(v, "ByteLevel"))
        return read_byte_level(l, where, v);
    if (!field_has_type(v, "Sequence"))
        return refuse_type(l, where, "\"Sequence\" or \"ByteLevel\"", v);
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

/* Read a template post-processor. Only the one that adds nothing to the text is accepted. */
static int read_template(struct load *l, const char *where, const struct js *v)
{
    static const struct field fields[] = {{"type", ANYTHING},
                                          {"single", ANYTHING},
                                          {"pair", ANYTHING},
                                          {"special_tokens", ANYTHING},
                                          {0}};
    const struct js *single = js_member(v, "single");
    const struct js *sequence = js_member(js_item(single, 0), "Sequence");
    int status = fields_check(l, where, v, fields);
    if (!status && (js_count(single) != 1 || !field_is(js_member(sequence, "id"), "A")))
        status = fail(STATUS_BAD_FILE,
                      "%s: %s.single: expected the sequence A alone, found a template that adds "
                      "tokens",
                      l->name, where);
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

int tokenizer_read(struct tokenizer *t, const struct js *root, const char *name,
                   const struct js *extra)
{
    static const struct field fields[] = {{"version", ANYTHING},        {"truncation", ANYTHING},
                                          {"padding", ANYTHING},        {"added_tokens", ANYTHING},
                                          {"normalizer", ANYTHING},     {"pre_tokenizer", ANYTHING},
                                          {"post_processor", ANYTHING}, {"decoder", ANYTHING},
                                          {"model", ANYTHING},          {0}};
    struct load l = {t, name, extra};
    const struct js *version = js_member(root, "version");
    int status = fields_check(&l, "", root, fields);
    if (!status && version && !field_is(version, "1.0"))
        status = field_refuse(&l, "", "version", "\"1.0\"", version);
    if (!status)
        status = read_normalizers(&l, js_member(root, "normalizer"));
    if (!status)
        status = read_pre_tokenizer(&l, js_member(root, "pre_tokenizer"));
    if (!status)
        status = read_post_processor(&l, js_member(root, "post_processor"));
    if (!status)
        status = read_plain_byte_level(&l, "decoder", js_member(root, "decoder"));
    if (!status)
        status = read_model(&l, js_member(root, "model"), js_member(root, "added_tokens"));
    return status;
}
