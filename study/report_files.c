/* Which command has written a file. */
#include <string.h>

#include "base/log.h"
#include "study/report_state.h"

enum { MAX_BYTES = 64 << 20 };

static const struct kind {
    const char *name, *command;
} kinds[] = {
    [REPORT_BENCH] = {"speed", "epmoe bench -m MODEL --ranks 1,2,5 -o json >bench.json"},
    [REPORT_PROFILE] = {"profile",
                        "epmoe run -m MODEL -p TEXT --ranks 5 --profile-json profile.json"},
    [REPORT_ALLTOALL] = {"exchange by itself", "epmoe alltoall --ranks 5 -o json >alltoall.json"},
    [REPORT_REPLAY] = {"replay", "epmoe replay ROUTING --ranks 5 -o json >replay.json"},
    [REPORT_PLACE] = {"placement",
                      "epmoe place --from ROUTING --ranks 5 --report json >place.json"},
    [REPORT_FIT] = {"calibration", "epmoe calibrate -m MODEL --ranks 5 -o fit.json"},
    [REPORT_PROJECT] = {"projection",
                        "epmoe project --routing ROUTING --fit fit.json -o json >project.json"},
};

const char *report_kind_name(enum report_kind kind)
{
    return kinds[kind].name;
}

const char *report_kind_command(enum report_kind kind)
{
    return kinds[kind].command;
}

static bool is_text(const struct js *v, const char *text)
{
    const char *found = js_string(v, NULL);
    return found && strcmp(found, text) == 0;
}

static bool is_bench(const struct js *v)
{
    return js_is_array(js_member(v, "results")) && js_is_object(js_member(v, "machine"));
}

/* The kind of a file, or -1. */
static int kind_of(const struct js *v)
{
    static const struct {
        const char *key, *text;
        enum report_kind kind;
    } marks[] = {{"command", "alltoall", REPORT_ALLTOALL}, {"command", "replay", REPORT_REPLAY},
                 {"command", "place", REPORT_PLACE},       {"command", "project", REPORT_PROJECT},
                 {"kind", "epmoe fit", REPORT_FIT},        {NULL, NULL, REPORT_BENCH}};
    for (int i = 0; marks[i].key; i++)
        if (is_text(js_member(v, marks[i].key), marks[i].text))
            return (int)marks[i].kind;
    if (is_bench(js_is_array(v) ? js_item(v, 0) : v))
        return REPORT_BENCH;
    if (js_is_object(js_member(v, "decode")) && js_is_array(js_member(v, "clocks")))
        return REPORT_PROFILE;
    return -1;
}

/* What is known of files that epmoe writes and this command does not take. */
static const char *found(const struct js *v)
{
    if (js_member(v, "ablation"))
        return "what bench --ablation prints";
    if (js_member(v, "requests_per_s"))
        return "what bench --serve prints";
    if (is_text(js_member(v, "command"), "alltoall"))
        return "what alltoall --matrix prints";
    if (js_is_int(js_member(v, "ranks")) && js_is_array(js_member(v, "layers")))
        return "a placement";
    return js_kind(v);
}

int report_read(struct report *r, const char *path)
{
    struct js *v = js_load(path, MAX_BYTES);
    if (!v)
        return STATUS_BAD_FILE;
    int kind = kind_of(v);
    bool matrix = kind == REPORT_ALLTOALL && js_member(v, "matrix");
    if (kind >= 0 && !matrix) {
        r->files[r->n++] = (struct report_file){path, v, (enum report_kind)kind};
        return 0;
    }
    int status = fail(STATUS_BAD_FILE,
                      "%s: expected JSON of bench -o json, --profile-json, alltoall -o json, "
                      "replay -o json, place --report json, calibrate or project -o json, found %s",
                      path, found(v));
    js_free(v);
    return status;
}

void report_close(struct report *r)
{
    for (int i = 0; i < r->n; i++)
        js_free(r->files[i].root);
}

bool report_has(const struct report *r, enum report_kind kind)
{
    for (int i = 0; i < r->n; i++)
        if (r->files[i].kind == kind)
            return true;
    return false;
}
