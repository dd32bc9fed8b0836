/* epmoe run: continues a text, and prints the new text as it is generated. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "coordinator/generate.h"
#include "launch/prompt.h"
#include "launch/ranks.h"
#include "launch/stdout.h"
#include "model/config.h"
#include "model/hub.h"
#include "model/text_out.h"

struct run_options {
    struct model_options model;
    struct prompt_options prompt;
    long n_predict, top_k, seed;
    double temperature, top_p, min_p, typical_p, penalty;
    bool n_predict_given, temperature_given, top_k_given, top_p_given, min_p_given;
    bool typical_p_given, penalty_given;
    bool ignore_eos, ids, no_echo, quiet;
    struct text_list stop;
};

/* What has been generated, and how much of its text is printed. */
struct printer {
    struct text_out out; // unused without a tokenizer: then ids are printed
    size_t printed;      // how many bytes of out.text were printed
    bool any;            // an id was printed
    struct request_result result;
};

static int parse(struct run_options *o, int argc, char **argv)
{
    struct command_spec spec = {
        "run",
        "Generate text from a prompt. Sampling defaults are the checkpoint's own "
        "(generation_config.json).",
        "-m MODEL -p TEXT [options]",
        NULL,
        NULL,
        NULL};
    struct option_spec table[MODEL_OPTIONS + PROFILE_OPTIONS + 23] = {{0}};
    const struct option_spec own[] = {
        {"prompt", 'p', OPTION_TEXT, &o->prompt.text, "TEXT", "the prompt (-: from stdin)", 0, 0,
         0},
        {"file", 'f', OPTION_TEXT, &o->prompt.file, "FILE", "the prompt from a file", 0, 0, 0},
        {"raw", 0, OPTION_FLAG, &o->prompt.raw, NULL,
         "with -f or -p -: keep a newline at the end, and CR before newlines", 0, 0, 0},
        {"chat", 0, OPTION_FLAG, &o->prompt.chat, NULL,
         "the prompt is a user's message: apply the checkpoint's chat template", 0, 0, 0},
        {"system", 0, OPTION_TEXT, &o->prompt.system, "TEXT",
         "with --chat: this system prompt instead of the template's", 0, 0, 0},
        {"no-thinking", 0, OPTION_FLAG, &o->prompt.no_thinking, NULL,
         "with --chat: ask the template for an answer without thinking (enable_thinking false)", 0,
         0, 0},
        {"tokens", 0, OPTION_TEXT, &o->prompt.tokens, "IDS", "the prompt as ids: 1,2,3", 0, 0, 0},
        {"n-predict", 'n', OPTION_INT, &o->n_predict, "N",
         "at most N new tokens (the checkpoint's, or 128); -1: until the context is full", -1,
         1 << 24, &o->n_predict_given},
        {"temp", 0, OPTION_REAL, &o->temperature, "T", "temperature; 0: greedy", 0, 100,
         &o->temperature_given},
        {"top-k", 0, OPTION_INT, &o->top_k, "K", "sample from the K best; 0 or -1: all", -1,
         1 << 24, &o->top_k_given},
        {"top-p", 0, OPTION_REAL, &o->top_p, "P", "sample from the best that sum to P", 0, 1,
         &o->top_p_given},
        {"min-p", 0, OPTION_REAL, &o->min_p, "P",
         "sample from what has P times the probability of the best; 0: off", 0, 1, &o->min_p_given},
        {"typical-p", 0, OPTION_REAL, &o->typical_p, "P",
         "sample from the most typical that sum to P; 1: off", 1e-6, 1, &o->typical_p_given},
        {"repeat-penalty", 0, OPTION_REAL, &o->penalty, "X",
         "divide the logits of tokens seen before; 1: off", 0.01, 100, &o->penalty_given},
        {"seed", 's', OPTION_INT, &o->seed, "N", "same seed, same text (0)", 0, 0, NULL},
        {"stop", 0, OPTION_TEXTS, &o->stop, "TEXT", "end before this text; may be given 16 times",
         0, 0, 0},
        {"ignore-eos", 0, OPTION_FLAG, &o->ignore_eos, NULL, "go on after an end-of-text token", 0,
         0, 0},
        {"ids", 0, OPTION_FLAG, &o->ids, NULL, "print new token ids, one line", 0, 0, 0},
        {"no-echo", 0, OPTION_FLAG, &o->no_echo, NULL, "do not print the prompt", 0, 0, 0},
        {"quiet", 'q', OPTION_FLAG, &o->quiet, NULL, "no summary", 0, 0, 0},
    };
    model_options_table(table, &o->model);
    profile_options_table(table + MODEL_OPTIONS, &o->model.profile);
    memcpy(table + MODEL_OPTIONS + PROFILE_OPTIONS, own, sizeof own);
    int status = options_parse(&spec, table, argc, argv);
    for (int i = 0; i < o->stop.n && !status; i++)
        if (!*o->stop.at[i])
            status = fail(STATUS_USAGE, "run: --stop takes a text, found none");
    return status;
}

