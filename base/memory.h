/* How much memory this process may still take. */
#pragma once

#include <stdint.h>

/* Bytes that the system can give without swapping, within the limit of the control group. */
uint64_t memory_available(void);
