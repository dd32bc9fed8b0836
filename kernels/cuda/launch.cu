#include "kernels/cuda/launch.cuh"

#include <stdio.h>

#include "base/check.h"

/* A kernel's name as the source says it, without the brackets that a comma needs. */
static int name_of(const launch_shape &s, const char **begin)
{
    int length = (int)strlen(s.kernel);
    bool in_brackets = s.kernel[0] == '(';
    *begin = s.kernel + in_brackets;
    return length - 2 * in_brackets;
}

static void describe(char *text, size_t size, const char *doing, const launch_shape &s,
                     const char *more)
{
    const char *name;
    int length = name_of(s, &name);
    snprintf(text, size,
             "%s %.*s (grid %u,%u,%u, block %u,%u,%u, %zu bytes of dynamic shared memory)%s", doing,
             length, name, s.grid.x, s.grid.y, s.grid.z, s.block.x, s.block.y, s.block.z,
             s.shared_bytes, more);
}

/* CUDA keeps a refusal for whoever asks for the thread's last error, until it is taken. What cannot
 * be taken is no refusal: a kernel that had begun before has broken the GPU's context, and every
 * call says so. */
void launch_refused(struct dev *d, cudaError_t error, const launch_shape &shape)
{
    char doing[256];
    cudaGetLastError();
    bool stays = cudaPeekAtLastError() != cudaSuccess;
    describe(doing, sizeof doing, "launching", shape, stays ? ", after a kernel that failed" : "");
    cuda_good(d, error, doing);
}

/* The most dynamic shared memory that a kernel can have beside its own, which others who share the
 * GPU may count on, too: so never less. */
static bool ask_for_most(struct dev *d, shared_grant *g, const launch_shape &shape)
{
    char doing[256];
    int most = d->cuda->shared_bytes - g->own;
    describe(doing, sizeof doing, "asking for shared memory for", shape, "");
    if (!cuda_good(
            d, cudaFuncSetAttribute(g->function, cudaFuncAttributeMaxDynamicSharedMemorySize, most),
            doing))
        return false;
    g->most = most;
    return true;
}

/* What a kernel has and may have, asked for the first time. NULL after an error. */
static shared_grant *new_grant(struct dev *d, const void *function, const launch_shape &shape)
{
    struct cuda *c = d->cuda;
    cudaFuncAttributes own = {};
    char doing[256];
    describe(doing, sizeof doing, "asking about", shape, "");
    if (!cuda_good(d, cudaFuncGetAttributes(&own, function), doing))
        return NULL;
    CHECK(c->n_grants < MOST_GRANTS, "%d kernels with dynamic shared memory", c->n_grants);
    shared_grant *g = &c->grants[c->n_grants++];
    *g = {function, (int)own.sharedSizeBytes, own.maxDynamicSharedSizeBytes};
    return g;
}

bool launch_may_share(struct dev *d, const void *function, const launch_shape &shape)
{
    struct cuda *c = d->cuda;
    shared_grant *g = c->grants, *end = c->grants + c->n_grants;
    if (shape.shared_bytes == 0)
        return true;
    while (g < end && g->function != function)
        g++;
    if (g == end && !(g = new_grant(d, function, shape)))
        return false;
    return shape.shared_bytes <= (size_t)g->most || ask_for_most(d, g, shape);
}
