#include "serve/params.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/spelling.h"
#include "model/found.h"

int param_refuse(const char *key, const char *expected, const struct js *v)
{
    size_t bytes = 1;
    struct found number = found(v);
    const char *what = js_is_number(v) ? number.text : js_kind(v);
    js_string(v, &bytes);
    if (js_is_string(v) && !bytes)
        what = "an empty string";
    if (js_is_array(v) && js_count(v) == 0)
        what = "an empty list";
    return fail(STATUS_BAD_FILE, "%s: expected %s, found %s", key, expected, what);
}

const struct js *param_of(const struct js *object, const char *key)
{
    const struct js *v = js_member(object, key);
    return js_is_null(v) ? NULL : v;
}

static bool is_word(const struct js *v, const char *word)
{
    size_t bytes;
    const char *text = js_string(v, &bytes);
    return text && bytes == strlen(word) && memcmp(text, word, bytes) == 0;
}

static bool is_neutral(const struct neutral_param *f, const struct js *v)
{
    switch (f->value) {
    case FALSE:
        return js_is_bool(v) && !js_bool(v);
    case ZERO:
        return js_is_number(v) && js_number(v) == 0;
    case ONE:
        return js_is_int(v) && js_int(v) == 1;
    case EMPTY:
        return js_is_array(v) && js_count(v) == 0;
    case WORD:
        return is_word(v, f->word);
    case TYPE:
        return js_count(v) == 1 && is_word(js_member(v, "type"), f->word);
    case LIST:
        return js_count(v) == 1 && is_word(js_item(v, 0), f->word);
    default:
        return true;
    }
}

static int check_neutral(const struct neutral_param *f, const char *by, const struct js *v)
{
    static const char *const words[] = {"", "false", "0", "1", "an empty list"};
    const char *before = f->value == TYPE ? "the type " : f->value == LIST ? "a list of " : "";
    char expected[96];
    if (js_is_null(v) || is_neutral(f, v))
        return 0;
    snprintf(expected, sizeof expected, "%s%s, as %s does no other", before,
             f->value < WORD ? words[f->value]
             : *f->word      ? f->word
                             : "an empty string",
             by);
    return js_is_bool(v) || js_is_string(v) ? fail(STATUS_BAD_FILE, "%s: expected %s, found %s",
                                                   f->name, expected, found(v).text)
                                            : param_refuse(f->name, expected, v);
}

static int refuse_unknown(const char *name, const char *const *known, const char *where)
{
    struct spelling s = {.word = name};
    char list[1024] = "";
    for (int i = 0; known[i]; i++) {
        spelling_try(&s, known[i]);
        strcat(strcat(list, i ? ", " : ""), known[i]);
    }
    return fail(STATUS_BAD_FILE, "%sexpected the fields %s, found \"%.40s\"%s", where, list, name,
                spelling_hint(&s));
}

static int check_field(const struct js_entry *e, const struct known_params *known,
                       const char *where)
{
    for (int i = 0; known->names[i]; i++)
        if (strcmp(known->names[i], e->key) == 0)
            return 0;
    for (const struct neutral_param *f = known->neutral; f && f->name; f++)
        if (strcmp(f->name, e->key) == 0)
            return check_neutral(f, known->by, e->value);
    return refuse_unknown(e->key, known->names, where);
}

int params_check(const struct js *object, const struct known_params *known, const char *where)
{
    int status = 0;
    for (struct js_entry e = js_first(object); e.key && !status; e = js_next(object, e))
        status = check_field(&e, known, where);
    return status;
}

int param_int(const struct js *object, const char *key, int64_t least, int64_t most, int64_t *value)
{
    const struct js *v = param_of(object, key);
    char expected[96];
    if (v && (!js_is_int(v) || js_int(v) < least || js_int(v) > most)) {
        snprintf(expected, sizeof expected, "an integer from %" PRId64 " to %" PRId64, least, most);
        return param_refuse(key, expected, v);
    }
    if (v)
        *value = js_int(v);
    return 0;
}

int param_real(const struct js *object, const char *key, double least, double most, double *value)
{
    const struct js *v = param_of(object, key);
    char expected[96];
    if (v && (!js_is_number(v) || !(js_number(v) >= least && js_number(v) <= most))) {
        snprintf(expected, sizeof expected, "a number from %.15g to %.15g", least, most);
        return param_refuse(key, expected, v);
    }
    if (v)
        *value = js_number(v);
    return 0;
}

int param_bool(const struct js *object, const char *key, bool *value)
{
    const struct js *v = param_of(object, key);
    if (v && !js_is_bool(v))
        return param_refuse(key, "true or false", v);
    if (v)
        *value = js_bool(v);
    return 0;
}

int param_ids(const char *key, const struct js *list, size_t most, int vocab, int32_t **ids,
              size_t *n)
{
    size_t count = js_count(list);
    int status = 0;
    if (!js_is_array(list))
        return param_refuse(key, "a list of token ids", list);
    if (count > most)
        return fail(STATUS_BAD_FILE, "%s: expected at most %zu ids, found %zu", key, most, count);
    int32_t *made = malloc((count + 1) * sizeof *made);
    CHECK_MEMORY(made, "no memory for %zu ids", count);
    for (size_t i = 0; i < count && !status; i++) {
        const struct js *v = js_item(list, i);
        made[i] = (int32_t)js_int(v);
        if (!js_is_int(v))
            status = param_refuse(key, "a list of token ids", v);
        else if (js_int(v) < 0 || js_int(v) >= vocab)
            status = fail(STATUS_BAD_FILE, "%s: expected token ids from 0 to %d, found %s", key,
                          vocab - 1, found(v).text);
    }
    if (status) {
        free(made);
        return status;
    }
    *ids = made;
    *n = count;
    return 0;
}
