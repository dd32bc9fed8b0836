#include "transport/lost.h"

#include <stdio.h>

#include "base/log.h"

/* "rank 2", "ranks 2, 5, 6", "ranks 1, 2, 3, 4 and 60 more" */
static void name_ranks(char *out, size_t size, const bool *ranks, int n_ranks)
{
    enum { NAMED = 8 };
    int n = 0, at = 0;
    for (int r = 0; r < n_ranks; r++)
        n += ranks[r];
    at += snprintf(out, size, n == 1 ? "rank " : "ranks ");
    for (int r = 0, named = 0; r < n_ranks && named < NAMED; r++)
        if (ranks[r])
            at += snprintf(out + at, size - (size_t)at, "%s%d", named++ ? ", " : "", r);
    if (n > NAMED)
        snprintf(out + at, size - (size_t)at, " and %d more", n - NAMED);
}

int report_silent(const struct transport *t, bool *reported, const bool *ranks, const char *awaited)
{
    char names[160] = "any rank";
    if (*reported)
        return STATUS_LOST_RANK;
    *reported = true;
    if (ranks)
        name_ranks(names, sizeof names, ranks, t->size);
    return fail(STATUS_LOST_RANK, "lost %s: rank %d awaited %s, nothing came for %.1f s", names,
                t->rank, awaited, (double)t->timeout_ns * 1e-9);
}

int report_gone(const struct transport *t, bool *reported, int rank, const char *awaited)
{
    if (*reported)
        return STATUS_LOST_RANK;
    *reported = true;
    return fail(STATUS_LOST_RANK, "lost rank %d: rank %d awaited %s, but it has ended", rank,
                t->rank, awaited);
}

int report_too_large(bool *reported, int from, const char *what, size_t bytes, size_t capacity)
{
    if (*reported)
        return STATUS_FAILED;
    *reported = true;
    return fail(STATUS_FAILED, "rank %d: %s: expected at most %zu bytes, found %zu", from, what,
                capacity, bytes);
}
