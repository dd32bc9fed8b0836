#include "model/placement.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "model/balance.h"
#include "model/copies.h"
#include "model/found.h"
#include "model/pieces.h"

enum { MAX_FILE_BYTES = 16 << 20, MAX_RANKS = 1 << 16, KEY_BYTES = 64 };

static void layer_alloc(struct layer_placement *l, struct arena *memory, int n, int n_ranks)
{
    *l = (struct layer_placement){.n = n};
    l->rank_first = arena_alloc(memory, (size_t)(n_ranks + 1) * sizeof(int32_t));
    if (n)
        l->rank_of = arena_alloc(memory, (size_t)n * sizeof(int32_t));
}

/* Allocate a placement with all blocks on rank 0. The caller changes that, then calls order_all().
 */
static void placement_init(struct placement *p, struct arena *memory, const struct config *m,
                           int n_ranks)
{
    size_t bytes = (size_t)m->n_layers * sizeof *p->layers;
    *p = (struct placement){.n_layers = m->n_layers,
                            .n_experts = m->n_experts,
                            .n_ranks = n_ranks,
                            .groups_most = m->n_experts};
    p->layers = arena_alloc(memory, bytes);
    p->pieces = arena_alloc(memory, bytes);
    p->output_first = arena_alloc(memory, (size_t)(n_ranks + 1) * sizeof *p->output_first);
    for (int rank = 1; rank <= n_ranks; rank++)
        p->output_first[rank] = m->vocab_size;
    for (int l = 0; l < m->n_layers; l++) {
        layer_alloc(&p->layers[l], memory, m->sparse[l] ? m->n_experts : 0, n_ranks);
        layer_alloc(&p->pieces[l], memory, pieces_of(m, l).n, n_ranks);
    }
}

