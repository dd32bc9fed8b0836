/* epmoe bench: prefill and decode speed beside the machine's roof; with --serve, what requests that
 * arrive at random see; with --ablation, which change brings how much. */
#include "study/bench.h"

#include <limits.h>
#include <string.h>

#include "base/log.h"
#include "launch/ablation.h"
#include "launch/lists.h"
#include "launch/ranks.h"
#include "study/serve.h"

enum { SERVE_SEED = 1 };

struct bench_command {
    struct model_options model;
    long generate, repeats, requests;
    const char *prompts, *batches, *ranks, *dense;
    double rate; // of --serve; 0: without it
    bool ablation;
    bool repeats_given, requests_given, generate_given, batches_given;
    bool follows; // this run is not the first of those that --ranks lists
    int format;
    struct bench_options sizes;                // of the lists
    int rank_counts[BENCH_MAX_SIZES], n_ranks; // of --ranks; none: as main() says
};

/* --ranks as a list, in place of the one number that other commands take. */
static void take_rank_list(struct option_spec *table, struct bench_command *o)
{
    while (strcmp(table->name, "ranks") != 0)
        table++;
    table->kind = OPTION_TEXT;
    table->value = &o->ranks;
    table->placeholder = "LIST";
    table->help = "ranks as threads of this process, e.g. 1,2,5: one coordinator, the rest workers";
}

/* What counts where nothing else was said. The ablation begins slowly, so it is short. */
static void set_defaults(struct bench_command *o)
{
    if (!o->prompts)
        o->prompts = o->ablation ? "16" : "1500";
    o->batches_given = o->batches;
    if (!o->batches)
        o->batches = o->rate > 0 ? "32" : "1";
    if (!o->generate_given)
        o->generate = o->ablation ? 4 : 40;
    if (!o->repeats_given)
        o->repeats = o->ablation ? 1 : 5;
}

static int parse_lists(struct bench_command *o)
{
    struct bench_options *b = &o->sizes;
    int status =
        parse_list(b->prompts, &b->n_prompts, BENCH_MAX_SIZES, o->prompts, "bench: -p", 0, 1 << 24);
    if (!status)
        status = parse_list(b->batches, &b->n_batches, BENCH_MAX_SIZES, o->batches, "bench: -b", 1,
                            4096);
    if (!status && o->ranks)
        status = parse_list(o->rank_counts, &o->n_ranks, BENCH_MAX_SIZES, o->ranks,
                            "bench: --ranks", 1, 1024);
    b->generate = (int)o->generate;
    b->repeats = (int)o->repeats;
    return status;
}

/* The ablation changes by itself what other options say. */
static int check_ablation(const struct bench_command *o)
{
    const struct bench_options *b = &o->sizes;
    const struct profile_command *profile = &o->model.profile;
    if (!o->ablation)
        return o->dense ? fail(STATUS_USAGE, "bench: --dense needs --ablation") : 0;
    const struct {
        bool given;
        const char *name;
    } excluded[] = {{o->rate > 0, "--serve"},
                    {o->batches_given, "-b"},
                    {o->ranks, "--ranks"},
                    {o->model.dtype, "--dtype"},
                    {o->model.expert_dtype, "--expert-dtype"},
                    {o->model.device != DEVICE_CPU, "--device cuda"},
                    {profile->table || profile->json || profile->trace, "a profile"},
                    {profile->routing, "--record-routing"}};
    for (size_t i = 0; i < sizeof excluded / sizeof *excluded; i++)
        if (excluded[i].given)
            return fail(STATUS_USAGE,
                        "bench: --ablation goes without %s: it is of one process on a "
                        "CPU, and chooses types and batches itself",
                        excluded[i].name);
    if (b->n_prompts > 1 || b->prompts[0] == 0 || b->generate == 0)
        return fail(STATUS_USAGE,
                    "bench: --ablation takes one -p of 1 or more and -n of 1 or more, found "
                    "\"-p %s -n %d\"",
                    o->prompts, b->generate);
    return 0;
}

