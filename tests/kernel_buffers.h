/* Memory of the kernel tests, on whatever device they run.
 *
 *     float *x = buffer(bytes);   // the host fills it
 *     primitive(&dev, x, …);      // the first one calls to_device()
 *     primitive(&dev, x, …);      // nobody waits between
 *     to_host();                  // the host looks
 *
 * A buffer is host memory with a copy in the device's. to_device() fills the copies of all buffers;
 * from then on they belong to the primitives, which follow each other without waits, until
 * to_host() waits and brings everything back. Meanwhile no buffer can be made, and under
 * AddressSanitizer the host that touches one of a GPU's is stopped. On the CPU a copy is the buffer
 * itself. */
#pragma once

#include "kernels/device.h"
#include "tests/cm.h"

#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, bytes)   ((void)(at), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#endif

static struct dev dev; // what the present test runs on

/* What is freed by drain(). */
static struct piece {
    char *host, *copy; // NULL: none yet
    size_t bytes;
    bool shared; // with the device
} pieces[10000];
static int n_pieces;
static bool away; // the buffers belong to the primitives

static inline bool on_gpu(void)
{
    return dev.cuda != NULL;
}

static inline void *new_piece(size_t bytes, bool shared)
{
    void *host = NULL;
    assert_true(n_pieces < (int)(sizeof pieces / sizeof *pieces));
    assert_int_equal(posix_memalign(&host, 64, bytes ? bytes : 1), 0);
    pieces[n_pieces++] = (struct piece){.host = host, .bytes = bytes, .shared = shared};
    return memset(host, 0, bytes);
}

/* Zeroed; until drain(), on however many devices. */
static inline void *buffer(size_t bytes)
{
    assert_false(away); // it would not be in time for the calls before
    return new_piece(bytes, true);
}

/* The host's alone, otherwise the same: what no primitive touches. */
static inline void *scratch(size_t bytes)
{
    return new_piece(bytes, false);
}

/* The device's alone, as weights are; until close_dev(), on the CPU until drain(). */
static inline void *device_memory(size_t bytes)
{
    return on_gpu() ? dev_alloc(&dev, bytes) : new_piece(bytes, false);
}

/* What is in device_memory() now. */
static inline const void *contents(const void *memory, size_t bytes)
{
    if (!on_gpu())
        return memory;
    void *copy = scratch(bytes);
    dev_download(&dev, copy, memory, bytes);
    assert_int_equal(dev_wait(&dev), 0);
    return copy;
}

static inline void to_device(void)
{
    if (away)
        return;
    away = true;
    for (struct piece *p = pieces; p < pieces + n_pieces; p++) {
        if (!p->shared)
            continue;
        if (!p->copy)
            p->copy = dev_alloc_copy(&dev, p->host, p->bytes);
        dev_upload(&dev, p->copy, p->host, p->bytes);
        if (p->copy != p->host)
            ASAN_POISON_MEMORY_REGION(p->host, p->bytes);
    }
}

static inline void to_host(void)
{
    for (struct piece *p = pieces; p < pieces + n_pieces && away; p++)
        if (p->shared) {
            ASAN_UNPOISON_MEMORY_REGION(p->host, p->bytes);
            dev_download(&dev, p->host, p->copy, p->bytes);
        }
    away = false;
    assert_int_equal(dev_wait(&dev), 0);
}

/* Where the device has what the host has at `at`: a place in a buffer, or NULL. The CPU takes any
 * memory. */
static inline void *device_copy_of(const void *at)
{
    const char *byte = at;
    if (!at || !on_gpu())
        return (void *)at;
    for (struct piece *p = pieces; p < pieces + n_pieces; p++)
        if (p->shared && byte >= p->host && byte <= p->host + p->bytes)
            return p->copy + (byte - p->host);
    print_error("%p is not in a buffer: a GPU cannot read it\n", at);
    assert_true(false);
    return NULL;
}

/* Frees all pieces. */
static inline void drain(void)
{
    assert_false(away); // or nobody has seen what the last primitives did
    while (n_pieces)
        free(pieces[--n_pieces].host);
}

/* The buffers outlive their copies. */
static inline void close_dev(void)
{
    assert_false(away);
    dev_close(&dev);
    for (struct piece *p = pieces; p < pieces + n_pieces; p++)
        p->copy = NULL;
}
