/* Opening a GPU, its table of primitives, and its errors. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "kernels/cuda/cuda.h"

/* What the kernels are compiled for, as nvcc lists it: 800, 900. */
#ifdef EPMOE_EMULATED
static const int built_for[] = {800, 900};
#else
static const int built_for[] = {__CUDA_ARCH_LIST__};
#endif

#ifdef EPMOE_EMULATED
enum { DENSE_ROWS = 64 }; // small, so that tests have several slices
#else
enum { DENSE_ROWS = 512 }; // gate and up of this many rows stay in L2
#endif

enum { LEAST_MAJOR = 8, EARLY_MAJOR = 9, BLAS_WORKSPACE_BYTES = 32 << 20 };

/* By assignments, as C++17 has no designated initialisers. */
static struct kernels cuda_table(void)
{
    struct kernels k;
    memset(&k, 0, sizeof k);
    k.name = "cuda";
    k.embed = cuda_embed;
    k.rmsnorm = cuda_rmsnorm;
    k.matmul = cuda_matmul;
    k.matmul_add = cuda_matmul_add;
    k.ffn = cuda_ffn;
    k.rope_append = cuda_rope_append;
    k.attention = cuda_attention;
    k.route = cuda_route;
    k.gather = cuda_gather;
    k.add_norm = cuda_add_norm;
    k.sum_rows = cuda_sum_rows;
    k.narrow = cuda_narrow;
    k.widen = cuda_widen;
    k.add_seen = cuda_add_seen;
    k.penalise = cuda_penalise;
    k.top = cuda_top;
    k.matrix_bytes = cuda_matrix_bytes;
    k.matrix_pack = cuda_matrix_pack;
    k.matrix_pack_pair = cuda_matrix_pack_pair;
    k.fill = cuda_fill;
    k.kv_block_bytes = cuda_kv_block_bytes;
    k.ffn_list_open = cuda_ffn_list_open;
    k.alloc = cuda_alloc;
    k.alloc_host = cuda_alloc_host;
    k.alloc_copy = cuda_alloc_copy;
    k.upload = cuda_upload;
    k.download = cuda_download;
    k.free_bytes = cuda_free_bytes;
    k.wait = cuda_wait;
    k.time_marks = cuda_time_marks;
    k.graph_begin = cuda_graph_begin;
    k.graph_end = cuda_graph_end;
    k.reserve = cuda_reserve;
    k.close = cuda_close;
    k.peak_flops = cuda_peak_flops;
    k.quant_peak_flops = cuda_quant_peak_flops;
    k.read_bandwidth = cuda_read_bandwidth;
    return k;
}

static const struct kernels kernels_cuda = cuda_table();

/* How many GPUs the driver has, also those that this build has no code for; 0 without a driver, or
 * if CUDA cannot be used; *error then says why. */
static int devices(cudaError_t *error)
{
    int n = 0;
    *error = cudaGetDeviceCount(&n);
    if (*error == cudaSuccess)
        return n;
    cudaGetLastError(); // clear it: to have no GPU is not an error
    return 0;
}

static bool is_new_enough(int gpu, cudaDeviceProp *p)
{
    if (cudaGetDeviceProperties(p, gpu) == cudaSuccess)
        return p->major >= LEAST_MAJOR;
    cudaGetLastError();
    return false;
}

int cuda_count(void)
{
    cudaDeviceProp p;
    cudaError_t error;
    int n = 0, all = devices(&error);
    while (n < all && is_new_enough(n, &p))
        n++;
    return n;
}

/* Append to a text as much as there is room for. */
static void append(char *text, size_t size, const char *format, ...)
{
    size_t used = strlen(text);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + used, size - used, format, arguments);
    va_end(arguments);
}

