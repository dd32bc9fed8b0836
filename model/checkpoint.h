/* A checkpoint directory: config.json, and model.safetensors, or shards listed in
 * model.safetensors.index.json. Or a synthetic model, which is in no directory; only this file's
 * functions can tell.
 *
 * safetensors: 8 bytes little-endian N, N bytes of JSON {"name": {"dtype", "shape",
 * "data_offsets": [begin, end]}, "__metadata__"?: {…}}, then the data. Opening reads headers only
 * (pread), and checks all of them against the files' sizes before any tensor byte is used; a
 * tensor's bytes are mapped when somebody asks for them, only the range asked for. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"

enum { TENSOR_MAX_DIMS = 8 };

struct tensor {
    const char *name;
    enum dtype type; // other types are refused at open only if somebody binds them: see is_float
    int is_float;    // 0: a type that is not one of ours; type is then meaningless
    const char *type_name; // as the file spells it ("BF16")
    int n_dims;
    int64_t shape[TENSOR_MAX_DIMS];
    int file;               // index into the checkpoint's files
    uint64_t offset, bytes; // in that file
};

struct checkpoint;

/* 0 or STATUS_BAD_FILE (fail() names file, tensor or key, byte, expected, found). */
int checkpoint_open(struct checkpoint **c, const char *dir);
void checkpoint_close(struct checkpoint *c); // NULL is legal

const struct tensor *checkpoint_find(const struct checkpoint *c, const char *name); // NULL: absent
/* The tensor of this name and exactly this shape and a float type, or NULL after fail(). */
const struct tensor *checkpoint_need(const struct checkpoint *c, const char *name, int n_dims,
                                     const int64_t *shape);
size_t checkpoint_count(const struct checkpoint *c);
const struct tensor *checkpoint_at(const struct checkpoint *c, size_t i); // sorted by name
const char *checkpoint_file(const struct checkpoint *c, int file);        // its path

const char *checkpoint_dir(const struct checkpoint *c);

/* Does checkpoint_open() take this text as it stands: a directory that is there, or a synthetic
 * model (synth_made.h)? */
bool checkpoint_is_place(const char *dir);
/* The text of its config.json, wherever that comes from: malloc'ed, or NULL after fail(). */
char *checkpoint_config(const char *dir, size_t *bytes);

/* Bytes [first, first + bytes) of a tensor, copied: for few of them. 0 or STATUS_BAD_FILE. */
int checkpoint_read(const struct checkpoint *c, const struct tensor *t, uint64_t first,
                    size_t bytes, void *out);

/* Bytes [first, first + bytes) of a tensor, mapped read-only; any alignment. */
struct mapping {
    const void *data;
    void *base;
    size_t size;
};
int mapping_open(struct mapping *m, const struct checkpoint *c, const struct tensor *t,
                 uint64_t first, uint64_t bytes);
void mapping_close(struct mapping *m);
/* The same for a device to take: mapped, or of a synthetic model the noise that they are, with
 * nothing mapped. */
int mapping_values(struct mapping *m, struct values *v, const struct checkpoint *c,
                   const struct tensor *t, uint64_t first, uint64_t bytes);

/* A digest of config.json, of every tensor's name, type and shape, and of the first 4 KiB of every
 * tensor (of every expert where they are fused): two checkpoints of one shape but other weights
 * differ. 0 or STATUS_BAD_FILE. */
int checkpoint_digest(const struct checkpoint *c, uint64_t *digest);

/* The text formats, apart from any file (also for tests and fuzzing). What `each` is given lives
 * during its call; it is called only once all is known to be good, tensors in the file's order. */

/* The first bytes (up to 64 are looked at) of a file of file_bytes: the length of its header. */
int safetensors_prefix(const void *start, size_t bytes, uint64_t file_bytes, const char *name,
                       size_t *header_bytes);
/* The header's text, of a file of file_bytes in all. */
int safetensors_parse(const char *header, size_t header_bytes, uint64_t file_bytes,
                      const char *name, void (*each)(void *context, const struct tensor *t),
                      void *context);
/* model.safetensors.index.json: which tensor is in which file. */
int safetensors_parse_index(const char *text, size_t bytes, const char *name,
                            void (*each)(void *context, const char *tensor, const char *file),
                            void *context);
