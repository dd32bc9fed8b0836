/* epmoe tokenize: converts text to ids and back, line by line. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/json.h"
#include "base/log.h"
#include "launch/launch.h"
#include "launch/prompt.h"
#include "launch/stdout.h"
#include "model/tokenizer.h"

struct tokenize_options {
    const char *model, *prompt;
    bool jsonl, decode;
};

static int parse(struct tokenize_options *o, int argc, char **argv)
{
    struct command_spec spec = {
        "tokenize",
        "Turn lines of stdin into token ids (or back). A directory with a tokenizer is enough.",
        "-m MODEL [--jsonl] [--decode] < lines",
        NULL,
        NULL,
        "Plain lines give ids separated by spaces. With --jsonl a line is a JSON string and gives "
        "a\n"
        "JSON array of ids; --decode goes the other way."};
    struct option_spec table[] = {
        {"model", 'm', OPTION_TEXT, &o->model, "MODEL",
         "a directory with tokenizer.json (or vocab.json and merges.txt), or a Hugging Face name",
         0, 0, NULL},
        {"prompt", 'p', OPTION_TEXT, &o->prompt, "TEXT", "this text instead of stdin", 0, 0, NULL},
        {"jsonl", 0, OPTION_FLAG, &o->jsonl, NULL, "lines are JSON", 0, 0, NULL},
        {"decode", 0, OPTION_FLAG, &o->decode, NULL, "ids to text", 0, 0, NULL},
        {0}};
    int status = options_parse(&spec, table, argc, argv);
    if (!status && !o->model)
        return fail(STATUS_USAGE, "tokenize: expected -m MODEL, found none");
    return status;
}

static int encode_line(const struct tokenizer *t, const char *text, size_t bytes, bool json)
{
    int32_t *ids;
    size_t n;
    int status = tokenizer_encode_prompt(t, text, bytes, &ids, &n);
    if (status)
        return status;
    fputs(json ? "[" : "", stdout);
    for (size_t i = 0; i < n; i++)
        printf("%s%d", i == 0 ? "" : json ? ", " : " ", ids[i]);
    fputs(json ? "]\n" : "\n", stdout);
    free(ids);
    return 0;
}

static int decode_ids(const struct tokenizer *t, const int32_t *ids, size_t n, bool json)
{
    size_t bytes;
    char *text = tokenizer_decode(t, ids, n, false, &bytes);
    if (json) {
        struct js *v = js_new_string(text, bytes);
        js_print(v, stdout, 0);
        js_free(v);
    } else {
        fwrite(text, 1, bytes, stdout);
        fputc('\n', stdout);
    }
    free(text);
    return 0;
}

static int decode_json(const struct tokenizer *t, const struct js *list, size_t line)
{
    size_t n = js_count(list);
    if (!js_is_array(list))
        return fail(STATUS_BAD_FILE, "line %zu: expected an array of ids, found %s", line,
                    js_kind(list));
    int32_t *ids = malloc((n + 1) * sizeof *ids);
    CHECK_MEMORY(ids, "no memory for %zu ids", n);
    int status = 0;
    for (size_t i = 0; i < n && !status; i++) {
        int64_t id = js_int(js_item(list, i));
        if (!js_is_int(js_item(list, i)) || id < 0 || id > INT32_MAX)
            status = fail(STATUS_BAD_FILE, "line %zu: expected token ids, found %s at %zu", line,
                          js_kind(js_item(list, i)), i);
        ids[i] = (int32_t)id;
    }
    if (!status)
        status = decode_ids(t, ids, n, true);
    free(ids);
    return status;
}

static int json_line(const struct tokenizer *t, const struct tokenize_options *o, const char *text,
                     size_t bytes, size_t line)
{
    char name[32];
    snprintf(name, sizeof name, "line %zu", line);
    struct js *v = js_parse(text, bytes, name);
    if (!v)
        return STATUS_BAD_FILE;
    int status;
    size_t length;
    const char *string = js_string(v, &length);
    if (o->decode)
        status = decode_json(t, v, line);
    else if (!string)
        status = fail(STATUS_BAD_FILE, "%s: expected a JSON string, found %s", name, js_kind(v));
    else
        status = encode_line(t, string, length, true);
    js_free(v);
    return status;
}

/* A line of plain ids, separated by spaces or commas. */
static int decode_plain(const struct tokenizer *t, char *text, size_t line)
{
    int32_t *ids = malloc((strlen(text) + 1) * sizeof *ids);
    CHECK_MEMORY(ids, "no memory for a line of ids");
    size_t n = 0;
    for (char *save, *word = strtok_r(text, " ,\t", &save); word;
         word = strtok_r(NULL, " ,\t", &save)) {
        char *end;
        long id = strtol(word, &end, 10);
        if (*end || id < 0 || id > INT32_MAX) {
            free(ids);
            return fail(STATUS_BAD_FILE, "line %zu: expected token ids, found \"%.40s\"", line,
                        word);
        }
        ids[n++] = (int32_t)id;
    }
    decode_ids(t, ids, n, false);
    free(ids);
    return 0;
}

static int one_line(const struct tokenizer *t, const struct tokenize_options *o, char *text,
                    size_t bytes, size_t line)
{
    if (o->jsonl)
        return json_line(t, o, text, bytes, line);
    if (o->decode)
        return decode_plain(t, text, line);
    return encode_line(t, text, bytes, false);
}

static int all_lines(const struct tokenizer *t, const struct tokenize_options *o)
{
    char *text = NULL;
    size_t room = 0, line = 0;
    int status = 0;
    for (ssize_t n; !status && (n = getline(&text, &room, stdin)) >= 0;) {
        if (n > 0 && text[n - 1] == '\n')
            text[--n] = 0;
        status = one_line(t, o, text, (size_t)n, ++line);
        if (!status)
            status = stdout_status();
    }
    if (!status && ferror(stdin))
        status = fail(STATUS_BAD_FILE, "-: cannot be read: %s", strerror(errno));
    free(text);
    return status;
}

int command_tokenize(struct process *p, int argc, char **argv)
{
    struct tokenize_options o = {0};
    struct tokenizer *t;
    (void)p;
    int status = parse(&o, argc, argv);
    if (status)
        return status == OPTIONS_HELP ? 0 : status;
    status = prompt_tokenizer(&t, o.model);
    if (status)
        return status;
    if (o.prompt) {
        char *text = strdup(o.prompt);
        status = one_line(t, &o, text, strlen(text), 1);
        free(text);
    } else {
        status = all_lines(t, &o);
    }
    tokenizer_close(t);
    return status;
}