static void describe_gpu(char *text, size_t size, int gpu)
{
    cudaDeviceProp p;
    cudaError_t error = cudaGetDeviceProperties(&p, gpu);
    if (error == cudaSuccess) {
        snprintf(text, size, "%s, sm_%d%d, %.1f GiB%s", p.name, p.major, p.minor,
                 (double)p.totalGlobalMem / (1 << 30),
                 p.major >= LEAST_MAJOR ? "" : " (too old: sm_80 is needed)");
        return;
    }
    cudaGetLastError();
    snprintf(text, size, "cannot be used: %s", cudaGetErrorString(error));
}

/* GPUs that follow each other and are alike share an entry, so that those of a host with eight have
 * room in a line. */
void cuda_describe(char *text, size_t size)
{
    char own[320], next[320];
    cudaError_t error;
    int all = devices(&error);
    *text = '\0';
    append(text, size, "built for");
    for (int arch : built_for)
        append(text, size, " sm_%d", arch / 10);
    if (all == 0)
        append(text, size, "; no GPU found");
    if (all == 0 && error != cudaSuccess && error != cudaErrorNoDevice)
        append(text, size, " (%s)", cudaGetErrorString(error));
    for (int gpu = 0, last; gpu < all; gpu = last + 1) {
        describe_gpu(own, sizeof own, gpu);
        for (last = gpu; last + 1 < all; last++) {
            describe_gpu(next, sizeof next, last + 1);
            if (strcmp(own, next) != 0)
                break;
        }
        if (last == gpu)
            append(text, size, "; GPU %d: %s", gpu, own);
        else
            append(text, size, "; GPUs %d to %d: %s", gpu, last, own);
    }
}

bool cuda_good(struct dev *d, cudaError_t error, const char *doing)
{
    if (error == cudaSuccess)
        return true;
    cudaGetLastError();
    if (d->cuda->status == 0)
        d->cuda->status =
            fail(STATUS_FAILED, "GPU %d: %s: %s", d->cuda->gpu, doing, cudaGetErrorString(error));
    return false;
}

bool cublas_good(struct dev *d, cublasStatus_t error, const char *doing)
{
    if (error == CUBLAS_STATUS_SUCCESS)
        return true;
    if (d->cuda->status == 0)
        d->cuda->status = fail(STATUS_FAILED, "GPU %d: %s: %s", d->cuda->gpu, doing,
                               cublasGetStatusString(error));
    return false;
}

/* A variable that is 0 or 1, or not set: a mistake in it would change nothing, in silence. */
static int check_flag(const char *name)
{
    const char *wish = getenv(name);
    if (!wish || strcmp(wish, "0") == 0 || strcmp(wish, "1") == 0)
        return 0;
    return fail(STATUS_USAGE, "%s: expected 0 or 1, found %s", name, wish);
}

/* Whether a kernel may begin before the one before it has ended. EPMOE_EARLY=0 forbids it: for
 * measuring what early kernels gain, and for finding out whether they cause a fault. */
static bool can_be_early(int gpu)
{
    int major = 0;
    const char *wish = getenv("EPMOE_EARLY");
    if (wish && strcmp(wish, "0") == 0)
        return false;
    if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, gpu) != cudaSuccess)
        cudaGetLastError();
    return major >= EARLY_MAJOR;
}

bool cuda_set_early(struct dev *d, bool early)
{
    cuda_wait(d);
    cuda_graphs_close(d);
    d->cuda->early = early && can_be_early(d->cuda->gpu);
    return d->cuda->early == early;
}

/* Ask the GPU for its multiprocessors, L2 cache and shared memory. */
static bool measure_gpu(struct dev *d)
{
    struct cuda *c = d->cuda;
    cudaDeviceAttr size = cudaDevAttrMultiProcessorCount, cache = cudaDevAttrL2CacheSize,
                   shared = cudaDevAttrMaxSharedMemoryPerBlockOptin;
    bool good =
        cuda_good(d, cudaDeviceGetAttribute(&c->multiprocessors, size, c->gpu),
                  "asking for its size") &&
        cuda_good(d, cudaDeviceGetAttribute(&c->l2_bytes, cache, c->gpu), "asking for its cache") &&
        cuda_good(d, cudaDeviceGetAttribute(&c->shared_bytes, shared, c->gpu),
                  "asking for its shared memory");
    c->dense_rows = DENSE_ROWS;
    c->ahead_bytes = c->l2_bytes / 2;
    return good;
}

