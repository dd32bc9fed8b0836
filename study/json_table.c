#include "study/json_table.h"

#include <string.h>

#include "base/log.h"
#include "base/spelling.h"
#include "model/found.h"

static int refuse_unknown(const char *file, const char *where, const struct js *object,
                          const struct json_key *keys)
{
    for (struct js_entry e = js_first(object); e.key; e = js_next(object, e)) {
        struct spelling s = {.word = e.key};
        const struct json_key *k = keys;
        for (; k->name && strcmp(k->name, e.key) != 0; k++)
            spelling_try(&s, k->name);
        if (!k->name)
            return fail(STATUS_BAD_FILE, "%s: expected no key \"%s%.40s\"%s", file, where, e.key,
                        spelling_hint(&s));
    }
    return 0;
}

static bool is_of_kind(const struct json_key *k, const struct js *v)
{
    double n = js_number(v);
    switch (k->kind) {
    case JSON_REAL:
        return js_is_number(v) && n >= k->least && n <= k->most;
    case JSON_WHOLE:
        return js_is_int(v) && n >= k->least && n <= k->most;
    case JSON_TEXT:
        return js_is_string(v) && strlen(js_string(v, NULL)) > 0;
    case JSON_OBJECT:
        return js_is_object(v);
    case JSON_LIST:
        return js_is_array(v);
    }
    return false;
}

static int refuse_value(const char *file, const char *where, const struct json_key *k,
                        const struct js *v)
{
    static const char *const kinds[] = {"a number", "a whole number", "a text", "an object",
                                        "a list"};
    if (k->kind > JSON_WHOLE)
        return fail(STATUS_BAD_FILE, "%s: %s%s: expected %s, found %s", file, where, k->name,
                    kinds[k->kind], v ? found(v).text : "none");
    return fail(STATUS_BAD_FILE, "%s: %s%s: expected %s from %.15g to %.15g, found %s", file, where,
                k->name, kinds[k->kind], k->least, k->most, v ? found(v).text : "none");
}

static void take(const struct json_key *k, const struct js *v, struct arena *memory)
{
    if (!k->to)
        return;
    if (k->kind == JSON_REAL)
        *(double *)k->to = js_number(v);
    else if (k->kind == JSON_WHOLE)
        *(int *)k->to = (int)js_int(v);
    else if (k->kind == JSON_TEXT)
        *(const char **)k->to = arena_strdup(memory, js_string(v, NULL));
    else
        *(const struct js **)k->to = v;
}

int json_table_read(const char *file, const char *where, const struct js *object,
                    const struct json_key *keys, struct arena *memory)
{
    if (!js_is_object(object))
        return fail(STATUS_BAD_FILE, "%s: %s expected an object, found %s", file, where,
                    object ? found(object).text : "none");
    int status = refuse_unknown(file, where, object, keys);
    for (const struct json_key *k = keys; k->name && !status; k++) {
        const struct js *v = js_member(object, k->name);
        if (k->optional && (!v || js_is_null(v)))
            continue;
        if (!is_of_kind(k, v))
            return refuse_value(file, where, k, v);
        take(k, v, memory);
    }
    return status;
}

static int read_root(void *to, json_reader *read, struct js *root, const char *name,
                     struct arena *memory)
{
    int status = root ? read(to, root, name, memory) : STATUS_BAD_FILE;
    js_free(root);
    return status;
}

int json_read_text(void *to, json_reader *read, const char *text, size_t bytes, const char *name,
                   struct arena *memory)
{
    return read_root(to, read, js_parse(text, bytes, name), name, memory);
}

int json_read_file(void *to, json_reader *read, const char *path, size_t max_bytes,
                   struct arena *memory)
{
    return read_root(to, read, js_load(path, max_bytes), path, memory);
}
