/* How an end reports its first error; private to transport/. */
#pragma once

#include "transport/transport.h"

/* Each calls fail() unless *reported already, and returns the code either way. */

/* Nothing came for t->timeout_ns. ranks [size]: those awaited; NULL: any would have done. */
int report_silent(const struct transport *t, bool *reported, const bool *ranks,
                  const char *awaited);
/* The rank has closed its end. */
int report_gone(const struct transport *t, bool *reported, int rank, const char *awaited);
int report_too_large(bool *reported, int from, const char *what, size_t bytes, size_t capacity);