static void write_out(const char *text, size_t bytes)
{
    fwrite(text, 1, bytes, stdout);
    fflush(stdout);
}

static void print_new(struct printer *p)
{
    write_out(p->out.text + p->printed, p->out.bytes - p->printed);
    p->printed = p->out.bytes;
}

static bool print_token(void *context, int32_t token)
{
    struct printer *p = context;
    if (!p->out.tokenizer) {
        printf("%s%d", p->any ? " " : "", token);
        p->any = true;
        fflush(stdout);
        return stdout_status() != 0;
    }
    bool stopped = text_out_push(&p->out, token);
    if (p->out.bytes > p->printed)
        print_new(p);
    return stopped || stdout_status() != 0;
}

static int print_end(void *context, const struct request_result *r)
{
    struct printer *p = context;
    p->result = *r;
    text_out_end(&p->out);
    if (p->out.bytes > p->printed)
        print_new(p);
    if (r->finish != FINISH_FAILED || p->any || p->printed)
        write_out("\n", 1); // comes before the summary, also if both go to the same file
    log_follow_output();
    return r->finish == FINISH_FAILED ? fail(STATUS_FAILED, "%s", r->error) : stdout_status();
}

static void print_summary(const struct request_result *r, const struct ranks *ranks)
{
    FILE *out = log_stream();
    double tpot = r->n_new > 1 ? r->decode_s / (r->n_new - 1) : 0;
    fprintf(out, "prompt %d token%s, generated %d (%s)", r->n_prompt, r->n_prompt == 1 ? "" : "s",
            r->n_new, r->finish == FINISH_STOP ? "stop" : "length");
    fprintf(out, " | TTFT %.1f ms, prefill %.1f tokens/s", r->ttft_s * 1e3,
            r->ttft_s > 0 ? r->n_prompt / r->ttft_s : 0);
    if (tpot > 0)
        fprintf(out, " | TPOT %.2f ms, decode %.1f tokens/s", tpot * 1e3, 1 / tpot);
    fprintf(out, " | %s, %d rank%s\n", isa_name(ranks->coordinator.dev.isa),
            ranks->coordinator.placement.n_ranks,
            ranks->coordinator.placement.n_ranks == 1 ? "" : "s");
}

static struct sampler_options sampling(const struct run_options *o, const struct coordinator *c)
{
    struct sampler_options s = sampler_defaults(&c->defaults);
    if (o->temperature_given)
        s.temperature = o->temperature;
    if (o->top_k_given)
        s.top_k = o->top_k > 0 ? (int)o->top_k : 0;
    if (o->top_p_given)
        s.top_p = o->top_p;
    if (o->min_p_given)
        s.min_p = o->min_p;
    if (o->typical_p_given)
        s.typical_p = o->typical_p;
    if (o->penalty_given)
        s.repetition_penalty = o->penalty;
    s.seed = (uint64_t)o->seed;
    return s;
}

static void echo(const struct tokenizer *t, const struct prompt *prompt)
{
    size_t bytes;
    char *text = tokenizer_decode(t, prompt->ids, (size_t)prompt->n, true, &bytes);
    write_out(text, bytes);
    free(text);
}

