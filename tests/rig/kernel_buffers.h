/* Memory of the kernel tests, on whatever device they run.
 *
 *     float *x = buffer(bytes);   // the host fills it
 *     primitive(&dev, x, …);      // the first one calls to_device()
 *     primitive(&dev, x, …);      // nobody waits between
 *     to_host();                  // the host looks
 *
 * A buffer is host memory with a copy in the device's memory. to_device() fills the copies of all
 * buffers. From then on the buffers belong to the primitives, which run one after the other without
 * waits. to_host() waits for them, copies back what primitives write, and checks that all other
 * copies still hold what the host wrote. Between the two no buffer can be made, and with a GPU
 * AddressSanitizer stops a test that touches one. On the CPU a copy is the buffer itself. */
#pragma once

#include "kernels/device.h"
#include "tests/rig/cm.h"

#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, bytes)   ((void)(at), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#endif

static struct dev dev; // the device that the test runs on

/* The memory that drain() frees. */
static struct piece {
    char *host, *copy; // copy NULL: there is none yet
    size_t bytes;
    bool shared;  // it is a buffer: the device has a copy
    bool written; // a primitive has written to it
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

/* A new buffer, all zeros. It lasts until drain(), while one device after another is opened. */
static inline void *buffer(size_t bytes)
{
    assert_false(away); // primitives that were called already could not see it
    return new_piece(bytes, true);
}

/* The same, but only in the host's memory, for what no primitive uses. */
static inline void *scratch(size_t bytes)
{
    return new_piece(bytes, false);
}

/* Only in the device's memory, as weights are. It lasts until close_dev(), on the CPU until
 * drain(). */
static inline void *device_memory(size_t bytes)
{
    return on_gpu() ? dev_alloc(&dev, bytes) : new_piece(bytes, false);
}

/* A copy in the host's memory of what is in device_memory(). */
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

/* Check that the device's copy, which no primitive writes, is what the host wrote. */
static inline void check_untouched(const struct piece *p)
{
    void *found = malloc(p->bytes ? p->bytes : 1);
    assert_non_null(found);
    dev_download(&dev, found, p->copy, p->bytes);
    bool untouched = memcmp(found, p->host, p->bytes) == 0;
    free(found);
    if (!untouched)
        print_error("%zu bytes that primitives only read are not what the host wrote\n", p->bytes);
    assert_true(untouched);
}

static inline void to_host(void)
{
    assert_int_equal(dev_wait(&dev), 0);
    for (struct piece *p = pieces; p < pieces + n_pieces && away; p++) {
        if (!p->shared || p->copy == p->host)
            continue;
        ASAN_UNPOISON_MEMORY_REGION(p->host, p->bytes);
        if (p->written)
            dev_download(&dev, p->host, p->copy, p->bytes);
        else
            check_untouched(p);
    }
    away = false;
    assert_int_equal(dev_wait(&dev), 0);
}

/* The buffer that `at` points into. NULL on a CPU, whose primitives may use any memory. */
static inline struct piece *piece_of(const void *at)
{
    const char *byte = at;
    if (!at || !on_gpu())
        return NULL;
    for (struct piece *p = pieces; p < pieces + n_pieces; p++)
        if (p->shared && byte >= p->host && byte <= p->host + p->bytes)
            return p;
    print_error("%p is not in a buffer: a GPU has none of it\n", at);
    assert_true(false);
    return NULL;
}

/* The device's address for what the host has at `at`, which may be NULL. For a primitive that reads
 * it. */
static inline void *reads(const void *at)
{
    const struct piece *p = piece_of(at);
    return p ? p->copy + ((const char *)at - p->host) : (void *)at;
}

/* The same for a primitive that writes it. */
static inline void *writes(void *at)
{
    struct piece *p = piece_of(at);
    if (p)
        p->written = true;
    return reads(at);
}

/* Frees all pieces. */
static inline void drain(void)
{
    assert_false(away); // the results of the last primitives must have been checked
    while (n_pieces)
        free(pieces[--n_pieces].host);
}

/* Close the device. Buffers remain, without their copies. */
static inline void close_dev(void)
{
    assert_false(away);
    dev_close(&dev);
    for (struct piece *p = pieces; p < pieces + n_pieces; p++)
        p->copy = NULL;
}
