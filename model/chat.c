#include "model/chat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "model/chat_template.h"

enum { MAX_FILE_BYTES = 64 << 20, MAX_TEMPLATE_BYTES = 1 << 20 };

#define HOLE "\x01" // where a known template has its default system prompt
#define EACH "{% for message in messages %}"
#define DEFAULT_SYSTEM                                                                             \
    "{% if loop.first and messages[0]['role'] != 'system' %}"                                      \
    "{{ '<|im_start|>system\\n" HOLE "<|im_end|>\\n' }}{% endif %}"
#define MESSAGE "{{ '<|im_start|>' + message['role'] + '\\n' + message['content']"
#define ANSWER  "{{ '<|im_start|>assistant\\n' }}{% endif %}"
#define LATER   MESSAGE " + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}" ANSWER
#define EARLIEST                                                                                   \
    MESSAGE " }}{% if (loop.last and add_generation_prompt) or not loop.last %}"                   \
            "{{ '<|im_end|>\\n' }}{% endif %}{% endfor %}"                                         \
            "{% if add_generation_prompt and messages[-1]['role'] != 'assistant' %}" ANSWER

/* Qwen2.5's, where there are no tools. */
#define SYSTEM_OR_DEFAULT                                                                          \
    "{% if messages[0]['role'] == 'system' %}"                                                     \
    "{{ '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}{% else %}"           \
    "{{ '<|im_start|>system\\n" HOLE "<|im_end|>\\n' }}{% endif %}"
#define PRINTED                                                                                    \
    "{% if (message.role == 'user') or (message.role == 'system' and not loop.first) or "          \
    "(message.role == 'assistant' and not message.tool_calls) %}"
#define WITHOUT_TOOLS                                                                              \
    SYSTEM_OR_DEFAULT EACH PRINTED MESSAGE                                                         \
        " + '<|im_end|>\\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}" ANSWER

/* The templates that are known. A checkpoint's may be spelled differently. */
static const struct form {
    const char *text;
    bool no_second_answer, known_roles;
} forms[] = {
    {EACH DEFAULT_SYSTEM LATER, false, false},
    {EACH LATER, false, false},
    {EACH DEFAULT_SYSTEM EARLIEST, true, false},
    {EACH EARLIEST, true, false},
    {WITHOUT_TOOLS, false, true},
};

/* Some templates begin with this statement, which only states a default. */
static const char preface[] = "{% if not add_generation_prompt is defined %}"
                              "{% set add_generation_prompt = false %}{% endif %}";

/* Is `text` the same as `form`, with any text in place of the hole? Then that text becomes the
 * default system prompt of c. */
static bool fits_hole(struct chat *c, const char *form, const char *text)
{
    const char *hole = strstr(form, HOLE);
    size_t before = (size_t)(hole - form), after = strlen(hole + 1), bytes = strlen(text);
    if (bytes < before + after || memcmp(form, text, before) != 0 ||
        memcmp(hole + 1, text + bytes - after, after) != 0)
        return false;
    c->system_bytes = bytes - before - after;
    c->system = strndup(text + before, c->system_bytes);
    CHECK_MEMORY(c->system, "no memory for a system prompt");
    if (!strstr(c->system, "<|im_end|>"))
        return true;
    chat_close(c); // the text in the hole has the end of a message in it
    return false;
}

static bool fits_items(struct chat *c, const struct template_item *form, size_t n,
                       const struct template_item *found, size_t n_found)
{
    bool same = n == n_found;
    *c = (struct chat){0};
    for (size_t i = 0; i < n && same; i++) {
        same = form[i].kind == found[i].kind;
        if (same && strstr(form[i].text, HOLE))
            same = fits_hole(c, form[i].text, found[i].text);
        else if (same)
            same = strcmp(form[i].text, found[i].text) == 0;
    }
    if (!same)
        chat_close(c);
    return same;
}

static bool recognise(struct chat *c, struct arena *memory, const char *text)
{
    struct template_items found, form, said;
    if (!template_read(&found, memory, text) || !template_read(&said, memory, preface))
        return false;
    bool prefaced = found.count > said.count;
    for (size_t i = 0; i < said.count && prefaced; i++)
        prefaced = strcmp(found.at[i].text, said.at[i].text) == 0;
    size_t skip = prefaced ? said.count : 0;
    bool had_tools = template_without_tools(&found);
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        CHECK(template_read(&form, memory, forms[i].text), "form %zu", i);
        if (found.count > skip && had_tools == forms[i].known_roles &&
            fits_items(c, form.at, form.count, found.at + skip, found.count - skip)) {
            c->no_second_answer = forms[i].no_second_answer;
            c->known_roles = forms[i].known_roles;
            return true;
        }
    }
    return false;
}

