#include "launch/lists.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/log.h"

int parse_list(int *numbers, int *n, int room, const char *text, const char *option, long least,
               long most)
{
    *n = 0;
    for (const char *at = text;; at++) {
        char *end;
        errno = 0;
        long v = strtol(at, &end, 10);
        if (end == at || errno || v < least || v > most || (*end && *end != ',') || *n == room)
            return fail(STATUS_USAGE, "%s takes up to %d sizes from %ld to %ld, found \"%s\"",
                        option, room, least, most, text);
        numbers[(*n)++] = (int)v;
        if (!*end)
            return 0;
        at = end;
    }
}
