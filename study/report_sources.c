/* The files: what they are, and which machine, program and command they are from. */
#include "study/report_state.h"

/* Where kinds of files keep the same thing; the first that is there counts. */
static const char *const commands[] = {"origin/command_line", NULL};
static const char *const programs[] = {"origin/version", "commit", "version", NULL};
static const char *const machines[] = {"origin/cpu", "machine/cpu", "machine/processor", "isa",
                                       NULL};
static const char *const models[] = {"model/name", "model", NULL};

static void write_first(struct spot run, const char *const *paths, const char *otherwise)
{
    FILE *page = run.report->page;
    for (int i = 0; paths[i]; i++) {
        struct spot s = spot_find(run, "%s", paths[i]);
        if (js_is_string(s.value)) {
            page_text(page, spot_text(s));
            return;
        }
    }
    fputs(otherwise, page);
}

static void write_file(struct report *r, int i)
{
    struct spot root = spot_root(r, &r->files[i]);
    struct spot run = js_is_array(root.value) ? spot_at(root, "0") : root;
    fprintf(r->page, "<tr><th scope=\"row\">%d</th><td class=\"text\">", i + 1);
    page_text(r->page, r->files[i].path);
    fprintf(r->page, "</td><td class=\"text\">%s</td><td class=\"text command\"><code>",
            report_kind_name(r->files[i].kind));
    write_first(run, commands, "not said");
    fputs("</code></td><td class=\"text\">", r->page);
    write_first(run, programs, "not said");
    fputs("</td><td class=\"text\">", r->page);
    write_first(run, machines, "not said");
    fputs("</td><td class=\"text\">", r->page);
    write_first(run, models, "&#8211;");
    fputs("</td></tr>\n", r->page);
}

void report_sources(struct report *r)
{
    static const char *const titles[] = {"file",    "path",    "what",  "command",
                                         "version", "machine", "model", NULL};
    fputs("<div class=\"wide sources\" role=\"region\" tabindex=\"0\" aria-label=\"files\">"
          "<table><thead><tr>",
          r->page);
    for (int i = 0; titles[i]; i++)
        fprintf(r->page, "<th scope=\"col\">%s</th>", titles[i]);
    fputs("</tr></thead>\n<tbody>\n", r->page);
    for (int i = 0; i < r->n; i++)
        write_file(r, i);
    fputs("</tbody></table></div>\n", r->page);
}
