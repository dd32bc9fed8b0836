/* epmoe inspect: prints what is in a model, how much memory it needs, and which rank would hold
 * what. It reads config.json and the headers of the weights; config.json alone is enough. */
#include "launch/inspect.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "launch/launch.h"
#include "model/hub.h"

struct inspect_options {
    const char *model, *emit, *gpu_memory;
    long ranks, context;
    int dtype, format;
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
        {"emit", 0, OPTION_TEXT, &o->emit, "FILE", "write the placement, to be edited and used", 0,
         0, NULL},
        {"dtype", 0, OPTION_CHOICE, &o->dtype, "auto|f32|f16|bf16",
         "type of weights and KV cache (auto: the checkpoint's)", 0, 0, NULL},
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
    CHECK(name, "no memory for a name");
    free(real);
    return name;
}

/* Place the experts. Unless the user has said how many rank 0 holds, it holds as many as its GPU
 * has room for, and a worker holds the others. */
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
    }
    return placement_build(&i->plan.placement, memory, &i->plan.config, n_ranks, &spec);
}

static int inspect(const struct inspect_options *o, const char *dir, const char *name,
                   struct arena *memory)
{
    static const int types[] = {-1, DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    struct config m;
    struct generation_defaults unused;
    struct inspection i = {.name = name,
                           .rule = o->placement.text ? o->placement.text : "balanced"};
    int status = parse_memory("--gpu-memory", o->gpu_memory, &i.gpu_memory);
    if (!status)
        status = config_load(&m, &unused, dir);
    if (status)
        return status;
    memory_plan_open(&i.plan, &m, o->dtype ? (enum dtype)types[o->dtype] : m.dtype,
                     o->context ? (int)o->context : m.max_positions);
    status = weight_files_look(&i.weights, dir, &m);
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
    struct inspect_options o = {.ranks = 1};
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
