/* A checkpoint directory: config.json, and model.safetensors or the files that
 * model.safetensors.index.json lists. A struct checkpoint can also be a synthetic model
 * (synth_made.h), which is in no directory; callers see no difference.
 *
 * A safetensors file is 8 bytes little-endian N, N bytes of JSON {"name": {"dtype", "shape",
 * "data_offsets": [begin, end]}, "__metadata__"?: {…}}, then the data. Opening reads the headers
 * only (pread), and checks all of them against the files' sizes. The bytes of a tensor are mapped
 * when a caller asks for them, and only the range asked for. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"

enum { TENSOR_MAX_DIMS = 8 };

struct fp8_scales;

/* A matrix in fp8 with scales (checkpoint_fp8.h) is one of F32 to all readers: type and bytes are
 * those of the values that a mapping of it holds, and type_name is the file's. */
struct tensor {
    const char *name;
    enum dtype type;       // valid if is_float
    int is_float;          // 0: the type is none of enum dtype, and checkpoint_need() refuses it
    const char *type_name; // as the file spells it ("BF16")
    int n_dims;
    int64_t shape[TENSOR_MAX_DIMS];
    int file;                     // index into the checkpoint's files
    uint64_t offset, bytes;       // in that file; in fp8 it has a quarter of these bytes
    const struct fp8_scales *fp8; // NULL: the file has the values as they are
};

struct checkpoint;

/* How matrices are quantised in the files (model/packed.h); both QUANT_NONE: they are not. */
struct packed_kind {
    enum quant matrices, blocks;
};

/* Open a directory, or a synthetic model. 0 or STATUS_BAD_FILE; the error names the file, the
 * tensor, key or byte, what was expected and what was found. */
int checkpoint_open(struct checkpoint **c, const char *dir);
void checkpoint_close(struct checkpoint *c); // NULL is legal

const struct tensor *checkpoint_find(const struct checkpoint *c, const char *name); // NULL: absent
/* The tensor of this name; NULL after fail() if there is none, or if it does not have exactly this
 * shape and a type of enum dtype. */
const struct tensor *checkpoint_need(const struct checkpoint *c, const char *name, int n_dims,
                                     const int64_t *shape);
size_t checkpoint_count(const struct checkpoint *c);
const struct tensor *checkpoint_at(const struct checkpoint *c, size_t i); // sorted by name
const char *checkpoint_file(const struct checkpoint *c, int file);        // its path

const char *checkpoint_dir(const struct checkpoint *c);
struct packed_kind checkpoint_packed(const struct checkpoint *c);

/* Does this text name an existing directory, or a synthetic model? */
bool checkpoint_is_place(const char *dir);
/* The text of config.json of a directory or a synthetic model: malloc'ed, or NULL after fail(). */
char *checkpoint_config(const char *dir, size_t *bytes);

/* Copy bytes [first, first + bytes) of a tensor to out; for small amounts. 0 or STATUS_BAD_FILE.
 * Here and below the range must be whole elements if the tensor is in fp8. */
int checkpoint_read(const struct checkpoint *c, const struct tensor *t, uint64_t first,
                    size_t bytes, void *out);

/* Bytes [first, first + bytes) of a tensor, mapped read-only. m->data may be unaligned, and lasts
 * until mapping_close(). 0 or STATUS_BAD_FILE. */
struct mapping {
    const void *data;
    void *base;
    size_t size;
};
int mapping_open(struct mapping *m, const struct checkpoint *c, const struct tensor *t,
                 uint64_t first, uint64_t bytes);
void mapping_close(struct mapping *m);
/* The same bytes as values for packing (kernels.h). Of a synthetic model *v is noise, which the
 * device makes itself, and nothing is mapped. */
int mapping_values(struct mapping *m, struct values *v, const struct checkpoint *c,
                   const struct tensor *t, uint64_t first, uint64_t bytes);

/* A digest of config.json, of every tensor's name, type and shape, and of the first 4 KiB of every
 * tensor (of every expert in a tensor that fuses them). So checkpoints of the same shapes with
 * other weights have other digests. 0 or STATUS_BAD_FILE. */
int checkpoint_digest(const struct checkpoint *c, uint64_t *digest);

/* The text formats, without files (also for tests and fuzzing). 0 or STATUS_BAD_FILE; `name` is
 * what errors call the file. `each` is called only after the whole text was checked, in the file's
 * order; what it is given is valid during its call. */

/* *header_bytes := the length of the header of a file of file_bytes, from its first bytes; up to 64
 * of them are read. */
int safetensors_prefix(const void *start, size_t bytes, uint64_t file_bytes, const char *name,
                       size_t *header_bytes);
/* Read the text of the header of a file of file_bytes. */
int safetensors_parse(const char *header, size_t header_bytes, uint64_t file_bytes,
                      const char *name, void (*each)(void *context, const struct tensor *t),
                      void *context);
/* The texts of a header's __metadata__; the header was read before. */
void safetensors_metadata(const char *header, size_t header_bytes,
                          void (*each)(void *context, const char *key, const char *value),
                          void *context);
/* Read model.safetensors.index.json, which says which tensor is in which file. */
int safetensors_parse_index(const char *text, size_t bytes, const char *name,
                            void (*each)(void *context, const char *tensor, const char *file),
                            void *context);
