#include "model/place.h"

#include <dirent.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"

enum { MAX_LISTED = 8 };

const char *place_other_form(const char *name)
{
    if (name_ends_in(name, ".gguf") || name_ends_in(name, ".ggml"))
        return "a GGUF file, which epmoe does not read: take the model's own repository, with "
               "config.json and safetensors";
    if (name_ends_in(name, ".bin") || name_ends_in(name, ".pt") || name_ends_in(name, ".pth") ||
        name_ends_in(name, ".ckpt"))
        return "weights that PyTorch has pickled, which epmoe does not read: save them with "
               "transformers' save_pretrained(DIR), which writes safetensors";
    return NULL;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names in a directory, sorted, for errors that are the same each time. free_names() later. */
static char **names_in(const char *dir, size_t *n)
{
    DIR *d = opendir(dir);
    char **names = NULL;
    *n = 0;
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.')
            continue;
        names = realloc(names, (*n + 1) * sizeof *names);
        char *name = strdup(e->d_name);
        CHECK_MEMORY(names && name, "no memory for the names in %s", dir);
        names[(*n)++] = name;
    }
    if (d)
        closedir(d);
    if (*n)
        qsort(names, *n, sizeof *names, by_name);
    return names;
}

static void free_names(char **names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(names[i]);
    free(names);
}

/* list := those of the names that are directories with a config.json; how many there are. */
static int list_models(const char *dir, char **names, size_t n, char *list, size_t size)
{
    int found = 0;
    size_t at = 0;
    list[0] = 0;
    for (size_t i = 0; i < n; i++) {
        char *path = path_join(dir, names[i]);
        if (file_exists_in(path, "config.json") && found++ < MAX_LISTED && at < size)
            at += (size_t)snprintf(list + at, size - at, "%s%s", at ? ", " : "", path);
        free(path);
    }
    return found;
}

static int check_weights(const char *dir, char **names, size_t n)
{
    int status = 0;
    for (size_t i = 0; i < n && !status; i++)
        if (place_other_form(names[i]))
            status = fail(STATUS_BAD_FILE,
                          "%s: expected a directory with config.json and safetensors, found %s, %s",
                          dir, names[i], place_other_form(names[i]));
    return status;
}

int place_check(const char *dir)
{
    size_t n;
    char list[512];
    if (file_exists_in(dir, "config.json") || file_exists_in(dir, "tokenizer.json") ||
        file_exists_in(dir, "vocab.json"))
        return 0;
    char **names = names_in(dir, &n);
    int status = check_weights(dir, names, n);
    int found = list_models(dir, names, n, list, sizeof list);
    free_names(names, n);
    if (status || !found)
        return status; // 0: the reader of the file that is missing says so
    return fail(STATUS_BAD_FILE,
                "%s: expected a model's directory, found one with %d below it: %s%s", dir, found,
                list, found > MAX_LISTED ? ", ..." : "");
}

int place_refuse_file(const char *path)
{
    char *copy = strdup(path);
    CHECK_MEMORY(copy, "no memory for a path");
    const char *form = place_other_form(path);
    bool part = name_ends_in(path, ".safetensors") || name_ends_in(path, ".json");
    int status =
        form ? fail(STATUS_BAD_FILE, "%s: expected a model's directory, found %s", path, form)
             : fail(STATUS_BAD_FILE, "%s: expected a model's directory, found a file%s%s", path,
                    part ? ": give the directory it is in, " : "", part ? dirname(copy) : "");
    free(copy);
    return status;
}
