#include "launch/batch_fields.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "launch/spelling.h"
#include "model/found.h"

/* Fields of OpenAI's requests for what is not done here, and what they may be beside null. */
static const struct {
    const char *name;
    enum { ANYTHING, FALSE, ZERO, ONE } neutral;
} others[] = {{"model", ANYTHING}, // the model is that of -m
              {"user", ANYTHING},  {"metadata", ANYTHING},      {"stream", FALSE},
              {"echo", FALSE},     {"logprobs", FALSE},         {"n", ONE},
              {"best_of", ONE},    {"frequency_penalty", ZERO}, {"presence_penalty", ZERO}};
enum { N_OTHERS = sizeof others / sizeof *others };

int batch_refuse(const char *key, const char *expected, const struct js *v)
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

const struct js *batch_field(const struct js *object, const char *key)
{
    const struct js *v = js_member(object, key);
    return js_is_null(v) ? NULL : v;
}

static int check_other(int i, const struct js *v)
{
    const char *name = others[i].name;
    if (js_is_null(v))
        return 0;
    if (others[i].neutral == FALSE && !(js_is_bool(v) && !js_bool(v)))
        return fail(STATUS_BAD_FILE, "%s: expected false, as batch does no other, found %s", name,
                    js_is_bool(v) ? "true" : js_kind(v));
    if (others[i].neutral == ZERO && !(js_is_number(v) && js_number(v) == 0))
        return batch_refuse(name, "0, as batch does no other", v);
    if (others[i].neutral == ONE && !(js_is_int(v) && js_int(v) == 1))
        return batch_refuse(name, "1, as batch does no other", v);
    return 0;
}

static int refuse_field(const char *name, const char *const *known, const char *where)
{
    struct spelling s = {.word = name};
    char list[320] = "";
    for (int i = 0; known[i]; i++) {
        spelling_try(&s, known[i]);
        strcat(strcat(list, i ? ", " : ""), known[i]);
    }
    return fail(STATUS_BAD_FILE, "%sexpected the fields %s, found \"%.40s\"%s", where, list, name,
                spelling_hint(&s));
}

int batch_check_fields(const struct js *object, const char *const *known, bool of_request,
                       const char *where)
{
    int status = 0;
    for (struct js_entry e = js_first(object); e.key && !status; e = js_next(object, e)) {
        int i = 0, other = of_request ? 0 : N_OTHERS;
        while (known[i] && strcmp(known[i], e.key) != 0)
            i++;
        while (other < N_OTHERS && strcmp(others[other].name, e.key) != 0)
            other++;
        if (!known[i])
            status =
                other < N_OTHERS ? check_other(other, e.value) : refuse_field(e.key, known, where);
    }
    return status;
}

int batch_read_ids(const char *key, const struct js *list, size_t most, int32_t **ids, size_t *n)
{
    size_t count = js_count(list);
    int status = 0;
    if (!js_is_array(list))
        return batch_refuse(key, "a list of token ids", list);
    if (count > most)
        return fail(STATUS_BAD_FILE, "%s: expected at most %zu ids, found %zu", key, most, count);
    int32_t *made = malloc((count + 1) * sizeof *made);
    CHECK_MEMORY(made, "no memory for %zu ids", count);
    for (size_t i = 0; i < count && !status; i++) {
        const struct js *v = js_item(list, i);
        made[i] = (int32_t)js_int(v);
        if (!js_is_int(v) || js_int(v) < 0 || js_int(v) > INT32_MAX)
            status = batch_refuse(key, "a list of token ids", v);
    }
    if (status) {
        free(made);
        return status;
    }
    *ids = made;
    *n = count;
    return 0;
}
