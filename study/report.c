/* The page: its head, a list of contents, the sections for which there are files, and commands that
 * would give the others. */
#include "study/report.h"

#include <string.h>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "study/report_page.h"
#include "study/report_state.h"

static const struct section {
    const char *id, *title;
    void (*write)(struct report *r);
    enum report_kind of[2]; // files of either kind give it
    bool profile;           // a profile within a file of bench does, too
} sections[] = {
    {"time", "Where the time goes", report_time, {REPORT_PROFILE, REPORT_PROFILE}, true},
    {"exchange",
     "The exchange by itself, by size",
     report_alltoall,
     {REPORT_ALLTOALL, REPORT_ALLTOALL},
     false},
    {"heat", "Which experts are used", report_heat, {REPORT_PLACE, REPORT_PLACE}, false},
    {"balance", "Balance of ranks", report_ranks, {REPORT_PLACE, REPORT_PROFILE}, true},
    {"ways", "Ways that rows can travel", report_replay, {REPORT_REPLAY, REPORT_REPLAY}, false},
    {"speed", "Speed by ranks", report_speed, {REPORT_BENCH, REPORT_BENCH}, false},
    {"fit", "Predicted and measured", report_fit, {REPORT_FIT, REPORT_FIT}, false},
    {"many", "Projection to many ranks", report_project, {REPORT_PROJECT, REPORT_PROJECT}, false},
};
enum { N_SECTIONS = sizeof sections / sizeof *sections };

static bool is_here(struct report *r, const struct section *s)
{
    return report_has(r, s->of[0]) || report_has(r, s->of[1]) ||
           (s->profile && report_has_profile(r));
}

static void write_contents(struct report *r)
{
    fputs("<h1>epmoe report</h1>\n<nav aria-label=\"contents\"><ol>\n", r->page);
    for (int i = 0; i < N_SECTIONS; i++)
        if (is_here(r, &sections[i]))
            fprintf(r->page, "<li><a href=\"#%s\">%s</a></li>\n", sections[i].id,
                    sections[i].title);
    fputs("<li><a href=\"#sources\">Files, commands and machines</a></li>\n", r->page);
    fputs(
        "</ol></nav>\n"
        "<p class=\"how\">Every number of a table stands in one of the files, in its own unit, or "
        "is the quotient of two that do: per step, or times as fast.</p>\n",
        r->page);
}

/* What is not here, and the commands that would give it. */
static void write_missing(struct report *r)
{
    bool any = false;
    for (int i = 0; i < N_SECTIONS; i++) {
        const struct section *s = &sections[i];
        if (is_here(r, s))
            continue;
        if (!any)
            fputs("<h3>Not in this report</h3>\n<ul>\n", r->page);
        any = true;
        fprintf(r->page, "<li>%s: <code>", s->title);
        page_text(r->page, report_kind_command(s->of[0]));
        fputs("</code></li>\n", r->page);
    }
    if (any)
        fputs("</ul>\n", r->page);
}

static void write_sections(struct report *r)
{
    write_contents(r);
    for (int i = 0; i < N_SECTIONS; i++)
        if (is_here(r, &sections[i])) {
            fprintf(r->page, "<section id=\"%s\">\n<h2>%s</h2>\n", sections[i].id,
                    sections[i].title);
            sections[i].write(r);
            fputs("</section>\n", r->page);
        }
    fputs("<section id=\"sources\">\n<h2>Files, commands and machines</h2>\n", r->page);
    report_sources(r);
    write_missing(r);
    fputs("</section>\n", r->page);
}

static void write_page(struct report *r)
{
    static const char mark[] = "<!-- report -->\n";
    const unsigned char *at = memmem(report_html, report_html_bytes, mark, strlen(mark));
    CHECK(at, "no mark in report.html");
    size_t before = (size_t)(at - report_html), from = before + strlen(mark);
    fwrite(report_html, 1, before, r->page);
    write_sections(r);
    fwrite(report_html + from, 1, report_html_bytes - from, r->page);
}

int report_write(char *const *paths, int n, const char *out)
{
    static struct report r;
    struct outfile f;
    r = (struct report){.n = 0};
    CHECK(n <= REPORT_MOST_FILES, "%d files", n);
    int status = outfile_check(out);
    for (int i = 0; i < n && !status; i++)
        status = outfile_check_apart(out, paths[i]);
    for (int i = 0; i < n && !status; i++)
        status = report_read(&r, paths[i]);
    if (!status)
        status = outfile_open(&f, out);
    if (!status) {
        r.page = f.stream;
        write_page(&r);
        status = r.status;
        if (status)
            outfile_abort(&f);
        else
            status = outfile_commit(&f);
    }
    arena_free(&r.memory);
    report_close(&r);
    return status;
}
