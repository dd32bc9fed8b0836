#include "model/quantize.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "base/progress.h"
#include "kernels/ops.h"
#include "model/model_out.h"
#include "model/packed.h"
#include "model/pieces.h"
#include "model/weights.h"

enum { COPY_BYTES = 1 << 20, MAX_SMALL_BYTES = 1 << 28 };

struct quantize {
    const struct quantize_options *o;
    struct config m;
    struct checkpoint *c;
    struct packed_kind kind;
    struct outfile out;
    struct js *header;
    int64_t end; // of the tensors that the header has so far
    struct progress progress;
    double done; // bytes written
    bool made_dir;
    int status;
};

/* ---- the header ---- */

static void add_header(struct quantize *q, const char *name, const char *type, int n_dims,
                       const int64_t *shape, int64_t bytes)
{
    struct js *facts = js_new_object(), *sizes = js_new_array(), *range = js_new_array();
    for (int i = 0; i < n_dims; i++)
        js_push(sizes, js_new_int(shape[i]));
    js_push(range, js_new_int(q->end));
    js_push(range, js_new_int(q->end + bytes));
    js_set(facts, "dtype", js_new_text(type));
    js_set(facts, "shape", sizes);
    js_set(facts, "data_offsets", range);
    js_set(q->header, name, facts);
    q->end += bytes;
}

static void add_packed(void *context, const struct packed_matrix *p)
{
    int64_t bytes = (int64_t)quant_matrix_bytes(p->quant, p->n, p->k);
    add_header(context, p->name, "U8", 1, &bytes, bytes);
}

/* Is a tensor of this part to be as it was? */
static bool stays(const struct quantize *q, enum tensor_part part)
{
    return packed_quant(q->kind, part) == QUANT_NONE;
}

typedef void (*each_tensor)(struct quantize *q, const struct tensor *t);

static void one_tensor(struct quantize *q, each_tensor each, enum tensor_kind kind, int layer,
                       int expert)
{
    struct tensor_spec s = tensor_spec(&q->m, kind, layer, expert);
    const struct tensor *t = checkpoint_find(q->c, s.name);
    if (t)
        each(q, t);
}

static void experts_tensors(struct quantize *q, each_tensor each, int layer)
{
    for (int e = 0; e < q->m.n_experts; e++)
        for (int k = TENSOR_EXPERT_GATE; k <= TENSOR_EXPERT_DOWN; k++)
            one_tensor(q, each, (enum tensor_kind)k, layer, e);
    one_tensor(q, each, TENSOR_FUSED_GATE_UP, layer, 0);
    one_tensor(q, each, TENSOR_FUSED_DOWN, layer, 0);
}

/* All tensors that are not packed, in the order of the file. */
static void other_tensors(struct quantize *q, each_tensor each)
{
    enum tensor_kind kinds[PART_TENSORS];
    one_tensor(q, each, TENSOR_EMBED, 0, 0);
    for (int l = 0; l < q->m.n_layers; l++)
        for (int p = 0; p < PARTS; p++) {
            enum tensor_part part = (enum tensor_part)p;
            if (part == PART_EXPERT && stays(q, part) && q->m.sparse[l])
                experts_tensors(q, each, l);
            if (!part_is_of_layer(part) || !stays(q, part))
                continue;
            int n = part_tensors(&q->m, part, l, kinds);
            for (int i = 0; i < n; i++)
                one_tensor(q, each, kinds[i], l, 0);
        }
    one_tensor(q, each, TENSOR_FINAL_NORM, 0, 0);
    if (stays(q, PART_UNEMBED) && !q->m.tied)
        one_tensor(q, each, TENSOR_UNEMBED, 0, 0);
}

/* A tensor in fp8 is read as one of F32, and so written. */
static void add_other(struct quantize *q, const struct tensor *t)
{
    static const char *const types[] = {
        [DTYPE_F32] = "F32", [DTYPE_F16] = "F16", [DTYPE_BF16] = "BF16"};
    add_header(q, t->name, types[t->type], t->n_dims, t->shape, (int64_t)t->bytes);
}