/* Refuse what does not go together. */
static int check(const struct bench_command *o)
{
    const struct bench_options *b = &o->sizes;
    const struct profile_command *profile = &o->model.profile;
    if (o->rate > 0 && (b->n_prompts > 1 || b->n_batches > 1 || b->prompts[0] == 0))
        return fail(STATUS_USAGE,
                    "bench: --serve takes one -p of 1 or more and one -b, found "
                    "\"-p %s -b %s\"",
                    o->prompts, o->batches);
    if (o->rate > 0 && (o->generate == 0 || o->repeats_given))
        return fail(STATUS_USAGE, "bench: --serve takes -n of 1 or more and no -r: it serves "
                                  "--requests N once");
    if (o->rate > 0 && o->requests * o->generate > INT_MAX)
        return fail(STATUS_USAGE,
                    "bench: --serve takes --requests and -n of at most %d new tokens in all, found "
                    "%ld and %ld",
                    INT_MAX, o->requests, o->generate);
    if (o->rate == 0 && o->requests_given)
        return fail(STATUS_USAGE, "bench: --requests needs --serve RATE");
    if (profile->table && o->format == BENCH_CSV)
        return fail(STATUS_USAGE, "bench: --profile: expected -o md or json, found csv, which has "
                                  "no place for it: --profile-json FILE writes it beside");
    if (o->n_ranks > 1 && (profile->json || profile->trace || profile->routing))
        return fail(STATUS_USAGE,
                    "bench: --profile-json, --trace and --record-routing write one run: expected "
                    "one --ranks, found %s",
                    o->ranks);
    return check_ablation(o);
}

static int parse(struct bench_command *o, int argc, char **argv)
{
    struct command_spec spec = {
        "bench",
        "Measure prefill and decode speed beside the device's roof.",
        "-m MODEL [-p 512,1500] [-n 40] [-b 1,8] [-r 5] [-o md|json|csv]",
        NULL,
        NULL,
        "ppN: N prompt tokens a sequence, TTFT. tgN: N generated tokens, "
        "TPOT.\nThe roof is measured in the same run, before and after each repetition: with "
        "the run's threads, or the GPU."};
    struct option_spec table[MODEL_OPTIONS + PROFILE_OPTIONS + 10] = {{0}};
    const struct option_spec own[] = {
        {"prompt", 'p', OPTION_TEXT, &o->prompts, "LIST", "prompt tokens, e.g. 512,1500 (1500)", 0,
         0, NULL},
        {"n-gen", 'n', OPTION_INT, &o->generate, "N", "generated tokens (40)", 0, 1 << 24,
         &o->generate_given},
        {"batch", 'b', OPTION_TEXT, &o->batches, "LIST",
         "sequences at once, e.g. 1,8,32 (1; with --serve at most so many, 32)", 0, 0, NULL},
        {"repeats", 'r', OPTION_INT, &o->repeats, "N", "repetitions (5)", 1, BENCH_MAX_REPEATS,
         &o->repeats_given},
        {"serve", 0, OPTION_REAL, &o->rate, "RATE",
         "serve requests that arrive at random, RATE a second: throughput, and TTFT, TPOT and ITL "
         "of "
         "p50, p90, p99",
         0.001, 1e6, NULL},
        {"requests", 0, OPTION_INT, &o->requests, "N", "how many of them (64)", 1, 1 << 20,
         &o->requests_given},
        {"ablation", 0, OPTION_FLAG, &o->ablation, NULL,
         "from the loop that made the model slow to what it is now, one change after the other; "
         "-p 16 -n 4 -r 1 unless said",
         0, 0, NULL},
        {"dense", 0, OPTION_TEXT, &o->dense, "MODEL",
         "with --ablation: a dense model beside it (of synth:qwen1.5-moe-a2.7b: its sibling of 7 "
         "B)",
         0, 0, NULL},
        {"output", 'o', OPTION_CHOICE, &o->format, "md|json|csv", "form of the report (md)", 0, 0,
         NULL},
    };
    model_options_table(table, &o->model);
    take_rank_list(table, o);
    profile_options_table(table + MODEL_OPTIONS, &o->model.profile);
    memcpy(table + MODEL_OPTIONS + PROFILE_OPTIONS, own, sizeof own);
    int status = options_parse(&spec, table, argc, argv);
    set_defaults(o);
    if (!status)
        status = parse_lists(o);
    return status ? status : check(o);
}

static int greatest(const int *sizes, int n)
{
    int most = sizes[0];
    for (int i = 1; i < n; i++)
        most = sizes[i] > most ? sizes[i] : most;
    return most;
}

