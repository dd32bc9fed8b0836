#include "base/progress.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"

enum { BAR_CELLS = 30, REDRAW_NS = 100000000 };
static const int64_t stall_ns = 5000000000; // after so long without a change, the bar says so

static struct progress_state newest;
static pthread_mutex_t newest_mutex = PTHREAD_MUTEX_INITIALIZER;

struct progress_state progress_now(void)
{
    pthread_mutex_lock(&newest_mutex);
    struct progress_state state = newest;
    pthread_mutex_unlock(&newest_mutex);
    return state;
}

static void publish(const struct progress *p, double done)
{
    pthread_mutex_lock(&newest_mutex);
    newest = (struct progress_state){p->label, p->total > 0 ? done / p->scale / p->total : 0};
    pthread_mutex_unlock(&newest_mutex);
}

static void show_bar(double share)
{
    int full = (int)(share * BAR_CELLS);
    fputs(" [", stderr);
    for (int i = 0; i < BAR_CELLS; i++)
        fputc(i < full ? '=' : ' ', stderr);
    fprintf(stderr, "] %3.0f %%", share * 100);
}

/* The mutex is held. */
static void draw(struct progress *p, int64_t now)
{
    double share = p->total > 0 ? p->done / p->scale / p->total : 0;
    double elapsed = (double)(now - p->start_ns) * 1e-9;
    p->shown_ns = now;
    fprintf(stderr, "\r\033[K%s", p->label);
    if (p->total > 0)
        show_bar(share);
    if (p->extra[0])
        fprintf(stderr, "  %s", p->extra);
    else if (elapsed > 0)
        fprintf(stderr, "  %.1f %s/s", p->done / p->scale / elapsed, p->unit);
    if (now - p->moved_ns >= p->stall_ns)
        fprintf(stderr, "  no progress for %.0f s", (double)(now - p->moved_ns) * 1e-9);
    else if (share > 0)
        fprintf(stderr, "  %.0f s left", elapsed / share - elapsed);
    fflush(stderr);
}

/* Draws about once a second, from the moment when nothing has moved for stall_ns. */
static void *watch(void *argument)
{
    struct progress *p = argument;
    pthread_mutex_lock(&p->mutex);
    while (!p->ending) {
        int64_t now = clock_ns();
        struct timespec next = {now / 1000000000 + 1, now % 1000000000};
        if (now - p->moved_ns >= p->stall_ns)
            draw(p, now);
        pthread_cond_timedwait(&p->wake, &p->mutex, &next);
    }
    pthread_mutex_unlock(&p->mutex);
    return NULL;
}

void progress_open(struct progress *p, const char *label, const char *unit, double total,
                   double scale)
{
    int64_t now = clock_ns();
    *p = (struct progress){.label = label,
                           .unit = unit,
                           .total = total,
                           .scale = scale,
                           .start_ns = now,
                           .moved_ns = now,
                           .stall_ns = stall_ns};
    p->visible = isatty(STDERR_FILENO);
    publish(p, 0);
    if (!p->visible)
        return;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&p->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&p->mutex, NULL);
    CHECK(pthread_create(&p->thread, NULL, watch, p) == 0, "no thread for the progress bar");
}

void progress_update(struct progress *p, double done)
{
    publish(p, done);
    if (!p->visible)
        return;
    int64_t now = clock_ns();
    pthread_mutex_lock(&p->mutex);
    if (done != p->done)
        p->moved_ns = now;
    p->done = done;
    if (now - p->shown_ns >= REDRAW_NS)
        draw(p, now);
    pthread_mutex_unlock(&p->mutex);
}

void progress_describe(struct progress *p, double total, const char *extra)
{
    if (!p->visible)
        return;
    pthread_mutex_lock(&p->mutex);
    p->total = total;
    if (strcmp(p->extra, extra) != 0)
        p->moved_ns = clock_ns();
    snprintf(p->extra, sizeof p->extra, "%s", extra);
    pthread_mutex_unlock(&p->mutex);
}

void progress_close(struct progress *p)
{
    if (!p->visible)
        return;
    pthread_mutex_lock(&p->mutex);
    p->ending = true;
    pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->mutex);
    pthread_join(p->thread, NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->mutex);
    if (p->shown_ns)
        fputs("\r\033[K", stderr);
    p->visible = false;
}
