/* epmoe perplexity: the perplexity of a text, in one type of weights or in several beside each
 * other.
 *
 * Types are compared by one run after the other, so there is one model in memory at a time, under
 * mpirun as well. What the first run leaves for the others lies in memory: the best token of each
 * scored token, and as many rows of logits as --keep has room for. A file would hold all rows, but
 * those of 18,000 tokens and a vocabulary of 151,936 are 11 GB, while the mean over evenly spaced
 * ones is known to a few per cent. */
#include "study/perplexity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "coordinator/cluster.h"
#include "launch/prompt.h"
#include "launch/ranks.h"
#include "model/hub.h"

enum { USUAL_WINDOW = 2048, MAX_TYPES = 8 };
static const uint64_t usual_keep = 1 << 30;

struct perplexity_command {
    struct model_options model;
    struct prompt_options text;
    const char *types, *reference_type, *keep; // as they were given, or NULL
    const char *choices;                       // of --dtype: "auto|f32|…"
    char types_help[96];                       // and as --help has them
    long window, stride;                       // 0: not given
    int format;
    uint64_t keep_bytes;
    int type[MAX_TYPES], n_types; // places in `choices`, the reference first
    int current;                  // the one whose turn it is
    struct prompt prompt;
    struct perplexity_options options;
    struct perplexity_reference reference;
    struct perplexity_result results[MAX_TYPES];
};

/* ---- the command line ---- */

/* --dtype as a list, in place of the one type that other commands take. */
static void take_type_list(struct option_spec *table, struct perplexity_command *c)
{
    while (strcmp(table->name, "dtype") != 0)
        table++;
    c->choices = table->placeholder;
    snprintf(c->types_help, sizeof c->types_help, "%s[,...]", c->choices);
    table->kind = OPTION_TEXT;
    table->value = &c->types;
    table->placeholder = c->types_help;
    table->help =
        "type of weights and matmul inputs (auto: the checkpoint's); several are compared "
        "with the first";
}

static int parse_options(struct perplexity_command *c, int argc, char **argv)
{
    struct command_spec spec = {
        "perplexity",
        "Measure how well a model predicts a text.",
        "-m MODEL -f FILE [--window 2048] [--stride 1024] [--dtype f32,bf16] [options]",
        NULL,
        NULL,
        "Windows are those of transformers' guide to perplexity: each scores the tokens that none\n"
        "before it has. tokens/s are those that go through the model. docs/numerics.md."};
    struct option_spec table[MODEL_OPTIONS + 8] = {{0}};
    const struct option_spec own[] = {
        {"file", 'f', OPTION_TEXT, &c->text.file, "FILE", "the text, taken as the file has it", 0,
         0, NULL},
        {"tokens", 0, OPTION_TEXT, &c->text.tokens, "IDS", "instead of it, ids: 1,2,3", 0, 0, NULL},
        {"window", 0, OPTION_INT, &c->window, "N",
         "tokens of a window (2048, or as many as the model knows)", 2, 1 << 24, NULL},
        {"stride", 0, OPTION_INT, &c->stride, "N",
         "tokens from one window to the next (half a window)", 1, 1 << 24, NULL},
        {"reference", 0, OPTION_TEXT, &c->reference_type, "TYPE",
         "compare with this type, not with the first of --dtype", 0, 0, NULL},
        {"keep", 0, OPTION_TEXT, &c->keep, "SIZE",
         "memory for the logits of the reference: KL is of as many tokens as fit (1G)", 0, 0, NULL},
        {"output", 'o', OPTION_CHOICE, &c->format, "text|json|csv", "form of the report (text)", 0,
         0, NULL},
    };
    model_options_table(table, &c->model);
    take_type_list(table, c);
    memcpy(table + MODEL_OPTIONS, own, sizeof own);
    return options_parse(&spec, table, argc, argv);
}

/* Add the type that the first n bytes of a list name. */
static int add_type(struct perplexity_command *c, const char *option, const char *list, size_t n)
{
    int type = choice_find(c->choices, list, n);
    if (type < 0)
        return fail(STATUS_USAGE, "perplexity: %s takes %s, found \"%.*s\"", option, c->choices,
                    (int)n, list);
    if (c->n_types == MAX_TYPES)
        return fail(STATUS_USAGE, "perplexity: expected up to %d types, found more: \"%s\"",
                    MAX_TYPES, c->types);
    c->type[c->n_types++] = type;
    return 0;
}

/* If the reference stands in the list, too, it runs once. */
static void drop_reference(struct perplexity_command *c)
{
    int at = 1;
    while (at < c->n_types && c->type[at] != c->type[0])
        at++;
    if (at == c->n_types)
        return;
    c->n_types--;
    for (; at < c->n_types; at++)
        c->type[at] = c->type[at + 1];
}

/* The reference, then the others in the order of --dtype. */
static int list_types(struct perplexity_command *c)
{
    int status = 0;
    if (c->reference_type)
        status = add_type(c, "--reference", c->reference_type, strlen(c->reference_type));
    for (const char *at = c->types ? c->types : "auto"; at && !status;) {
        size_t n = strcspn(at, ",");
        status = add_type(c, "--dtype", at, n);
        at = at[n] ? at + n + 1 : NULL;
    }
    if (!status && c->reference_type)
        drop_reference(c);
    if (!status && c->n_types < 2 && (c->reference_type || c->keep))
        return fail(STATUS_USAGE,
                    "perplexity: %s: expected another type in --dtype to compare with, found none",
                    c->reference_type ? "--reference" : "--keep");
    return status;
}

