#include "model/packed.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/check.h"
#include "base/log.h"
#include "kernels/ops.h"
#include "model/pieces.h"

/* ---- what a header says ---- */

struct said {
    const char *file;
    struct packed_kind *kind;
    bool layout, version;
    int status;
};

static void expect_text(struct said *s, const char *key, const char *value, const char *wanted)
{
    if (!s->status && strcmp(value, wanted) != 0)
        s->status = fail(STATUS_BAD_FILE,
                         "%s: __metadata__: %s: expected \"%s\", found \"%.40s\": write it again "
                         "with this program's epmoe quantize",
                         s->file, key, wanted, value);
}

static void take_quant(struct said *s, const char *key, const char *value, enum quant *to)
{
    for (enum quant q = QUANT_NONE; q < QUANT_COUNT; q++)
        if (strcmp(value, quant_name(q)) == 0) {
            *to = q;
            return;
        }
    if (!s->status)
        s->status =
            fail(STATUS_BAD_FILE, "%s: __metadata__: %s: expected none, q8 or q4, found \"%.40s\"",
                 s->file, key, value);
}

static void take(void *context, const char *key, const char *value)
{
    struct said *s = context;
    if (strcmp(key, "epmoe.layout") == 0) {
        s->layout = true;
        expect_text(s, key, value, PACKED_LAYOUT);
    } else if (strcmp(key, "epmoe.layout_version") == 0) {
        s->version = true;
        expect_text(s, key, value, PACKED_VERSION);
    } else if (strcmp(key, "epmoe.matrices") == 0)
        take_quant(s, key, value, &s->kind->matrices);
    else if (strcmp(key, "epmoe.blocks") == 0)
        take_quant(s, key, value, &s->kind->blocks);
}

int packed_read(struct packed_kind *kind, const char *header, size_t bytes, const char *file)
{
    static const char key[] = "\"epmoe.";
    struct said s = {.file = file, .kind = kind};
    if (!memmem(header, bytes, key, sizeof key - 1))
        return 0;
    safetensors_metadata(header, bytes, take, &s);
    bool any = kind->matrices || kind->blocks;
    if (!s.status && any && !(s.layout && s.version))
        s.status =
            fail(STATUS_BAD_FILE,
                 "%s: __metadata__: expected epmoe.layout and epmoe.layout_version, found %s", file,
                 s.layout    ? "no version"
                 : s.version ? "no layout"
                             : "neither");
    return s.status;
}

/* ---- the matrices ---- */

enum quant packed_quant(struct packed_kind kind, enum tensor_part part)
{
    if (part == PART_QKV || part == PART_O || part == PART_UNEMBED)
        return kind.matrices;
    return part == PART_DENSE || part == PART_EXPERT ? kind.blocks : QUANT_NONE;
}

struct packed_matrix packed_part(const struct config *m, struct packed_kind kind,
                                 enum tensor_part part, int layer)
{
    struct part_size size = part_size(m, part, layer);
    struct packed_matrix p = {.n = size.n, .k = size.k, .quant = kind.matrices};
    snprintf(p.name, sizeof p.name, "epmoe.layers.%d.%s", layer, part == PART_QKV ? "qkv" : "o");
    return p;
}

struct packed_matrix packed_block(const struct config *m, struct packed_kind kind,
                                  enum packed_block block, int layer, int number, bool down)
{
    int width =
        block == PACKED_PIECE ? pieces_of(m, layer).width : part_size(m, PART_EXPERT, layer).n;
    struct packed_matrix p = {.n = down ? m->dim : 2 * row_stride(width),
                              .k = down ? width : m->dim,
                              .quant = kind.blocks};
    snprintf(p.name, sizeof p.name, "epmoe.layers.%d.%s.%d.%s", layer,
             block == PACKED_PIECE ? "pieces" : "experts", number, down ? "down" : "gate_up");
    return p;
}

struct packed_matrix packed_outputs(const struct config *m, struct packed_kind kind)
{
    return (struct packed_matrix){"epmoe.outputs", m->vocab_size, m->dim, kind.matrices};
}

static void each_block(const struct config *m, struct packed_kind kind, enum packed_block block,
                       int layer, void (*each)(void *context, const struct packed_matrix *p),
                       void *context)
{
    int n = block == PACKED_PIECE ? pieces_of(m, layer).n : m->sparse[layer] ? m->n_experts : 0;
    for (int i = 0; i < 2 * n; i++) {
        struct packed_matrix p = packed_block(m, kind, block, layer, i / 2, i % 2);
        each(context, &p);
    }
}

