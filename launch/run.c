/* epmoe run: text to text, printed as it is generated. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "coordinator/generate.h"
#include "launch/prompt.h"
#include "launch/ranks.h"
#include "model/hub.h"

struct run_options {
    struct model_options model;
    struct prompt_options prompt;
    long n_predict, top_k, seed;
    double temperature, top_p, penalty;
    bool temperature_given, top_k_given, top_p_given, penalty_given, seed_given;
    bool ignore_eos, ids, no_echo, quiet;
    const char *stop;
};

/* The text as it comes out: whole characters, up to the stop string. */
struct printer {
    const struct tokenizer *tokenizer; // NULL: ids
    struct text_stream stream;
    const char *stop;
    char *held; // text that may be the beginning of the stop string
    size_t held_bytes;
    bool any; // an id was printed
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
    struct option_spec table[MODEL_OPTIONS + 17] = {{0}};
    const struct option_spec own[] = {
        {"prompt", 'p', OPTION_TEXT, &o->prompt.text, "TEXT", "the prompt (-: from stdin)", 0, 0,
         0},
        {"file", 'f', OPTION_TEXT, &o->prompt.file, "FILE", "the prompt from a file", 0, 0, 0},
        {"tokens", 0, OPTION_TEXT, &o->prompt.tokens, "IDS", "the prompt as ids: 1,2,3", 0, 0, 0},
        {"n-predict", 'n', OPTION_INT, &o->n_predict, "N", "at most N new tokens (128)", 0, 1 << 24,
         0},
        {"temp", 0, OPTION_REAL, &o->temperature, "T", "temperature; 0: greedy", 0, 100,
         &o->temperature_given},
        {"top-k", 0, OPTION_INT, &o->top_k, "K", "sample from the K best; 0: all", 0, 1 << 24,
         &o->top_k_given},
        {"top-p", 0, OPTION_REAL, &o->top_p, "P", "sample from the best that sum to P", 0, 1,
         &o->top_p_given},
        {"repeat-penalty", 0, OPTION_REAL, &o->penalty, "X",
         "divide the logits of tokens seen before; 1: off", 0.01, 100, &o->penalty_given},
        {"seed", 's', OPTION_INT, &o->seed, "N", "same seed, same text (default: the clock)", 0, 0,
         &o->seed_given},
        {"stop", 0, OPTION_TEXT, &o->stop, "TEXT", "end before this text", 0, 0, 0},
        {"ignore-eos", 0, OPTION_FLAG, &o->ignore_eos, NULL, "go on after an end-of-text token", 0,
         0, 0},
        {"ids", 0, OPTION_FLAG, &o->ids, NULL, "print new token ids, one line", 0, 0, 0},
        {"no-echo", 0, OPTION_FLAG, &o->no_echo, NULL, "do not print the prompt", 0, 0, 0},
        {"quiet", 'q', OPTION_FLAG, &o->quiet, NULL, "no summary", 0, 0, 0},
    };
    model_options_table(table, &o->model);
    memcpy(table + MODEL_OPTIONS, own, sizeof own);
    return options_parse(&spec, table, argc, argv);
}

static void write_out(const char *text, size_t bytes)
{
    fwrite(text, 1, bytes, stdout);
    fflush(stdout);
}

/* Print all but what may yet become the stop string; true when it is complete. */
static bool print_until_stop(struct printer *p, const char *text, size_t bytes)
{
    size_t stop_bytes = strlen(p->stop);
    p->held = realloc(p->held, p->held_bytes + bytes + 1);
    CHECK(p->held, "no memory for %zu bytes of text", bytes);
    memcpy(p->held + p->held_bytes, text, bytes);
    p->held_bytes += bytes;
    p->held[p->held_bytes] = 0;
    char *found = memmem(p->held, p->held_bytes, p->stop, stop_bytes);
    size_t safe = found                        ? (size_t)(found - p->held)
                  : p->held_bytes < stop_bytes ? 0
                                               : p->held_bytes - stop_bytes + 1;
    while (!found && safe > 0 && (p->held[safe] & 0xc0) == 0x80)
        safe--; // not in the middle of a character
    write_out(p->held, safe);
    p->held_bytes -= safe;
    memmove(p->held, p->held + safe, p->held_bytes);
    return found != NULL;
}

static bool print_text(struct printer *p, const char *text, size_t bytes)
{
    if (p->stop)
        return print_until_stop(p, text, bytes);
    write_out(text, bytes);
    return false;
}

static bool print_token(void *context, int32_t token)
{
    struct printer *p = context;
    if (!p->tokenizer) {
        printf("%s%d", p->any ? " " : "", token);
        p->any = true;
        fflush(stdout);
        return false;
    }
    size_t bytes;
    const char *piece = tokenizer_token_bytes(p->tokenizer, token, &bytes);
    if (tokenizer_is_special(p->tokenizer, token))
        return false;
    text_stream_push(&p->stream, piece, bytes);
    return print_text(p, p->stream.text, p->stream.bytes);
}

