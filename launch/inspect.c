/* epmoe inspect: what is in a model, what it needs, and who would hold what. Reads config.json and
 * the headers of the weights; works from config.json alone. */
#include "launch/inspect.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "launch/launch.h"
#include "model/hub.h"
#include "model/speed.h"

struct inspect_options {
    const char *model, *emit, *gpu_memory, *expect, *speeds;
    long ranks, context, threads;
    int dtype, expert_dtype, format;
    struct placement_spec placement;
};

static int parse(struct inspect_options *o, int argc, char **argv)
{
    struct command_spec spec = {
        "inspect",
        "Tell what is in a model, what it needs, and which rank would hold what.",
        "MODEL [--ranks 8] [options]",
        "MODEL",
        &o->model,
        "Reads config.json and the headers of the weights, no weights; without weights it tells\n"
        "what config.json says. Bytes are those of memory, as the CPU packs the weights."};
    struct option_spec table[] = {
        {"model", 'm', OPTION_TEXT, &o->model, "MODEL", "the same as without -m", 0, 0, NULL},
        {"ranks", 0, OPTION_INT, &o->ranks, "N", "one coordinator, N-1 workers (1)", 1, 1024, NULL},
        {"placement", 0, OPTION_TEXT, &o->placement.text, "balanced|even|round-robin|FILE",
         "which rank holds what (balanced); docs/placement.md", 0, 0, NULL},
        {"home", 0, OPTION_INT, &o->placement.home, "N",
         "experts of each layer that stay on rank 0 (0)", 0, MAX_EXPERTS, &o->placement.home_given},
        {"expect", 0, OPTION_TEXT, &o->expect, "PROMPT,NEW[,BATCH]",
         "tokens in and out, and sequences at a time, that steps are timed for (1500,40,1)", 0, 0,
         NULL},
        {"speeds", 0, OPTION_TEXT, &o->speeds, "FILE",
         "what each rank can do (this machine's, measured, for all); docs/placement.md", 0, 0,
         NULL},
        {"threads", 't', OPTION_INT, &o->threads, "N",
         "threads of a rank, where this machine is measured (1)", 1, 1024, NULL},
        {"emit", 0, OPTION_TEXT, &o->emit, "FILE", "write the placement, to be edited and used", 0,
         0, NULL},
        {"dtype", 0, OPTION_CHOICE, &o->dtype, DTYPE_CHOICES,
         "type of weights and KV cache (auto: the checkpoint's); q8, q4: of weights alone", 0, 0,
         NULL},
        {"expert-dtype", 0, OPTION_CHOICE, &o->expert_dtype, EXPERT_DTYPE_CHOICES,
         "experts, shared experts and MLPs in fewer bits (auto: as --dtype)", 0, 0, NULL},
        {"ctx", 'c', OPTION_INT, &o->context, "N", "context of the KV cache (0: the model's most)",
         0, 1 << 24, NULL},
        {"gpu-memory", 0, OPTION_TEXT, &o->gpu_memory, "SIZE",
         "place what fits a GPU of so many bytes (24G) on rank 0, the rest on processors", 0, 0,
         NULL},
        {"output", 'o', OPTION_CHOICE, &o->format, "text|json", "form of the report (text)", 0, 0,
         NULL},
        {0}};
    return options_parse(&spec, table, argc, argv);
}

/* The last part of a path, or the name as given. */
static char *model_name(const char *model)
{
    char *real = realpath(model, NULL), *slash = real ? strrchr(real, '/') : NULL;
    char *name = strdup(slash && slash[1] ? slash + 1 : model);
    CHECK_MEMORY(name, "no memory for a name");
    free(real);
    return name;
}

