/* epmoe run: continues a text, and prints the new text as it is generated. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "coordinator/generate.h"
#include "launch/chat.h"
#include "launch/prompt.h"
#include "launch/ranks.h"
#include "launch/stdout.h"
#include "model/config.h"
#include "model/hub.h"
#include "model/text_out.h"

struct run_options {
    struct model_options model;
    struct prompt_options prompt;
    struct sampling_command sampling;
    long n_predict;
    bool n_predict_given, ids, no_echo, quiet;
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
        "--chat without -p or -f is a conversation, as epmoe chat has it."};
    struct option_spec table[MODEL_OPTIONS + PROFILE_OPTIONS + SAMPLING_OPTIONS + 12] = {{0}};
    const struct option_spec own[] = {
        {"prompt", 'p', OPTION_TEXT, &o->prompt.text, "TEXT", "the prompt (-: from stdin)", 0, 0,
         0},
        {"file", 'f', OPTION_TEXT, &o->prompt.file, "FILE", "the prompt from a file", 0, 0, 0},
        {"raw", 0, OPTION_FLAG, &o->prompt.raw, NULL,
         "with -f or -p -: keep a newline at the end, and CR before newlines", 0, 0, 0},
        {"chat", 0, OPTION_FLAG, &o->prompt.chat, NULL,
         "the prompt is a user's message: apply the checkpoint's chat template; without a prompt: "
         "a conversation",
         0, 0, 0},
        {"system", 0, OPTION_TEXT, &o->prompt.system, "TEXT",
         "with --chat: this system prompt instead of the template's", 0, 0, 0},
        {"no-thinking", 0, OPTION_FLAG, &o->prompt.no_thinking, NULL,
         "with --chat: ask the template for an answer without thinking (enable_thinking false)", 0,
         0, 0},
        {"tokens", 0, OPTION_TEXT, &o->prompt.tokens, "IDS", "the prompt as ids: 1,2,3", 0, 0, 0},
        {"n-predict", 'n', OPTION_INT, &o->n_predict, "N",
         "at most N new tokens (the checkpoint's, or 128); -1: until the context is full", -1,
         1 << 24, &o->n_predict_given},
        {"ids", 0, OPTION_FLAG, &o->ids, NULL, "print new token ids, one line", 0, 0, 0},
        {"no-echo", 0, OPTION_FLAG, &o->no_echo, NULL, "do not print the prompt", 0, 0, 0},
        {"quiet", 'q', OPTION_FLAG, &o->quiet, NULL, "no summary", 0, 0, 0},
    };
    model_options_table(table, &o->model);
    profile_options_table(table + MODEL_OPTIONS, &o->model.profile);
    sampling_options_table(table + MODEL_OPTIONS + PROFILE_OPTIONS, &o->sampling);
    memcpy(table + MODEL_OPTIONS + PROFILE_OPTIONS + SAMPLING_OPTIONS, own, sizeof own);
    int status = options_parse(&spec, table, argc, argv);
    return status ? status : sampling_check("run", &o->sampling);
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
    fprintf(out, " | %s, %d rank%s\n", dev_name(&ranks->coordinator.dev),
            ranks->coordinator.placement.n_ranks,
            ranks->coordinator.placement.n_ranks == 1 ? "" : "s");
}

static struct sampler_options sampling(const struct run_options *o, const struct coordinator *c)
{
    struct sampler_options s = sampler_defaults(&c->defaults);
    sampling_apply(&o->sampling, &s);
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
    const struct text_list *given = &o->sampling.stop;
    struct stop_strings stops = {.n = given->n};
    for (int i = 0; i < given->n; i++) {
        stops.at[i] = given->at[i];
        stops.bytes[i] = strlen(given->at[i]);
    }
    struct printer printer = {.out = {.tokenizer = o->ids ? NULL : t, .stops = &stops}};
    if (printer.out.tokenizer) // an answer is a message of its own
        printer.out.begins = o->prompt.chat || text_out_begins(t, prompt->ids, (size_t)prompt->n);
    struct request request = {.tokens = prompt->ids,
                              .n = prompt->n,
                              .n_predict = new_tokens(n_predict, &ranks->coordinator, prompt->n),
                              .ignore_eos = o->sampling.ignore_eos,
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

/* --chat without a prompt: what epmoe chat does, with the options that both have. */
static bool is_conversation(const struct run_options *o)
{
    const struct prompt_options *p = &o->prompt;
    return p->chat && !p->text && !p->file && !p->tokens;
}

static int check_conversation(const struct run_options *o)
{
    const struct profile_command *profile = &o->model.profile;
    const struct {
        bool given;
        const char *name;
    } of_prompts[] = {{o->ids, "--ids"},
                      {o->no_echo, "--no-echo"},
                      {o->prompt.raw, "--raw"},
                      {profile->table, "--profile"},
                      {profile->json, "--profile-json"},
                      {profile->trace, "--trace"},
                      {profile->routing, "--record-routing"}};
    for (size_t i = 0; i < sizeof of_prompts / sizeof *of_prompts; i++)
        if (of_prompts[i].given)
            return fail(STATUS_USAGE,
                        "run: --chat without -p or -f is a conversation, which has no %s; give it "
                        "a prompt by -p",
                        of_prompts[i].name);
    return 0;
}

static int converse(struct process *p, const struct run_options *o)
{
    struct chat_command talk = {.model = o->model,
                                .sampling = o->sampling,
                                .system = o->prompt.system,
                                .no_thinking = o->prompt.no_thinking,
                                .n_predict = o->n_predict,
                                .n_predict_given = o->n_predict_given};
    return ranks_command(p, check_conversation(o), &talk.model, chat_here, &talk);
}

int command_run(struct process *p, int argc, char **argv)
{
    struct run_options o = {.model = model_options_default(), .n_predict = 128};
    int parsed = parse(&o, argc, argv);
    if (!parsed && is_conversation(&o))
        return converse(p, &o);
    if (!parsed)
        parsed = ranks_check_apart(&o.model.profile, o.prompt.file);
    return ranks_command(p, parsed, &o.model, run_here, &o);
}
