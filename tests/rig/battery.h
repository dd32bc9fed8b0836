/* What every transport must do, as functions that all ranks of a world run together. The tests of
 * threads and those of processes run the same functions. Those of the first group (case_*) leave
 * the world usable, so they run one after the other. Each of the second group (battery_*) ends its
 * world, so each runs in a new one. A failed EXPECT is printed and counted, and the function goes
 * on. */
#pragma once

#include <sched.h>

#include "tests/rig/battery_rows.h"

/* ---- control messages ---- */

static void case_any_rank(struct transport *t)
{
    int *seen = calloc((size_t)t->size, sizeof *seen);
    for (int i = 0; i < 3 && t->rank > 0; i++)
        send_text(t, 0, "hello");
    for (int i = 0; i < 3 * (t->size - 1) && t->rank == 0; i++) {
        int from = expect_text(t, ANY_RANK, "hello");
        EXPECT(t, from > 0 && from < t->size);
        if (from > 0 && from < t->size)
            seen[from]++;
    }
    for (int r = 1; r < t->size && t->rank == 0; r++)
        EXPECT(t, seen[r] == 3);
    free(seen);
}

/* Rank 0 receives from the last rank first, and from each in the order in which it sent. */
static void case_named_rank(struct transport *t)
{
    if (t->rank > 0) {
        send_text(t, 0, "first");
        send_text(t, 0, "");
        send_text(t, 0, "third");
    }
    for (int r = t->size - 1; r > 0 && t->rank == 0; r--) {
        EXPECT(t, expect_text(t, r, "first") == r);
        EXPECT(t, expect_text(t, r, "") == r);
        EXPECT(t, expect_text(t, r, "third") == r);
    }
}

/* A barrier: each rank sends rank 0 an empty message of rows; when rank 0 has all, it sends one to
 * each. */
static bool meet(struct transport *t)
{
    enum { LANE = LANES - 1 };
    bool good = true;
    int first = t->rank ? 0 : 1, end = t->rank ? 1 : t->size;
    for (int r = first; r < end; r++)
        good = good && transport_start_recv(t, LANE, r, NULL, 0) == 0;
    if (t->rank > 0)
        good = good && transport_start_send(t, LANE, 0, NULL, 0) == 0;
    good = good && transport_wait(t, LANE, NULL) == 0;
    for (int r = 1; r < t->size && t->rank == 0; r++)
        good = good && transport_start_send(t, LANE, r, NULL, 0) == 0;
    return good && transport_wait(t, LANE, NULL) == 0;
}

/* The same barrier by control messages, for worlds that can no longer send rows. */
static bool meet_after_rows(struct transport *t)
{
    if (t->rank > 0) {
        send_text(t, 0, "here");
        return expect_text(t, 0, "go on") == 0;
    }
    for (int r = 1; r < t->size; r++)
        if (expect_text(t, r, "here") != r)
            return false;
    for (int r = 1; r < t->size; r++)
        send_text(t, r, "go on");
    return true;
}

/* transport_is_called_off() is true from when a control message has arrived until it is received:
 * on workers for one of rank 0, on rank 0 for one of any worker. */
static void case_called_off(struct transport *t)
{
    int last = t->size - 1;
    EXPECT(t, !transport_is_called_off(t));
    EXPECT(t, meet(t));
    if (t->rank == 0)
        for (int r = 1; r < t->size; r++)
            send_text(t, r, "stop");
    while (t->rank > 0 && !transport_is_called_off(t))
        sched_yield();
    if (t->rank > 0)
        expect_text(t, 0, "stop");
    if (t->rank == last && last > 0)
        send_text(t, 0, "fault");
    while (t->rank == 0 && last > 0 && !transport_is_called_off(t))
        sched_yield();
    if (t->rank == 0 && last > 0)
        EXPECT(t, expect_text(t, ANY_RANK, "fault") == last);
    EXPECT(t, !transport_is_called_off(t));
}

static void case_long_messages(struct transport *t)
{
    static const size_t sizes[] = {1, 4000, 4096, 70000, CONTROL_MAX_BYTES};
    unsigned char *bytes = room(CONTROL_MAX_BYTES);
    int peer = 1 - t->rank;
    for (int i = 0; i < 5 && t->rank < 2 && t->size > 1; i++) {
        size_t n = 0;
        fill(bytes, sizes[i], t->rank, peer, i);
        EXPECT(t, transport_send(t, peer, bytes, sizes[i]) == 0); // both send before they receive
        memset(bytes, 0, sizes[i]);
        EXPECT(t, transport_recv(t, &peer, bytes, CONTROL_MAX_BYTES, &n) == 0);
        EXPECT(t, n == sizes[i] && is_filled(bytes, n, peer, t->rank, i));
    }
    free(bytes);
}

