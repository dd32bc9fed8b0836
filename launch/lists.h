/* Options that take a list of whole numbers. */
#pragma once

/* numbers[0 .. *n) := those of a text such as "1,8,32", up to `room`, each from least to most. 0,
 * or STATUS_USAGE with `option` in the error: the command's name and the option's. */
int parse_list(int *numbers, int *n, int room, const char *text, const char *option, long least,
               long most);