static void make_header(struct quantize *q)
{
    struct js *metadata = js_new_object();
    q->header = js_new_object();
    js_set(metadata, "epmoe.layout", js_new_text(PACKED_LAYOUT));
    js_set(metadata, "epmoe.layout_version", js_new_text(PACKED_VERSION));
    js_set(metadata, "epmoe.matrices", js_new_text(quant_name(q->kind.matrices)));
    js_set(metadata, "epmoe.blocks", js_new_text(quant_name(q->kind.blocks)));
    js_set(q->header, "__metadata__", metadata);
    packed_each(&q->m, q->kind, add_packed, q);
    other_tensors(q, add_other);
}

/* ---- the data, in the same order ---- */

static void put(struct quantize *q, const void *data, size_t bytes)
{
    fwrite(data, 1, bytes, q->out.stream); // outfile_commit() reports errors of the stream
    q->done += (double)bytes;
    progress_update(&q->progress, q->done);
}

static void put_matrix(struct quantize *q, const struct matrix *w, const char *name)
{
    const double most = 65504.0 * (w->quant == QUANT_Q8 ? 127 : 8); // f16's largest scale
    if (!quant_is_finite(w)) {
        q->status =
            fail(STATUS_BAD_FILE,
                 "%s: %s: expected weights up to %.0f, which %s can hold, found larger ones",
                 checkpoint_dir(q->c), name, most, quant_name(w->quant));
        return;
    }
    put(q, w->data, quant_matrix_bytes(w->quant, w->n, w->k));
}

static void put_block(struct quantize *q, struct dev *d, enum packed_block block, int layer, int i)
{
    struct precision p = {q->m.dtype, q->kind.matrices, q->kind.blocks};
    struct ffn f;
    q->status = block == PACKED_PIECE ? weights_load_piece(&f, d, &q->m, q->c, p, layer, i)
                                      : weights_load_expert(&f, d, &q->m, q->c, p, layer, i);
    if (q->status)
        return;
    char name[64];
    snprintf(name, sizeof name, "layer %d, %s %d", layer,
             block == PACKED_PIECE ? "piece of the dense block" : "expert", i);
    put_matrix(q, &f.gate_up, name);
    if (!q->status)
        put_matrix(q, &f.down, name);
}

static void put_single(struct quantize *q, struct dev *d, enum tensor_part part, int layer)
{
    struct precision p = {q->m.dtype, q->kind.matrices, q->kind.blocks};
    struct matrix w;
    q->status = part == PART_UNEMBED
                    ? weights_load_outputs(&w, d, &q->m, q->c, p, 0, q->m.vocab_size)
                    : weights_load_part(&w, d, &q->m, q->c, p, part, layer);
    char name[64] = "output matrix";
    if (part != PART_UNEMBED)
        snprintf(name, sizeof name, "layer %d, %s", layer, part == PART_O ? "o" : "q, k and v");
    if (!q->status)
        put_matrix(q, &w, name);
}

/* In the order of packed_each(). One layer's blocks are in memory at a time, one by one. */
static void put_packed(struct quantize *q)
{
    for (int l = 0; l < q->m.n_layers && !q->status; l++) {
        int experts = q->kind.blocks && q->m.sparse[l] ? q->m.n_experts : 0;
        int pieces = q->kind.blocks ? pieces_of(&q->m, l).n : 0, parts = q->kind.matrices ? 2 : 0;
        for (int i = 0; i < parts + experts + pieces && !q->status; i++) {
            struct dev d;
            dev_open_cpu(&d, ISA_PLAIN, q->o->threads); // all instruction sets pack alike
            if (i < parts)
                put_single(q, &d, i ? PART_O : PART_QKV, l);
            else if (i < parts + experts)
                put_block(q, &d, PACKED_EXPERT, l, i - parts);
            else
                put_block(q, &d, PACKED_PIECE, l, i - parts - experts);
            dev_close(&d);
        }
    }
    struct dev d;
    dev_open_cpu(&d, ISA_PLAIN, q->o->threads);
    if (q->kind.matrices && !q->status)
        put_single(q, &d, PART_UNEMBED, 0);
    dev_close(&d);
}

