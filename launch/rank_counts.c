#include "launch/rank_counts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "launch/lists.h"

/* A number from least to most, and what follows it; NULL: there is none. */
static const char *read_number(long *v, const char *text, long least, long most)
{
    char *end;
    errno = 0;
    *v = strtol(text, &end, 10);
    return end == text || errno || *v < least || *v > most ? NULL : end;
}

int parse_rank_counts(int *counts, int *n, int room, const char *text, const char *option,
                      long least, long most)
{
    long first = 0, last = 0;
    if (!strstr(text, ".."))
        return parse_list(counts, n, room, text, option, least, most);
    const char *end = read_number(&first, text, least, most);
    if (end && strncmp(end, "..", 2) == 0)
        end = read_number(&last, end + 2, least, most);
    if (!end || *end || last < first)
        return fail(STATUS_USAGE,
                    "%s: expected a range FIRST..LAST within %ld and %ld, found \"%s\"", option,
                    least, most, text);
    *n = 0;
    for (long v = first; v < last && *n < room - 1; v *= 2)
        counts[(*n)++] = (int)v;
    counts[(*n)++] = (int)last;
    return 0;
}
