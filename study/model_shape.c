#include "study/model_shape.h"

#include <stdlib.h>

#include "base/log.h"
#include "model/hub.h"
#include "model/sizes.h"

static struct fit_model shape_of(const struct config *m, uint64_t digest, const char *name)
{
    struct sizes z = sizes_of(m);
    return (struct fit_model){.name = name,
                              .digest = digest,
                              .layers = m->n_layers,
                              .sparse_layers = z.sparse_layers,
                              .hidden = m->dim,
                              .experts = m->n_experts,
                              .top_k = m->top_k,
                              .dtype = m->dtype,
                              .expert_parameters = (double)z.expert,
                              .home_parameters = (double)z.layers,
                              .output_parameters = (double)z.unembed};
}

static int read_dir(struct fit_model *shape, struct config *m, const char *dir, const char *name)
{
    struct checkpoint *checkpoint = NULL;
    struct generation_defaults unused;
    uint64_t digest;
    int status = config_load(m, &unused, dir);
    if (!status)
        status = checkpoint_open(&checkpoint, dir);
    if (!status)
        status = checkpoint_digest(checkpoint, &digest);
    checkpoint_close(checkpoint);
    if (!status)
        *shape = shape_of(m, digest, name);
    return status;
}

int model_shape_read(struct fit_model *shape, struct config *m, const char *name,
                     struct arena *memory)
{
    char *dir;
    int status = hub_resolve(&dir, name);
    if (status)
        return status;
    status = read_dir(shape, m, dir, arena_strdup(memory, name));
    free(dir);
    return status;
}