void packed_each(const struct config *m, struct packed_kind kind,
                 void (*each)(void *context, const struct packed_matrix *p), void *context)
{
    for (int l = 0; l < m->n_layers; l++) {
        struct packed_matrix parts[] = {packed_part(m, kind, PART_QKV, l),
                                        packed_part(m, kind, PART_O, l)};
        for (int i = 0; i < 2 && kind.matrices; i++)
            each(context, &parts[i]);
        if (kind.blocks) {
            each_block(m, kind, PACKED_EXPERT, l, each, context);
            each_block(m, kind, PACKED_PIECE, l, each, context);
        }
    }
    struct packed_matrix outputs = packed_outputs(m, kind);
    if (kind.matrices)
        each(context, &outputs);
}

/* ---- in a checkpoint ---- */

struct checking {
    const struct checkpoint *c;
    int status;
};

static void check_one(void *context, const struct packed_matrix *p)
{
    struct checking *s = context;
    const struct tensor *t = checkpoint_find(s->c, p->name);
    uint64_t wanted = quant_matrix_bytes(p->quant, p->n, p->k);
    if (s->status)
        return;
    if (!t)
        s->status = fail(STATUS_BAD_FILE,
                         "%s: tensor \"%s\": expected %" PRIu64
                         " bytes of packed weights, found no such tensor",
                         checkpoint_dir(s->c), p->name, wanted);
    else if (t->bytes != wanted)
        s->status =
            fail(STATUS_BAD_FILE,
                 "%s: tensor \"%s\": expected %" PRIu64 " bytes of packed weights, found %" PRIu64,
                 checkpoint_file(s->c, t->file), p->name, wanted, t->bytes);
}

int packed_check(const struct config *m, const struct checkpoint *c)
{
    struct checking s = {.c = c};
    packed_each(m, checkpoint_packed(c), check_one, &s);
    return s.status;
}

/* Copy packed bytes, a whole number of 2, to the device. */
static void copy_packed(struct dev *d, void *to, const void *from, uint64_t bytes)
{
    fill_values(d, to, &(struct values){.type = DTYPE_F16, .data = from}, bytes / sizeof(f16));
}

/* A GPU's matrix: outputs of `packed` from output `first` on. Panels are copied as they are, unless
 * `first` is within one. */
static void give_gpu(struct matrix *w, struct dev *d, const void *packed, int first, uint64_t bytes)
{
    struct matrix host = *w;
    struct arena memory = {0};
    w->data = dev_alloc(d, bytes);
    if (first) {
        host.data = arena_alloc(&memory, bytes);
        quant_copy_outputs(&host, packed, first);
        packed = host.data;
    }
    copy_packed(d, w->data, packed, bytes);
    arena_free(&memory);
}

/* Keep a mapping as long as the device, and undo the advice that it is read once, in order. */
static void keep(struct mapping *map, struct dev *d)
{
    madvise(map->base, map->size, MADV_NORMAL); // if it fails, reading is only slower
    arena_adopt(&d->memory, map->base, map->size);
}

int packed_map(struct matrix *w, struct dev *d, enum dtype type, const struct checkpoint *c,
               const struct packed_matrix *p, int first, int n)
{
    struct mapping map;
    const struct tensor *t = checkpoint_find(c, p->name);
    uint64_t own = quant_matrix_bytes(p->quant, n, p->k);
    int before = first / PACKED_PANEL * PACKED_PANEL;
    uint64_t from = quant_matrix_bytes(p->quant, before, p->k);
    uint64_t bytes = quant_matrix_bytes(p->quant, first + n, p->k) - from;
    *w = (struct matrix){.type = type, .n = n, .k = p->k, .quant = p->quant};
    CHECK(t, "%s is not here", p->name);
    int status = n ? mapping_open(&map, c, t, from, bytes) : 0;
    if (status || n == 0)
        return status;
    if (d->cuda) {
        give_gpu(w, d, map.data, first - before, own);
        mapping_close(&map);
        return 0;
    }
    if (first == before) {
        w->data = (void *)(uintptr_t)map.data;
        keep(&map, d);
        d->bytes += own;
        return 0;
    }
    w->data = dev_alloc(d, own);
    quant_copy_outputs(w, map.data, first - before);
    mapping_close(&map);
    return 0;
}