static void order_all(struct placement *p, struct arena *memory)
{
    for (int l = 0; l < p->n_layers; l++) {
        layer_order(&p->layers[l], memory, p->n_ranks);
        layer_order(&p->pieces[l], memory, p->n_ranks);
    }
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

static int refuse_home(long home, const struct config *m)
{
    return fail(STATUS_USAGE, "--home %ld: expected at most %d, the experts of a layer", home,
                m->n_experts);
}

static int by_rule(struct placement *p, struct arena *memory, const struct config *m, bool even,
                   long home)
{
    if (home > m->n_experts)
        return refuse_home(home, m);
    for (int i = 0; i < m->n_layers; i++)
        for (int e = 0; e < p->layers[i].n; e++)
            p->layers[i].rank_of[e] = rank_by_rule(p, even, (int)home, e);
    order_all(p, memory);
    return 0;
}

static int by_balance(struct placement *p, struct arena *memory, const struct config *m,
                      const struct placement_spec *spec)
{
    struct balance b = {.m = m,
                        .precision = precision_of(m->dtype),
                        .load = usual_workload,
                        .chunk = USUAL_CHUNK,
                        .n_ranks = p->n_ranks};
    if (spec->balance)
        b = *spec->balance;
    b.home = spec->home_given ? spec->home : -1;
    if (spec->home > m->n_experts)
        return refuse_home(spec->home, m);
    balance_place(p, &b);
    order_all(p, memory);
    return 0;
}

bool placement_is_balanced(const struct placement_spec *spec)
{
    return !spec->text || strcmp(spec->text, "balanced") == 0;
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
        return fail(
            STATUS_BAD_FILE,
            "--placement %s: expected balanced, even, round-robin or a file, found no such file",
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
    bool balanced = placement_is_balanced(spec),
         even = !balanced && strcmp(spec->text, "even") == 0;
    bool rule = even || (!balanced && strcmp(spec->text, "round-robin") == 0);
    if (!rule && !balanced)
        return from_file(p, memory, m, n_ranks, spec);
    placement_init(p, memory, m, n_ranks);
    return rule ? by_rule(p, memory, m, even, spec->home) : by_balance(p, memory, m, spec);
}

/* rank_of[0 .. l->n) := ranks; `what` and `layer` are for the message. */
static int take_ranks(struct layer_placement *l, const int32_t *ranks, int n_ranks,
                      const char *what, int layer)
{
    for (int b = 0; b < l->n; b++) {
        if (ranks[b] < 0 || ranks[b] >= n_ranks)
            return fail(STATUS_FAILED,
                        "placement: expected a rank from 0 to %d for layer %d %s %d, found %d",
                        n_ranks - 1, layer, what, b, ranks[b]);
        l->rank_of[b] = ranks[b];
    }
    return 0;
}

int placement_from_ranks(struct placement *p, struct arena *memory, const struct config *m,
                         const int32_t *rank_of, const int32_t *piece_rank_of, int n_ranks)
{
    int status = 0;
    placement_init(p, memory, m, n_ranks);
    for (int l = 0; l < m->n_layers && !status; l++) {
        status = take_ranks(&p->layers[l], rank_of + (size_t)l * (size_t)m->n_experts, n_ranks,
                            "expert", l);
        if (!status)
            status = take_ranks(&p->pieces[l], piece_rank_of, n_ranks, "piece", l);
        piece_rank_of += p->pieces[l].n;
    }
    order_all(p, memory);
    return status;
}

int placement_take_outputs(struct placement *p, const struct config *m, const int32_t *output_first,
                           int n)
{
    size_t bytes = (size_t)(p->n_ranks + 1) * sizeof *p->output_first;
    bool whole =
        n == p->n_ranks + 1 && output_first[0] == 0 && output_first[n - 1] == m->vocab_size;
    for (int rank = 0; whole && rank < p->n_ranks; rank++)
        whole = output_first[rank] <= output_first[rank + 1];
    if (!whole)
        return fail(STATUS_FAILED,
                    "placement: expected outputs 0 to %d over %d ranks, found others",
                    m->vocab_size, p->n_ranks);
    memcpy(p->output_first, output_first, bytes);
    return 0;
}

bool placement_leaves_home(const struct placement *p, int layer)
{
    const struct layer_placement *experts = &p->layers[layer], *pieces = &p->pieces[layer];
    return placement_count(experts, 0) < experts->n_groups ||
           placement_count(pieces, 0) < pieces->n;
}

struct holding placement_holding(const struct placement *p, int rank)
{
    struct holding h = {0};
    bool first = true;
    for (int i = 0; i < p->n_layers; i++) {
        h.pieces += placement_count(&p->pieces[i], rank);
        if (p->layers[i].n == 0)
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
 * {"ranks": 5, "experts": [a rank for each expert of every sparse layer]}, where a list of ranks
 * may stand for a rank; either with "pieces": [[a rank for each piece], … of each layer], without
 * which all pieces stay on rank 0; and "outputs": [how many each rank has], without which all are
 * rank 0's. */
struct placement_reader {
    const char *file;
    const struct config *m;
    struct arena *memory;
    int ranks;              // that the file is for
    int32_t *rank_of;       // [n_layers][n_experts], -1 in dense layers
    int32_t *piece_rank_of; // [pieces_total]
    int32_t *output_first;  // [ranks + 1]
    struct copies_found copies;
};

static int check_keys(const struct placement_reader *r, const struct js *root)
{
    if (!js_is_object(root))
        return fail(STATUS_BAD_FILE, "%s: expected an object with ranks and layers, found %s",
                    r->file, found(root).text);
    for (struct js_entry e = js_first(root); e.key; e = js_next(root, e))
        if (strcmp(e.key, "ranks") != 0 && strcmp(e.key, "layers") != 0 &&
            strcmp(e.key, "experts") != 0 && strcmp(e.key, "pieces") != 0 &&
            strcmp(e.key, "outputs") != 0)
            return fail(STATUS_BAD_FILE,
                        "%s: expected the keys ranks, layers or experts, pieces and outputs, found "
                        "\"%.40s\"",
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
    r->ranks = r->copies.n_ranks = (int)js_int(v);
    return 0;
}

static int read_rank(const struct placement_reader *r, int32_t *rank, const struct js *v,
                     const char *key)
{
    if (!js_is_int(v) || js_int(v) < 0 || js_int(v) >= r->ranks)
        return fail(STATUS_BAD_FILE, "%s: %s: expected a rank from 0 to %d, found %s", r->file, key,
                    r->ranks - 1, found(v).text);
    *rank = (int32_t)js_int(v);
    return 0;
}

/* A rank for each of n blocks of one layer; `key` is where in the file, `block` what they are. A
 * block of cell + b may have a list of ranks instead; cell < 0: none may. */
static int read_blocks(struct placement_reader *r, int32_t *rank_of, size_t n, int cell,
                       const struct js *list, const char *key, const char *block)
{
    int status = 0;
    if (!js_is_array(list))
        return fail(STATUS_BAD_FILE, "%s: %s: expected a list of %zu ranks, found %s", r->file, key,
                    n, found(list).text);
    if (js_count(list) != n)
        return fail(STATUS_BAD_FILE, "%s: %s: expected a rank for each of %zu %s, found %zu ranks",
                    r->file, key, n, block, js_count(list));
    for (size_t b = 0; b < n && !status; b++) {
        char at[KEY_BYTES];
        const struct js *v = js_item(list, b);
        snprintf(at, sizeof at, "%s[%zu]", key, b);
        status = cell >= 0 && js_is_array(v)
                     ? copies_read(&r->copies, &rank_of[b], cell + (int)b, v, at)
                     : read_rank(r, &rank_of[b], v, at);
    }
    return status;
}

static int read_experts(struct placement_reader *r, int layer, const struct js *list,
                        const char *key)
{
    int n = r->m->n_experts, cell = layer * n, before = r->copies.n;
    int status = read_blocks(r, r->rank_of + cell, (size_t)n, cell, list, key, "experts");
    if (!status && r->copies.n - before > MAX_GROUPS - n)
        return fail(STATUS_BAD_FILE, "%s: %s: expected at most %d further copies, found %d",
                    r->file, key, MAX_GROUPS - n, r->copies.n - before);
    return status;
}

static int read_layer(struct placement_reader *r, int layer, const struct js *v)
{
    char key[KEY_BYTES];
    snprintf(key, sizeof key, "layers[%d]", layer);
    if (r->m->sparse[layer])
        return read_experts(r, layer, v, key);
    if (!js_is_null(v))
        return fail(STATUS_BAD_FILE, "%s: %s: expected null for a dense layer, found %s", r->file,
                    key, found(v).text);
    return 0;
}

static int read_layers(struct placement_reader *r, const struct js *list)
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

/* The pieces of each layer; without a list all are on rank 0. */
static int read_pieces(struct placement_reader *r, const struct js *list)
{
    int n = r->m->n_layers, status = 0;
    int32_t *to = r->piece_rank_of;
    if (!list)
        return 0;
    if (!js_is_array(list) || js_count(list) != (size_t)n)
        return fail(STATUS_BAD_FILE, "%s: pieces: expected a list for each of %d layers, found %s",
                    r->file, n, found_count(list).text);
    for (int l = 0; l < n && !status; l++) {
        char key[KEY_BYTES];
        int own = pieces_of(r->m, l).n;
        snprintf(key, sizeof key, "pieces[%d]", l);
        status = read_blocks(r, to, (size_t)own, -1, js_item(list, (size_t)l), key, "pieces");
        to += own;
    }
    return status;
}

/* How many outputs each rank has; without a list rank 0 has all. */
static int read_outputs(const struct placement_reader *r, const struct js *list)
{
    int64_t sum = 0, vocab = r->m->vocab_size;
    if (list && (!js_is_array(list) || js_count(list) != (size_t)r->ranks))
        return fail(STATUS_BAD_FILE,
                    "%s: outputs: expected a number for each of %d ranks, found %s", r->file,
                    r->ranks, found_count(list).text);
    for (int rank = 0; rank < r->ranks; rank++) {
        const struct js *v = list ? js_item(list, (size_t)rank) : NULL;
        if (v && (!js_is_int(v) || js_int(v) < 0 || js_int(v) > vocab))
            return fail(STATUS_BAD_FILE,
                        "%s: outputs[%d]: expected a whole number from 0 to %d, found %s", r->file,
                        rank, r->m->vocab_size, found(v).text);
        r->output_first[rank] = (int32_t)sum;
        sum += v ? js_int(v) : rank == 0 ? vocab : 0;
    }
    r->output_first[r->ranks] = (int32_t)sum;
    if (sum != vocab)
        return fail(STATUS_BAD_FILE, "%s: outputs: expected %d in all, found %lld", r->file,
                    r->m->vocab_size, (long long)sum);
    return 0;
}

/* One list for all sparse layers. */
static int read_same(struct placement_reader *r, const struct js *list)
{
    int status = 0;
    for (int l = 0; l < r->m->n_layers && !status; l++)
        if (r->m->sparse[l])
            status = read_experts(r, l, list, "experts");
    return status;
}

/* A file that leaves everything on rank 0 may be used with any number of ranks, others only with
 * the number that they were made for. */
static int check_fit(const struct placement_reader *r, int n_ranks)
{
    size_t cells = (size_t)r->m->n_layers * (size_t)r->m->n_experts;
    bool leaves_home = false;
    for (size_t i = 0; i < cells; i++)
        leaves_home |= r->rank_of[i] > 0;
    leaves_home |= r->copies.n > 0; // an expert's copies are on different ranks
    for (int i = 0; i < pieces_total(r->m); i++)
        leaves_home |= r->piece_rank_of[i] > 0;
    leaves_home |= r->output_first[1] < r->m->vocab_size;
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
    status = layers ? read_layers(r, layers) : read_same(r, js_member(root, "experts"));
    if (!status)
        status = read_pieces(r, js_member(root, "pieces"));
    if (status)
        return status;
    r->output_first = arena_alloc(r->memory, (size_t)(r->ranks + 1) * sizeof *r->output_first);
    return read_outputs(r, js_member(root, "outputs"));
}

int placement_parse(struct placement *p, struct arena *memory, const struct config *m, int n_ranks,
                    const char *text, size_t bytes, const char *name)
{
    struct arena scratch = {0};
    size_t cells = (size_t)m->n_layers * (size_t)m->n_experts;
    struct placement_reader r = {.file = name, .m = m, .memory = &scratch};
    struct js *root = js_parse(text, bytes, name);
    if (!root)
        return STATUS_BAD_FILE;
    r.copies = (struct copies_found){.memory = &scratch, .file = name};
    r.rank_of = arena_alloc(&scratch, cells * sizeof *r.rank_of);
    r.piece_rank_of = arena_alloc(&scratch, (size_t)pieces_total(m) * sizeof *r.piece_rank_of);
    for (size_t i = 0; i < cells; i++)
        r.rank_of[i] = -1;
    int status = read_file(&r, root);
    if (!status)
        status = check_fit(&r, n_ranks);
    if (!status)
        status = placement_from_ranks(p, memory, m, r.rank_of, r.piece_rank_of, n_ranks);
    const struct expert_copies copies = {r.copies.n, r.copies.cell, r.copies.rank};
    if (!status)
        status = placement_add_copies(p, memory, &copies);
    if (!status && r.ranks == n_ranks)
        status = placement_take_outputs(p, m, r.output_first, n_ranks + 1);
    arena_free(&scratch);
    js_free(root);
    return status;
}

static void write_ranks(FILE *f, const struct layer_placement *l)
{
    for (int b = 0; b < l->n; b++) {
        fputs(b ? "," : "", f);
        copies_write(f, l, b);
    }
}

/* One list a layer; `none` stands for that of a layer without blocks. */
static void write_layers(FILE *f, const struct layer_placement *layers, int n, const char *none)
{
    for (int l = 0; l < n; l++) {
        if (layers[l].n || !none) {
            fputc('[', f);
            write_ranks(f, &layers[l]);
            fputc(']', f);
        } else {
            fputs(none, f);
        }
        fputs(l + 1 < n ? ",\n" : "\n", f);
    }
}

void placement_write_experts(const struct placement *p, FILE *f)
{
    fprintf(f, "{\"ranks\": %d, \"layers\": [\n", p->n_ranks);
    write_layers(f, p->layers, p->n_layers, "null");
    fputc(']', f);
}

int placement_write(const struct placement *p, const char *path)
{
    struct outfile out;
    int status = outfile_open(&out, path);
    if (status)
        return status;
    placement_write_experts(p, out.stream);
    fputs(",\n\"pieces\": [\n", out.stream);
    write_layers(out.stream, p->pieces, p->n_layers, NULL);
    fputs("],\n\"outputs\": [", out.stream);
    for (int rank = 0; rank < p->n_ranks; rank++)
        fprintf(out.stream, "%s%d", rank ? "," : "",
                p->output_first[rank + 1] - p->output_first[rank]);
    fputs("]}\n", out.stream);
    return outfile_commit(&out);
}