/* What kind of template this seems to be, for the error message. */
static const char *family(const char *text)
{
    static const char *const marks[][2] = {
        {"<|start_header_id|>", "Llama 3's"}, {"[INST]", "one of Llama 2 or Mistral"},
        {"<start_of_turn>", "Gemma's"},       {"<|im_start|>", "another ChatML template"},
        {"<|assistant|>", "Zephyr's"},
    };
    if (strstr(text, "<|im_start|>") && strstr(text, "tools"))
        return "another ChatML template with tools";
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        if (strstr(text, marks[i][0]))
            return marks[i][1];
    return "one of another kind";
}

int chat_parse(struct chat *c, const char *text, size_t bytes, const char *name)
{
    struct arena memory = {0};
    bool good = bytes <= MAX_TEMPLATE_BYTES && !memchr(text, 0, bytes) && !strstr(text, HOLE) &&
                recognise(c, &memory, text);
    arena_free(&memory);
    if (good)
        return 0;
    return fail(
        STATUS_BAD_FILE,
        "%s: expected the ChatML template of Qwen1.5, Qwen2 or Qwen2.5, found %s: \"%.60s%s\"",
        name, family(text), text, bytes > 60 ? "..." : "");
}

/* The template in tokenizer_config.json: a string, or of a list the one named "default". */
static const struct js *find_template(const struct js *config)
{
    const struct js *v = js_member(config, "chat_template");
    for (size_t i = 0; js_is_array(v) && i < js_count(v); i++) {
        const char *name = js_string(js_member(js_item(v, i), "name"), NULL);
        if (name && strcmp(name, "default") == 0)
            return js_member(js_item(v, i), "template");
    }
    return v;
}

static int open_config(struct chat *c, const char *path)
{
    struct js *config = js_load(path, MAX_FILE_BYTES);
    if (!config)
        return STATUS_BAD_FILE;
    const struct js *v = find_template(config);
    size_t bytes;
    const char *text = js_string(v, &bytes);
    int status;
    if (text)
        status = chat_parse(c, text, bytes, path);
    else if (!v || js_is_null(v))
        status =
            fail(STATUS_BAD_FILE, "%s: expected a chat_template for messages, found none", path);
    else
        status = fail(STATUS_BAD_FILE,
                      "%s: chat_template: expected a string or a list with a template named "
                      "\"default\", found %s",
                      path, js_kind(v));
    js_free(config);
    return status;
}

int chat_open(struct chat *c, const char *dir)
{
    char *file = path_join(dir, "chat_template.jinja"), *config;
    config = path_join(dir, "tokenizer_config.json");
    int status;
    size_t bytes;
    *c = (struct chat){0};
    if (file_exists(file)) {
        char *text = file_read(file, MAX_FILE_BYTES, &bytes);
        status = text ? chat_parse(c, text, bytes, file) : STATUS_BAD_FILE;
        free(text);
    } else if (file_exists(config)) {
        status = open_config(c, config);
    } else {
        status = fail(STATUS_BAD_FILE,
                      "%s: expected a chat template for messages (chat_template.jinja or "
                      "tokenizer_config.json), found none",
                      dir);
    }
    free(file);
    free(config);
    return status;
}

void chat_close(struct chat *c)
{
    free(c->system);
    *c = (struct chat){0};
}

static void print_message(FILE *out, const struct chat_message *m)
{
    fputs("<|im_start|>", out);
    fwrite(m->role, 1, m->role_bytes, out);
    fputc('\n', out);
    fwrite(m->content, 1, m->content_bytes, out);
    fputs("<|im_end|>\n", out);
}

static bool has_role(const struct chat_message *m, const char *role)
{
    return m->role_bytes == strlen(role) && memcmp(m->role, role, m->role_bytes) == 0;
}

/* Does the template print all of these messages? */
static int check_roles(const struct chat *c, const struct chat_message *messages, size_t n)
{
    for (size_t i = 0; i < n && c->known_roles; i++)
        if (!has_role(&messages[i], "system") && !has_role(&messages[i], "user") &&
            !has_role(&messages[i], "assistant"))
            return fail(STATUS_BAD_FILE,
                        "messages: %zu: role: expected \"system\", \"user\" or \"assistant\" (this "
                        "model's template prints no other), found \"%.*s\"",
                        i + 1, (int)(messages[i].role_bytes < 40 ? messages[i].role_bytes : 40),
                        messages[i].role);
    return 0;
}

char *chat_render(const struct chat *c, const char *system, const struct chat_message *messages,
                  size_t n, size_t *bytes)
{
    if (check_roles(c, messages, n) != 0)
        return NULL;
    struct chat_message first = {"system", c->system, 6, c->system_bytes};
    char *text = NULL;
    FILE *out = open_memstream(&text, bytes);
    CHECK_MEMORY(out, "no memory for a prompt");
    if (system) {
        first.content = system;
        first.content_bytes = strlen(system);
    }
    if (first.content && !has_role(&messages[0], "system"))
        print_message(out, &first);
    for (size_t i = 0; i < n; i++)
        print_message(out, &messages[i]);
    if (!c->no_second_answer || !has_role(&messages[n - 1], "assistant"))
        fputs("<|im_start|>assistant\n", out);
    CHECK_MEMORY(fclose(out) == 0, "no memory for a prompt");
    return text;
}
