/* Lines that a user types: edited, with a history, where stdin and stdout are a terminal (libedit,
 * which nothing else includes); else the lines of stdin as they are. */
#pragma once

void line_edit_open(const char *program);
void line_edit_close(void);
/* The next line, malloc'ed, without its newline; NULL: there is none. Lines that were pasted
 * together are one, with their newlines; so are those that end with a backslash. */
char *line_edit_read(const char *prompt);
const char *line_edit_library(void); // "libedit 2.11"
