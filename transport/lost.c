#include "transport/lost.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"

enum { LOOKS = 16 }; // how many times a waiting rank looks in one timeout
static const int64_t look_most_ns = 250000000;

void watch_open(struct watch *w, int size)
{
    size_t n = (size_t)size;
    *w = (struct watch){.signs = calloc(n, sizeof *w->signs),
                        .counts = calloc(n, sizeof *w->counts),
                        .moved_ns = calloc(n, sizeof *w->moved_ns),
                        .lost = calloc(n, sizeof *w->lost)};
    CHECK_MEMORY(w->signs && w->counts && w->moved_ns && w->lost, "no memory for %d ranks", size);
}

void watch_close(struct watch *w)
{
    free(w->signs);
    free(w->counts);
    free(w->moved_ns);
    free(w->lost);
}

static int64_t look_interval(const struct transport *t)
{
    int64_t part = t->timeout_ns / LOOKS;
    return part < look_most_ns ? part : look_most_ns;
}

int64_t transport_look_ns(const struct transport *t)
{
    return t->timeout_ns == NO_DEADLINE ? -1 : look_interval(t);
}

int64_t watch_next(const struct transport *t, const struct watch *w)
{
    if (t->timeout_ns == NO_DEADLINE)
        return -1;
    return (w->looked_ns ? w->looked_ns : w->since_ns) + look_interval(t);
}

/* "rank 2 on a", "rank 2 on a, rank 5 on b", "rank 1 on a, …, rank 4 on b and 60 more" */
static void name_ranks(char *out, size_t size, const struct transport *t, const bool *ranks)
{
    enum { NAMED = 4 };
    int n = 0, named = 0, at = 0;
    for (int r = 0; r < t->size; r++)
        n += ranks[r];
    for (int r = 0; r < t->size && named < NAMED; r++)
        if (ranks[r])
            at += snprintf(out + at, size - (size_t)at, "%srank %d on %s", named++ ? ", " : "", r,
                           t->hosts[r]);
    if (n > NAMED)
        snprintf(out + at, size - (size_t)at, " and %d more", n - NAMED);
}

/* Report the ranks in w->lost, unless an error was reported before. */
static int report_lost(struct transport *t, struct watch *w, const char *how, const char *awaited)
{
    char names[512], place[192];
    if (w->reported)
        return STATUS_LOST_RANK;
    w->reported = true;
    name_ranks(names, sizeof names, t, w->lost);
    pulse_place(t->pulse, place, sizeof place);
    return fail(STATUS_LOST_RANK, "lost %s: %s, %s %s", names, how, awaited, place);
}

int report_gone(struct transport *t, struct watch *w, int rank, const char *awaited)
{
    w->lost[rank] = true;
    return report_lost(t, w, "it has ended", awaited);
}

int report_too_large(struct watch *w, int from, const char *what, size_t bytes, size_t capacity)
{
    if (w->reported)
        return STATUS_FAILED;
    w->reported = true;
    return fail(STATUS_FAILED, "rank %d: %s: expected at most %zu bytes, found %zu", from, what,
                capacity, bytes);
}

/* The first look of a wait notes all pulses. So does the first after a long pause, which means that
 * this process itself was stopped: then the others get the whole timeout again. */
static bool begin_looking(struct transport *t, struct watch *w, int64_t now)
{
    bool absent = w->looked_ns && now - w->looked_ns > t->timeout_ns / 2;
    if (w->looked_ns && !absent)
        return false;
    for (int r = 0; r < t->size; r++) {
        w->counts[r] = w->signs[r].count;
        w->moved_ns[r] = absent ? now : w->since_ns;
        if (absent)
            w->signs[r].heard_ns = now;
    }
    return true;
}

/* Note which pulses have moved. While rank 0 waits for a worker whose pulse moves, rank 0 moves its
 * own pulse, since other workers may be waiting for rank 0. A worker does not do the same for rank
 * 0: two ranks that wait for each other would then both look busy for ever. */
