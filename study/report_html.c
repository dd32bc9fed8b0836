/* Elements of the page: text, numbers and tables.
 *
 * A number is <data value="V" data-at="#F/POINTER" data-scale="S">SHOWN</data>: value V stands in
 * file F, counted from 1 in the page's list of files, at the JSON pointer; what is shown is V S,
 * rounded. With data-over="#F/POINTER" V is the quotient of the values at both places. */
#include <math.h>

#include "study/report_state.h"

void page_text(FILE *page, const char *text)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '<' || c == '>' || c == '&' || c == '"' || c == '\'')
            fprintf(page, "&#%d;", c);
        else
            fputc(c < ' ' && c != '\n' && c != '\t' ? ' ' : c, page);
    }
}

/* Where a value stands: its file and its place there. */
static void page_place(const char *attribute, struct spot s)
{
    FILE *page = s.report->page;
    fprintf(page, " %s=\"#%d", attribute, (int)(s.file - s.report->files) + 1);
    page_text(page, s.at);
    fputc('"', page);
}

static void page_value(double v, struct unit u, FILE *page)
{
    double shown = v * u.scale;
    if (u.digits < 0)
        fprintf(page, ">%.*g</data>", -u.digits, shown);
    else
        fprintf(page, ">%.*f</data>", u.digits, shown);
}

void page_number(struct spot s, struct unit u)
{
    double v = spot_number(s);
    fprintf(s.report->page, "<data value=\"%.17g\"", v);
    page_place("data-at", s);
    fprintf(s.report->page, " data-scale=\"%.17g\"", u.scale);
    page_value(v, u, s.report->page);
}

void page_ratio(struct spot s, struct spot over, struct unit u)
{
    double v = spot_number(s) / spot_number(over);
    FILE *page = s.report->page;
    if (!isfinite(v)) {
        fputs("&#8211;", page);
        return;
    }
    fprintf(page, "<data value=\"%.17g\"", v);
    page_place("data-at", s);
    page_place("data-over", over);
    fprintf(page, " data-scale=\"%.17g\"", u.scale);
    page_value(v, u, page);
}

void page_heading(struct spot run, const char *what)
{
    FILE *page = run.report->page;
    fputs("<h3>", page);
    page_text(page, what);
    fputs(" <span class=\"file\">", page);
    page_text(page, run.file->path);
    page_text(page, run.at);
    fputs("</span></h3>\n", page);
}

void table_begin(const struct table *t)
{
    fprintf(t->page,
            "<div class=\"wide\" role=\"region\" tabindex=\"0\" aria-label=\"%s\">"
            "<table><thead><tr>",
            t->region);
    if (t->label)
        fprintf(t->page, "<th scope=\"col\">%s</th>", t->label);
    for (int i = 0; i < t->n; i++)
        fprintf(t->page, "<th scope=\"col\"%s>%s</th>",
                t->columns[i].form == COLUMN_TEXT ? " class=\"text\"" : "", t->columns[i].title);
    fputs("</tr></thead>\n<tbody>\n", t->page);
}

static void cell(const struct table *t, const struct column *c, struct spot row)
{
    struct spot s = spot_find(row, "%s", c->path);
    bool text = c->form == COLUMN_TEXT;
    fputs(text ? "<td class=\"text\">" : "<td>", t->page);
    if (c->optional && (!s.value || js_is_null(s.value)))
        fputs("&#8211;", t->page);
    else if (c->form == COLUMN_FLAG)
        fputs(js_bool(s.value) ? "yes" : "no", t->page);
    else if (text)
        page_text(t->page, spot_text(s));
    else if (c->form == COLUMN_PER)
        page_ratio(s, t->per, c->unit);
    else
        page_number(s, c->unit);
    fputs("</td>", t->page);
}

void table_row(const struct table *t, const char *name, struct spot row)
{
    fputs("<tr>", t->page);
    if (t->label) {
        fputs("<th scope=\"row\">", t->page);
        page_text(t->page, name);
        fputs("</th>", t->page);
    }
    for (int i = 0; i < t->n; i++)
        cell(t, &t->columns[i], row);
    fputs("</tr>\n", t->page);
}

void table_end(const struct table *t, const char *caption)
{
    fputs("</tbody></table></div>\n", t->page);
    if (caption)
        fprintf(t->page, "<p class=\"how\">%s</p>\n", caption);
}