static int parse(struct perplexity_command *c, int argc, char **argv)
{
    int status = parse_options(c, argc, argv);
    if (!status)
        status = list_types(c);
    if (!status)
        status = parse_memory("--keep", c->keep, &c->keep_bytes);
    if (status)
        return status;
    c->keep_bytes = c->keep ? c->keep_bytes : usual_keep;
    c->text.raw = c->text.file != NULL;
    if (!c->text.file == !c->text.tokens)
        return fail(STATUS_USAGE, "perplexity: expected -f FILE or --tokens IDS, found %s",
                    c->text.file ? "both" : "neither");
    return 0;
}

/* ---- what is the same for all types ---- */

static int read_text(struct perplexity_command *c)
{
    struct tokenizer *tokenizer = NULL;
    int status = 0;
    if (prompt_needs_tokenizer(&c->text))
        status = prompt_tokenizer(&tokenizer, c->model.model);
    if (!status)
        status = prompt_read(&c->prompt, &c->text, tokenizer, c->model.model);
    tokenizer_close(tokenizer);
    if (!status && c->prompt.n < 2)
        return fail(STATUS_USAGE,
                    "perplexity: expected a text of 2 tokens or more, found 1: each is "
                    "scored by what is before it");
    return status;
}

static int choose_windows(struct perplexity_command *c, const struct config *m)
{
    long most = c->model.context ? c->model.context : m->max_positions;
    if (m->window && most > m->window)
        most = m->window;
    long window = c->window ? c->window : USUAL_WINDOW < most ? USUAL_WINDOW : most;
    long stride = c->stride ? c->stride : window / 2;
    if (window > most)
        return fail(STATUS_USAGE, "perplexity: --window %ld: expected at most %ld, %s", window,
                    most,
                    c->model.context ? "the context that -c sets" : "the positions of this model");
    if (stride > window)
        return fail(STATUS_USAGE,
                    "perplexity: --stride %ld: expected at most the window of %ld tokens, beyond "
                    "which tokens would be left out",
                    stride, window);
    c->options = (struct perplexity_options){c->prompt.ids, c->prompt.n, (int)window, (int)stride};
    return 0;
}

static int prepare(struct perplexity_command *c)
{
    struct config config;
    struct generation_defaults unused;
    char *dir = NULL;
    int status = read_text(c);
    if (!status)
        status = hub_resolve(&dir, c->model.model);
    if (!status)
        status = config_load(&config, &unused, dir);
    if (!status)
        status = choose_windows(c, &config);
    if (!status && c->n_types > 1)
        status =
            perplexity_reference_open(&c->reference, &c->options, config.vocab_size, c->keep_bytes);
    free(dir);
    return status;
}

/* ---- a run for each type ---- */

static int run_type(struct process *p, const void *command)
{
    struct perplexity_command *c = (struct perplexity_command *)(uintptr_t)command;
    struct perplexity_result *result = &c->results[c->current];
    struct ranks ranks;
    int status = c->prompt.ids ? 0 : prepare(c);
    int longest = c->options.n < c->options.window ? c->options.n : c->options.window;
    struct session_needs needs = {1, PERPLEXITY_ROWS, longest};
    if (!status)
        status = ranks_open(&ranks, p, &c->model, &needs);
    if (status)
        return status;
    snprintf(result->name, sizeof result->name, "%s",
             precision_text(&ranks.coordinator.precision).text);
    status = perplexity_run(result, &ranks.coordinator, &c->options,
                            c->n_types > 1 ? &c->reference : NULL);
    if (!status)
        status = ranks_report_exchange(&ranks);
    ranks_close(&ranks);
    return status;
}

/* Under mpirun, workers serve once for each type, and each time until rank 0 says stop. When it
 * cannot go on it must say so for the runs that will not be; main() says it once more. */
static void release_workers(const struct process *p, const struct perplexity_command *c)
{
    if (p->mpi && p->mpi->rank == 0)
        for (int i = c->current > 1 ? c->current : 1; i < c->n_types; i++)
            cluster_stop(p->mpi);
}

static int run_all(struct process *p, struct perplexity_command *c)
{
    int status = 0;
    while (c->current < c->n_types && !status) {
        c->model.dtype = c->type[c->current];
        status = ranks_command(p, 0, &c->model, run_type, c);
        c->current++;
    }
    if (status)
        release_workers(p, c);
    return status;
}

static void report(const struct perplexity_command *c)
{
    struct perplexity_report r = {.model = c->model.model,
                                  .text = c->text.file,
                                  .bytes = c->prompt.bytes,
                                  .options = c->options,
                                  .results = c->results,
                                  .n = c->n_types};
    perplexity_print(&r, (enum perplexity_format)c->format, stdout);
}

int command_perplexity(struct process *p, int argc, char **argv)
{
    static struct perplexity_command c;
    c = (struct perplexity_command){.model = model_options_default()};
    int status = parse(&c, argc, argv);
    if (status)
        return status == OPTIONS_HELP ? 0 : status;
    status = run_all(p, &c);
    if (!status && (!p->mpi || p->mpi->rank == 0))
        report(&c);
    free(c.prompt.ids);
    perplexity_reference_close(&c.reference);
    return status;
}
