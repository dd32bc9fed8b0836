/* epmoe logits: writes the logits of every prompt token, as f32 tensor `logits` [n_tokens, vocab]
 * of a safetensors file. */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "coordinator/generate.h"
#include "coordinator/probe.h"
#include "coordinator/unembed.h"
#include "launch/prompt.h"
#include "launch/ranks.h"

enum { LOGIT_ROWS = 64 };

struct logits_options {
    struct model_options model;
    struct prompt_options prompt;
    const char *out;
};

static int parse(struct logits_options *o, int argc, char **argv)
{
    struct command_spec spec = {
        "logits",
        "Write the logits of every token of a prompt to a safetensors file.",
        "-m MODEL --tokens IDS -o FILE [options]",
        NULL,
        NULL,
        NULL};
    struct option_spec table[MODEL_OPTIONS + 3] = {{0}};
    const struct option_spec own[] = {
        {"tokens", 0, OPTION_TEXT, &o->prompt.tokens, "IDS", "the prompt as ids: 1,2,3", 0, 0, 0},
        {"output", 'o', OPTION_TEXT, &o->out, "FILE", "f32 tensor `logits` [n_tokens, vocab]", 0, 0,
         0},
    };
    model_options_table(table, &o->model);
    memcpy(table + MODEL_OPTIONS, own, sizeof own);
    int status = options_parse(&spec, table, argc, argv);
    if (!status && !o->out)
        return fail(STATUS_USAGE, "logits: expected -o FILE, found none");
    return status;
}

/* Write the header of a file with this one tensor, padded so that the data begin at a multiple
 * of 8. */
static void write_header(FILE *f, int n, int vocab)
{
    char json[256];
    unsigned long long bytes = 4ull * (unsigned long long)n * (unsigned long long)vocab;
    int length = snprintf(json, sizeof json,
                          "{\"logits\":{\"dtype\":\"F32\",\"shape\":[%d,%d],"
                          "\"data_offsets\":[0,%llu]}}",
                          n, vocab, bytes);
    while (length % 8)
        json[length++] = ' ';
    unsigned char size[8] = {(unsigned char)(length & 255), (unsigned char)(length >> 8)};
    fwrite(size, 1, sizeof size, f);
    fwrite(json, 1, (size_t)length, f);
}

struct writing {
    const struct prompt *prompt;
    struct outfile out;
};

/* Whether logits [n] hold NaN, or no finite number. */
static bool is_broken(const float *logits, size_t n)
{
    bool finite = false;
    for (size_t i = 0; i < n; i++) {
        if (isnan(logits[i]))
            return true;
        finite = finite || isfinite(logits[i]);
    }
    return !finite;
}

/* Fail if one of the rows of logits that follow positions `first` and on is broken. */
static int check_rows(struct coordinator *c, const struct prompt *prompt, int first,
                      const float *logits, int n)
{
    size_t vocab = (size_t)c->config.vocab_size;
    char why[320];
    int row = 0;
    while (row < n && !is_broken(logits + (size_t)row * vocab, vocab))
        row++;
    if (row == n)
        return 0;
    int status = probe_explain(c, 0, prompt->ids, first + row + 1, why, sizeof why);
    return status ? status : fail(STATUS_FAILED, "%s", why);
}

static int write_chunk(void *context, struct coordinator *c, int first, int n)
{
    struct writing *w = context;
    int32_t rows[LOGIT_ROWS];
    size_t vocab = (size_t)c->config.vocab_size;
    for (int done = 0; done < n; done += LOGIT_ROWS) {
        int count = n - done < LOGIT_ROWS ? n - done : LOGIT_ROWS;
        for (int i = 0; i < count; i++)
            rows[i] = done + i;
        const float *logits = unembed_to_host(c, rows, count);
        if (!logits)
            return STATUS_FAILED;
        int status = check_rows(c, w->prompt, first + done, logits, count);
        if (status)
            return status;
        fwrite(logits, sizeof(float), (size_t)count * vocab, w->out.stream);
    }
    return ferror(w->out.stream) ? STATUS_FAILED : 0; // outfile_commit() says why
}

static int write_logits(struct coordinator *c, const struct prompt *prompt, const char *path)
{
    struct writing w = {.prompt = prompt};
    int status = request_check(c, prompt->ids, prompt->n, 0);
    if (!status)
        status = outfile_open(&w.out, path);
    if (status)
        return status;
    write_header(w.out.stream, prompt->n, c->config.vocab_size);
    status = prefill(c, prompt->ids, prompt->n, write_chunk, &w);
    if (!status || ferror(w.out.stream))
        return outfile_commit(&w.out);
    outfile_abort(&w.out);
    return status;
}

static int logits_here(struct process *p, const void *options)
{
    const struct logits_options *o = options;
    struct prompt prompt = {0};
    struct ranks ranks;
    int status = prompt_read(&prompt, &o->prompt, NULL, o->model.model);
    struct session_needs needs = {1, LOGIT_ROWS, prompt.n};
    if (!status)
        status = ranks_open(&ranks, p, &o->model, &needs);
    if (!status) {
        status = write_logits(&ranks.coordinator, &prompt, o->out);
        if (!status)
            status = ranks_report_exchange(&ranks);
        ranks_close(&ranks);
    }
    free(prompt.ids);
    return status;
}

int command_logits(struct process *p, int argc, char **argv)
{
    struct logits_options o = {.model = model_options_default()};
    return ranks_command(p, parse(&o, argc, argv), &o.model, logits_here, &o);
}
