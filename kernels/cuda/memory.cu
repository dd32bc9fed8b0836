/* Memory of the GPU, and pinned memory of the host. Pieces are cut from large allocations, are
 * zeroed, and last until the device is closed. With d->cuda->own_allocations each piece is an
 * allocation of its own, of exactly the bytes asked for. */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/host.h"

/* An allocation that pieces are cut from. */
struct allocation {
    struct allocation *next;
    char *data;
    size_t size, used;
    bool host;
};

enum { PIECE_ALIGN = 256 };

static size_t round_up(size_t n, size_t unit)
{
    return (n + unit - 1) / unit * unit;
}

/* The size of the next allocation: as much as there is already, within bounds. So allocations are
 * few, and not much of the last one is wasted. */
static size_t chunk_bytes(const struct dev *d, size_t need)
{
    size_t total = 0, least = (size_t)1 << 20, most = (size_t)256 << 20;
    if (d->cuda->own_allocations)
        return need;
    for (const struct allocation *a = d->cuda->allocations; a; a = a->next)
        total += a->size;
    size_t wish = total < least ? least : total < most ? total : most;
    return need > wish ? need : round_up(wish, PIECE_ALIGN);
}

static bool take_memory(struct dev *d, struct allocation *a)
{
    char doing[96];
    uint64_t free_bytes = cuda_free_bytes(d);
    snprintf(doing, sizeof doing, "allocating %.1f MB more, with %.1f MB free",
             (double)a->size * 1e-6, (double)free_bytes * 1e-6);
    void *data = NULL;
    cudaError_t error = a->host ? cudaMallocHost(&data, a->size) : cudaMalloc(&data, a->size);
    a->data = (char *)data;
    if (!cuda_good(d, error, a->host ? "allocating pinned memory" : doing))
        return false;
    if (a->host)
        memset(a->data, 0, a->size);
    else
        return cuda_good(d, cudaMemsetAsync(a->data, 0, a->size, d->cuda->stream), "clearing");
    return true;
}

static void *take_piece(struct dev *d, size_t bytes, bool host)
{
    size_t least = bytes ? bytes : 1;
    size_t need = d->cuda->own_allocations ? least : round_up(least, PIECE_ALIGN);
    if (!cuda_works(d))
        return NULL;
    CHECK(!d->cuda->recording, "%zu bytes wanted while a graph is recorded", bytes);
    for (struct allocation *a = d->cuda->allocations; a; a = a->next)
        if (a->host == host && a->size - a->used >= need) {
            a->used += need;
            return a->data + a->used - need;
        }
    struct allocation *a = (struct allocation *)arena_alloc(&d->memory, sizeof *a);
    a->host = host;
    a->size = chunk_bytes(d, need);
    if (!take_memory(d, a))
        return NULL;
    a->used = need;
    a->next = d->cuda->allocations;
    d->cuda->allocations = a;
    return a->data;
}

void *cuda_alloc(struct dev *d, size_t bytes)
{
    return take_piece(d, bytes, false);
}

void *cuda_alloc_host(struct dev *d, size_t bytes)
{
    void *piece = take_piece(d, bytes, true);
    // after an error the caller still writes to this memory, but nothing uses it
    return piece ? piece : arena_alloc(&d->memory, bytes);
}

void *cuda_alloc_copy(struct dev *d, void *host, size_t bytes)
{
    (void)host;
    return cuda_alloc(d, bytes);
}

uint64_t cuda_free_bytes(struct dev *d)
{
    size_t free_bytes = 0, total = 0;
    (void)d;
    if (cudaMemGetInfo(&free_bytes, &total) != cudaSuccess)
        cudaGetLastError();
    return free_bytes;
}

void cuda_upload(struct dev *d, void *to, const void *from, size_t bytes)
{
    if (bytes && cuda_works(d))
        cuda_good(d, cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, d->cuda->stream),
                  "copying to it");
}

void cuda_download(struct dev *d, void *to, const void *from, size_t bytes)
{
    if (bytes && cuda_works(d))
        cuda_good(d, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, d->cuda->stream),
                  "copying from it");
}

int cuda_wait(struct dev *d)
{
    CHECK(!d->cuda->recording, "a wait while a graph is recorded");
    if (!cuda_works(d))
        return d->cuda->status;
    host_wait_begin();
    cuda_good(d, cudaStreamSynchronize(d->cuda->stream), "computing");
    host_wait_end();
    return d->cuda->status;
}

void cuda_reserve(struct dev *d, const struct dev_limits *most)
{
    size_t needs[] = {cuda_ffn_scratch_bytes(d, most), cuda_attention_scratch_bytes(most),
                      cuda_wire_scratch_bytes(most), cuda_top_scratch_bytes(most),
                      most->quantised ? cuda_quant_scratch_bytes(most) : 0};
    size_t need = 0;
    for (size_t bytes : needs)
        need = bytes > need ? bytes : need;
    if (need > d->scratch_bytes) {
        d->scratch = cuda_alloc(d, need);
        d->scratch_bytes = need;
    }
    size_t heads = (size_t)most->rows * (size_t)most->n_heads;
    if (heads > d->cuda->n_arrived) {
        d->cuda->arrived = (unsigned *)cuda_alloc(d, heads * sizeof(unsigned));
        d->cuda->n_arrived = heads;
    }
}

void cuda_close(struct dev *d)
{
    struct cuda *c = d->cuda;
    for (cudaStream_t stream : {c->stream, c->copying})
        if (stream)
            cudaStreamSynchronize(stream);
    cuda_graphs_close(d);
    cuda_marks_close(d);
    for (cudaEvent_t event : {c->staged[0], c->staged[1], c->emptied[0], c->emptied[1]})
        if (event)
            cudaEventDestroy(event);
    if (c->blas)
        cublasDestroy(c->blas);
    for (struct allocation *a = c->allocations; a; a = a->next)
        if (a->host)
            cudaFreeHost(a->data);
        else
            cudaFree(a->data);
    for (cudaStream_t stream : {c->stream, c->copying})
        if (stream)
            cudaStreamDestroy(stream);
    cudaGetLastError(); // clear it: closing a device that has failed may fail, too
    arena_free(&d->memory);
    memset(d, 0, sizeof *d);
}
