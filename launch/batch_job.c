#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "launch/batch_fields.h"

enum { MAX_TOP_K = 1 << 24, MAX_NEW = 1 << 24, MAX_STOP_IDS = 64, DEFAULT_NEW = 128 };

/* The fields of a line; from request_fields on those of a request, which OpenAI's batch lines have
 * in a body of their own. */
static const char *const line_fields[] = {
    "id",    "prompt",         "messages",   "max_tokens", "max_completion_tokens", "temperature",
    "top_p", "top_k",          "min_p",      "typical_p",  "repetition_penalty",    "seed",
    "stop",  "stop_token_ids", "ignore_eos", NULL};
static const char *const *const request_fields = line_fields + 1;
static const char *const envelope_fields[] = {"custom_id", "method", "url", "body", NULL};

static int read_int(const struct job *j, const char *key, int64_t least, int64_t most,
                    int64_t *value)
{
    const struct js *v = batch_field(j->fields, key);
    char expected[96];
    if (v && (!js_is_int(v) || js_int(v) < least || js_int(v) > most)) {
        snprintf(expected, sizeof expected, "an integer from %" PRId64 " to %" PRId64, least, most);
        return batch_refuse(key, expected, v);
    }
    if (v)
        *value = js_int(v);
    return 0;
}

static int read_real(const struct job *j, const char *key, double least, double most, double *value)
{
    const struct js *v = batch_field(j->fields, key);
    char expected[96];
    if (v && (!js_is_number(v) || !(js_number(v) >= least && js_number(v) <= most))) {
        snprintf(expected, sizeof expected, "a number from %.15g to %.15g", least, most);
        return batch_refuse(key, expected, v);
    }
    if (v)
        *value = js_number(v);
    return 0;
}

static int read_stop(struct job *j, const struct js *v)
{
    struct stop_strings *s = &j->stops;
    size_t bytes;
    const char *text = js_string(v, &bytes);
    if (!text || !bytes)
        return batch_refuse("stop", "a text, or a list of texts", v);
    s->at[s->n] = text;
    s->bytes[s->n++] = bytes;
    return 0;
}

static int read_stops(struct job *j)
{
    const struct js *v = batch_field(j->fields, "stop");
    if (!v || js_is_string(v))
        return v ? read_stop(j, v) : 0;
    if (!js_is_array(v))
        return batch_refuse("stop", "a text, or a list of texts", v);
    if (js_count(v) > MAX_STOPS)
        return fail(STATUS_BAD_FILE, "stop: expected at most %d texts, found %zu", MAX_STOPS,
                    js_count(v));
    int status = 0;
    for (size_t i = 0; i < js_count(v) && !status; i++)
        status = read_stop(j, js_item(v, i));
    return status;
}

static int read_stop_ids(struct job *j)
{
    const struct js *v = batch_field(j->fields, "stop_token_ids");
    return v ? batch_read_ids("stop_token_ids", v, MAX_STOP_IDS, &j->stop_ids, &j->n_stop_ids) : 0;
}

static int read_sampling(struct job *j)
{
    struct sampler_options *s = &j->request.sampler;
    int64_t top_k = s->top_k, seed = 0;
    const struct js *ignore = batch_field(j->fields, "ignore_eos");
    int status = read_real(j, "temperature", 0, 100, &s->temperature);
    if (!status)
        status = read_real(j, "top_p", 0, 1, &s->top_p);
    if (!status)
        status = read_real(j, "min_p", 0, 1, &s->min_p);
    if (!status)
        status = read_real(j, "typical_p", 1e-6, 1, &s->typical_p);
    if (!status)
        status = read_int(j, "top_k", -1, MAX_TOP_K, &top_k);
    if (!status)
        status = read_real(j, "repetition_penalty", 0.01, 100, &s->repetition_penalty);
    if (!status)
        status = read_int(j, "seed", INT64_MIN, INT64_MAX, &seed);
    if (!status && ignore && !js_is_bool(ignore))
        status = batch_refuse("ignore_eos", "true or false", ignore);
    j->request.ignore_eos = js_bool(ignore);
    s->top_k = top_k > 0 ? (int)top_k : 0;
    s->seed = (uint64_t)seed;
    if (!status)
        status = read_stops(j);
    return status ? status : read_stop_ids(j);
}

