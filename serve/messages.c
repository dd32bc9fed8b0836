#include "serve/messages.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "serve/params.h"

enum { WHERE_BYTES = 96 };

static const char *const message_names[] = {
    "role", "content", "tool_calls", "reasoning", "tool_call_id", "reasoning_content", NULL};
static const char *const part_names[] = {"type", "text", NULL};
static const char *const call_names[] = {"id", "type", "function", "index", NULL};
static const char *const function_names[] = {"name", "arguments", NULL};

/* What an answer of OpenAI's API has beside these when it is sent back as a part of a conversation.
 */
static const struct neutral_param answer_fields[] = {{"refusal", EMPTY, NULL},
                                                     {"annotations", EMPTY, NULL},
                                                     {"audio", EMPTY, NULL},
                                                     {"function_call", EMPTY, NULL},
                                                     {NULL, ANYTHING, NULL}};
static const struct known_params message_fields = {message_names, answer_fields, "a chat"};
static const struct known_params part_fields = {part_names, NULL, ""};
static const struct known_params call_fields = {call_names, NULL, ""};
static const struct known_params function_fields = {function_names, NULL, ""};

static int put_part(FILE *stream, const struct js *part, const char *where, size_t number)
{
    const char *type = js_string(js_member(part, "type"), NULL);
    size_t bytes;
    const char *text = js_string(js_member(part, "text"), &bytes);
    if (!type || strcmp(type, "text") != 0 || !text)
        return fail(STATUS_BAD_FILE,
                    "%spart %zu of content: expected {\"type\": \"text\", "
                    "\"text\": a string}, found %s%.40s",
                    where, number, type ? "type " : "no type", type ? type : "");
    fwrite(text, 1, bytes, stream);
    return params_check(part, &part_fields, where);
}

/* Text parts {"type": "text", "text": ...}, whose texts follow each other. */
static int join_parts(struct js *out, const struct js *parts, const char *where)
{
    char *text = NULL;
    size_t bytes;
    int status = 0;
    FILE *stream = open_memstream(&text, &bytes);
    CHECK_MEMORY(stream, "no memory for a message");
    for (size_t i = 0; i < js_count(parts) && !status; i++)
        status = put_part(stream, js_item(parts, i), where, i + 1);
    CHECK_MEMORY(fclose(stream) == 0, "no memory for a message");
    if (!status)
        js_set(out, "content", js_new_string(text, bytes));
    free(text);
    return status;
}

/* A message that calls tools needs no content. */
static int read_content(struct js *out, const struct js *message, const char *where)
{
    const struct js *content = js_member(message, "content");
    bool calls = js_count(param_of(message, "tool_calls")) > 0;
    if (js_is_array(content))
        return join_parts(out, content, where);
    if (js_is_string(content))
        js_set(out, "content", js_copy(content));
    else if (calls && (!content || js_is_null(content)))
        js_set(out, "content", js_new_text(""));
    else
        return fail(STATUS_BAD_FILE, "%sexpected content that is a string or text parts, found %s",
                    where, js_kind(content));
    return 0;
}

/* The arguments of a call, which OpenAI's API has as JSON in a string; an empty one is none. */
static struct js *read_arguments(const struct js *v, const char *where)
{
    char name[WHERE_BYTES + 16];
    size_t bytes;
    const char *text = js_string(v, &bytes);
    snprintf(name, sizeof name, "%sarguments", where);
    if (text && bytes == 0)
        return js_new_object();
    struct js *made = text ? js_parse(text, bytes, name) : js_copy(v);
    if (made && !js_is_object(made)) {
        fail(STATUS_BAD_FILE, "%s: expected an object, found %s", name, js_kind(made));
        js_free(made);
        return NULL;
    }
    return made;
}

static int read_function(struct js *call, const struct js *f, const char *where)
{
    int status = js_is_object(f)
                     ? params_check(f, &function_fields, where)
                     : fail(STATUS_BAD_FILE, "%sexpected a function, found %s", where, js_kind(f));
    if (!status && !js_is_string(js_member(f, "name")))
        status = fail(STATUS_BAD_FILE, "%sexpected a function's name, found %s", where,
                      js_kind(js_member(f, "name")));
    const struct js *given = js_member(f, "arguments");
    struct js *arguments = status ? NULL : given ? read_arguments(given, where) : js_new_object();
    if (!arguments)
        return STATUS_BAD_FILE;
    struct js *function = js_new_object();
    js_set(function, "name", js_copy(js_member(f, "name")));
    js_set(function, "arguments", arguments);
    js_set(call, "function", function);
    return 0;
}