/* ---- the first group, in order ---- */

static void case_nothing_started(struct transport *t)
{
    size_t *received = room((size_t)t->size * sizeof *received);
    EXPECT(t, transport_wait(t, 0, received) == 0); // nothing started, nothing awaited
    EXPECT(t, received[t->size - 1] == 0);
    for (int i = 0; i < 50; i++)
        EXPECT(t, meet(t));
    free(received);
}

static void battery_in_order(struct transport *t)
{
    void (*const cases[])(struct transport *) = {
        case_nothing_started, case_any_rank,   case_named_rank, case_long_messages,
        case_all_to_all,      case_layers,     case_queued,     case_both_lanes,
        case_large,           case_called_off, case_any_rank,
    };
    t->timeout_ns = LONGEST_S * 1000000000ll;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cases[i](t);
        EXPECT(t, meet(t));
    }
}

/* ---- the second group: each ends its world; at least two ranks ---- */

static void sleep_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static void release(struct transport *t, int except)
{
    for (int r = 1; r < t->size; r++)
        if (r != except)
            send_text(t, r, "over");
}

/* Rank 1 sends a control message where rank 0 waits for its rows: that wait is interrupted, and so
 * are those of the other workers, by rank 0's message. */
static void battery_interrupted(struct transport *t)
{
    size_t ranks = (size_t)t->size;
    char *in = room(ranks * MIB), *out = calloc(ranks, MIB);
    t->timeout_ns = LONGEST_S * 1000000000ll;
    for (int r = 1; r < t->size && t->rank == 0; r++) {
        EXPECT(t, transport_start_recv(t, 0, r, in + r * MIB, MIB) == 0);
        EXPECT(t, transport_start_send(t, 0, r, out + r * MIB, MIB) == 0); // never received
    }
    if (t->rank == 1)
        send_text(t, 0, "I give up");
    int status = t->rank == 1 ? TRANSPORT_INTERRUPTED : transport_wait(t, 0, NULL);
    while (t->rank > 1 && !status) { // rows that rank 0 has sent may still come, no others do
        EXPECT(t, transport_start_recv(t, 0, 0, in, MIB) == 0);
        status = transport_wait(t, 0, NULL);
    }
    EXPECT(t, status == TRANSPORT_INTERRUPTED);
    if (t->rank == 0)
        EXPECT(t, expect_text(t, ANY_RANK, "I give up") == 1);
    if (t->rank == 0)
        release(t, -1);
    else
        expect_text(t, 0, "over");
    EXPECT(t, meet_after_rows(t));
    free(in);
    free(out);
}

/* After transport_drop() the buffers of what was started may be freed, and control messages still
 * pass. */
static void battery_dropped(struct transport *t)
{
    t->timeout_ns = LONGEST_S * 1000000000ll;
    if (t->rank < 2) {
        char *in = room(MIB), *out = calloc(1, MIB);
        for (int lane = 0; lane < LANES; lane++) {
            EXPECT(t, transport_start_recv(t, lane, 1 - t->rank, in, MIB) == 0);
            EXPECT(t, transport_start_send(t, lane, 1 - t->rank, out, 64) == 0);
        }
        transport_drop(t);
        free(in);
        free(out);
        send_text(t, 1 - t->rank, "over");
        expect_text(t, 1 - t->rank, "over");
    }
    EXPECT(t, meet_after_rows(t));
}

/* Rank 1 does not receive the rows that rank 0 sends it, and sends a control message instead: that
 * interrupts rank 0's wait, though rank 0 waits for no rows of rank 1. */
static void battery_untaken(struct transport *t)
{
    char *out = calloc(1, MIB);
    t->timeout_ns = LONGEST_S * 1000000000ll;
    if (t->rank == 0) {
        EXPECT(t, transport_start_send(t, 0, 1, out, MIB) == 0);
        EXPECT(t, transport_wait(t, 0, NULL) == TRANSPORT_INTERRUPTED);
        expect_text(t, 1, "no, thanks");
    } else if (t->rank == 1) {
        send_text(t, 0, "no, thanks");
    }
    EXPECT(t, meet_after_rows(t));
    free(out);
}

/* "lost rank 1 on HOST: HOW" */
static bool names_lost(const struct transport *t, int rank, const char *how)
{
    char text[256];
    snprintf(text, sizeof text, "lost rank %d on %s: %s", rank, t->hosts[rank], how);
    return strncmp(error_text(), text, strlen(text)) == 0;
}

/* Rank 1 works for three timeouts before it sends rows, and its pulse moves: it is not lost. Then
 * rank 0 sleeps for longer than the timeout without a pulse: a rank that is patient does not lose
 * it. */
