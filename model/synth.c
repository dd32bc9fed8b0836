/* Writes a synthetic checkpoint: data files, their index, generation_config.json, and config.json
 * last, so that a directory that is not complete is not taken for a model. */
#include "model/synth.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/progress.h"
#include "model/model_out.h"
#include "model/synth_fill.h"
#include "model/synth_plan.h"

enum { CHUNK_BYTES = 1 << 20, MAX_NAME = 64 };

struct synth {
    const struct synth_options *options;
    struct synth_plan plan;
    struct noise noise;
    char *chunk; // [CHUNK_BYTES]
    struct progress progress;
    uint64_t done; // bytes written
    bool made_dir;
};

static int create(const struct synth *s, struct outfile *f, const char *name)
{
    char *path = path_join(s->options->dir, name);
    int status = outfile_open(f, path);
    free(path);
    return status;
}

static int write_json(const struct synth *s, const char *name, const struct js *value)
{
    struct outfile f;
    int status = create(s, &f, name);
    if (status)
        return status;
    js_print(value, f.stream, 2); // outfile_commit() reports errors of the stream
    return outfile_commit(&f);
}

static void shard_name(char *out, int file, int n_files)
{
    if (n_files == 1)
        snprintf(out, MAX_NAME, "model.safetensors");
    else
        snprintf(out, MAX_NAME, "model-%05d-of-%05d.safetensors", file + 1, n_files);
}

static struct js *array_of(size_t n, const int64_t *values)
{
    struct js *array = js_new_array();
    for (size_t i = 0; i < n; i++)
        js_push(array, js_new_int(values[i]));
    return array;
}

static struct js *header_json(const struct synth_plan *p, int file)
{
    static const char *const types[] = {"F32", "F16", "BF16"};
    struct js *root = js_new_object(), *metadata = js_new_object();
    int64_t range[2] = {0, 0};
    js_set(metadata, "format", js_new_string("pt", 2)); // transformers requires it
    js_set(root, "__metadata__", metadata);
    for (size_t i = 0; i < p->count; i++) {
        const struct synth_tensor *t = &p->tensors[i];
        if (t->file != file)
            continue;
        struct js *facts = js_new_object();
        range[1] = range[0] + (int64_t)t->bytes;
        js_set(facts, "dtype", js_new_string(types[p->type], strlen(types[p->type])));
        js_set(facts, "shape", array_of((size_t)t->n_dims, t->shape));
        js_set(facts, "data_offsets", array_of(2, range));
        js_set(root, t->name, facts);
        range[0] = range[1];
    }
    return root;
}

bool synth_is_ones(const char *tensor)
{
    return strstr(tensor, "norm.weight") != NULL;
}

uint64_t synth_key(uint64_t seed, const char *tensor)
{
    return hash_bytes(hash_mix(seed), tensor, strlen(tensor));
}

void synth_fill(const struct noise *n, uint64_t seed, const char *tensor, uint64_t first,
                size_t count, void *out)
{
    if (!synth_is_ones(tensor)) {
        noise_fill(n, synth_key(seed, tensor), first, count, out);
        return;
    }
    for (size_t i = 0; i < count; i++)
        dtype_store(n->type, out, i, 1);
}

static bool write_tensor(struct synth *s, struct outfile *f, const struct synth_tensor *t)
{
    enum dtype type = s->plan.type;
    for (uint64_t first = 0; first < t->bytes; first += CHUNK_BYTES) {
        size_t bytes = t->bytes - first < CHUNK_BYTES ? (size_t)(t->bytes - first) : CHUNK_BYTES;
        size_t width = (size_t)dtype_bytes(type), count = bytes / width;
        synth_fill(&s->noise, s->options->seed, t->name, first / width, count, s->chunk);
        if (fwrite(s->chunk, 1, bytes, f->stream) != bytes)
            return false;
        s->done += bytes;
        progress_update(&s->progress, (double)s->done);
    }
    return true;
}

static int write_shard(struct synth *s, int file)
{
    struct outfile f;
    char name[MAX_NAME];
    bool good = true;
    shard_name(name, file, s->plan.n_files);
    int status = create(s, &f, name);
    if (status)
        return status;
    struct js *header = header_json(&s->plan, file);
    model_write_header(f.stream, header);
    js_free(header);
    for (size_t i = 0; i < s->plan.count && good; i++)
        if (s->plan.tensors[i].file == file)
            good = write_tensor(s, &f, &s->plan.tensors[i]);
    return outfile_commit(&f); // reports errors of the stream
}

static int write_index(struct synth *s)
{
    char name[MAX_NAME];
    struct js *root = js_new_object(), *metadata = js_new_object(), *map = js_new_object();
    js_set(metadata, "total_parameters", js_new_int((int64_t)s->plan.elements));
    js_set(metadata, "total_size", js_new_int((int64_t)s->plan.bytes));
    for (size_t i = 0; i < s->plan.count; i++) {
        shard_name(name, s->plan.tensors[i].file, s->plan.n_files);
        js_set(map, s->plan.tensors[i].name, js_new_text(name));
    }
    js_set(root, "metadata", metadata);
    js_set(root, "weight_map", map);
    int status = write_json(s, "model.safetensors.index.json", root);
    js_free(root);
    return status;
}

static int write_files(struct synth *s)
{
    int status = 0;
    for (int file = 0; file < s->plan.n_files && !status; file++)
        status = write_shard(s, file);
    if (!status && s->plan.n_files > 1)
        status = write_index(s);
    if (!status)
        status = write_json(s, "generation_config.json", s->plan.generation);
    return status ? status : write_json(s, "config.json", s->plan.config);
}

static int write_checkpoint(struct synth *s)
{
    int status = model_directory_open(s->options->dir, (double)s->plan.bytes, &s->made_dir);
    outfiles_begin(s->made_dir ? s->options->dir : NULL);
    s->chunk = malloc(CHUNK_BYTES);
    CHECK_MEMORY(s->chunk, "no memory for a chunk");
    noise_build(&s->noise, s->plan.type, SYNTH_DEVIATION);
    progress_open(&s->progress, "writing", "GB", (double)s->plan.bytes * 1e-9, 1e9);
    if (!status)
        status = write_files(s);
    progress_close(&s->progress);
    if (outfiles_end(status == 0) > 0)
        warn("%s: removed what had been written", s->options->dir);
    free(s->chunk);
    return status;
}

int synth_write(const struct synth_options *o)
{
    struct synth *s = calloc(1, sizeof *s); // the table of noise in it is too large for the stack
    CHECK_MEMORY(s, "no memory for a plan");
    s->options = o;
    int status = synth_plan_open(&s->plan, o);
    if (!status) {
        status = write_checkpoint(s);
        synth_plan_close(&s->plan);
    }
    free(s);
    return status;
}
