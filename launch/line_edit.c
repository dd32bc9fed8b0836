#include "launch/line_edit.h"

#include <histedit.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"

enum { MOST_LINES = 1000, PASTE_MS = 20 };

static EditLine *editor; // NULL: there is no terminal
static History *history_of_lines;
static FILE *terminal;
static const char *shown;

static char *show_prompt(EditLine *unused)
{
    (void)unused;
    return (char *)(size_t)shown;
}

void line_edit_open(const char *program)
{
    HistEvent event;
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
        return;
    terminal = fdopen(dup(STDOUT_FILENO), "w"); // the program's own stdout has no descriptor
    CHECK_MEMORY(terminal, "no memory for the terminal");
    editor = el_init(program, stdin, terminal, stderr);
    history_of_lines = history_init();
    CHECK_MEMORY(editor && history_of_lines, "no memory for the terminal");
    history(history_of_lines, &event, H_SETSIZE, MOST_LINES);
    el_set(editor, EL_PROMPT, show_prompt);
    el_set(editor, EL_EDITOR, "emacs");
    el_set(editor, EL_HIST, history, history_of_lines);
    el_source(editor, NULL); // the user's ~/.editrc
}

void line_edit_close(void)
{
    if (editor) {
        history_end(history_of_lines);
        el_end(editor);
        fclose(terminal);
    }
    editor = NULL;
}

/* A line with its newline, if it has one. */
static char *read_one(const char *prompt, size_t *bytes)
{
    char *line = NULL;
    size_t room = 0;
    int count = 0;
    shown = prompt;
    if (!editor) {
        ssize_t n = getline(&line, &room, stdin);
        *bytes = n > 0 ? (size_t)n : 0;
        if (n > 0)
            return line;
        free(line);
        return NULL;
    }
    const char *edited = el_gets(editor, &count);
    *bytes = edited && count > 0 ? (size_t)count : 0;
    return *bytes ? strndup(edited, *bytes) : NULL;
}

/* The rest of what was pasted has come already; libedit reads byte by byte, so it is still there.
 */
static bool more_was_pasted(void)
{
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    return editor && poll(&in, 1, PASTE_MS) > 0;
}

/* Add a line to *text; true: another one belongs to it. */
static bool add_line(char **text, size_t *bytes, const char *line, size_t n)
{
    bool ended = n > 0 && line[n - 1] == '\n';
    n -= ended;
    n -= ended && n > 0 && line[n - 1] == '\r';
    bool goes_on = n > 0 && line[n - 1] == '\\';
    n -= goes_on;
    *text = realloc(*text, *bytes + n + 2);
    CHECK_MEMORY(*text, "no memory for a line");
    memcpy(*text + *bytes, line, n);
    *bytes += n;
    (*text)[*bytes] = 0;
    return ended && (goes_on || more_was_pasted());
}

char *line_edit_read(const char *prompt, size_t *all)
{
    char *text = NULL, *line;
    size_t bytes = 0, n;
    bool more = true;
    while (more && (line = read_one(text ? "" : prompt, &n))) {
        more = add_line(&text, &bytes, line, n);
        free(line);
        if (more)
            text[bytes++] = '\n';
        text[bytes] = 0;
    }
    HistEvent event;
    if (editor && text && *text)
        history(history_of_lines, &event, H_ENTER, text);
    *all = bytes;
    return text;
}

const char *line_edit_library(void)
{
    static char text[32];
    snprintf(text, sizeof text, "libedit %d.%d", LIBEDIT_MAJOR, LIBEDIT_MINOR);
    return text;
}