static int read_length(struct job *j, const struct job_terms *terms)
{
    int64_t most = -1;
    int left = request_room(terms->c, j->request.n), wish = terms->n_predict;
    bool newer = batch_field(j->fields, "max_completion_tokens");
    if (newer && batch_field(j->fields, "max_tokens"))
        return fail(STATUS_BAD_FILE, "expected max_tokens or max_completion_tokens, found both");
    int status = read_int(j, newer ? "max_completion_tokens" : "max_tokens", 0, MAX_NEW, &most);
    if (left < 0) // then request_check() refuses the prompt
        left = 0;
    if (wish == NEW_BY_CHECKPOINT)
        wish = generation_length(&terms->c->defaults, j->request.n, DEFAULT_NEW);
    if (wish >= 0 && wish < left)
        left = wish;
    j->request.n_predict = most >= 0 ? (int)most : left;
    return status;
}

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
    const struct js *v = batch_field(j->line, key);
    size_t bytes;
    const char *id = js_string(v, &bytes);
    if (!v)
        return 0;
    if (!id || !bytes)
        return batch_refuse(key, "a text", v);
    if (is_another_line(j, id, bytes))
        return fail(STATUS_BAD_FILE, "%s: expected a name that is not another line's, found \"%s\"",
                    key, id);
    set_id(j, id, bytes);
    return 0;
}

/* A field of the envelope, which may be absent, else must be this text. */
static int check_text(const struct job *j, const char *key, const char *right)
{
    const struct js *v = batch_field(j->line, key);
    const char *found = js_string(v, NULL);
    if (!v || (found && strcmp(found, right) == 0))
        return 0;
    return found ? fail(STATUS_BAD_FILE, "%s: expected %s, found \"%.60s\"", key, right, found)
                 : batch_refuse(key, right, v);
}

/* A line as OpenAI's batches have it: {"custom_id", "method": "POST", "url", "body"}. */
static int check_envelope(const struct job *j)
{
    bool chat = js_member(j->fields, "messages") != NULL;
    int status = batch_check_fields(j->line, envelope_fields, false, "");
    if (!status && !js_is_object(j->fields))
        status = batch_refuse("body", "an object", j->fields);
    if (!status)
        status = check_text(j, "method", "POST");
    if (!status)
        status = check_text(j, "url", chat ? "/v1/chat/completions" : "/v1/completions");
    return status ? status : batch_check_fields(j->fields, request_fields, true, "body: ");
}

static int read_fields(struct job *j, const struct job_terms *terms)
{
    if (!js_is_object(j->line))
        return fail(STATUS_BAD_FILE, "expected an object, found %s", js_kind(j->line));
    bool enveloped = js_member(j->line, "body") || js_member(j->line, "custom_id");
    j->fields = enveloped ? js_member(j->line, "body") : j->line;
    int status = read_id(j);
    if (!status)
        status = enveloped ? check_envelope(j) : batch_check_fields(j->line, line_fields, true, "");
    if (!status)
        status = read_sampling(j);
    if (!status)
        status = batch_read_prompt(j, terms);
    if (!status)
        status = read_length(j, terms);
    return status ? status : request_check(terms->c, j->prompt, j->request.n, j->request.n_predict);
}

int job_read(struct job *j, const struct job_terms *terms, const char *line, size_t bytes,
             size_t line_number)
{
    char name[32];
    snprintf(name, sizeof name, "line-%zu", line_number);
    *j = (struct job){.line_number = line_number};
    set_id(j, name, strlen(name));
    j->request =
        (struct request){.sampler = sampler_defaults(&terms->c->defaults), .on_token = job_token};
    j->out = (struct text_out){.tokenizer = terms->tokenizer, .stops = &j->stops};
    error_capture(true);
    snprintf(name, sizeof name, "line %zu", line_number);
    j->line = js_parse(line, bytes, name);
    int status = j->line ? read_fields(j, terms) : STATUS_BAD_FILE;
    snprintf(j->error, sizeof j->error, "%s", error_text());
    error_capture(false);
    return status;
}

bool job_token(void *job, int32_t token)
{
    struct job *j = job;
    for (size_t i = 0; i < j->n_stop_ids; i++)
        if (j->stop_ids[i] == token)
            return j->stopped = true;
    if (j->n_new == j->room) {
        j->room = j->room * 2 + 64;
        j->new_ids = realloc(j->new_ids, (size_t)j->room * sizeof *j->new_ids);
        CHECK_MEMORY(j->new_ids, "no memory for %d ids", j->room);
    }
    j->new_ids[j->n_new++] = token;
    return text_out_push(&j->out, token);
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
    text_out_end(&j->out);
    for (int i = 0; i < j->n_new; i++)
        js_push(ids, js_new_int(j->new_ids[i]));
    js_set(usage, "prompt_tokens", js_new_int(r->n_prompt));
    js_set(usage, "completion_tokens", js_new_int(r->n_new - j->stopped));
    bool stop = r->finish == FINISH_STOP || j->out.stopped || j->stopped;
    js_set(line, "id", js_new_string(j->id, j->id_bytes));
    js_set(line, "text", js_new_string(j->out.bytes ? j->out.text : "", j->out.bytes));
    js_set(line, "token_ids", ids);
    js_set(line, "finish_reason", stop ? js_new_string("stop", 4) : js_new_string("length", 6));
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
    free(j->prompt);
    free(j->stop_ids);
    free(j->new_ids);
    text_out_free(&j->out);
    js_free(j->line);
}
