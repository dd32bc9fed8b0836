#include "model/placement.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "model/found.h"

enum { MAX_FILE_BYTES = 16 << 20, MAX_RANKS = 1 << 16, KEY_BYTES = 64 };

/* Groups in order of (rank, expert), from rank_of alone. */
static void order_groups(struct layer_placement *l, int n_experts, int n_ranks)
{
    int group = 0;
    for (int rank = 0; rank < n_ranks; rank++) {
        l->rank_first[rank] = group;
        for (int e = 0; e < n_experts; e++) {
            if (l->rank_of[e] != rank)
                continue;
            l->group_of[e] = group;
            l->expert_at[group++] = e;
        }
    }
    l->rank_first[n_ranks] = group;
}

static void layer_alloc(struct layer_placement *l, struct arena *memory, int n_experts, int n_ranks)
{
    size_t bytes = (size_t)n_experts * sizeof(int32_t);
    l->rank_of = arena_alloc(memory, bytes);
    l->group_of = arena_alloc(memory, bytes);
    l->expert_at = arena_alloc(memory, bytes);
    l->rank_first = arena_alloc(memory, (size_t)(n_ranks + 1) * sizeof(int32_t));
}

static void placement_init(struct placement *p, struct arena *memory, int n_layers, int n_experts,
                           int n_ranks)
{
    *p = (struct placement){.n_layers = n_layers, .n_experts = n_experts, .n_ranks = n_ranks};
    p->layers = arena_alloc(memory, (size_t)n_layers * sizeof *p->layers);
}

/* The worker that holds the i-th of n experts in contiguous shares: the first n % workers of them
 * hold one more. */
static int even_rank(int i, int n, int workers)
{
    int share = n / workers, extra = n % workers, in_larger = extra * (share + 1);
    return 1 + (i < in_larger ? i / (share + 1) : extra + (i - in_larger) / share);
}

static int rank_by_rule(const struct placement *p, bool even, int home, int expert)
{
    int workers = p->n_ranks - 1;
    if (expert < home || workers == 0)
        return 0;
    return even ? even_rank(expert - home, p->n_experts - home, workers) : 1 + expert % workers;
}

static int by_rule(struct placement *p, struct arena *memory, const struct config *m, bool even,
                   long home)
{
    if (home > m->n_experts)
        return fail(STATUS_USAGE, "--home %ld: expected at most %d, the experts of a layer", home,
                    m->n_experts);
    for (int i = 0; i < m->n_layers; i++) {
        struct layer_placement *l = &p->layers[i];
        if (!m->sparse[i])
            continue;
        layer_alloc(l, memory, p->n_experts, p->n_ranks);
        for (int e = 0; e < p->n_experts; e++)
            l->rank_of[e] = rank_by_rule(p, even, (int)home, e);
        order_groups(l, p->n_experts, p->n_ranks);
    }
    return 0;
}

static int from_file(struct placement *p, struct arena *memory, const struct config *m, int n_ranks,
                     const struct placement_spec *spec)
{
    size_t bytes;
    if (spec->home_given)
        return fail(STATUS_USAGE,
                    "--home %ld: expected none beside --placement %s: the file says "
                    "which experts stay at home",
                    spec->home, spec->text);
    if (!file_exists(spec->text))
        return fail(STATUS_BAD_FILE,
                    "--placement %s: expected even, round-robin or a file, found no such file",
                    spec->text);
    char *text = file_read(spec->text, MAX_FILE_BYTES, &bytes);
    if (!text)
        return STATUS_BAD_FILE;
    int status = placement_parse(p, memory, m, n_ranks, text, bytes, spec->text);
    free(text);
    return status;
}

int placement_build(struct placement *p, struct arena *memory, const struct config *m, int n_ranks,
                    const struct placement_spec *spec)
{
    bool even = !spec->text || strcmp(spec->text, "even") == 0;
    if (!even && strcmp(spec->text, "round-robin") != 0)
        return from_file(p, memory, m, n_ranks, spec);
    placement_init(p, memory, m->n_layers, m->n_experts, n_ranks);
    return by_rule(p, memory, m, even, spec->home);
}

int placement_from_ranks(struct placement *p, struct arena *memory, const int32_t *rank_of,
                         int n_layers, int n_experts, int n_ranks)
{
    placement_init(p, memory, n_layers, n_experts, n_ranks);
    for (int i = 0; i < n_layers; i++) {
        const int32_t *ranks = rank_of + (size_t)i * (size_t)n_experts;
        if (n_experts == 0 || ranks[0] < 0)
            continue;
        struct layer_placement *l = &p->layers[i];
        layer_alloc(l, memory, n_experts, n_ranks);
        for (int e = 0; e < n_experts; e++) {
            if (ranks[e] < 0 || ranks[e] >= n_ranks)
                return fail(
                    STATUS_FAILED,
                    "placement: expected a rank from 0 to %d for layer %d expert %d, found %d",
                    n_ranks - 1, i, e, ranks[e]);
            l->rank_of[e] = ranks[e];
        }
        order_groups(l, n_experts, n_ranks);
    }
    return 0;
}

struct holding placement_holding(const struct placement *p, int rank)
{
    struct holding h = {0};
    bool first = true;
    for (int i = 0; i < p->n_layers; i++) {
        if (!p->layers[i].rank_of)
            continue;
        int n = placement_count(&p->layers[i], rank);
        h.experts += n;
        h.least = first || n < h.least ? n : h.least;
        h.most = n > h.most ? n : h.most;
        first = false;
    }
    return h;
}

/* A placement's file being read: {"ranks": 5, "layers": [[a rank for each expert], …, null, …]}, or
 * {"ranks": 5, "experts": [a rank for each expert of every sparse layer]}. */
struct placement_reader {
    const char *file;
    const struct config *m;
    int ranks;        // that the file is for
    int32_t *rank_of; // [n_layers][n_experts], -1 in dense layers
};

static int check_keys(const struct placement_reader *r, const struct js *root)
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

static int read_ranks(struct placement_reader *r, const struct js *v)
{
    if (!js_is_int(v) || js_int(v) < 1 || js_int(v) > MAX_RANKS)
        return fail(STATUS_BAD_FILE, "%s: ranks: expected a whole number from 1 to %d, found %s",
                    r->file, MAX_RANKS, found(v).text);
    r->ranks = (int)js_int(v);
    return 0;
}

/* A rank for each expert of one layer; `key` is where in the file. */
static int read_experts(const struct placement_reader *r, int32_t *rank_of, const struct js *list,
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

static int read_layer(const struct placement_reader *r, int layer, const struct js *v)
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

static int read_layers(const struct placement_reader *r, const struct js *list)
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
static int read_same(const struct placement_reader *r, const struct js *list)
{
    int status = 0;
    for (int l = 0; l < r->m->n_layers && !status; l++)
        if (r->m->sparse[l])
            status =
                read_experts(r, r->rank_of + (size_t)l * (size_t)r->m->n_experts, list, "experts");
    return status;
}

/* What stays at home fits a run of any size; all else only the size that it was made for. */
static int check_fit(const struct placement_reader *r, int n_ranks)
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

static int read_file(struct placement_reader *r, const struct js *root)
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
    struct placement_reader r = {.file = name, .m = m};
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