static void put_other(struct quantize *q, const struct tensor *t)
{
    static char chunk[COPY_BYTES];
    for (uint64_t at = 0; at < t->bytes && !q->status; at += COPY_BYTES) {
        size_t n = t->bytes - at < COPY_BYTES ? (size_t)(t->bytes - at) : COPY_BYTES;
        q->status = checkpoint_read(q->c, t, at, n, chunk);
        if (!q->status)
            put(q, chunk, n);
    }
}

/* ---- files ---- */

static int create(struct quantize *q, const char *name)
{
    char *path = path_join(q->o->dir, name);
    int status = outfile_open(&q->out, path);
    free(path);
    return status;
}

static int write_weights(struct quantize *q)
{
    int status = create(q, "model.safetensors");
    if (status)
        return status;
    model_write_header(q->out.stream, q->header);
    put_packed(q);
    if (!q->status)
        other_tensors(q, put_other);
    if (q->status) {
        outfile_abort(&q->out);
        return q->status;
    }
    return outfile_commit(&q->out);
}

static int write_text(struct quantize *q, const char *name, const char *text, size_t bytes)
{
    int status = create(q, name);
    if (status)
        return status;
    fwrite(text, 1, bytes, q->out.stream);
    return outfile_commit(&q->out);
}

/* Tokenizers, templates, generation_config.json and the like; config.json comes last. */
static bool is_small_file(const char *name)
{
    static const char *const ends[] = {".json", ".jinja", ".txt", ".model"};
    if (strstr(name, ".safetensors") || strcmp(name, "config.json") == 0)
        return false;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (name_ends_in(name, ends[i]))
            return true;
    return false;
}

static int copy_file(struct quantize *q, const char *name)
{
    char *path = path_join(q->o->model, name);
    size_t bytes;
    char *text = file_read(path, MAX_SMALL_BYTES, &bytes);
    free(path);
    int status = text ? write_text(q, name, text, bytes) : STATUS_BAD_FILE;
    free(text);
    return status;
}

static int copy_files(struct quantize *q)
{
    DIR *d = opendir(q->o->model); // none: the model is synthetic
    int status = 0;
    for (struct dirent *e; d && !status && (e = readdir(d));)
        if (is_small_file(e->d_name))
            status = copy_file(q, e->d_name);
    if (d)
        closedir(d);
    if (status)
        return status;
    size_t bytes;
    char *config = checkpoint_config(q->o->model, &bytes);
    status = config ? write_text(q, "config.json", config, bytes) : STATUS_BAD_FILE;
    free(config);
    return status;
}

static int write_all(struct quantize *q)
{
    int status = model_directory_open(q->o->dir, (double)q->end, &q->made_dir);
    if (status)
        return status;
    outfiles_begin(q->made_dir ? q->o->dir : NULL);
    progress_open(&q->progress, "writing", "GB", (double)q->end * 1e-9, 1e9);
    status = write_weights(q);
    progress_close(&q->progress);
    if (!status)
        status = copy_files(q);
    if (outfiles_end(status == 0) > 0)
        warn("%s: removed what had been written", q->o->dir);
    return status;
}

static int refuse_packed(const struct quantize *q)
{
    struct packed_kind k = checkpoint_packed(q->c);
    if (!k.matrices && !k.blocks)
        return 0;
    return fail(STATUS_USAGE, "%s: expected weights as numbers, found quantised ones (%s/%s)",
                q->o->model, quant_name(k.matrices), quant_name(k.blocks));
}

int quantize_write(const struct quantize_options *o)
{
    struct generation_defaults unused;
    struct quantize q = {.o = o, .kind = {o->matrices, o->blocks}};
    int status = config_load(&q.m, &unused, o->model);
    if (!status)
        status = checkpoint_open(&q.c, o->model);
    if (!status)
        status = refuse_packed(&q);
    if (!status)
        status = weights_check(&q.m, q.c);
    if (!status) {
        make_header(&q);
        status = write_all(&q);
    }
    js_free(q.header);
    checkpoint_close(q.c);
    return status;
}
