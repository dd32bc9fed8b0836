/* Reads the header of a safetensors file and the index of shards, and checks what they say against
 * the file's size. Tensors' bytes are not read. Sums and products of numbers from the file are
 * checked for overflow. The rules are those of the format's reference implementation: the data have
 * no holes, no overlaps and nothing after the last tensor; no name occurs twice; the header has at
 * most 100 MB. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/json.h"
#include "base/log.h"
#include "model/checkpoint.h"
#include "model/found.h"

enum { MAX_HEADER_BYTES = 100000000, PREFIX_BYTES = 8, MAX_FILE_NAME = 200 };

struct format {
    const char *name;
    unsigned bits; // of one element
    int is_float;  // it is one of enum dtype; `type` says which
    enum dtype type;
};

static const struct format formats[] = {
    {"F32", 32, 1, DTYPE_F32}, {"F16", 16, 1, DTYPE_F16}, {"BF16", 16, 1, DTYPE_BF16},
    {"F64", 64, 0, 0},         {"I64", 64, 0, 0},         {"I32", 32, 0, 0},
    {"I16", 16, 0, 0},         {"I8", 8, 0, 0},           {"U64", 64, 0, 0},
    {"U32", 32, 0, 0},         {"U16", 16, 0, 0},         {"U8", 8, 0, 0},
    {"BOOL", 8, 0, 0},         {"F8_E4M3", 8, 0, 0},      {"F8_E5M2", 8, 0, 0},
    {"F8_E8M0", 8, 0, 0},      {"F6_E2M3", 6, 0, 0},      {"F6_E3M2", 6, 0, 0},
    {"F4", 4, 0, 0},           {"C64", 64, 0, 0},
};

/* The header that is read. */
struct header {
    const char *file;
    uint64_t data_start, data_bytes;
    struct tensor *tensors;
    size_t count;
};

static uint64_t load_le64(const unsigned char *at)
{
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--)
        v = v << 8 | at[i];
    return v;
}

int safetensors_prefix(const void *start, size_t bytes, uint64_t file_bytes, const char *name,
                       size_t *header_bytes)
{
    static const char lfs[] = "version https://git-lfs";
    if (file_bytes == 0)
        return fail(STATUS_BAD_FILE, "%s: expected a safetensors file, found an empty file", name);
    if (bytes >= sizeof lfs - 1 && memcmp(start, lfs, sizeof lfs - 1) == 0)
        return fail(STATUS_BAD_FILE,
                    "%s: expected a safetensors file, found a Git LFS pointer to one: "
                    "fetch the file itself (git lfs pull)",
                    name);
    if (file_bytes < PREFIX_BYTES || bytes < PREFIX_BYTES)
        return fail(STATUS_BAD_FILE,
                    "%s: expected 8 bytes of header length, found a file of %" PRIu64 " bytes",
                    name, file_bytes);
    uint64_t length = load_le64(start), room = file_bytes - PREFIX_BYTES;
    if (length > MAX_HEADER_BYTES)
        return fail(STATUS_BAD_FILE,
                    "%s: byte 0: expected a header length of at most %d, found %" PRIu64
                    ": not a safetensors file",
                    name, MAX_HEADER_BYTES, length);
    if (length > room)
        return fail(STATUS_BAD_FILE,
                    "%s: byte 0: expected a header length of at most %" PRIu64
                    " (what follows it), found %" PRIu64 ": the file is cut short",
                    name, room, length);
    *header_bytes = (size_t)length;
    return 0;
}

static int read_format(const struct header *h, struct tensor *t, const struct js *info,
                       unsigned *bits)
{
    const struct js *v = js_member(info, "dtype");
    const char *text = js_string(v, NULL);
    for (size_t i = 0; text && i < sizeof formats / sizeof *formats; i++) {
        const struct format *f = &formats[i];
        if (strcmp(f->name, text) != 0)
            continue;
        t->type_name = f->name;
        t->is_float = f->is_float;
        t->type = f->type;
        *bits = f->bits;
        return 0;
    }
    return fail(STATUS_BAD_FILE,
                "%s: tensor \"%s\": dtype: expected a safetensors type such as \"BF16\", found %s",
                h->file, t->name, found(v).text);
}

