/* Values in the files. A missing one, or one of another kind, is an error of the file. */
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "study/report_state.h"

struct spot spot_root(struct report *r, const struct report_file *f)
{
    return (struct spot){.report = r, .file = f, .value = f->root};
}

/* A file is damaged: say where, once. */
static void complain(struct spot s, const char *expected)
{
    if (!s.report->status)
        s.report->status = fail(
            STATUS_BAD_FILE, "%s: %s: expected %s, found %s; %s would write it anew", s.file->path,
            s.at[0] ? s.at : "/", expected, js_kind(s.value), report_kind_command(s.file->kind));
}

/* Go down one step of a path. */
static const struct js *step(const struct js *v, const char *name)
{
    if (js_is_array(v))
        return js_item(v, (size_t)strtoul(name, NULL, 10));
    return js_is_object(v) ? js_member(v, name) : NULL;
}

static struct spot walk(struct spot from, const char *format, va_list args)
{
    char path[sizeof from.at], *rest = path, *name;
    size_t used = strlen(from.at), room = sizeof from.at - used;
    int length = vsnprintf(path, sizeof path, format, args);
    CHECK(length >= 0 && (size_t)length + 1 < room, "no room for %s", format);
    from.at[used] = '/';
    memcpy(from.at + used + 1, path, (size_t)length + 1);
    while ((name = strsep(&rest, "/")))
        from.value = step(from.value, name);
    return from;
}

struct spot spot_find(struct spot from, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    struct spot found = walk(from, format, args);
    va_end(args);
    return found;
}

struct spot spot_at(struct spot from, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    struct spot found = walk(from, format, args);
    va_end(args);
    if (!found.value)
        complain(found, "a value");
    return found;
}

double spot_number(struct spot s)
{
    double v = js_number(s.value);
    if (!js_is_number(s.value) || !isfinite(v)) {
        complain(s, "a finite number");
        return 0;
    }
    return v;
}

const char *spot_text(struct spot s)
{
    if (!js_is_string(s.value)) {
        complain(s, "a string");
        return "";
    }
    return js_string(s.value, NULL);
}

int spot_count(struct spot list)
{
    if (!js_is_array(list.value)) {
        complain(list, "a list");
        return 0;
    }
    return (int)js_count(list.value);
}

/* One run of bench, or each of a list. */
static void each_item(struct spot root, report_each *each)
{
    int n = js_is_array(root.value) ? (int)js_count(root.value) : 0;
    if (!n)
        each(root);
    for (int i = 0; i < n; i++)
        each(spot_at(root, "%d", i));
}

void each_of(struct report *r, enum report_kind kind, report_each *each)
{
    for (int i = 0; i < r->n; i++)
        if (r->files[i].kind == kind)
            each_item(spot_root(r, &r->files[i]), each);
}

void each_profile(struct report *r, report_each *each)
{
    each_of(r, REPORT_PROFILE, each);
    for (int i = 0; i < r->n; i++) {
        struct spot root = spot_root(r, &r->files[i]);
        int n = js_is_array(root.value) ? (int)js_count(root.value) : 1;
        for (int k = 0; k < n && r->files[i].kind == REPORT_BENCH; k++) {
            struct spot run = js_is_array(root.value) ? spot_at(root, "%d", k) : root;
            struct spot profile = spot_find(run, "profile");
            if (profile.value)
                each(profile);
        }
    }
}

bool report_has_profile(struct report *r)
{
    for (int i = 0; i < r->n; i++) {
        struct spot root = spot_root(r, &r->files[i]);
        struct spot first = js_is_array(root.value) ? spot_find(root, "0") : root;
        if (r->files[i].kind == REPORT_PROFILE ||
            (r->files[i].kind == REPORT_BENCH && spot_find(first, "profile").value))
            return true;
    }
    return false;
}
