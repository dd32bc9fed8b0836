#include "kernels/cuda/stage.h"

#include <string.h>

enum { PART_BYTES = 1 << 20 }; // what is worth a thread

void stage_bytes(void *to, const void *from, size_t bytes, int threads)
{
    int parts = (int)((bytes + PART_BYTES - 1) / PART_BYTES);
#pragma omp parallel for num_threads(threads) if (parts > 1 && threads > 1) schedule(static)
    for (int i = 0; i < parts; i++) {
        size_t at = (size_t)i * PART_BYTES, left = bytes - at;
        memcpy((char *)to + at, (const char *)from + at, left < PART_BYTES ? left : PART_BYTES);
    }
}