static int read_shape(const struct header *h, struct tensor *t, const struct js *info)
{
    const struct js *v = js_member(info, "shape");
    size_t n = js_count(v);
    if (!js_is_array(v))
        return fail(STATUS_BAD_FILE, "%s: tensor \"%s\": shape: expected an array, found %s",
                    h->file, t->name, found(v).text);
    if (n > TENSOR_MAX_DIMS)
        return fail(STATUS_BAD_FILE,
                    "%s: tensor \"%s\": shape: expected at most %d dimensions, found %zu", h->file,
                    t->name, TENSOR_MAX_DIMS, n);
    for (size_t i = 0; i < n; i++) {
        const struct js *size = js_item(v, i);
        if (!js_is_int(size) || js_int(size) < 0)
            return fail(STATUS_BAD_FILE,
                        "%s: tensor \"%s\": shape[%zu]: expected a whole number from 0, found %s",
                        h->file, t->name, i, found(size).text);
        t->shape[i] = js_int(size);
    }
    t->n_dims = (int)n;
    return 0;
}

static int read_offsets(const struct header *h, struct tensor *t, const struct js *info)
{
    const struct js *v = js_member(info, "data_offsets");
    const struct js *begin = js_item(v, 0), *end = js_item(v, 1);
    if (js_count(v) != 2 || !js_is_int(begin) || !js_is_int(end))
        return fail(STATUS_BAD_FILE,
                    "%s: tensor \"%s\": data_offsets: expected [begin, end], found %s", h->file,
                    t->name, js_is_array(v) ? "another array" : found(v).text);
    if (js_int(begin) < 0 || js_int(end) < js_int(begin))
        return fail(STATUS_BAD_FILE,
                    "%s: tensor \"%s\": data_offsets: expected 0 <= begin <= end, found [%" PRId64
                    ", %" PRId64 "]",
                    h->file, t->name, js_int(begin), js_int(end));
    if ((uint64_t)js_int(end) > h->data_bytes)
        return fail(STATUS_BAD_FILE,
                    "%s: tensor \"%s\": data_offsets: expected an end within the file's %" PRIu64
                    " bytes of data, found %" PRId64 ": the file is cut short",
                    h->file, t->name, h->data_bytes, js_int(end));
    t->offset = h->data_start + (uint64_t)js_int(begin);
    t->bytes = (uint64_t)(js_int(end) - js_int(begin));
    return 0;
}

static int check_size(const struct header *h, const struct tensor *t, unsigned bits)
{
    uint64_t total_bits = bits;
    bool overflow = false;
    for (int i = 0; i < t->n_dims; i++)
        overflow |= __builtin_mul_overflow(total_bits, (uint64_t)t->shape[i], &total_bits);
    if (overflow)
        return fail(STATUS_BAD_FILE,
                    "%s: tensor \"%s\": shape: expected a size below 2^64 bits, found more",
                    h->file, t->name);
    if (total_bits % 8 != 0)
        return fail(STATUS_BAD_FILE,
                    "%s: tensor \"%s\": shape: expected whole bytes in %s, found %" PRIu64 " bits",
                    h->file, t->name, t->type_name, total_bits);
    if (total_bits / 8 != t->bytes)
        return fail(STATUS_BAD_FILE,
                    "%s: tensor \"%s\": data_offsets: expected %" PRIu64
                    " bytes for its shape in %s, found %" PRIu64,
                    h->file, t->name, total_bits / 8, t->type_name, t->bytes);
    return 0;
}

static int read_tensor(const struct header *h, struct tensor *t, const struct js *info)
{
    unsigned bits = 0;
    if (!js_is_object(info))
        return fail(STATUS_BAD_FILE, "%s: tensor \"%s\": expected an object, found %s", h->file,
                    t->name, found(info).text);
    int status = read_format(h, t, info, &bits);
    if (!status)
        status = read_shape(h, t, info);
    if (!status)
        status = read_offsets(h, t, info);
    return status ? status : check_size(h, t, bits);
}

static int check_metadata(const struct header *h, const struct js *v)
{
    if (js_is_null(v))
        return 0;
    if (!js_is_object(v))
        return fail(STATUS_BAD_FILE, "%s: __metadata__: expected an object, found %s", h->file,
                    found(v).text);
    for (struct js_entry e = js_first(v); e.key; e = js_next(v, e))
        if (!js_is_string(e.value))
            return fail(STATUS_BAD_FILE, "%s: __metadata__: %s: expected a string, found %s",
                        h->file, e.key, found(e.value).text);
    return 0;
}

static int read_tensors(struct header *h, const struct js *root)
{
    for (struct js_entry e = js_first(root); e.key; e = js_next(root, e)) {
        int status;
        if (strcmp(e.key, "__metadata__") == 0) {
            status = check_metadata(h, e.value);
        } else {
            struct tensor *t = &h->tensors[h->count++];
            *t = (struct tensor){.name = e.key};
            status = read_tensor(h, t, e.value);
        }
        if (status)
            return status;
    }
    return 0;
}