static void print_end(struct printer *p, bool stopped)
{
    if (p->tokenizer) {
        text_stream_end(&p->stream);
        if (!stopped && !print_text(p, p->stream.text, p->stream.bytes) && p->stop)
            write_out(p->held, p->held_bytes);
    }
    write_out("\n", 1); // before the summary, also where both go to one file
    text_stream_free(&p->stream);
    free(p->held);
}

static void print_summary(const struct generate_result *r, const struct ranks *ranks)
{
    double tpot = r->n_new > 1 ? r->decode_s / (r->n_new - 1) : 0;
    fprintf(stderr, "prompt %d tokens, generated %d (%s)", r->n_prompt, r->n_new,
            r->finish == FINISH_STOP ? "stop" : "length");
    fprintf(stderr, " | TTFT %.1f ms, prefill %.1f tokens/s", r->ttft_s * 1e3,
            r->ttft_s > 0 ? r->n_prompt / r->ttft_s : 0);
    if (tpot > 0)
        fprintf(stderr, " | TPOT %.2f ms, decode %.1f tokens/s", tpot * 1e3, 1 / tpot);
    fprintf(stderr, " | %s, %d rank%s\n", isa_name(ranks->coordinator.dev.isa),
            ranks->coordinator.placement.n_ranks,
            ranks->coordinator.placement.n_ranks == 1 ? "" : "s");
}

static struct sampler_options sampling(const struct run_options *o, const struct coordinator *c)
{
    struct sampler_options s = sampler_defaults(&c->defaults);
    if (o->temperature_given)
        s.temperature = o->temperature;
    if (o->top_k_given)
        s.top_k = (int)o->top_k;
    if (o->top_p_given)
        s.top_p = o->top_p;
    if (o->penalty_given)
        s.repetition_penalty = o->penalty;
    s.seed = o->seed_given ? (uint64_t)o->seed : (uint64_t)time(NULL);
    return s;
}

static int generate_and_print(struct ranks *ranks, const struct run_options *o,
                              const struct tokenizer *t, const struct prompt *prompt)
{
    struct printer printer = {.tokenizer = o->ids ? NULL : t, .stop = o->stop};
    struct generate_options g = {.n_predict = (int)o->n_predict,
                                 .ignore_eos = o->ignore_eos,
                                 .sampler = sampling(o, &ranks->coordinator),
                                 .on_token = print_token,
                                 .context = &printer};
    struct generate_result result;
    int status = check_tokens(&ranks->coordinator, prompt->ids, prompt->n, g.n_predict);
    if (status)
        return status;
    if (printer.tokenizer && !o->no_echo) {
        size_t bytes;
        char *echo = tokenizer_decode(t, prompt->ids, (size_t)prompt->n, true, &bytes);
        write_out(echo, bytes);
        free(echo);
    }
    status = generate(&ranks->coordinator, &g, prompt->ids, prompt->n, &result);
    print_end(&printer, result.finish == FINISH_STOP && o->stop);
    if (status || o->quiet)
        return status;
    print_summary(&result, ranks);
    return ranks_report_wire(ranks);
}

static int open_tokenizer(struct tokenizer **t, const struct model_options *o)
{
    char *dir, *path;
    int status = hub_resolve(&dir, o->model);
    if (status)
        return status;
    path = path_join(dir, "tokenizer.json");
    status = tokenizer_open(t, path);
    free(path);
    free(dir);
    return status;
}

/* Everything on rank 0, once the options are known. */
static int run_here(struct process *p, const struct run_options *o)
{
    struct tokenizer *t = NULL;
    struct prompt prompt = {0};
    struct ranks ranks;
    int status = 0;
    if (prompt_needs_tokenizer(&o->prompt) || !o->ids)
        status = open_tokenizer(&t, &o->model);
    if (!status)
        status = prompt_read(&prompt, &o->prompt, t);
    struct session_needs needs = {1, 1, prompt.n + (int)o->n_predict};
    if (!status)
        status = ranks_open(&ranks, p, &o->model, &needs);
    if (!status) {
        status = generate_and_print(&ranks, o, t, &prompt);
        ranks_close(&ranks);
    }
    free(prompt.ids);
    tokenizer_close(t);
    return status;
}

int command_run(struct process *p, int argc, char **argv)
{
    struct run_options o = {.model = model_options_default(), .n_predict = 128};
    int status = parse(&o, argc, argv);
    if (status)
        return status == OPTIONS_HELP ? 0 : status;
    status = ranks_check(p, &o.model);
    if (status)
        return status;
    if (p->mpi && p->mpi->rank > 0)
        return ranks_serve(p, &o.model);
    return run_here(p, &o);
}
