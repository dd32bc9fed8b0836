#include "model/chat.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "model/jinja.h"

enum { MAX_FILE_BYTES = 64 << 20, MAX_VARIABLES = 32 };

int chat_parse(struct chat *c, const char *text, size_t bytes, const char *name)
{
    *c = (struct chat){.plain = jinja_open(text, bytes, name)};
    return c->plain ? 0 : STATUS_BAD_FILE;
}

/* The template of this name in a list of them; NULL: it is not there. */
static const struct js *named(const struct js *list, const char *name)
{
    for (size_t i = 0; js_is_array(list) && i < js_count(list); i++) {
        const char *found = js_string(js_member(js_item(list, i), "name"), NULL);
        if (found && strcmp(found, name) == 0)
            return js_member(js_item(list, i), "template");
    }
    return NULL;
}

/* The texts of the special tokens, each a string or an object with its content. */
static struct js *read_tokens(const struct js *config)
{
    static const char *const names[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                        "pad_token", "cls_token", "mask_token"};
    struct js *tokens = js_new_object();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const struct js *v = js_member(config, names[i]);
        v = js_is_object(v) ? js_member(v, "content") : v;
        if (js_is_string(v))
            js_set(tokens, names[i], js_copy(v));
    }
    return tokens;
}

static int open_text(struct jinja **t, const struct js *v, const char *path)
{
    size_t bytes;
    const char *text = js_string(v, &bytes);
    *t = text ? jinja_open(text, bytes, path) : NULL;
    return text ? (*t ? 0 : STATUS_BAD_FILE)
                : fail(STATUS_BAD_FILE,
                       "%s: chat_template: expected a string or a list with a template named "
                       "\"default\", found %s",
                       path, js_kind(v));
}

/* The templates in tokenizer_config.json. */
static int open_config(struct chat *c, const struct js *config, const char *path)
{
    const struct js *v = js_member(config, "chat_template"), *tools = named(v, "tool_use");
    if (!v || js_is_null(v))
        return fail(STATUS_BAD_FILE, "%s: expected a chat_template for messages, found none", path);
    const struct js *plain = named(v, "default");
    int status = open_text(&c->plain, plain ? plain : v, path);
    return status || !tools ? status : open_text(&c->with_tools, tools, path);
}

static int open_file(struct jinja **t, const char *path)
{
    size_t bytes;
    char *text = file_read(path, MAX_FILE_BYTES, &bytes);
    *t = text ? jinja_open(text, bytes, path) : NULL;
    free(text);
    return *t ? 0 : STATUS_BAD_FILE;
}

static int open_files(struct chat *c, const char *file, const char *tools)
{
    int status = open_file(&c->plain, file);
    return status || !file_exists(tools) ? status : open_file(&c->with_tools, tools);
}

static int open_all(struct chat *c, const char *dir, const struct js *config, const char *path)
{
    char *file = path_join(dir, "chat_template.jinja"),
         *tools = path_join(dir, "additional_chat_templates/tool_use.jinja");
    int status;
    if (file_exists(file))
        status = open_files(c, file, tools);
    else if (config)
        status = open_config(c, config, path);
    else
        status = fail(STATUS_BAD_FILE,
                      "%s: expected a chat template for messages (chat_template.jinja or "
                      "tokenizer_config.json), found none",
                      dir);
    free(file);
    free(tools);
    return status;
}

int chat_open(struct chat *c, const char *dir)
{
    char *path = path_join(dir, "tokenizer_config.json");
    bool there = file_exists(path);
    struct js *config = there ? js_load(path, MAX_FILE_BYTES) : NULL;
    int status = there && !config ? STATUS_BAD_FILE : 0;
    *c = (struct chat){.tokens = read_tokens(config)};
    if (!status)
        status = open_all(c, dir, config, path);
    if (status)
        chat_close(c);
    js_free(config);
    free(path);
    return status;
}

void chat_close(struct chat *c)
{
    jinja_close(c->plain);
    jinja_close(c->with_tools);
    js_free(c->tokens);
    *c = (struct chat){0};
}

bool chat_reads(const struct chat *c, const char *name)
{
    return jinja_reads(c->plain, name) || (c->with_tools && jinja_reads(c->with_tools, name));
}

/* The reasoning of an answer has three names; templates find it under two, as in transformers. */
static void name_reasoning(struct js *message)
{
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    const struct js *found = NULL;
    for (size_t i = 0; i < 3 && !found; i++)
        found = js_member(message, names[i]);
    if (!found)
        return;
    struct js *reasoning = js_copy(found);
    if (!js_member(message, "thinking"))
        js_set(message, "thinking", js_copy(reasoning));
    js_set(message, "reasoning_content", reasoning);
}