static void battery_busy(struct transport *t)
{
    char in[64] = "";
    t->timeout_ns = 600000000;
    if (t->rank == 1) {
        for (int i = 0; i < 36; i++) {
            sleep_ms(50);
            pulse();
        }
        EXPECT(t, transport_start_send(t, 0, 0, in, 1) == 0);
        EXPECT(t, transport_wait(t, 0, NULL) == 0);
    }
    if (t->rank == 0) {
        EXPECT(t, transport_start_recv(t, 0, 1, in, sizeof in) == 0);
        EXPECT(t, transport_wait(t, 0, NULL) == 0);
        sleep_ms(1500);
        release(t, -1);
    } else {
        t->patient = true;
        expect_text(t, 0, "over");
    }
}

/* Rank 0 waits for rank 1, which does nothing. It is lost, though the pulse of rank 2 moves. */
static void battery_stuck_among_busy(struct transport *t)
{
    char in[64];
    t->timeout_ns = 500000000;
    if (t->rank == 0) {
        error_capture(true);
        EXPECT(t, transport_start_recv(t, 0, 1, in, sizeof in) == 0);
        EXPECT(t, transport_wait(t, 0, NULL) == STATUS_LOST_RANK);
        EXPECT(t, names_lost(t, 1, "no progress for 0.5 s, rows awaited"));
        release(t, -1);
        return;
    }
    for (int i = 0; i < 24 && t->rank > 1; i++) {
        sleep_ms(50);
        pulse();
    }
    t->patient = true;
    expect_text(t, 0, "over");
}

/* Rank 0 waits for a message of any rank. Rank 1 is at work (it loads) and its pulse does not move,
 * so it is lost; the ranks that only wait themselves are not. */
static void battery_stuck_among_resting(struct transport *t)
{
    char in[64];
    size_t n;
    int from = ANY_RANK;
    t->timeout_ns = 500000000;
    if (t->rank == 0) {
        error_capture(true);
        EXPECT(t, transport_recv(t, &from, in, sizeof in, &n) == STATUS_LOST_RANK);
        EXPECT(t, names_lost(t, 1, "no progress for 0.5 s, a message awaited"));
        release(t, -1);
        return;
    }
    if (t->rank == 1) {
        pulse_loading(true);
        sleep_ms(1200);
        pulse_loading(false);
    }
    t->patient = true;
    expect_text(t, 0, "over");
}

/* The timeout of the tests of silent ranks. Between processes a thread of each rank sends its pulse
 * ten times a second, if it gets a core. If that is late by half the timeout, the rank counts as
 * silent and not as one without progress; so over MPI the timeout is long. */
static int64_t short_ns(const struct transport *t)
{
    return strcmp(t->name, "mpi") == 0 ? 1600000000 : 200000000;
}

static bool names_stuck(const struct transport *t, int rank, const char *awaited)
{
    char how[64];
    snprintf(how, sizeof how, "no progress for %.1f s, %s awaited", (double)short_ns(t) * 1e-9,
             awaited);
    return names_lost(t, rank, how);
}

/* Rank 1 sends no rows and makes no progress for longer than rank 0's timeout. */
static void battery_silent(struct transport *t)
{
    char in[64];
    size_t n;
    int from = 1;
    if (t->rank > 0) {
        expect_text(t, 0, "over");
        return;
    }
    error_capture(true);
    t->timeout_ns = short_ns(t);
    int64_t start = clock_ns();
    EXPECT(t, transport_start_recv(t, 0, 1, in, sizeof in) == 0);
    EXPECT(t, transport_wait(t, 0, NULL) == STATUS_LOST_RANK);
    EXPECT(t, clock_ns() - start > short_ns(t) / 20 * 19 && seconds_since(start) < 5);
    EXPECT(t, names_stuck(t, 1, "rows"));
    error_capture(true);
    EXPECT(t, transport_recv(t, &from, in, sizeof in, &n) == STATUS_LOST_RANK);
    EXPECT(t, !*error_text()); // only the first error is reported
    release(t, -1);
}

static void battery_silent_message(struct transport *t)
{
    char in[64];
    size_t n;
    int from = ANY_RANK;
    if (t->rank > 0) {
        expect_text(t, 0, "over");
        return;
    }
    error_capture(true);
    t->timeout_ns = short_ns(t);
    EXPECT(t, transport_recv(t, &from, in, sizeof in, &n) == STATUS_LOST_RANK);
    EXPECT(t, names_stuck(t, 1, "a message") || t->size > 2);
    release(t, -1);
}

/* Rank 1 closes its end while rank 0 waits without a deadline. Rank 0 still receives what rank 1
 * sent before. */
