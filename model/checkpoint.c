/* The files of a checkpoint directory, and one list of all their tensors. Opening reads headers
 * only. The files stay open, so that the files that were checked are those that are mapped later.
 */
#include "model/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "model/checkpoint_fp8.h"
#include "model/packed.h"
#include "model/place.h"
#include "model/synth_made.h"

#define SINGLE "model.safetensors"
#define INDEX  "model.safetensors.index.json"

enum { MAX_SHARDS = 512, PREFIX_BYTES = 8 };
enum { MAX_INDEX_BYTES = 100000000, MAX_CONFIG_BYTES = 16 << 20 };

struct shard_file {
    const char *path, *name;
    int fd;
    uint64_t bytes;
};

struct index_entry {
    const char *tensor, *file;
};

struct checkpoint {
    struct arena memory;
    const char *dir;
    struct shard_file *shards; // [n_shards]; the first n_open are open
    int n_shards, n_open;
    struct tensor *tensors; // sorted by name
    size_t n_tensors, room;
    struct index_entry *index; // in the order of the index file; NULL: there is a single file
    size_t n_index, index_room;
    struct packed_kind packed;
    struct synth_made *made; // of a synthetic model; NULL: the tensors are in files
};

static void *grown(void *array, size_t count, size_t *room, size_t item_bytes)
{
    if (count < *room)
        return array;
    *room = *room ? *room * 2 : 256;
    void *larger = realloc(array, *room * item_bytes);
    CHECK_MEMORY(larger, "no memory for %zu entries", *room);
    return larger;
}

static bool read_at(const struct shard_file *s, void *out, size_t bytes, uint64_t offset)
{
    char *at = out;
    errno = 0; // remains 0 if the file ends early
    while (bytes > 0) {
        ssize_t n = pread(s->fd, at, bytes, (off_t)offset);
        if (n <= 0 && !(n < 0 && errno == EINTR))
            return false;
        if (n > 0) {
            at += n;
            bytes -= (size_t)n;
            offset += (uint64_t)n;
        }
    }
    return true;
}

static int unreadable(const struct shard_file *s)
{
    return fail(STATUS_BAD_FILE, "%s: cannot be read: %s", s->path,
                errno ? strerror(errno) : "it ends early");
}

