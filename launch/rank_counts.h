/* Options that take numbers of ranks. */
#pragma once

/* counts[0 .. *n) := those of a text: a list such as "8,64,1024", or a range such as "8..1024",
 * which is its first number, doubled until the last one is reached, and the last one. Each from
 * least to most, up to `room`. 0, or STATUS_USAGE with `option` in the error. */
int parse_rank_counts(int *counts, int *n, int room, const char *text, const char *option,
                      long least, long most);
