/* A safetensors file, or, when the input starts like JSON, the index of a sharded checkpoint. What
 * is accepted must hold what the format promises: sizes that add up to the file's. */
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "model/checkpoint.h"

struct cover {
    uint64_t at; // where the next tensor must begin
    size_t count;
};

static void see_tensor(void *context, const struct tensor *t)
{
    struct cover *c = context;
    uint64_t elements = 1;
    CHECK(t->offset == c->at, "a hole or an overlap");
    CHECK(t->n_dims >= 0 && t->n_dims <= TENSOR_MAX_DIMS, "%d dimensions", t->n_dims);
    for (int i = 0; i < t->n_dims; i++)
        elements *= (uint64_t)t->shape[i];
    if (t->is_float)
        CHECK(elements * (uint64_t)dtype_bytes(t->type) == t->bytes, "another size");
    c->at += t->bytes;
    c->count += strlen(t->name) + 1;
}

static void see_entry(void *context, const char *tensor, const char *file)
{
    struct cover *c = context;
    CHECK(!strchr(file, '/') && file[0] != '.', "a path");
    c->count += strlen(tensor) + 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cover c = {0};
    size_t header = 0;
    const char *text = (const char *)data;
    error_capture(true);
    if (size > 0 && data[0] == '{')
        return safetensors_parse_index(text, size, "index", see_entry, &c) & 0;
    if (safetensors_prefix(data, size < 64 ? size : 64, size, "file", &header) != 0)
        return 0;
    c.at = 8 + header;
    if (safetensors_parse(text + 8, header, size, "file", see_tensor, &c) == 0)
        CHECK(c.at == size, "a tail");
    return 0;
}