/* What the ranks can do, unless that is of no use, or of a GPU that is not at hand. */
static int forecast(struct inspection *i, const struct inspect_options *o, int n_ranks,
                    struct arena *memory)
{
    struct forecast *f = &i->forecast;
    *f = (struct forecast){.file = o->speeds, .threads = (int)o->threads};
    f->balance = (struct balance){.m = &i->plan.config,
                                  .precision = i->plan.precision,
                                  .chunk = USUAL_CHUNK,
                                  .halved = OVERLAP_AUTO_ROWS,
                                  .n_ranks = n_ranks};
    int status = parse_expect(o->expect, &f->balance.load);
    if (status || (!o->speeds && (n_ranks == 1 || i->gpu_memory)))
        return status;
    return forecast_speeds(f, memory);
}

/* Unless the user has said which experts stay at home: as many as the GPU has room for; and a
 * worker for the others. */
static int place(struct inspection *i, const struct inspect_options *o, struct arena *memory)
{
    struct placement_spec spec = o->placement;
    int n_ranks = (int)o->ranks;
    if (i->gpu_memory) {
        int home = gpu_home_most(&i->plan, i->gpu_memory);
        spec.text = spec.text ? spec.text : "even"; // all that fits is the GPU's
        bool by_rule = strcmp(spec.text, "even") == 0 || strcmp(spec.text, "round-robin") == 0;
        if (n_ranks == 1 && home < i->plan.config.n_experts)
            n_ranks = 2;
        if (by_rule && !spec.home_given)
            spec.home = home > 0 ? home : 0;
        i->home = by_rule ? (int)spec.home : -1;
    }
    i->rule = spec.text ? spec.text : "balanced";
    int status = forecast(i, o, n_ranks, memory);
    // the forecast always goes by speeds; a run places by them only where they matter
    struct balance balance = i->forecast.balance;
    if (!o->speeds && !rank_speed_matters(&i->plan.config, i->plan.precision))
        balance.speeds = NULL;
    spec.balance = &balance;
    if (!status)
        status = placement_build(&i->plan.placement, memory, &i->plan.config, n_ranks, &spec);
    if (!status && n_ranks > 1 && i->forecast.speeds)
        forecast_make(&i->forecast, &i->plan.placement, memory);
    return status;
}

static int inspect(const struct inspect_options *o, const char *dir, const char *name,
                   struct arena *memory)
{
    struct dtype_choice dtype = dtype_chosen(o->dtype, o->expert_dtype);
    struct config m;
    struct generation_defaults unused;
    struct inspection i = {.name = name};
    int status = parse_memory("--gpu-memory", o->gpu_memory, &i.gpu_memory);
    if (!status)
        status = config_load(&m, &unused, dir);
    if (status)
        return status;
    status = weight_files_look(&i.weights, dir, &m);
    struct precision p = {dtype.type < 0 ? m.dtype : (enum dtype)dtype.type,
                          i.weights.packed.matrices ? i.weights.packed.matrices : dtype.matrices,
                          i.weights.packed.blocks ? i.weights.packed.blocks : dtype.experts};
    memory_plan_open(&i.plan, &m, p, o->context ? (int)o->context : m.max_positions);
    if (i.weights.embed)
        i.plan.embed_bytes = i.weights.embed;
    if (!status)
        status = place(&i, o, memory);
    if (!status && o->emit)
        status = placement_write(&i.plan.placement, o->emit);
    if (status)
        return status;
    if (o->format == 0)
        inspect_print(&i, stdout);
    else
        inspect_print_json(&i, stdout);
    return 0;
}

int command_inspect(struct process *p, int argc, char **argv)
{
    struct inspect_options o = {.ranks = 1, .threads = 1};
    struct arena memory = {0};
    char *dir;
    (void)p;
    int status = parse(&o, argc, argv);
    if (status)
        return status == OPTIONS_HELP ? 0 : status;
    status = hub_resolve(&dir, o.model);
    if (status)
        return status;
    char *name = model_name(o.model);
    status = inspect(&o, dir, name, &memory);
    arena_free(&memory);
    free(name);
    free(dir);
    return status;
}
