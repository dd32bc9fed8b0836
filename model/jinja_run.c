/* Limits, errors, and the two ends of a run. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "model/jinja_parts.h"

enum { MOST_DEPTH = 300, MOST_TEMPLATE_BYTES = 1 << 20, FIRST_BUFFER_BYTES = 4096 };
/* Bytes of memory and steps for a template of the largest size, and for a rendering beside what its
 * input adds (jinja_from_js). */
enum { MOST_BYTES = 64 << 20, MOST_STEPS = 1 << 22 };

void jinja_fail(struct jinja_run *r, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(r->error, sizeof r->error, format, args);
    va_end(args);
    longjmp(r->failed, 1);
}

void *jinja_alloc(struct jinja_run *r, size_t bytes)
{
    if (bytes > r->most_bytes || r->memory->bytes > r->most_bytes - bytes)
        jinja_fail(r, "expected at most %zu MiB of memory, found that it needs more",
                   r->most_bytes >> 20);
    return arena_alloc(r->memory, bytes);
}

void jinja_step(struct jinja_run *r, size_t steps)
{
    r->steps += steps;
    if (r->steps > r->most_steps)
        jinja_fail(r, "expected an end after at most %llu steps, found that it goes on",
                   (unsigned long long)r->most_steps);
}

void jinja_enter(struct jinja_run *r)
{
    jinja_step(r, 1);
    if (++r->depth > MOST_DEPTH)
        jinja_fail(r, "expected at most %d levels in each other, found more", MOST_DEPTH);
}

void jinja_leave(struct jinja_run *r)
{
    r->depth--;
}

void jinja_put(struct jinja_run *r, struct jinja_buffer *b, const char *text, size_t bytes)
{
    if (bytes > b->room - b->bytes) {
        size_t room = (b->bytes + bytes) * 2;
        room = room < FIRST_BUFFER_BYTES ? FIRST_BUFFER_BYTES : room;
        char *more = jinja_alloc(r, room);
        if (b->bytes)
            memcpy(more, b->text, b->bytes);
        b->text = more;
        b->room = room;
    }
    if (bytes)
        memcpy(b->text + b->bytes, text, bytes);
    b->bytes += bytes;
    jinja_step(r, bytes / 64);
}

void jinja_put_text(struct jinja_run *r, struct jinja_buffer *b, struct jinja_text t)
{
    jinja_put(r, b, t.at, t.bytes);
}

static void begin(struct jinja_run *r, struct arena *memory)
{
    *r = (struct jinja_run){
        .memory = memory, .most_bytes = MOST_BYTES, .most_steps = MOST_STEPS, .line = 1};
}

/* Read the template, or leave an error in r. Like the function below it has no local variables, as
 * their values would be undefined after longjmp(). */
static bool try_read(struct jinja_run *r, struct jinja *t, struct jinja_text source)
{
    if (setjmp(r->failed) != 0)
        return false;
    if (source.bytes > MOST_TEMPLATE_BYTES)
        jinja_fail(r, "expected at most %d bytes, found %zu", MOST_TEMPLATE_BYTES, source.bytes);
    if (memchr(source.at, 0, source.bytes) || !jinja_valid(source))
        jinja_fail(r, "expected UTF-8 without U+0000, found other bytes");
    t->body = jinja_read(r, source, t);
    return true;
}

struct jinja *jinja_open(const char *text, size_t bytes, const char *name)
{
    struct jinja_run r;
    struct jinja *t = calloc(1, sizeof *t);
    CHECK_MEMORY(t, "no memory for a chat template");
    t->name = strdup(name);
    CHECK_MEMORY(t->name, "no memory for a chat template");
    begin(&r, &t->memory);
    if (try_read(&r, t, (struct jinja_text){text, bytes}))
        return t;
    fail(STATUS_BAD_FILE, "%s: chat template, line %d: %s", name, r.line, r.error);
    jinja_close(t);
    return NULL;
}

void jinja_close(struct jinja *t)
{
    if (!t)
        return;
    arena_free(&t->memory);
    free(t->name);
    free(t);
}

bool jinja_reads(const struct jinja *t, const char *name)
{
    for (size_t i = 0; i < t->n_names; i++)
        if (jinja_is(t->names[i], name))
            return true;
    return false;
}

static void give(struct jinja_run *r, const struct jinja_input *in)
{
    for (size_t i = in->n; i-- > 0;)
        if (in->variables[i].value)
            jinja_dict_put(r, &r->scope->names, jinja_word(in->variables[i].name).text,
                           jinja_from_js(r, in->variables[i].value));
}

static const struct jinja_list *watched(struct jinja_run *r, const struct jinja_scope *given,
                                        const struct jinja_input *in)
{
    if (!in->watched_list)
        return NULL;
    struct jinja_entry *e = jinja_dict_find(r, &given->names, jinja_word(in->watched_list).text);
    return e && e->value.kind == JINJA_LIST ? e->value.list : NULL;
}

static size_t first_unread(struct jinja_run *r, const struct jinja_list *l, const char *member)
{
    for (size_t i = 0; l && i < l->n; i++) {
        struct jinja_entry *e = l->at[i].kind != JINJA_DICT
                                    ? NULL
                                    : jinja_dict_find(r, l->at[i].dict, jinja_word(member).text);
        if (e && !e->read)
            return i;
    }
    return SIZE_MAX;
}

/* Set the given variables and run the template. Variables that it sets go to another scope, so that
 * the given ones can still be examined afterwards. */
static void run(struct jinja_run *r, const struct jinja *t, const struct jinja_input *in,
                size_t *unread)
{
    struct jinja_scope given = {0}, set = {.up = &given};
    r->scope = &given;
    give(r, in);
    const struct jinja_list *list = watched(r, &given, in);
    r->scope = &set;
    jinja_exec(r, t->body);
    *unread = first_unread(r, list, in->watched_member);
}

static bool try_run(struct jinja_run *r, const struct jinja *t, const struct jinja_input *in,
                    size_t *unread)
{
    if (setjmp(r->failed) != 0)
        return false;
    run(r, t, in, unread);
    return true;
}

static char *copy_out(const struct jinja_buffer *out, size_t *bytes)
{
    char *text = malloc(out->bytes + 1);
    CHECK_MEMORY(text, "no memory for a prompt of %zu bytes", out->bytes);
    if (out->bytes)
        memcpy(text, out->text, out->bytes);
    text[out->bytes] = 0;
    *bytes = out->bytes;
    return text;
}

char *jinja_render(const struct jinja *t, const struct jinja_input *in, size_t *bytes,
                   size_t *unread)
{
    struct arena memory = {0};
    struct jinja_buffer out = {0};
    struct jinja_run r;
    char *text = NULL;
    begin(&r, &memory);
    r.out = &out;
    if (try_run(&r, t, in, unread))
        text = copy_out(&out, bytes);
    else if (r.raised)
        fail(STATUS_BAD_FILE, "%s: the chat template refuses these messages: %s", t->name, r.error);
    else
        fail(STATUS_BAD_FILE, "%s: chat template, line %d: %s", t->name, r.line, r.error);
    arena_free(&memory);
    return text;
}
