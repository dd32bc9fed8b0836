/* A 64-bit digest: tells files, tensors and names apart; no defence against forgery. It reads
 * eight bytes at a time, so that it keeps up with a page cache. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/dtype.h"

#define HASH_START 0xcbf29ce484222325u

/* A bijection that spreads every bit (the finish of splitmix64). */
static inline DEVICE_TOO uint64_t hash_mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* The digest of what came before (HASH_START at first), followed by these bytes and their count. */
static inline uint64_t hash_bytes(uint64_t hash, const void *data, size_t bytes)
{
    const unsigned char *at = (const unsigned char *)data;
    uint64_t word;
    hash = hash_mix(hash ^ bytes);
    for (; bytes >= 8; bytes -= 8, at += 8) {
        memcpy(&word, at, 8);
        hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 32;
    }
    word = 0;
    memcpy(&word, at, bytes);
    return hash_mix(hash ^ word);
}
