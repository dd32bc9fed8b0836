/* A placement as a JSON file: {"ranks": 5, "layers": [[a rank for each expert], …, null, …]}, or
 * {"ranks": 5, "experts": [a rank for each expert of every sparse layer]}. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "model/found.h"
#include "model/placement.h"

enum { MAX_RANKS = 1 << 16, KEY_BYTES = 64 };

struct reader {
    const char *file;
    const struct config *m;
    int ranks;        // that the file is for
    int32_t *rank_of; // [n_layers][n_experts], -1 in dense layers
};

static int check_keys(const struct reader *r, const struct js *root)
{
    if (!js_is_object(root))
        return fail(STATUS_BAD_FILE, "%s: expected an object with ranks and layers, found %s",
                    r->file, found(root).text);
    for (struct js_entry e = js_first(root); e.key; e = js_next(root, e))
        if (strcmp(e.key, "ranks") != 0 && strcmp(e.key, "layers") != 0 &&
            strcmp(e.key, "experts") != 0)
            return fail(STATUS_BAD_FILE,
                        "%s: expected the keys ranks and layers or experts, found \"%.40s\"",
                        r->file, e.key);
    bool layers = js_member(root, "layers"), experts = js_member(root, "experts");
    if (layers == experts)
        return fail(STATUS_BAD_FILE, "%s: expected either layers or experts, found %s", r->file,
                    layers ? "both" : "neither");
    return 0;
}

static int read_ranks(struct reader *r, const struct js *v)
{
    if (!js_is_int(v) || js_int(v) < 1 || js_int(v) > MAX_RANKS)
        return fail(STATUS_BAD_FILE, "%s: ranks: expected a whole number from 1 to %d, found %s",
                    r->file, MAX_RANKS, found(v).text);
    r->ranks = (int)js_int(v);
    return 0;
}

/* A rank for each expert of one layer; `key` is where in the file. */
static int read_experts(const struct reader *r, int32_t *rank_of, const struct js *list,
                        const char *key)
{
    size_t n = (size_t)r->m->n_experts;
    if (!js_is_array(list))
        return fail(STATUS_BAD_FILE, "%s: %s: expected a list of %zu ranks, found %s", r->file, key,
                    n, found(list).text);
    if (js_count(list) != n)
        return fail(STATUS_BAD_FILE,
                    "%s: %s: expected a rank for each of %zu experts, found %zu ranks", r->file,
                    key, n, js_count(list));
    for (size_t e = 0; e < n; e++) {
        const struct js *v = js_item(list, e);
        if (!js_is_int(v) || js_int(v) < 0 || js_int(v) >= r->ranks)
            return fail(STATUS_BAD_FILE, "%s: %s[%zu]: expected a rank from 0 to %d, found %s",
                        r->file, key, e, r->ranks - 1, found(v).text);
        rank_of[e] = (int32_t)js_int(v);
    }
    return 0;
}

static int read_layer(const struct reader *r, int layer, const struct js *v)
{
    char key[KEY_BYTES];
    snprintf(key, sizeof key, "layers[%d]", layer);
    int32_t *rank_of = r->rank_of + (size_t)layer * (size_t)r->m->n_experts;
    if (r->m->sparse[layer])
        return read_experts(r, rank_of, v, key);
    if (!js_is_null(v))
        return fail(STATUS_BAD_FILE, "%s: %s: expected null for a dense layer, found %s", r->file,
                    key, found(v).text);
    return 0;
}

static int read_layers(const struct reader *r, const struct js *list)
{
    int n = r->m->n_layers, status = 0;
    if (!js_is_array(list))
        return fail(STATUS_BAD_FILE, "%s: layers: expected a list of %d layers, found %s", r->file,
                    n, found(list).text);
    if (js_count(list) != (size_t)n)
        return fail(STATUS_BAD_FILE, "%s: layers: expected one for each of %d layers, found %zu",
                    r->file, n, js_count(list));
    for (int l = 0; l < n && !status; l++)
        status = read_layer(r, l, js_item(list, (size_t)l));
    return status;
}

/* One list for all sparse layers. */
static int read_same(const struct reader *r, const struct js *list)
{
    int status = 0;
    for (int l = 0; l < r->m->n_layers && !status; l++)
        if (r->m->sparse[l])
            status =
                read_experts(r, r->rank_of + (size_t)l * (size_t)r->m->n_experts, list, "experts");
    return status;
}

/* What stays at home fits a run of any size; all else only the size that it was made for. */
static int check_fit(const struct reader *r, int n_ranks)
{
    size_t cells = (size_t)r->m->n_layers * (size_t)r->m->n_experts;
    bool leaves_home = false;
    for (size_t i = 0; i < cells; i++)
        leaves_home |= r->rank_of[i] > 0;
    if (leaves_home && r->ranks != n_ranks)
        return fail(STATUS_BAD_FILE, "%s: ranks: expected %d, as many as this run has, found %d",
                    r->file, n_ranks, r->ranks);
    return 0;
}

static int read_file(struct reader *r, const struct js *root)
{
    int status = check_keys(r, root);
    if (!status)
        status = read_ranks(r, js_member(root, "ranks"));
    if (status)
        return status;
    const struct js *layers = js_member(root, "layers");
    return layers ? read_layers(r, layers) : read_same(r, js_member(root, "experts"));
}

int placement_parse(struct placement *p, struct arena *memory, const struct config *m, int n_ranks,
                    const char *text, size_t bytes, const char *name)
{
    struct arena scratch = {0};
    size_t cells = (size_t)m->n_layers * (size_t)m->n_experts;
    struct reader r = {.file = name, .m = m};
    struct js *root = js_parse(text, bytes, name);
    if (!root)
        return STATUS_BAD_FILE;
    r.rank_of = arena_alloc(&scratch, cells * sizeof *r.rank_of);
    for (size_t i = 0; i < cells; i++)
        r.rank_of[i] = -1;
    int status = read_file(&r, root);
    if (!status)
        status = check_fit(&r, n_ranks);
    if (!status)
        status = placement_from_ranks(p, memory, r.rank_of, m->n_layers, m->n_experts, n_ranks);
    arena_free(&scratch);
    js_free(root);
    return status;
}

static void write_layer(FILE *f, const struct layer_placement *l, int n_experts)
{
    for (int e = 0; e < n_experts && l->rank_of; e++)
        fprintf(f, "%s%d", e ? "," : "[", l->rank_of[e]);
    fputs(l->rank_of ? "]" : "null", f);
}

int placement_write(const struct placement *p, const char *path)
{
    struct outfile out;
    int status = outfile_open(&out, path);
    if (status)
        return status;
    fprintf(out.stream, "{\"ranks\": %d, \"layers\": [\n", p->n_ranks);
    for (int l = 0; l < p->n_layers; l++) {
        write_layer(out.stream, &p->layers[l], p->n_experts);
        fputs(l + 1 < p->n_layers ? ",\n" : "\n", out.stream);
    }
    fputs("]}\n", out.stream);
    return outfile_commit(&out);
}
