#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "launch/batch.h"

enum { MAX_FIELDS = 64 };

/* The fields of a line beside those of a completion, and the line as OpenAI's batches have it,
 * whose body has those of a completion. */
static const char *const envelope_names[] = {"custom_id", "method", "url", "body", NULL};
static const struct known_params envelope_fields = {envelope_names, NULL, "batch"};
static const struct neutral_param others[] = {
    {"model", ANYTHING, NULL}, // the model is that of -m
    {"user", ANYTHING, NULL},  {"metadata", ANYTHING, NULL}, {"stream", FALSE, NULL},
    {"echo", FALSE, NULL},     {"logprobs", FALSE, NULL},    {"n", ONE, NULL},
    {"best_of", ONE, NULL},    {NULL, ANYTHING, NULL}};

static void set_id(struct job *j, const char *id, size_t bytes)
{
    free(j->id);
    j->id = malloc(bytes + 1);
    CHECK_MEMORY(j->id, "no memory for an id");
    memcpy(j->id, id, bytes);
    j->id[bytes] = 0;
    j->id_bytes = bytes;
}

/* Is the id "line-N" for another line's N? Lines without an id get such ids, and ids must be
 * unique. */
static bool is_another_line(const struct job *j, const char *id, size_t bytes)
{
    bool digits = bytes > 5 && memcmp(id, "line-", 5) == 0;
    for (size_t i = 5; i < bytes && digits; i++)
        digits = id[i] >= '0' && id[i] <= '9';
    return digits && (bytes != j->id_bytes || memcmp(id, j->id, bytes) != 0);
}

static int read_id(struct job *j)
{
    const char *key = j->fields == j->line ? "id" : "custom_id";
    const struct js *v = param_of(j->line, key);
    size_t bytes;
    const char *id = js_string(v, &bytes);
    if (!v)
        return 0;
    if (!id || !bytes)
        return param_refuse(key, "a text", v);
    if (is_another_line(j, id, bytes))
        return fail(STATUS_BAD_FILE, "%s: expected a name that is not another line's, found \"%s\"",
                    key, id);
    set_id(j, id, bytes);
    return 0;
}

/* A field of the envelope, which may be absent, else must be this text. */
static int check_text(const struct job *j, const char *key, const char *right)
{
    const struct js *v = param_of(j->line, key);
    const char *found = js_string(v, NULL);
    if (!v || (found && strcmp(found, right) == 0))
        return 0;
    return found ? fail(STATUS_BAD_FILE, "%s: expected %s, found \"%.60s\"", key, right, found)
                 : param_refuse(key, right, v);
}

/* A line as OpenAI's batches have it: {"custom_id", "method": "POST", "url", "body"}. */
static int check_envelope(const struct job *j)
{
    bool chat = js_member(j->fields, "messages") != NULL;
    int status = params_check(j->line, &envelope_fields, "");
    if (!status && !js_is_object(j->fields))
        status = param_refuse("body", "an object", j->fields);
    if (!status)
        status = check_text(j, "method", "POST");
    if (!status)
        status = check_text(j, "url", chat ? "/v1/chat/completions" : "/v1/completions");
    const struct known_params known = {completion_fields, others, "batch"};
    return status ? status : params_check(j->fields, &known, "body: ");
}

static int check_line(const struct job *j)
{
    const char *names[MAX_FIELDS] = {"id"};
    for (int i = 0; completion_fields[i]; i++)
        names[i + 1] = completion_fields[i];
    return params_check(j->line, &(struct known_params){names, others, "batch"}, "");
}

static int read_fields(struct job *j, const struct completion_terms *terms)
{
    if (!js_is_object(j->line))
        return fail(STATUS_BAD_FILE, "expected an object, found %s", js_kind(j->line));
    bool enveloped = js_member(j->line, "body") || js_member(j->line, "custom_id");
    j->fields = enveloped ? js_member(j->line, "body") : j->line;
    int status = read_id(j);
    if (!status)
        status = enveloped ? check_envelope(j) : check_line(j);
    return status ? status : completion_read(&j->completion, terms, j->fields, NULL);
}

int job_read(struct job *j, const struct completion_terms *terms, const char *line, size_t bytes,
             size_t line_number)
{
    char name[32];
    snprintf(name, sizeof name, "line-%zu", line_number);
    *j = (struct job){.line_number = line_number};
    set_id(j, name, strlen(name));
    error_capture(true);
    snprintf(name, sizeof name, "line %zu", line_number);
    j->line = js_parse(line, bytes, name);
    int status = j->line ? read_fields(j, terms) : STATUS_BAD_FILE;
    snprintf(j->error, sizeof j->error, "%s", error_text());
    error_capture(false);
    j->completion.request.on_token = job_token;
    return status;
}

bool job_token(void *job, int32_t token)
{
    struct job *j = job;
    return completion_push(&j->completion, token);
}

static char *print_line(struct js *object, size_t *bytes)
{
    char *text = NULL;
    FILE *stream = open_memstream(&text, bytes);
    CHECK_MEMORY(stream && js_print(object, stream, 0) && fclose(stream) == 0,
                 "no memory for a line");
    js_free(object);
    return text;
}

char *job_result(struct job *j, const struct request_result *r, size_t *bytes)
{
    struct js *line = js_new_object(), *ids = js_new_array(), *usage = js_new_object();
    struct completion *c = &j->completion;
    int n_new;
    const char *finish = completion_end(c, r, &n_new);
    for (int i = 0; i < c->n_new; i++)
        js_push(ids, js_new_int(c->new_ids[i]));
    js_set(usage, "prompt_tokens", js_new_int(r->n_prompt));
    js_set(usage, "completion_tokens", js_new_int(n_new));
    js_set(line, "id", js_new_string(j->id, j->id_bytes));
    js_set(line, "text", js_new_string(c->out.bytes ? c->out.text : "", c->out.bytes));
    js_set(line, "token_ids", ids);
    js_set(line, "finish_reason", js_new_text(finish));
    js_set(line, "usage", usage);
    return print_line(line, bytes);
}

char *job_error(const struct job *j, const char *error, size_t *bytes)
{
    struct js *line = js_new_object();
    js_set(line, "id", js_new_string(j->id, j->id_bytes));
    js_set(line, "error", js_new_text(error));
    return print_line(line, bytes);
}

void job_close(struct job *j)
{
    free(j->id);
    completion_close(&j->completion);
    js_free(j->line);
}
