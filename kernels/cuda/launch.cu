#include "kernels/cuda/launch.cuh"

#include <stdio.h>

#include "base/check.h"

/* A kernel's name as LAUNCH got it, without the brackets around a template with a comma. Returns
 * the length; *begin := the first letter. */
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

/* Make a refused launch the device's error. CUDA keeps a refusal as the thread's last error until
 * cudaGetLastError() takes it. If an error remains after that, it is not this launch that is at
 * fault: an earlier kernel has failed and broken the GPU's context, and every call reports that. */
void launch_refused(struct dev *d, cudaError_t error, const launch_shape &shape)
{
    char doing[256];
    cudaGetLastError();
    bool stays = cudaPeekAtLastError() != cudaSuccess;
    describe(doing, sizeof doing, "launching", shape, stays ? ", after a kernel that failed" : "");
    cuda_good(d, error, doing);
}

/* Allow a kernel the most dynamic shared memory that fits beside its static one. The limit belongs
 * to the kernel, not to a device of ours: ranks that are threads of one process share it. So each
 * asks for the most, and none lowers what another needs. */
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

enum { SHARED_WITHOUT_ASKING = 48 << 10 }; // static and dynamic shared memory together

/* Ask CUDA for a kernel's static and allowed dynamic shared memory, and remember both. NULL after
 * an error. CUDA's text does not say whether what it calls allowed counts the static memory: the
 * smaller number is right in both cases, as more can be asked for. */
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
    int fixed = (int)own.sharedSizeBytes, left = SHARED_WITHOUT_ASKING - fixed;
    int allowed = own.maxDynamicSharedSizeBytes;
    *g = {function, fixed, allowed < left ? allowed : left};
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
