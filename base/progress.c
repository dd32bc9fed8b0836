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

void progress_update(struct progress *p, double done)
{
    int64_t now = clock_ns();
    if (!p->visible || now - p->shown_ns < REDRAW_NS)
        return;
    p->shown_ns = now;
    double share = p->total > 0 ? done / p->scale / p->total : 1;
    double elapsed = (double)(now - p->start_ns) * 1e-9;
    double rate = elapsed > 0 ? done / p->scale / elapsed : 0;
    double left = share > 0 ? elapsed / share - elapsed : 0;
    int full = (int)(share * BAR_CELLS);
    fprintf(stderr, "\r\033[K%s [", p->label);
    for (int i = 0; i < BAR_CELLS; i++)
        fputc(i < full ? '=' : ' ', stderr);
    fprintf(stderr, "] %3.0f %%  %.1f %s/s  %.0f s left", share * 100, rate, p->unit, left);
    fflush(stderr);
}

void progress_close(struct progress *p)
{
    if (p->visible && p->shown_ns)
        fputs("\r\033[K", stderr);
    p->visible = false;
}