/* The new tokens that are asked for (-1: all), as far as the context has room for them. */
static int new_tokens(int asked, const struct coordinator *c, int n_prompt)
{
    int room = request_room(c, n_prompt);
    if (room < 0 || (asked >= 0 && asked <= room))
        return asked; // request_check() refuses a prompt that has no room
    if (asked > room)
        warn("-n %d: expected at most %d new token%s after a prompt of %d in %d positions%s; "
             "generating so many",
             asked, room, room == 1 ? "" : "s", n_prompt, n_prompt + room,
             c->context < c->config.max_positions ? " (-c sets them)" : "");
    return room;
}

_Static_assert((int)MAX_TEXTS <= (int)MAX_STOPS, "all values of --stop are kept");

static int generate_and_print(struct ranks *ranks, const struct run_options *o,
                              const struct tokenizer *t, const struct prompt *prompt, int n_predict)
{
    struct stop_strings stops = {.n = o->stop.n};
    for (int i = 0; i < o->stop.n; i++) {
        stops.at[i] = o->stop.at[i];
        stops.bytes[i] = strlen(o->stop.at[i]);
    }
    struct printer printer = {.out = {.tokenizer = o->ids ? NULL : t, .stops = &stops}};
    if (printer.out.tokenizer)
        printer.out.begins = text_out_begins(t, prompt->ids, (size_t)prompt->n);
    struct request request = {.tokens = prompt->ids,
                              .n = prompt->n,
                              .n_predict = new_tokens(n_predict, &ranks->coordinator, prompt->n),
                              .ignore_eos = o->ignore_eos,
                              .sampler = sampling(o, &ranks->coordinator),
                              .on_token = print_token,
                              .on_end = print_end,
                              .context = &printer};
    int status = request_check(&ranks->coordinator, request.tokens, request.n, request.n_predict);
    if (status)
        return status;
    if (printer.out.tokenizer && !o->no_echo && !o->prompt.chat)
        echo(t, prompt);
    status = generate(&ranks->coordinator, &request);
    text_out_free(&printer.out);
    if (!status && !o->quiet) {
        print_summary(&printer.result, ranks);
        status = ranks_report_exchange(ranks);
    }
    return status ? status : ranks_report_profile(ranks, &o->model.profile, log_stream());
}

/* *n := how many new tokens a prompt gets. The model is opened for as many. */
static int find_length(int *n, const struct run_options *o, int n_prompt)
{
    struct config config;
    struct generation_defaults defaults;
    char *dir;
    *n = (int)o->n_predict;
    if (o->n_predict_given)
        return 0;
    int status = hub_resolve(&dir, o->model.model);
    if (status)
        return status;
    status = config_load(&config, &defaults, dir);
    if (!status)
        *n = generation_length(&defaults, n_prompt, *n);
    free(dir);
    return status;
}

/* What rank 0 does, once the options are parsed. */
static int run_here(struct process *p, const void *options)
{
    const struct run_options *o = options;
    struct tokenizer *t = NULL;
    struct prompt prompt = {0};
    struct ranks ranks;
    int status = 0, n_predict = 0;
    if (prompt_needs_tokenizer(&o->prompt) || !o->ids)
        status = prompt_tokenizer(&t, o->model.model);
    if (!status)
        status = prompt_read(&prompt, &o->prompt, t, o->model.model);
    if (!status)
        status = find_length(&n_predict, o, prompt.n);
    struct session_needs needs = {1, 1, n_predict < 0 ? 0 : prompt.n + n_predict};
    if (!status)
        status = ranks_open(&ranks, p, &o->model, &needs);
    if (!status) {
        status = generate_and_print(&ranks, o, t, &prompt, n_predict);
        ranks_close(&ranks);
    }
    free(prompt.ids);
    tokenizer_close(t);
    return status;
}

int command_run(struct process *p, int argc, char **argv)
{
    struct run_options o = {.model = model_options_default(), .n_predict = 128};
    return ranks_command(p, parse(&o, argc, argv), &o.model, run_here, &o);
}
