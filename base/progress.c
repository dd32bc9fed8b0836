#include "base/progress.h"

#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"

enum { BAR_CELLS = 30, REDRAW_NS = 100000000 };

void progress_open(struct progress *p, const char *label, const char *unit, double total,
                   double scale)
{
    *p = (struct progress){.label = label, .unit = unit, .total = total, .scale = scale};
    p->visible = isatty(STDERR_FILENO);
    p->start_ns = clock_ns();
}

static void show_bar(double share)
{
    int full = (int)(share * BAR_CELLS);
    fputs(" [", stderr);
    for (int i = 0; i < BAR_CELLS; i++)
        fputc(i < full ? '=' : ' ', stderr);
    fprintf(stderr, "] %3.0f %%", share * 100);
}

void progress_update(struct progress *p, double done)
{
    int64_t now = clock_ns();
    if (!p->visible || now - p->shown_ns < REDRAW_NS)
        return;
    p->shown_ns = now;
    double share = p->total > 0 ? done / p->scale / p->total : 0;
    double elapsed = (double)(now - p->start_ns) * 1e-9;
    fprintf(stderr, "\r\033[K%s", p->label);
    if (p->total > 0)
        show_bar(share);
    if (p->extra[0])
        fprintf(stderr, "  %s", p->extra);
    else if (elapsed > 0)
        fprintf(stderr, "  %.1f %s/s", done / p->scale / elapsed, p->unit);
    if (share > 0)
        fprintf(stderr, "  %.0f s left", elapsed / share - elapsed);
    fflush(stderr);
}

void progress_close(struct progress *p)
{
    if (p->visible && p->shown_ns)
        fputs("\r\033[K", stderr);
    p->visible = false;
}