static int by_place(const void *a, const void *b)
{
    const struct tensor *x = a, *y = b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* Check that every byte of data belongs to exactly one tensor. Bytes that belong to none could hide
 * another file. */
static int check_cover(const struct header *h)
{
    uint64_t at = h->data_start, end = h->data_start + h->data_bytes;
    for (size_t i = 0; i < h->count; i++) {
        const struct tensor *t = &h->tensors[i];
        if (t->offset != at)
            return fail(STATUS_BAD_FILE,
                        "%s: tensor \"%s\": expected its data to begin at byte %" PRIu64
                        " (where %s%s%s ends), found byte %" PRIu64 ": %s",
                        h->file, t->name, at, i ? "\"" : "", i ? t[-1].name : "the header",
                        i ? "\"" : "", t->offset, t->offset > at ? "a hole" : "an overlap");
        at += t->bytes;
    }
    if (at != end)
        return fail(STATUS_BAD_FILE,
                    "%s: expected the file to end with its last tensor at byte %" PRIu64
                    ", found %" PRIu64 " more bytes",
                    h->file, at, end - at);
    return 0;
}

int safetensors_parse(const char *text, size_t bytes, uint64_t file_bytes, const char *name,
                      void (*each)(void *context, const struct tensor *t), void *context)
{
    CHECK(bytes <= file_bytes && file_bytes - bytes >= PREFIX_BYTES, "header beyond its file");
    if (bytes == 0 || text[0] != '{')
        return fail(STATUS_BAD_FILE, "%s: byte 8: expected a header that begins with {, found %s",
                    name, bytes ? "another character" : "an empty header");
    struct js *root = js_parse(text, bytes, name);
    if (!root)
        return STATUS_BAD_FILE;
    struct header h = {.file = name, .data_start = PREFIX_BYTES + bytes};
    h.data_bytes = file_bytes - h.data_start;
    h.tensors = calloc(js_count(root) + 1, sizeof *h.tensors);
    CHECK_MEMORY(h.tensors, "no memory for %zu tensors", js_count(root));
    int status = read_tensors(&h, root);
    if (!status) {
        qsort(h.tensors, h.count, sizeof *h.tensors, by_place);
        status = check_cover(&h);
    }
    for (size_t i = 0; !status && i < h.count; i++)
        each(context, &h.tensors[i]);
    free(h.tensors);
    js_free(root);
    return status;
}

void safetensors_metadata(const char *text, size_t bytes,
                          void (*each)(void *context, const char *key, const char *value),
                          void *context)
{
    struct js *root = js_parse(text, bytes, "a header");
    const struct js *v = js_member(root, "__metadata__");
    for (struct js_entry e = js_first(v); v && js_is_object(v) && e.key; e = js_next(v, e))
        each(context, e.key, js_string(e.value, NULL));
    js_free(root);
}

/* Is this the name of a file in the index's own directory? A path could lead out of it. */
static bool is_shard_name(const char *name, size_t bytes)
{
    static const char suffix[] = ".safetensors";
    size_t n = sizeof suffix - 1;
    return bytes > n && bytes <= MAX_FILE_NAME && strlen(name) == bytes && name[0] != '.' &&
           !strpbrk(name, "/\\") && strcmp(name + bytes - n, suffix) == 0;
}

static int read_weight_map(const struct js *map, const char *name,
                           void (*each)(void *context, const char *tensor, const char *file),
                           void *context)
{
    if (!js_is_object(map) || js_count(map) == 0)
        return fail(STATUS_BAD_FILE, "%s: weight_map: expected an object of tensors, found %s",
                    name, js_is_object(map) ? "an empty one" : found(map).text);
    for (struct js_entry e = js_first(map); e.key; e = js_next(map, e)) {
        size_t bytes = 0;
        const char *file = js_string(e.value, &bytes);
        if (!file || !is_shard_name(file, bytes))
            return fail(STATUS_BAD_FILE,
                        "%s: weight_map: tensor \"%s\": expected the name of a .safetensors file "
                        "beside the index, found %s",
                        name, e.key, found(e.value).text);
    }
    for (struct js_entry e = js_first(map); e.key; e = js_next(map, e))
        each(context, e.key, js_string(e.value, NULL));
    return 0;
}

int safetensors_parse_index(const char *text, size_t bytes, const char *name,
                            void (*each)(void *context, const char *tensor, const char *file),
                            void *context)
{
    struct js *root = js_parse(text, bytes, name);
    if (!root)
        return STATUS_BAD_FILE;
    int status =
        js_is_object(root)
            ? read_weight_map(js_member(root, "weight_map"), name, each, context)
            : fail(STATUS_BAD_FILE, "%s: expected an object, found %s", name, found(root).text);
    js_free(root);
    return status;
}