static void battery_gone(struct transport *t)
{
    char in[64];
    t->timeout_ns = NO_DEADLINE;
    if (t->rank == 1) {
        send_text(t, 0, "last words");
        sleep_ms(50);
        return;
    }
    if (t->rank > 1) {
        expect_text(t, 0, "over");
        return;
    }
    error_capture(true);
    expect_text(t, ANY_RANK, "last words");
    EXPECT(t, transport_start_recv(t, 0, 1, in, sizeof in) == 0);
    EXPECT(t, transport_wait(t, 0, NULL) == STATUS_LOST_RANK);
    EXPECT(t, names_lost(t, 1, "it has ended, rows awaited"));
    send_text(t, 1, "to nobody");
    release(t, 1);
}

static void battery_gone_message(struct transport *t)
{
    char in[64];
    size_t n;
    int from = ANY_RANK;
    t->timeout_ns = NO_DEADLINE;
    if (t->rank == 1)
        return;
    if (t->rank > 1) {
        expect_text(t, 0, "over");
        return;
    }
    error_capture(true);
    EXPECT(t, transport_recv(t, &from, in, sizeof in, &n) == STATUS_LOST_RANK);
    EXPECT(t, names_lost(t, 1, "it has ended, a message awaited"));
    release(t, 1);
}

/* transport_look(), which rank 0 calls while it has no work: ranks that only wait are not lost, a
 * message of rank 1 is reported, and so is rank 1's end. */
static void battery_idle(struct transport *t)
{
    int64_t start = clock_ns();
    int found = 0;
    t->timeout_ns = 1600000000;
    if (t->rank > 0) {
        t->patient = true;
        if (t->rank > 1 || expect_text(t, 0, "speak") != 0)
            expect_text(t, 0, "over");
        else
            send_text(t, 0, "fault");
        return;
    }
    error_capture(true);
    for (bool begins = true; found == 0 && clock_ns() - start < 2 * t->timeout_ns; begins = false) {
        sleep_ms(transport_look_ns(t) / 1000000);
        found = transport_look(t, begins);
    }
    EXPECT(t, found == 0);
    send_text(t, 1, "speak");
    while ((found = transport_look(t, false)) == 0)
        sleep_ms(1);
    EXPECT(t, found == TRANSPORT_INTERRUPTED);
    expect_text(t, 1, "fault");
    while ((found = transport_look(t, false)) == 0)
        sleep_ms(1);
    EXPECT(t, found == STATUS_LOST_RANK && names_lost(t, 1, "it has ended, idle"));
    release(t, 1);
}

static void battery_too_large(struct transport *t)
{
    char bytes[100] = "";
    t->timeout_ns = LONGEST_S * 1000000000ll;
    if (t->rank == 0) {
        error_capture(true);
        EXPECT(t, transport_start_recv(t, 0, 1, bytes, 99) == 0);
        EXPECT(t, transport_wait(t, 0, NULL) == STATUS_FAILED);
        EXPECT(t, strstr(error_text(), "rank 1: rows: expected at most 99 bytes, found 100"));
        release(t, -1);
    } else {
        if (t->rank == 1)
            EXPECT(t, transport_start_send(t, 0, 0, bytes, 100) == 0);
        expect_text(t, 0, "over");
    }
}

static void battery_too_large_message(struct transport *t)
{
    char bytes[100] = "";
    size_t n;
    int from = 1;
    t->timeout_ns = LONGEST_S * 1000000000ll;
    if (t->rank == 0) {
        error_capture(true);
        EXPECT(t, transport_recv(t, &from, bytes, 99, &n) == STATUS_FAILED);
        EXPECT(t, strstr(error_text(), "rank 1: a message: expected at most 99 bytes, found 100"));
        release(t, -1);
    } else {
        if (t->rank == 1)
            EXPECT(t, transport_send(t, 0, bytes, 100) == 0);
        expect_text(t, 0, "over");
    }
}

static const struct battery {
    const char *name;
    void (*run)(struct transport *t);
    int least_ranks;
} batteries[] = {
    {"in_order", battery_in_order, 1},
    {"interrupted", battery_interrupted, 2},
    {"untaken", battery_untaken, 2},
    {"dropped", battery_dropped, 2},
    {"busy", battery_busy, 2},
    {"stuck_among_busy", battery_stuck_among_busy, 3},
    {"stuck_among_resting", battery_stuck_among_resting, 3},
    {"silent", battery_silent, 2},
    {"silent_message", battery_silent_message, 2},
    {"gone", battery_gone, 2},
    {"gone_message", battery_gone_message, 2},
    {"idle", battery_idle, 2},
    {"too_large", battery_too_large, 2},
    {"too_large_message", battery_too_large_message, 2},
};
enum { N_BATTERIES = sizeof batteries / sizeof *batteries };