static int read_call(struct js *calls, const struct js *v, const char *where)
{
    if (!js_is_object(v))
        return fail(STATUS_BAD_FILE, "%sexpected an object, found %s", where, js_kind(v));
    int status = params_check(v, &call_fields, where);
    if (status)
        return status;
    struct js *call = js_new_object();
    for (struct js_entry e = js_first(v); e.key; e = js_next(v, e))
        if (strcmp(e.key, "function") != 0)
            js_set(call, e.key, js_copy(e.value));
    js_push(calls, call);
    return read_function(call, js_member(v, "function"), where);
}

static int read_calls(struct js *out, const struct js *message, const char *where)
{
    const struct js *v = param_of(message, "tool_calls");
    if (!v)
        return 0;
    if (!js_is_array(v))
        return fail(STATUS_BAD_FILE, "%stool_calls: expected a list, found %s", where, js_kind(v));
    struct js *calls = js_new_array();
    js_set(out, "tool_calls", calls);
    int status = 0;
    for (size_t i = 0; i < js_count(v) && !status; i++) {
        char number[WHERE_BYTES];
        snprintf(number, sizeof number, "%stool_calls: %zu: ", where, i + 1);
        status = read_call(calls, js_item(v, i), number);
    }
    return status;
}

/* Copy a text of the message. */
static int read_text(struct js *out, const struct js *message, const char *name, const char *where)
{
    const struct js *v = param_of(message, name);
    if (v && !js_is_string(v))
        return fail(STATUS_BAD_FILE, "%s%s: expected a string, found %s", where, name, js_kind(v));
    if (v)
        js_set(out, name, js_copy(v));
    return 0;
}

static int read_role(struct js *out, const struct js *message, const char *where)
{
    size_t bytes = 0;
    const struct js *v = js_member(message, "role");
    const char *role = js_string(v, &bytes);
    if (!bytes)
        return fail(STATUS_BAD_FILE, "%sexpected a role, found %s", where,
                    role ? "an empty string" : js_kind(v));
    js_set(out, "role", js_copy(v));
    return 0;
}

/* The other fields of a message, which are texts. */
static int read_texts(struct js *out, const struct js *message, const char *where)
{
    static const char *const texts[] = {"tool_call_id", "reasoning_content", "reasoning"};
    int status = 0;
    for (size_t i = 0; i < sizeof texts / sizeof *texts && !status; i++)
        status = read_text(out, message, texts[i], where);
    return status;
}

/* Refuse what the template would leave out. */
static int check_read(const struct chat *chat, const struct js *message, const char *where)
{
    const char *left_out = NULL;
    bool reasons = chat_reads(chat, "reasoning_content") || chat_reads(chat, "thinking");
    if (js_count(js_member(message, "tool_calls")) && !chat_reads(chat, "tool_calls"))
        left_out = "tool_calls";
    else if (js_member(message, "reasoning_content") && !reasons)
        left_out = "reasoning_content";
    else if (js_member(message, "reasoning") && !reasons)
        left_out = "reasoning";
    return left_out ? fail(STATUS_BAD_FILE,
                           "%s%s: expected none, as this model's chat template does not read it, "
                           "found some",
                           where, left_out)
                    : 0;
}

typedef int read_part(struct js *out, const struct js *message, const char *where);

static int read_message(struct js *out, const struct chat *chat, const struct js *v,
                        const char *where)
{
    static read_part *const parts[] = {read_role, read_content, read_calls, read_texts};
    if (!js_is_object(v))
        return fail(STATUS_BAD_FILE, "%sexpected an object, found %s", where, js_kind(v));
    int status = params_check(v, &message_fields, where);
    for (size_t i = 0; i < sizeof parts / sizeof *parts && !status; i++)
        status = parts[i](out, v, where);
    return status ? status : check_read(chat, out, where);
}

int messages_read(struct js **out, const struct chat *chat, const struct js *messages)
{
    size_t n = js_count(messages);
    if (!js_is_array(messages) || n == 0)
        return param_refuse("messages", "a list of at least one message", messages);
    struct js *made = js_new_array();
    int status = 0;
    for (size_t i = 0; i < n && !status; i++) {
        char where[48];
        struct js *message = js_new_object();
        js_push(made, message);
        snprintf(where, sizeof where, "messages: %zu: ", i + 1);
        status = read_message(message, chat, js_item(messages, i), where);
    }
    if (status)
        js_free(made);
    else
        *out = made;
    return status;
}

int tools_check(const struct js *tools)
{
    if (!js_is_array(tools))
        return param_refuse("tools", "a list of functions", tools);
    for (size_t i = 0; i < js_count(tools); i++) {
        const struct js *v = js_item(tools, i);
        const char *type = js_string(js_member(v, "type"), NULL);
        if (!type || strcmp(type, "function") != 0 ||
            !js_is_string(js_member(js_member(v, "function"), "name")))
            return fail(STATUS_BAD_FILE,
                        "tools: %zu: expected {\"type\": \"function\", \"function\": {\"name\": a "
                        "string, ...}}, found %s",
                        i + 1, js_is_object(v) ? "another object" : js_kind(v));
    }
    return 0;
}