static int measure(const struct bench_command *o, struct ranks *ranks)
{
    static struct bench_report report;
    struct bench_options b = o->sizes;
    b.model_name = o->model.model;
    if (o->model.worker_device && o->model.worker_device - 1 != o->model.device)
        b.workers = o->model.worker_device - 1 == DEVICE_CUDA ? "GPUs" : "processors";
    b.follows = o->follows;
    int status = bench_run(&report, &ranks->coordinator, &b);
    if (!status)
        bench_print(&report, &ranks->coordinator, &b, (enum bench_format)o->format, stdout);
    return status;
}

static int serve(const struct bench_command *o, struct ranks *ranks)
{
    struct serve_report report;
    struct serve_options s = {.rate = o->rate,
                              .requests = (int)o->requests,
                              .prompt = o->sizes.prompts[0],
                              .generate = o->sizes.generate,
                              .seed = SERVE_SEED,
                              .model_name = o->model.model,
                              .follows = o->follows};
    int status = serve_run(&report, &ranks->coordinator, &s);
    if (!status)
        serve_print(&report, &ranks->coordinator, &s, (enum bench_format)o->format, stdout);
    return status;
}

static int bench_here(struct process *p, const void *options)
{
    const struct bench_command *o = options;
    const struct bench_options *b = &o->sizes;
    struct model_options model = o->model;
    struct ranks ranks;
    char expect[64];
    int most = greatest(b->batches, b->n_batches), longest = greatest(b->prompts, b->n_prompts);
    struct session_needs needs = {most, most, longest + b->generate};
    snprintf(expect, sizeof expect, "%d,%d,%d", longest ? longest : 1, b->generate, most);
    model.expect = model.expect ? model.expect : expect;
    int status = ranks_open(&ranks, p, &model, &needs);
    if (status)
        return status;
    if (ranks.coordinator.context < needs.context)
        status =
            fail(STATUS_USAGE, "bench: expected -p and -n within %d positions, found %d and %d",
                 ranks.coordinator.context, longest, b->generate);
    if (!status)
        status = o->rate > 0 ? serve(o, &ranks) : measure(o, &ranks);
    if (!status)
        status =
            ranks_report_profile(&ranks, &o->model.profile, o->format == BENCH_MD ? stdout : NULL);
    ranks_close(&ranks);
    return status;
}

static int ablation(struct process *p, const void *options)
{
    const struct bench_command *o = options;
    if (p->mpi && p->mpi->size > 1)
        return fail(STATUS_USAGE, "bench: --ablation is of one process, found %d ranks",
                    p->mpi->size);
    struct ablation_options own = {.prompt = o->sizes.prompts[0],
                                   .generate = o->sizes.generate,
                                   .repeats = o->sizes.repeats,
                                   .model_name = o->model.model,
                                   .dense_name = o->dense};
    return ablation_here(p, &o->model, &own, (enum bench_format)o->format);
}

/* One run after the other; in JSON they are an array. */
static int bench_each(struct process *p, struct bench_command *o)
{
    static const char *const before[] = {"[\n", ",\n"};
    int status = 0;
    for (int i = 0; i < o->n_ranks && !status; i++) {
        if (o->format == BENCH_JSON)
            fputs(before[i > 0], stdout);
        else if (o->format == BENCH_MD && i > 0)
            fputs("\n", stdout);
        o->model.ranks = o->rank_counts[i];
        o->follows = i > 0;
        status = ranks_command(p, 0, &o->model, bench_here, o);
        fflush(stdout); // a signal in the next run ends the process at once
    }
    if (o->format == BENCH_JSON && !status)
        fputs("]\n", stdout);
    return status;
}

int command_bench(struct process *p, int argc, char **argv)
{
    struct bench_command o = {.model = model_options_default(), .requests = 64};
    int parsed = parse(&o, argc, argv);
    if (!parsed && o.n_ranks > 1 && !p->mpi)
        return bench_each(p, &o);
    if (!parsed && o.n_ranks > 1)
        return fail(STATUS_USAGE, "bench: --ranks %s: under mpirun, -n sets the ranks", o.ranks);
    o.model.ranks = o.n_ranks ? o.rank_counts[0] : 0;
    return ranks_command(p, parsed, &o.model, o.ablation ? ablation : bench_here, &o);
}
