/* A block's shared memory. Before each block all of it is filled with 0xff bytes (NaN, -1), so that
 * what is read before it is written shows. */
#pragma once

#include <stddef.h>

namespace emulated
{

/* Dynamic shared memory; under AddressSanitizer nothing beyond `bytes` may be touched. Where a
 * block has its own open, all of its memory comes back to it with shared_close(). */
void *shared_open(size_t bytes);
void shared_close();

/* Fill the dynamic memory and every __shared__ variable of the program. */
void spoil_shared();

/* Whether it is in shared memory of either kind, and where among all its bytes. */
bool is_shared(const void *at);
bool shared_index(const void *at, size_t *index);

} // namespace emulated
