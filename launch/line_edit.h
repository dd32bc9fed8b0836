/* Lines that a user types: edited, with a history, where stdin and stdout are a terminal (libedit,
 * which nothing else includes); else the lines of stdin as they are. */
#pragma once

#include <stddef.h>

void line_edit_open(const char *program);
void line_edit_close(void);
/* The next line, malloc'ed, without its newline (or CR and newline); NULL: there is none. *bytes :=
 * its length; it may hold zeros. Lines that were pasted
 * together are one, with their newlines; so are those that end with a backslash. */
char *line_edit_read(const char *prompt, size_t *bytes);
const char *line_edit_library(void); // "libedit 2.11"
