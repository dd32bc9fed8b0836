/* Finds a tensor that must have a certain shape, and reports what is there instead. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/log.h"
#include "model/checkpoint.h"

struct shape_text {
    char text[200];
};

static struct shape_text show_shape(int n_dims, const int64_t *shape)
{
    struct shape_text s = {"["};
    size_t n = 1;
    for (int i = 0; i < n_dims; i++)
        n += (size_t)snprintf(s.text + n, sizeof s.text - n, "%s%" PRId64, i ? ", " : "", shape[i]);
    snprintf(s.text + n, sizeof s.text - n, "]");
    return s;
}

static bool has_shape(const struct tensor *t, int n_dims, const int64_t *shape)
{
    bool same = t->n_dims == n_dims;
    for (int i = 0; same && i < n_dims; i++)
        same = t->shape[i] == shape[i];
    return same;
}

const struct tensor *checkpoint_need(const struct checkpoint *c, const char *name, int n_dims,
                                     const int64_t *shape)
{
    const struct tensor *t = checkpoint_find(c, name);
    if (!t) {
        fail(STATUS_BAD_FILE, "%s: tensor \"%s\": expected shape %s, found no such tensor",
             checkpoint_dir(c), name, show_shape(n_dims, shape).text);
        return NULL;
    }
    const char *path = checkpoint_file(c, t->file);
    if (!has_shape(t, n_dims, shape)) {
        fail(STATUS_BAD_FILE, "%s: tensor \"%s\": expected shape %s, found %s", path, name,
             show_shape(n_dims, shape).text, show_shape(t->n_dims, t->shape).text);
        return NULL;
    }
    if (!t->is_float) {
        fail(STATUS_BAD_FILE, "%s: tensor \"%s\": expected type F32, F16 or BF16, found %s", path,
             name, t->type_name);
        return NULL;
    }
    return t;
}