static struct js *tidy_message(const struct js *from)
{
    struct js *message = js_new_object();
    for (struct js_entry e = js_first(from); e.key; e = js_next(from, e))
        if (!js_is_null(e.value))
            js_set(message, e.key, js_copy(e.value));
    name_reasoning(message);
    return message;
}

static bool is_system(const struct js *message)
{
    const char *role = js_string(js_member(message, "role"), NULL);
    return role && strcmp(role, "system") == 0;
}

/* A copy of the messages in the form that the template gets. */
static struct js *tidy(const struct chat_request *q)
{
    struct js *messages = js_new_array();
    if (q->system && !is_system(js_item(q->messages, 0))) {
        struct js *first = js_new_object();
        js_set(first, "role", js_new_text("system"));
        js_set(first, "content", js_new_text(q->system));
        js_push(messages, first);
    }
    for (size_t i = 0; i < js_count(q->messages); i++)
        js_push(messages, tidy_message(js_item(q->messages, i)));
    return messages;
}

static int check_names(const struct chat *c, const struct chat_request *q)
{
    if (q->tools && !chat_reads(c, "tools"))
        return fail(STATUS_BAD_FILE, "tools: expected none, as this model's chat template reads "
                                     "no tools, found some");
    for (struct js_entry e = js_first(q->kwargs); e.key; e = js_next(q->kwargs, e)) {
        bool own = strcmp(e.key, "messages") == 0 || strcmp(e.key, "tools") == 0;
        bool common = strcmp(e.key, "add_generation_prompt") == 0; // every template is given it
        if (own || !(common || chat_reads(c, e.key)))
            return fail(STATUS_BAD_FILE, "chat_template_kwargs: expected %s, found \"%.60s\"",
                        own ? "messages and tools beside it, not in it"
                            : "names that this model's chat template reads",
                        e.key);
    }
    return js_count(q->kwargs) <= MAX_VARIABLES
               ? 0
               : fail(STATUS_BAD_FILE, "chat_template_kwargs: expected at most %d names, found %zu",
                      MAX_VARIABLES, js_count(q->kwargs));
}

/* Variables: those of the request come before those of the checkpoint and the defaults. */
static size_t give(struct jinja_variable *to, const struct js *object)
{
    size_t n = 0;
    for (struct js_entry e = js_first(object); e.key; e = js_next(object, e))
        to[n++] = (struct jinja_variable){e.key, e.value};
    return n;
}

static char *run(const struct chat *c, const struct chat_request *q, const struct js *messages,
                 size_t *bytes, size_t *unread)
{
    struct jinja_variable v[2 * MAX_VARIABLES];
    struct js *yes = js_new_bool(true), *none = js_new_null();
    size_t n = give(v, q->kwargs);
    n += give(v + n, c->tokens);
    v[n++] = (struct jinja_variable){"messages", messages};
    v[n++] = (struct jinja_variable){"tools", q->tools ? q->tools : none};
    v[n++] = (struct jinja_variable){"documents", none};
    v[n++] = (struct jinja_variable){"add_generation_prompt", yes};
    const struct jinja_input in = {v, n, "messages", "content"};
    char *text =
        jinja_render(q->tools && c->with_tools ? c->with_tools : c->plain, &in, bytes, unread);
    js_free(yes);
    js_free(none);
    return text;
}

/* Refuse a prompt whose template has not read the content of message number `unread`. */
static void refuse_unread(const struct chat_request *q, const struct js *messages, size_t unread)
{
    size_t put_before = js_count(messages) - js_count(q->messages), bytes = 0;
    const char *role = js_string(js_member(js_item(messages, unread), "role"), &bytes);
    if (unread < put_before)
        fail(STATUS_BAD_FILE, "a system prompt: expected none, as this model's chat template "
                              "leaves it out");
    else
        fail(STATUS_BAD_FILE,
             "messages: %zu: expected a message that this model's chat template prints, found "
             "the role \"%.*s\", which it leaves out",
             unread + 1 - put_before, bytes < 40 ? (int)bytes : 40, role ? role : "");
}

char *chat_render(const struct chat *c, const struct chat_request *q, size_t *bytes)
{
    size_t unread = SIZE_MAX;
    if (check_names(c, q) != 0)
        return NULL;
    struct js *messages = tidy(q);
    char *text = run(c, q, messages, bytes, &unread);
    if (text && unread != SIZE_MAX) {
        refuse_unread(q, messages, unread);
        free(text);
        text = NULL;
    }
    js_free(messages);
    return text;
}