static void take_pulses(struct transport *t, struct watch *w, const bool *awaited, int64_t now)
{
    for (int r = 0; r < t->size; r++) {
        if (w->counts[r] == w->signs[r].count)
            continue;
        w->counts[r] = w->signs[r].count;
        w->moved_ns[r] = now;
        if (t->rank == 0 && (!awaited || awaited[r]))
            pulse();
    }
}

/* Whether this rank hears signs of life from rank r: between processes workers send theirs to rank
 * 0, and rank 0 sends its own to each worker. */
static bool looks_after(const struct transport *t, int r)
{
    return r != t->rank && (t->rank == 0 || r == 0);
}

static bool find_silent(struct transport *t, struct watch *w, int64_t now)
{
    bool any = false;
    for (int r = 0; r < t->size; r++) {
        w->lost[r] = looks_after(t, r) && now - w->signs[r].heard_ns > t->timeout_ns;
        any = any || w->lost[r];
    }
    return any;
}

static bool is_quiet(const struct transport *t, const struct watch *w, int r, int64_t now)
{
    return looks_after(t, r) && now - w->signs[r].heard_ns > t->timeout_ns / 2;
}

/* A rank that has been quiet for half the timeout may have stopped resting meanwhile, so that its
 * last word about it no longer counts. */
static bool rests(const struct transport *t, const struct watch *w, int r, int64_t now)
{
    return w->signs[r].resting && !is_quiet(t, w, r, now);
}

/* Whether rank r counts as stuck if its pulse stands still.
 *   a patient wait           only while r loads weights or runs a step
 *   a wait for named ranks   if r is one of them
 *   a wait for any rank      unless r rests; if all rest, every rank counts, since none of them
 *                            will send the message */
static bool is_wanted(const struct transport *t, const struct watch *w, const bool *awaited, int r,
                      bool all_rest, int64_t now)
{
    if (t->patient)
        return looks_after(t, r) && !rests(t, w, r, now);
    return awaited ? awaited[r] : r != t->rank && (all_rest || !rests(t, w, r, now));
}

static bool find_stuck(struct transport *t, struct watch *w, const bool *awaited, int64_t now)
{
    int64_t limit = wait_limit_ns(t);
    bool any = false, all_rest = true;
    for (int r = 0; r < t->size; r++)
        all_rest = all_rest && (r == t->rank || rests(t, w, r, now));
    for (int r = 0; r < t->size; r++) {
        w->lost[r] = is_wanted(t, w, awaited, r, all_rest, now) && now - w->moved_ns[r] > limit;
        any = any || w->lost[r];
    }
    return any;
}

/* Whether all lost ranks have been quiet, too: then "no sign of life" describes it better than "no
 * progress". */
static bool are_quiet(const struct transport *t, const struct watch *w, int64_t now)
{
    bool quiet = true;
    for (int r = 0; r < t->size; r++)
        quiet = quiet && (!w->lost[r] || is_quiet(t, w, r, now));
    return quiet;
}

/* A host that is cut off takes all its ranks along, but their last signs of life came at slightly
 * different times: count those as lost that have been silent for three quarters of the timeout. */
static void add_silent(const struct transport *t, struct watch *w, int64_t now)
{
    for (int r = 0; r < t->size; r++)
        if (looks_after(t, r) && now - w->signs[r].heard_ns > t->timeout_ns / 4 * 3)
            w->lost[r] = true;
}

int watch_look(struct transport *t, struct watch *w, const bool *awaited, const char *what,
               int64_t now)
{
    char how[64];
    bool first = begin_looking(t, w, now);
    w->looked_ns = now;
    if (first)
        return 0;
    take_pulses(t, w, awaited, now);
    bool silent = find_silent(t, w, now);
    if (!silent && !find_stuck(t, w, awaited, now))
        return 0;
    silent = silent || are_quiet(t, w, now);
    if (silent)
        add_silent(t, w, now);
    snprintf(how, sizeof how, "no %s for %.1f s", silent ? "sign of life" : "progress",
             (double)t->timeout_ns * 1e-9);
    return report_lost(t, w, how, what);
}

int watch_look_idle(struct transport *t, struct watch *w, int64_t now)
{
    bool patient = t->patient;
    t->patient = true;
    int status = watch_look(t, w, NULL, WATCH_IDLE, now);
    t->patient = patient;
    return status;
}
