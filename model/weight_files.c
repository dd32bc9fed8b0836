#include "model/weight_files.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "model/checkpoint.h"
#include "model/tensors.h"
#include "model/weights.h"

enum { MAX_INDEX_BYTES = 64 << 20 };

/* The files that an index names, each once. The index lists tensors, in any order. */
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
    CHECK_MEMORY(x->seen, "no memory for the names of files");
    x->seen[x->weights->files] = strdup(file);
    CHECK_MEMORY(x->seen[x->weights->files], "no memory for a name");
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

/* Count the files that there should be, and those of them that are missing. */
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
        if (t->fp8)
            w->fp8 = true;
        else if (t->is_float)
            w->types[t->type] = true;
    }
    for (int f = 0; f <= last; f++) {
        struct stat st;
        if (stat(checkpoint_file(c, f), &st) == 0)
            w->bytes += (uint64_t)st.st_size;
    }
}

int weight_files_look(struct weight_files *w, const char *dir, struct config *m)
{
    struct checkpoint *c = NULL;
    int status = count_files(w, dir);
    if (status || w->missing)
        return status;
    status = checkpoint_open(&c, dir);
    if (!status)
        status = weights_check(m, c);
    if (!status) {
        struct tensor_spec embed = tensor_spec(m, TENSOR_EMBED, 0, 0);
        w->embed = checkpoint_find(c, embed.name)->bytes;
        w->packed = checkpoint_packed(c);
        read_tensors(w, c);
    }
    checkpoint_close(c);
    return status;
}