/* Whether every piece of memory is an allocation of its own. Then tools that watch allocations
 * (compute-sanitizer; on the emulation AddressSanitizer) see an access beyond a piece's end.
 * EPMOE_OWN_ALLOCATIONS is 1 or 0; without it, only the emulation does so. */
static bool wants_own_allocations(void)
{
    const char *wish = getenv("EPMOE_OWN_ALLOCATIONS");
#ifdef EPMOE_EMULATED
    return !wish || strcmp(wish, "0") != 0;
#else
    return wish && strcmp(wish, "1") == 0;
#endif
}

/* cuBLAS gets its workspace from us, as it may not allocate while a graph is recorded. */
static bool open_blas(struct dev *d)
{
    struct cuda *c = d->cuda;
    return cublas_good(d, cublasCreate(&c->blas), "opening cuBLAS") &&
           cublas_good(d, cublasSetStream(c->blas, c->stream), "cuBLAS on a stream") &&
           cublas_good(d,
                       cublasSetWorkspace(c->blas, cuda_alloc(d, BLAS_WORKSPACE_BYTES),
                                          BLAS_WORKSPACE_BYTES),
                       "cuBLAS's workspace");
}

static bool new_event(struct dev *d, cudaEvent_t *event)
{
    return cuda_good(d, cudaEventCreateWithFlags(event, cudaEventDisableTiming),
                     "creating an event");
}

static bool open_staging(struct dev *d)
{
    struct cuda *c = d->cuda;
    for (int i = 0; i < 2; i++) {
        c->staging[i] = cuda_alloc_host(d, STAGING_BYTES);
        c->staged_rows[i] = cuda_alloc(d, STAGING_BYTES);
        if (!new_event(d, &c->staged[i]) || !new_event(d, &c->emptied[i]) ||
            !cuda_good(d, cudaEventRecord(c->emptied[i], c->stream), "recording an event"))
            return false; // emptied: the first copy waits until the memory has been zeroed
    }
    return cuda_works(d) &&
           cuda_good(d, cudaStreamCreateWithFlags(&c->copying, cudaStreamNonBlocking),
                     "creating a stream");
}

int dev_open_cuda(struct dev *d, int gpu, enum isa isa, int threads)
{
    int n = cuda_count();
    memset(d, 0, sizeof *d);
    CHECK(threads >= 1, "%d threads", threads);
    if (gpu < 0 || gpu >= n) {
        char found[256];
        cuda_describe(found, sizeof found);
        return fail(STATUS_USAGE, "--device cuda: expected a GPU number %d, found: CUDA %s", gpu,
                    found);
    }
    int wrong = check_flag("EPMOE_EARLY");
    if (!wrong)
        wrong = check_flag("EPMOE_OWN_ALLOCATIONS");
    if (wrong)
        return wrong;
    d->kernels = &kernels_cuda;
    d->isa = isa;
    d->threads = threads;
    d->joint_ffn_max_rows = CUDA_JOINT_FFN_MAX_ROWS;
    d->cuda = (struct cuda *)arena_alloc(&d->memory, sizeof *d->cuda);
    d->cuda->gpu = gpu;
    d->cuda->early = can_be_early(gpu);
    d->cuda->own_allocations = wants_own_allocations();
    bool good = cuda_good(d, cudaSetDevice(gpu), "choosing it") && measure_gpu(d) &&
                cuda_good(d, cudaStreamCreateWithFlags(&d->cuda->stream, cudaStreamNonBlocking),
                          "creating a stream") &&
                open_blas(d) && open_staging(d);
    if (good)
        return 0;
    int status = d->cuda->status;
    cuda_close(d);
    return status;
}
