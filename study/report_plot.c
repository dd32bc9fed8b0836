/* Figures. gnuplot reads a script on its stdin and writes SVG to its stdout; both are files without
 * names, so neither side waits for the other. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "study/report_state.h"

enum { NO_GNUPLOT = 127 };

const char *plot_colour(int i)
{
    static const char *const colours[] = {"#3b7dd8", "#d2691e", "#2a9d6f", "#b35cc4",
                                          "#b8930b", "#3aa6b9", "#c8434f", "#7a7f87"};
    return colours[(size_t)i % (sizeof colours / sizeof *colours)];
}

void plot_begin(struct plot *p, struct report *r, int width, int height)
{
    *p = (struct plot){.report = r};
    p->script = open_memstream(&p->text, &p->bytes);
    CHECK_MEMORY(p->script, "no memory for a figure");
    fprintf(p->script,
            "set encoding utf8\n"
            "set terminal svg size %d,%d noenhanced name 'figure_%d' font 'sans-serif,13'\n"
            "set border 3\nset tics nomirror out\nset grid ytics lc rgb '#7a7f87' lw 0.4\n"
            "set style fill solid 0.9 noborder\nset key outside bottom center horizontal reverse "
            "Left samplen 1.5 width 1\n"
            "set xlabel offset 0,0.7\n",
            width, height, r->figures + 1);
}

void plot_text(FILE *script, const char *text)
{
    fputc('\'', script);
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '\'')
            fputs("\u2019", script); // two quotes for one do not work at a string's beginning
        else
            fputc(c < ' ' || c == 127 ? ' ' : c, script);
    }
    fputc('\'', script);
}

int plot_room(const char *text)
{
    size_t n = strnlen(text, 40);
    while (n > 0 && ((unsigned char)text[n] & 0xC0) == 0x80)
        n--;
    return (int)n;
}

static void become_gnuplot(FILE *script, FILE *picture, FILE *words)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL); // Ctrl-C is blocked here, for the thread that awaits it
    if (dup2(fileno(script), 0) == 0 && dup2(fileno(picture), 1) == 1 &&
        dup2(fileno(words), 2) == 2)
        execlp("gnuplot", "gnuplot", "-d", (char *)NULL);
    _exit(NO_GNUPLOT);
}

/* Run gnuplot, without the user's own settings (-d); its exit code, or -1 if a signal has ended it
 * or there is no process. */
static int run_gnuplot(FILE *script, FILE *picture, FILE *words)
{
    int state;
    rewind(script); // writes what is buffered, too
    pid_t child = fork();
    if (child == 0)
        become_gnuplot(script, picture, words);
    if (child < 0)
        return -1;
    while (waitpid(child, &state, 0) < 0)
        if (errno != EINTR)
            return -1;
    return WIFEXITED(state) ? WEXITSTATUS(state) : -1;
}

/* Ids are of the whole page, and gnuplot gives all figures the same ones: put the figure's number
 * before each. */
static void write_with_ids(const char *line, int figure, FILE *page)
{
    static const struct {
        const char *text;
        int before; // characters in front of the id
    } ids[] = {{"id='gp", 4},
               {"href='#gp", 7},
               {"id=\"gnuplot_canvas", 4},
               {"id='textbox'", 4},
               {"id='greybox'", 4}};
    while (*line) {
        int n = 0;
        for (size_t i = 0; i < sizeof ids / sizeof *ids && !n; i++)
            if (strncmp(line, ids[i].text, strlen(ids[i].text)) == 0)
                n = ids[i].before;
        if (n)
            fprintf(page, "%.*sf%d-", n, line, figure);
        else
            fputc(*line, page);
        line += n ? n : 1;
    }
}

/* Take titles and descriptions out of a line: a browser would show gnuplot's names of things. */
static void cut_titles(char *line)
{
    static const char *const marks[][2] = {{"<title>", "</title>"}, {"<desc>", "</desc>"}};
    for (int i = 0; i < 2; i++) {
        char *from = strstr(line, marks[i][0]), *to = strstr(line, marks[i][1]);
        if (from && to > from)
            memmove(from, to + strlen(marks[i][1]), strlen(to + strlen(marks[i][1])) + 1);
    }
}

/* Copy the picture from its svg element on: a page has no XML head in its middle. False: there is
 * no such element. */
static bool copy_picture(FILE *picture, struct report *r)
{
    static char line[1 << 16];
    bool inside = false;
    rewind(picture);
    while (fgets(line, sizeof line, picture)) {
        inside |= strncmp(line, "<svg", 4) == 0;
        bool size = strncmp(line, " width=", 7) == 0; // the style of the page decides
        cut_titles(line);
        if (inside && !size)
            write_with_ids(line, r->figures, r->page);
    }
    return inside;
}

/* The last line that gnuplot has said, which names the error. */
static void last_words(char *text, size_t size, FILE *words)
{
    char line[256];
    text[0] = 0;
    rewind(words);
    while (fgets(line, sizeof line, words))
        if (line[strspn(line, " ^\n")])
            snprintf(text, size, "%.*s", (int)strcspn(line, "\n"), line + strspn(line, " "));
}

static int refuse(int code, FILE *words)
{
    char text[256];
    if (code == NO_GNUPLOT)
        return fail(STATUS_FAILED, "report: expected gnuplot on PATH, which draws the figures, "
                                   "found none: apt-get install gnuplot-nox");
    last_words(text, sizeof text, words);
    return fail(STATUS_FAILED, "report: expected a figure from gnuplot, found exit code %d: %s",
                code, text);
}

static int draw(const struct plot *p, FILE *script, FILE *picture, FILE *words)
{
    struct report *r = p->report;
    if (!script || !picture || !words || fwrite(p->text, 1, p->bytes, script) != p->bytes)
        return fail(STATUS_FAILED, "report: expected room for a temporary file for gnuplot: %s",
                    strerror(errno));
    int code = run_gnuplot(script, picture, words);
    r->figures++;
    fputs("<figure>\n", r->page);
    return code || !copy_picture(picture, r) ? refuse(code, words) : 0;
}

void plot_end(struct plot *p, const char *caption)
{
    struct report *r = p->report;
    FILE *files[] = {tmpfile(), tmpfile(), tmpfile()};
    fclose(p->script);
    if (!r->status) {
        r->status = draw(p, files[0], files[1], files[2]);
        fprintf(r->page, "<figcaption><b>Figure %d.</b> %s</figcaption>\n</figure>\n", r->figures,
                caption);
    }
    for (int i = 0; i < 3; i++)
        if (files[i])
            fclose(files[i]);
    free(p->text);
}
