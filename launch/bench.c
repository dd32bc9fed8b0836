/* epmoe bench: prefill and decode speed beside the machine's roof. */
#include "study/bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "launch/ranks.h"

struct bench_command {
    struct model_options model;
    long prompt, generate, repeats;
    const char *batches;
    int format;
};

static int parse(struct bench_command *o, int argc, char **argv)
{
    struct command_spec spec = {
        "bench",
        "Measure prefill and decode speed beside the device's roof.",
        "-m MODEL [-p 1500] [-n 40] [-b 1,8] [-r 5] [-o md|json|csv]",
        NULL,
        NULL,
        "ppN: N prompt tokens a sequence, TTFT. tgN: N generated tokens, "
        "TPOT.\nThe roof is measured in the same run: all cores, or the GPU."};
    struct option_spec table[MODEL_OPTIONS + PROFILE_OPTIONS + 6] = {{0}};
    const struct option_spec own[] = {
        {"prompt", 'p', OPTION_INT, &o->prompt, "N", "prompt tokens (1500)", 0, 1 << 24, NULL},
        {"n-gen", 'n', OPTION_INT, &o->generate, "N", "generated tokens (40)", 0, 1 << 24, NULL},
        {"batch", 'b', OPTION_TEXT, &o->batches, "LIST", "sequences at once, e.g. 1,8,32 (1)", 0, 0,
         NULL},
        {"repeats", 'r', OPTION_INT, &o->repeats, "N", "repetitions (5)", 1, BENCH_MAX_REPEATS,
         NULL},
        {"output", 'o', OPTION_CHOICE, &o->format, "md|json|csv", "form of the report (md)", 0, 0,
         NULL},
    };
    model_options_table(table, &o->model);
    profile_options_table(table + MODEL_OPTIONS, &o->model.profile);
    memcpy(table + MODEL_OPTIONS + PROFILE_OPTIONS, own, sizeof own);
    return options_parse(&spec, table, argc, argv);
}

static int parse_batches(struct bench_options *b, const char *text)
{
    for (const char *at = text;; at++) {
        char *end;
        errno = 0;
        long v = strtol(at, &end, 10);
        bool full = b->n_batches == BENCH_MAX_BATCHES;
        if (end == at || errno || v < 1 || v > 4096 || (*end && *end != ',') || full)
            return fail(STATUS_USAGE, "bench: -b takes up to %d sizes from 1 to 4096, found \"%s\"",
                        BENCH_MAX_BATCHES, text);
        b->batches[b->n_batches++] = (int)v;
        if (!*end)
            return 0;
        at = end;
    }
}

static int bench_here(struct process *p, const void *options)
{
    const struct bench_command *o = options;
    struct bench_options b = {.prompt = (int)o->prompt,
                              .generate = (int)o->generate,
                              .repeats = (int)o->repeats,
                              .model_name = o->model.model};
    struct model_options model = o->model;
    struct bench_report report;
    struct ranks ranks;
    char expect[64];
    int most = 1, status = parse_batches(&b, o->batches);
    if (status)
        return status;
    for (int i = 0; i < b.n_batches; i++)
        most = b.batches[i] > most ? b.batches[i] : most;
    struct session_needs needs = {most, most, b.prompt + b.generate};
    snprintf(expect, sizeof expect, "%d,%d,%d", b.prompt ? b.prompt : 1, b.generate, most);
    model.expect = model.expect ? model.expect : expect;
    status = ranks_open(&ranks, p, &model, &needs);
    if (status)
        return status;
    if (ranks.coordinator.context < needs.context)
        status =
            fail(STATUS_USAGE, "bench: expected -p and -n within %d positions, found %d and %d",
                 ranks.coordinator.context, b.prompt, b.generate);
    if (!status)
        status = bench_run(&report, &ranks.coordinator, &b);
    if (!status)
        bench_print(&report, &ranks.coordinator, &b, (enum bench_format)o->format, stdout);
    if (!status)
        status =
            ranks_report_profile(&ranks, &o->model.profile, o->format == BENCH_MD ? stdout : NULL);
    ranks_close(&ranks);
    return status;
}

int command_bench(struct process *p, int argc, char **argv)
{
    struct bench_command o = {.model = model_options_default(),
                              .prompt = 1500,
                              .generate = 40,
                              .repeats = 5,
                              .batches = "1"};
    return ranks_command(p, parse(&o, argc, argv), &o.model, bench_here, &o);
}
