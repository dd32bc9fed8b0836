/* Looks up models in the cache of Hugging Face (documentation of huggingface_hub, "Understand
 * caching"). The folder models--Org--Name has files refs/REVISION, each with the name of a commit,
 * and folders snapshots/COMMIT with links to the model's files. Nothing is downloaded. */
#include "model/hub.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "model/checkpoint.h"
#include "model/place.h"

enum { MAX_REF_BYTES = 256 };

/* A name that is looked up. */
struct hub_lookup {
    const char *model; // as the user wrote it
    char *name;        // Org/Model
    char *revision;
    char *folder; // <cache>/models--Org--Model
};

static bool is_directory(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static char *copy(const char *text)
{
    char *made = strdup(text);
    CHECK_MEMORY(made, "no memory for a name");
    return made;
}

/* The value of an environment variable, with "~" replaced by the home directory as the Python
 * library does; NULL if the variable is unset or empty. */
static char *from_environment(const char *variable)
{
    const char *value = getenv(variable), *home = getenv("HOME");
    if (!value || !*value)
        return NULL;
    bool tilde = value[0] == '~' && (value[1] == '/' || !value[1]);
    return tilde && home ? path_join(home, value[1] ? value + 2 : "") : copy(value);
}

/* path/tail, malloc'ed, and frees path; NULL if path is NULL. */
static char *extended(char *path, const char *tail)
{
    char *longer = path ? path_join(path, tail) : NULL;
    free(path);
    return longer;
}

char *hub_cache(void)
{
    char *path = from_environment("HF_HUB_CACHE");
    if (!path)
        path = from_environment("HUGGINGFACE_HUB_CACHE");
    if (!path)
        path = extended(from_environment("HF_HOME"), "hub");
    if (!path)
        path = extended(from_environment("XDG_CACHE_HOME"), "huggingface/hub");
    if (!path)
        path = extended(from_environment("HOME"), ".cache/huggingface/hub");
    return path ? path : copy("."); // there is no home directory, so there is no cache either
}

/* Is this a valid part of a name or revision? A part such as ".." could lead out of the cache's
 * folder, so it is not. */
static bool is_plain(const char *text, size_t bytes)
{
    if (bytes == 0 || bytes > 96 || text[0] == '.' || text[0] == '-')
        return false;
    for (size_t i = 0; i < bytes; i++)
        if (!isalnum((unsigned char)text[i]) && !strchr("-_.", text[i]))
            return false;
    return true;
}

/* Is the text valid parts, separated by slashes, and at most `most` of them? */
static bool is_path_of_plain(const char *text, int most)
{
    for (int parts = 1;; parts++) {
        size_t n = strcspn(text, "/");
        if (parts > most || !is_plain(text, n))
            return false;
        if (!text[n])
            return true;
        text += n + 1;
    }
}

static char *repository_folder(const char *name)
{
    char folder[256] = "models--"; // large enough: a name has at most 2 parts of 96 bytes
    size_t n = strlen(folder);
    for (const char *c = name; *c; c++)
        n += (size_t)snprintf(folder + n, sizeof folder - n, *c == '/' ? "--" : "%c", *c);
    return extended(hub_cache(), folder);
}

static int split_model(struct hub_lookup *r, const char *model)
{
    const char *at = strchr(model, '@');
    *r = (struct hub_lookup){.model = model};
    r->name = at ? strndup(model, (size_t)(at - model)) : copy(model);
    r->revision = copy(at ? at + 1 : "main");
    CHECK_MEMORY(r->name, "no memory for a name");
    if (!is_path_of_plain(r->name, 2) || !is_path_of_plain(r->revision, 4))
        return fail(STATUS_BAD_FILE,
                    "%s: expected a directory or a Hugging Face name (Org/Model[@revision]), "
                    "found no such directory",
                    model);
    r->folder = repository_folder(r->name);
    return 0;
}

/* Is Org/Model a name of the hub's, and not a path whose last part is misspelled? */
static bool is_hub_name(const char *name)
{
    const char *slash = strchr(name, '/');
    char *folder = slash ? strndup(name, (size_t)(slash - name)) : NULL;
    bool good = folder && !is_directory(folder);
    free(folder);
    return good;
}

static int not_found(const struct hub_lookup *r, const char *path)
{
    if (!is_hub_name(r->name))
        return fail(STATUS_BAD_FILE,
                    "%s: expected a directory, or a Hugging Face name (Org/Model) in the local "
                    "cache; found neither",
                    r->model);
    bool usual = strcmp(r->revision, "main") == 0;
    return fail(STATUS_BAD_FILE,
                "%s: expected a directory, or a model in the Hugging Face cache; found no %s: "
                "get it with: hf download %s%s%s",
                r->model, path, r->name, usual ? "" : " --revision ", usual ? "" : r->revision);
}

/* *commit := the commit that the file refs/REVISION names; without such a file, the revision itself
 * is taken as a commit. */
static int read_commit(const struct hub_lookup *r, char **commit)
{
    size_t bytes = 0;
    char *path = extended(path_join(r->folder, "refs"), r->revision), *text = NULL;
    int status = 0;
    if (!file_exists(path))
        text = copy(r->revision);
    else if (!(text = file_read(path, MAX_REF_BYTES, &bytes)))
        status = STATUS_BAD_FILE;
    else {
        text[strcspn(text, " \r\n")] = 0;
        if (!is_plain(text, strlen(text)))
            status = fail(STATUS_BAD_FILE, "%s: expected a commit, found \"%.60s\"", path, text);
    }
    free(path);
    if (status)
        free(text);
    else
        *commit = text;
    return status;
}

static int find_snapshot(char **dir, const struct hub_lookup *r)
{
    char *commit = NULL;
    int status = read_commit(r, &commit);
    if (status)
        return status;
    char *path = extended(path_join(r->folder, "snapshots"), commit);
    free(commit);
    if (is_directory(path)) {
        *dir = path;
        return 0;
    }
    status = not_found(r, is_directory(r->folder) ? path : r->folder);
    free(path);
    return status;
}

int hub_resolve(char **dir, const char *model)
{
    struct hub_lookup r;
    if (checkpoint_is_place(model)) {
        int bad = place_check(model);
        if (!bad)
            *dir = copy(model);
        return bad;
    }
    if (file_exists(model))
        return place_refuse_file(model);
    int status = split_model(&r, model);
    if (!status)
        status = find_snapshot(dir, &r);
    free(r.name);
    free(r.revision);
    free(r.folder);
    return status;
}
