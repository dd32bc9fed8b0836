/* A 64-bit digest that tells files, tensors and names apart. It is not cryptographic: whoever wants
 * to can make two inputs with the same digest. It reads eight bytes at a time, so that hashing a
 * file is not slower than reading it from the page cache. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/dtype.h"

#define HASH_START 0xcbf29ce484222325u

/* A bijection in which every bit of x changes about half the bits of the result: the last steps of
 * splitmix64 (Steele, Lea, Flood 2014). */
static inline DEVICE_TOO uint64_t hash_mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* The digest of a sequence of pieces: `hash` is the digest of the pieces before this one
 * (HASH_START when there are none). The length of each piece counts too. */
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
