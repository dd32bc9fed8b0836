/* epmoe inspect: what is in a model, what it needs, and who would hold what. Reads config.json and
 * the headers of the weights; works from config.json alone. */
#include "launch/inspect.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "launch/launch.h"
#include "model/checkpoint.h"
#include "model/hub.h"
#include "model/weights.h"

enum { MAX_INDEX_BYTES = 64 << 20 };

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
        {"placement", 0, OPTION_TEXT, &o->placement.text, "even|round-robin|FILE",
         "which rank holds which expert (even); docs/placement.md", 0, 0, NULL},
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

/* The files that an index names, each once: its tensors come in any order. */
struct index_files {
    const char *dir;
    struct weight_files *weights;
    char **seen;
};

static void count_file(void *context, const char *tensor, const char *file)
{
    struct index_files *x = context;
    (void)tensor;
    for (int i = 0; i < x->weights->files; i++)
        if (strcmp(x->seen[i], file) == 0)
            return;
    char *path = path_join(x->dir, file);
    x->seen = realloc(x->seen, (size_t)(x->weights->files + 1) * sizeof *x->seen);
    CHECK(x->seen, "no memory for the names of files");
    x->seen[x->weights->files] = strdup(file);
    CHECK(x->seen[x->weights->files], "no memory for a name");
    x->weights->files++;
    x->weights->missing += !file_exists(path);
    free(path);
}

static int count_index(struct weight_files *w, const char *dir, const char *index)
{
    struct index_files x = {dir, w, NULL};
    size_t bytes;
    char *text = file_read(index, MAX_INDEX_BYTES, &bytes);
    if (!text)
        return STATUS_BAD_FILE;
    int status = safetensors_parse_index(text, bytes, index, count_file, &x);
    for (int i = 0; i < w->files; i++)
        free(x.seen[i]);
    free(x.seen);
    free(text);
    return status;
}

/* How many files there should be, and how many of them are not here. */
static int count_files(struct weight_files *w, const char *dir)
{
    char *single = path_join(dir, "model.safetensors");
    char *index = path_join(dir, "model.safetensors.index.json");
    int status = 0;
    if (file_exists(single) || !file_exists(index))
        *w = (struct weight_files){.files = 1, .missing = !file_exists(single)};
    else
        status = count_index(w, dir, index);
    free(single);
    free(index);
    return status;
}

static void read_tensors(struct weight_files *w, const struct checkpoint *c)
{
    int last = -1;
    for (size_t i = 0; i < checkpoint_count(c); i++) {
        const struct tensor *t = checkpoint_at(c, i);
        last = t->file > last ? t->file : last;
        if (t->is_float)
            w->types[t->type] = true;
    }
    for (int f = 0; f <= last; f++) {
        struct stat st;
        if (stat(checkpoint_file(c, f), &st) == 0)
            w->bytes += (uint64_t)st.st_size;
    }
}

/* Sets embed_bytes, too: the embedding is used as it lies in the file. */
static int look_at_weights(struct inspection *i, const char *dir)
{
    struct checkpoint *c = NULL;
    const struct config *m = &i->config;
    i->embed_bytes = i->sizes.embed * (uint64_t)dtype_bytes(m->dtype);
    int status = count_files(&i->weights, dir);
    if (status || i->weights.missing)
        return status;
    status = checkpoint_open(&c, dir);
    if (!status)
        status = weights_check(m, c);
    if (!status) {
        read_tensors(&i->weights, c);
        i->embed_bytes = checkpoint_find(c, "model.embed_tokens.weight")->bytes;
    }
    checkpoint_close(c);
    return status;
}

uint64_t rest_bytes(const struct inspection *i)
{
    const struct footprint *f = &i->footprint;
    return f->attention + f->router + f->dense + f->unembed + i->embed_bytes + i->kv_bytes;
}

struct rank_share share_of(const struct inspection *i, int rank)
{
    struct rank_share s = {.holding = placement_holding(&i->placement, rank)};
    s.experts = (uint64_t)s.holding.experts * i->footprint.expert;
    s.rest = rank == 0 ? rest_bytes(i) : 0;
    s.bytes = s.experts + s.rest;
    return s;
}

uint64_t bytes_of_all(const struct inspection *i)
{
    uint64_t sum = 0;
    for (int rank = 0; rank < i->placement.n_ranks; rank++)
        sum += share_of(i, rank).bytes;
    return sum;
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

/* Unless the user has said which experts stay at home: as many as the GPU has room for; and a
 * worker for the others. */
static int place(struct inspection *i, const struct inspect_options *o, struct arena *memory)
{
    struct placement_spec spec = o->placement;
    int n_ranks = (int)o->ranks;
    if (i->gpu_memory) {
        int home = gpu_home_most(i);
        bool by_rule =
            !spec.text || strcmp(spec.text, "even") == 0 || strcmp(spec.text, "round-robin") == 0;
        if (n_ranks == 1 && home < i->config.n_experts)
            n_ranks = 2;
        if (by_rule && !spec.home_given)
            spec.home = home > 0 ? home : 0;
    }
    return placement_build(&i->placement, memory, &i->config, n_ranks, &spec);
}

static int inspect(const struct inspect_options *o, const char *dir, const char *name,
                   struct arena *memory)
{
    static const int types[] = {-1, DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    struct generation_defaults unused;
    struct inspection i = {.name = name, .rule = o->placement.text ? o->placement.text : "even"};
    int status = parse_memory("--gpu-memory", o->gpu_memory, &i.gpu_memory);
    if (!status)
        status = config_load(&i.config, &unused, dir);
    if (status)
        return status;
    i.type = o->dtype ? (enum dtype)types[o->dtype] : i.config.dtype;
    i.context = o->context ? (int)o->context : i.config.max_positions;
    i.sizes = sizes_of(&i.config);
    i.footprint = footprint_of(&i.config, i.type);
    i.kv_bytes = kv_footprint(&i.config, i.type, i.context);
    status = look_at_weights(&i, dir);
    if (!status)
        status = place(&i, o, memory);
    if (!status && o->emit)
        status = placement_write(&i.placement, o->emit);
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