static int open_shard(struct checkpoint *c, struct shard_file *s)
{
    struct stat st;
    char *path = path_join(c->dir, s->name);
    s->path = arena_strdup(&c->memory, path);
    free(path);
    s->fd = open(s->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // a pipe must not make us wait
    if (s->fd < 0)
        return errno == ENOENT && c->index
                   ? fail(STATUS_BAD_FILE, "%s: expected a file (%s names it), found none", s->path,
                          INDEX)
                   : unreadable(s);
    c->n_open++;
    if (fstat(s->fd, &st) != 0)
        return unreadable(s);
    if (!S_ISREG(st.st_mode))
        return fail(STATUS_BAD_FILE, "%s: expected a plain file, found %s", s->path,
                    S_ISDIR(st.st_mode) ? "a directory" : "a device or pipe");
    s->bytes = (uint64_t)st.st_size;
    return 0;
}

static void add_tensor(void *context, const struct tensor *t)
{
    struct checkpoint *c = context;
    c->tensors = grown(c->tensors, c->n_tensors, &c->room, sizeof *c->tensors);
    struct tensor *copy = &c->tensors[c->n_tensors++];
    *copy = *t;
    copy->name = arena_strdup(&c->memory, t->name);
    copy->file = c->n_open - 1;
}

static int read_header(struct checkpoint *c, const struct shard_file *s)
{
    char start[64];
    size_t bytes = 0, have = s->bytes < sizeof start ? (size_t)s->bytes : sizeof start;
    if (!read_at(s, start, have, 0))
        return unreadable(s);
    int status = safetensors_prefix(start, have, s->bytes, s->path, &bytes);
    if (status)
        return status;
    char *text = malloc(bytes + 1);
    CHECK_MEMORY(text, "no memory for %zu bytes", bytes);
    if (!read_at(s, text, bytes, PREFIX_BYTES))
        status = unreadable(s);
    else if (!(status = safetensors_parse(text, bytes, s->bytes, s->path, add_tensor, c)))
        status = packed_read(&c->packed, text, bytes, s->path);
    free(text);
    return status;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void add_index_entry(void *context, const char *tensor, const char *file)
{
    struct checkpoint *c = context;
    c->index = grown(c->index, c->n_index, &c->index_room, sizeof *c->index);
    c->index[c->n_index++] =
        (struct index_entry){arena_strdup(&c->memory, tensor), arena_strdup(&c->memory, file)};
}

/* List the files that the index names, each once, in order. */
static int list_shards(struct checkpoint *c, const char *path)
{
    const char **names = calloc(c->n_index, sizeof *names);
    CHECK_MEMORY(names, "no memory for %zu names", c->n_index);
    int n = 0, status = 0;
    for (size_t i = 0; i < c->n_index; i++)
        names[i] = c->index[i].file;
    qsort(names, c->n_index, sizeof *names, by_text);
    for (size_t i = 0; i < c->n_index && !status; i++) {
        if (n > 0 && strcmp(c->shards[n - 1].name, names[i]) == 0)
            continue;
        if (n == MAX_SHARDS)
            status = fail(STATUS_BAD_FILE, "%s: weight_map: expected at most %d files, found more",
                          path, MAX_SHARDS);
        else
            c->shards[n++].name = names[i];
    }
    c->n_shards = n;
    free(names);
    return status;
}

static int read_index(struct checkpoint *c, const char *path)
{
    size_t bytes;
    char *text = file_read(path, MAX_INDEX_BYTES, &bytes);
    if (!text)
        return STATUS_BAD_FILE;
    int status = safetensors_parse_index(text, bytes, path, add_index_entry, c);
    free(text);
    return status ? status : list_shards(c, path);
}

/* out := weights in another format that the directory holds, and what to do with them: "name (what
 * to do)"; "" if there are none. */
static void other_weights(const char *dir, char *out, size_t size)
{
    static const char *const kinds[][2] = {
        {".safetensors", "not a whole checkpoint, and no index says of what"},
        {".safetensors.incomplete", "an unfinished download"},
    };
    DIR *d = opendir(dir);
    out[0] = 0;
    for (struct dirent *e; d && !out[0] && (e = readdir(d));) {
        if (place_other_form(e->d_name))
            snprintf(out, size, "%s, %s", e->d_name, place_other_form(e->d_name));
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds && !out[0]; i++)
            if (name_ends_in(e->d_name, kinds[i][0]))
                snprintf(out, size, "%s (%s)", e->d_name, kinds[i][1]);
    }
    if (d)
        closedir(d);
}

static int no_weights(const char *dir)
{
    struct stat st;
    char other[400];
    if (stat(dir, &st) != 0)
        return fail(STATUS_BAD_FILE, "%s: expected a model's directory, found none: %s", dir,
                    strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return fail(STATUS_BAD_FILE, "%s: expected a model's directory, found a file", dir);
    other_weights(dir, other, sizeof other);
    return fail(STATUS_BAD_FILE, "%s: expected %s or %s, found %s", dir, SINGLE, INDEX,
                other[0] ? other : "neither");
}

/* If there is a single file and an index, the single file is taken, as transformers does. */
static int find_shards(struct checkpoint *c)
{
    int status = 0;
    c->shards = calloc(MAX_SHARDS, sizeof *c->shards);
    CHECK_MEMORY(c->shards, "no memory for %d files", MAX_SHARDS);
    if (file_exists_in(c->dir, SINGLE)) {
        c->shards[0].name = SINGLE;
        c->n_shards = 1;
    } else if (file_exists_in(c->dir, INDEX)) {
        char *path = path_join(c->dir, INDEX);
        status = read_index(c, path);
        free(path);
    } else
        status = no_weights(c->dir);
    return status;
}

static int by_name(const void *a, const void *b)
{
    const struct tensor *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : x->file - y->file;
}

static int check_unique(const struct checkpoint *c)
{
    for (size_t i = 1; i < c->n_tensors; i++) {
        const struct tensor *a = &c->tensors[i - 1], *b = &c->tensors[i];
        if (strcmp(a->name, b->name) == 0)
            return fail(STATUS_BAD_FILE, "%s: tensor \"%s\": expected in one file, found in %s too",
                        c->shards[b->file].path, b->name, c->shards[a->file].name);
    }
    return 0;
}

/* The headers say which tensors there are. An index that says something else is of no consequence:
 * a tensor that a model needs and that no file has is refused by its name (checkpoint_need). */
static void note_index(const struct checkpoint *c)
{
    for (size_t i = 0; i < c->n_index; i++) {
        const struct index_entry *e = &c->index[i];
        const struct tensor *t = checkpoint_find(c, e->tensor);
        const char *found = t ? c->shards[t->file].name : "no file";
        if (!t || strcmp(found, e->file) != 0)
            note("%s/%s: weight_map: tensor \"%s\": expected in %s, found in %s", c->dir, INDEX,
                 e->tensor, e->file, found);
    }
}

static int read_all(struct checkpoint *c)
{
    int status = find_shards(c);
    for (int i = 0; i < c->n_shards && !status; i++) {
        status = open_shard(c, &c->shards[i]);
        if (!status)
            status = read_header(c, &c->shards[i]);
    }
    if (status)
        return status;
    if (c->n_tensors)
        qsort(c->tensors, c->n_tensors, sizeof *c->tensors, by_name);
    status = check_unique(c);
    if (!status)
        note_index(c);
    return status ? status : fp8_pair(c->tensors, c->n_tensors, c->dir, &c->memory);
}

/* Make the tensors of a synthetic model. They are listed as if they were in one file. */
static int make_all(struct checkpoint *c)
{
    int status = synth_made_open(&c->made, c->dir);
    if (status)
        return status;
    const struct synth_plan *p = synth_made_plan(c->made);
    c->shards = calloc(1, sizeof *c->shards);
    CHECK_MEMORY(c->shards, "no memory for a file");
    c->shards[0].path = c->shards[0].name = c->dir;
    for (size_t i = 0; i < p->count; i++) {
        const struct synth_tensor *made = &p->tensors[i];
        struct tensor t = {.name = made->name,
                           .type = p->type,
                           .is_float = 1,
                           .type_name = "BF16",
                           .n_dims = made->n_dims,
                           .shape = {made->shape[0], made->shape[1]},
                           .bytes = made->bytes};
        add_tensor(c, &t);
        c->tensors[i].file = 0;
    }
    qsort(c->tensors, c->n_tensors, sizeof *c->tensors, by_name);
    return 0;
}

int checkpoint_open(struct checkpoint **out, const char *dir)
{
    struct checkpoint *c = calloc(1, sizeof *c);
    CHECK_MEMORY(c, "no memory for a checkpoint");
    c->dir = arena_strdup(&c->memory, dir);
    int status = synth_is_made(dir) ? make_all(c) : read_all(c);
    if (status)
        checkpoint_close(c);
    else
        *out = c;
    return status;
}

void checkpoint_close(struct checkpoint *c)
{
    if (!c)
        return;
    for (int i = 0; i < c->n_open; i++)
        close(c->shards[i].fd);
    synth_made_close(c->made);
    free(c->shards);
    free(c->tensors);
    free(c->index);
    arena_free(&c->memory);
    free(c);
}

const struct tensor *checkpoint_find(const struct checkpoint *c, const char *name)
{
    size_t low = 0, high = c->n_tensors;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(name, c->tensors[middle].name);
        if (order == 0)
            return &c->tensors[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

size_t checkpoint_count(const struct checkpoint *c)
{
    return c->n_tensors;
}

const struct tensor *checkpoint_at(const struct checkpoint *c, size_t i)
{
    return &c->tensors[i];
}

const char *checkpoint_file(const struct checkpoint *c, int file)
{
    return c->shards[file].path;
}

const char *checkpoint_dir(const struct checkpoint *c)
{
    return c->dir;
}

struct packed_kind checkpoint_packed(const struct checkpoint *c)
{
    return c->packed;
}

bool checkpoint_is_place(const char *dir)
{
    struct stat st;
    return synth_is_made(dir) || (stat(dir, &st) == 0 && S_ISDIR(st.st_mode));
}

char *checkpoint_config(const char *dir, size_t *bytes)
{
    if (synth_is_made(dir))
        return synth_made_config(dir, bytes);
    char *path = path_join(dir, "config.json");
    char *text = file_read(path, MAX_CONFIG_BYTES, bytes);
    free(path);
    return text;
}

int checkpoint_read(const struct checkpoint *c, const struct tensor *t, uint64_t first,
                    size_t bytes, void *out)
{
    CHECK(first <= t->bytes && bytes <= t->bytes - first, "range beyond tensor %s", t->name);
    const struct shard_file *s = &c->shards[t->file];
    if (c->made) {
        synth_made_fill(c->made, t->name, first, bytes, out);
        return 0;
    }
    if (t->fp8)
        return fp8_read(c, t, first, bytes, out);
    return read_at(s, out, bytes, t->offset + first) ? 0 : unreadable(s);
}

/* Check that the file still has its size: reading a mapped page beyond the end of its file raises a
 * signal, which is no error that could be reported. */
static int check_unchanged(const struct shard_file *s)
{
    struct stat st;
    if (fstat(s->fd, &st) != 0)
        return unreadable(s);
    if ((uint64_t)st.st_size != s->bytes)
        return fail(STATUS_BAD_FILE, "%s: expected %" PRIu64 " bytes as before, found %lld",
                    s->path, s->bytes, (long long)st.st_size);
    return 0;
}

static int unmappable(const struct checkpoint *c, const struct tensor *t)
{
    return fail(STATUS_BAD_FILE, "%s: tensor \"%s\": cannot be mapped: %s", c->shards[t->file].path,
                t->name, strerror(errno));
}

/* Instead of mapping a file, allocate memory and fill it: with the bytes that a file of a synthetic
 * model would have, or with what values in fp8 are read as. */
static int mapping_make(struct mapping *m, const struct checkpoint *c, const struct tensor *t,
                        uint64_t first, uint64_t bytes)
{
    size_t size = (size_t)bytes;
    void *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return unmappable(c, t);
    madvise(base, size, MADV_HUGEPAGE); // may fail: without huge pages it is only slower
    *m = (struct mapping){.data = base, .base = base, .size = size};
    int status = checkpoint_read(c, t, first, size, base);
    if (status)
        mapping_close(m);
    return status;
}

int mapping_open(struct mapping *m, const struct checkpoint *c, const struct tensor *t,
                 uint64_t first, uint64_t bytes)
{
    CHECK(first <= t->bytes && bytes <= t->bytes - first, "range beyond tensor %s", t->name);
    const struct shard_file *s = &c->shards[t->file];
    if (bytes == 0) {
        *m = (struct mapping){.data = ""};
        return 0;
    }
    if (c->made || t->fp8)
        return mapping_make(m, c, t, first, bytes);
    int status = check_unchanged(s);
    if (status)
        return status;
    uint64_t at = t->offset + first, slack = at % (uint64_t)sysconf(_SC_PAGESIZE);
    size_t size = (size_t)(bytes + slack);
    void *base = mmap(NULL, size, PROT_READ, MAP_PRIVATE, s->fd, (off_t)(at - slack));
    if (base == MAP_FAILED)
        return unmappable(c, t);
    madvise(base, size, MADV_SEQUENTIAL); // if one of the two fails, reading is only slower
    madvise(base, size, MADV_WILLNEED);
    *m = (struct mapping){.data = (char *)base + slack, .base = base, .size = size};
    return 0;
}

int mapping_values(struct mapping *m, struct values *v, const struct checkpoint *c,
                   const struct tensor *t, uint64_t first, uint64_t bytes)
{
    *m = (struct mapping){0};
    if (c->made && synth_made_values(c->made, t->name, first, v))
        return 0;
    int status = mapping_open(m, c, t, first, bytes);
    *v = (struct values){.type = t->type, .data = m->data};
    return status;
}

void mapping_close(struct mapping *m)
{
    if (m->base)
        munmap(m->base, m->size);
    *m = (struct mapping){0};
}
