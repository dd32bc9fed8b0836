/* What every transport must do, as functions that all ranks of a world run together: one battery
 * for threads and for processes. The first group leaves the world in order; each of the second
 * ends it and needs one of its own. A failed EXPECT is printed and counted; nothing jumps. */
#pragma once

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "transport/transport.h"

static atomic_int battery_failures;

#define EXPECT(t, condition)                                                                       \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s, rank %d of %d: %s (%s)\n", __FILE__, __LINE__, (t)->name,  \
                    (t)->rank, (t)->size, #condition, error_text());                               \
            atomic_fetch_add(&battery_failures, 1);                                                \
        }                                                                                          \
    } while (0)

enum { MIB = 1 << 20, LONGEST_S = 60 };

/* ---- contents that tell whose they are ---- */

static unsigned char pattern(int from, int to, int round, size_t i)
{
    return (unsigned char)(31 * from + 7 * to + 3 * round + i % 251 + (i >> 12));
}

static void fill(unsigned char *bytes, size_t n, int from, int to, int round)
{
    for (size_t i = 0; i < n; i++)
        bytes[i] = pattern(from, to, round, i);
}

static bool is_filled(const unsigned char *bytes, size_t n, int from, int to, int round)
{
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != pattern(from, to, round, i))
            return false;
    return true;
}

static void *room(size_t bytes)
{
    void *p = malloc(bytes ? bytes : 1);
    if (!p)
        abort();
    return p;
}

/* ---- control messages ---- */

static void send_text(struct transport *t, int to, const char *text)
{
    EXPECT(t, transport_send(t, to, text, strlen(text)) == 0);
}

/* The next message from `from` must be this text; returns who sent it. */
static int expect_text(struct transport *t, int from, const char *text)
{
    char buffer[64];
    size_t n = 0;
    EXPECT(t, transport_recv(t, &from, buffer, sizeof buffer, &n) == 0);
    EXPECT(t, n == strlen(text) && memcmp(buffer, text, n) == 0);
    return from;
}

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

/* From named ranks, last first; each rank's messages in the order they were sent. */
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

static void case_long_messages(struct transport *t)
{
    static const size_t sizes[] = {1, 4000, 4096, 70000, CONTROL_MAX_BYTES};
    unsigned char *bytes = room(CONTROL_MAX_BYTES);
    int peer = 1 - t->rank;
    for (int i = 0; i < 5 && t->rank < 2 && t->size > 1; i++) {
        size_t n = 0;
        fill(bytes, sizes[i], t->rank, peer, i);
        EXPECT(t, transport_send(t, peer, bytes, sizes[i]) == 0); // both at once: nobody waits
        memset(bytes, 0, sizes[i]);
        EXPECT(t, transport_recv(t, &peer, bytes, CONTROL_MAX_BYTES, &n) == 0);
        EXPECT(t, n == sizes[i] && is_filled(bytes, n, peer, t->rank, i));
    }
    free(bytes);
}

/* ---- rows ---- */

static size_t skewed_size(int from, int to, int round)
{
    static const size_t sizes[] = {0, 64, 1, 8192, 0, 300001, 4096, 63};
    return sizes[(3 * from + 5 * to + round) % 8];
}

/* Everybody with everybody, sizes from nothing to much, all different. */
static void case_all_to_all(struct transport *t)
{
    enum { ROUNDS = 40, MOST = 300001 };
    size_t ranks = (size_t)t->size, *received = room(ranks * sizeof *received);
    unsigned char *out = room(ranks * MOST), *in = room(ranks * MOST);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 1; i < t->size; i++) {
            int r = (t->rank + i) % t->size;
            size_t n = skewed_size(t->rank, r, round);
            fill(out + (size_t)r * MOST, n, t->rank, r, round);
            EXPECT(t, transport_start_send(t, 0, r, out + (size_t)r * MOST, n) == 0);
            EXPECT(t, transport_start_recv(t, 0, r, in + (size_t)r * MOST, MOST) == 0);
        }
        EXPECT(t, transport_wait(t, 0, received) == 0);
        for (int r = 0; r < t->size; r++) {
            size_t n = r == t->rank ? 0 : skewed_size(r, t->rank, round);
            EXPECT(t, received[r] == n);
            EXPECT(t, is_filled(in + (size_t)r * MOST, n, r, t->rank, round));
        }
    }
    free(received);
    free(out);
    free(in);
}

/* A layer after a layer as the runtime does it: rows go out and come back changed, and a worker
 * returns them in the same wait in which it takes the next ones. */
static void serve_layers(struct transport *t, int layers, unsigned char *in, unsigned char *out)
{
    size_t *received = room((size_t)t->size * sizeof *received);
    for (int l = 0; l < layers; l++) {
        EXPECT(t, transport_start_recv(t, 0, 0, in, 8192) == 0);
        EXPECT(t, transport_wait(t, 0, received) == 0);
        for (size_t i = 0; i < received[0]; i++)
            out[i] = in[i] ^ 0xff;
        EXPECT(t, transport_start_send(t, 0, 0, out, received[0]) == 0);
    }
    EXPECT(t, transport_wait(t, 0, NULL) == 0);
    free(received);
}

static void dispatch_layer(struct transport *t, int layer, unsigned char *in, unsigned char *out,
                           size_t *received)
{
    for (int r = 1; r < t->size; r++) {
        fill(out + 8192 * r, skewed_size(0, r, layer) % 8193, 0, r, layer);
        EXPECT(t, transport_start_recv(t, 0, r, in + 8192 * r, 8192) == 0);
        EXPECT(t,
               transport_start_send(t, 0, r, out + 8192 * r, skewed_size(0, r, layer) % 8193) == 0);
    }
    EXPECT(t, transport_wait(t, 0, received) == 0);
    for (int r = 1; r < t->size; r++) {
        size_t n = skewed_size(0, r, layer) % 8193;
        EXPECT(t, received[r] == n);
        for (size_t i = 0; i < n; i++)
            in[8192 * (size_t)r + i] ^= 0xff;
        EXPECT(t, is_filled(in + 8192 * r, n, 0, r, layer));
    }
}

static void case_layers(struct transport *t)
{
    enum { LAYERS = 200 };
    size_t ranks = (size_t)t->size, *received = room(ranks * sizeof *received);
    unsigned char *in = room(8192 * ranks), *out = room(8192 * ranks);
    for (int step = 0; step < 2; step++) {
        for (int r = 1; r < t->size && t->rank == 0; r++)
            send_text(t, r, "step"); // rows still under way must not take it for an interruption
        if (t->rank > 0) {
            expect_text(t, 0, "step");
            serve_layers(t, LAYERS, in, out);
        }
        for (int l = 0; l < LAYERS && t->rank == 0; l++)
            dispatch_layer(t, l, in, out, received);
    }
    free(received);
    free(in);
    free(out);
}

/* Both ways at once. */
static void exchange_large(struct transport *t, size_t n)
{
    size_t *received = room((size_t)t->size * sizeof *received);
    unsigned char *in = room(n), *out = room(n);
    int peer = 1 - t->rank;
    fill(out, n, t->rank, peer, 0);
    EXPECT(t, transport_start_recv(t, 0, peer, in, n) == 0);
    EXPECT(t, transport_start_send(t, 0, peer, out, n) == 0);
    EXPECT(t, transport_wait(t, 0, received) == 0);
    EXPECT(t, received[peer] == n && is_filled(in, n, peer, t->rank, 0));
    free(received);
    free(in);
    free(out);
}

static void case_large(struct transport *t)
{
    if (t->size != 2)
        return;
    exchange_large(t, 16 * MIB); // just one, and just two of the MPI transport's chunks
    exchange_large(t, 32 * MIB);
    exchange_large(t, 40000000);
    if (getenv("EPMOE_SLOW"))
        exchange_large(t, 300000000);
}

enum { MESSAGES = 5, MESSAGE_BYTES = 70000 };

static size_t queued_size(int which)
{
    return (size_t)which * 13000; // the first is empty
}

static void send_queued(struct transport *t, int to, unsigned char *out, int round)
{
    for (int i = 0; i < LANES * MESSAGES; i++) {
        unsigned char *message = out + i * MESSAGE_BYTES;
        fill(message, MESSAGE_BYTES, t->rank, to, round + i);
        EXPECT(t, transport_start_send(t, i % LANES, to, message, queued_size(i / LANES)) == 0);
    }
    for (int lane = 0; lane < LANES; lane++)
        EXPECT(t, transport_wait(t, lane, NULL) == 0);
}

static void take_queued(struct transport *t, int from, unsigned char *in, int round)
{
    size_t *received = room((size_t)t->size * sizeof *received);
    for (int i = 0; i < LANES * MESSAGES; i++) {
        int lane = LANES - 1 - i / MESSAGES, which = i % MESSAGES;
        EXPECT(t, transport_start_recv(t, lane, from, in, MESSAGE_BYTES) == 0);
        EXPECT(t, transport_advance(t) == 0);
        EXPECT(t, transport_wait(t, lane, received) == 0);
        EXPECT(t, received[from] == queued_size(which));
        EXPECT(t, is_filled(in, received[from], from, t->rank, round + which * LANES + lane));
        EXPECT(t, t->arrived_ns > 0 && t->arrived_ns <= clock_ns());
    }
    free(received);
}

/* Starting waits for nobody, however much is under way; what left first in a lane comes first; and
 * one lane's rows are taken while the other's, which left before, are not. */
static void case_queued(struct transport *t)
{
    unsigned char *bytes = room(LANES * MESSAGES * MESSAGE_BYTES);
    int peer = t->rank ^ 1;
    for (int round = 0; round < 20 && peer < t->size; round++)
        if ((t->rank + round) % 2)
            send_queued(t, peer, bytes, round);
        else
            take_queued(t, peer, bytes, round);
    free(bytes);
}

/* A wait in one lane takes what is awaited in the other, and keeps it for that one's own wait. */
static void case_both_lanes(struct transport *t)
{
    size_t ranks = (size_t)t->size, *received = room(ranks * sizeof *received);
    unsigned char out[LANES][64], in[LANES][64];
    int peer = t->rank ^ 1;
    for (int round = 0; round < 20 && peer < t->size; round++) {
        for (int lane = 0; lane < LANES; lane++) {
            fill(out[lane], 64, t->rank, peer, round + lane);
            EXPECT(t, transport_start_recv(t, lane, peer, in[lane], 64) == 0);
            EXPECT(t, transport_start_send(t, lane, peer, out[lane], 64) == 0);
        }
        for (int i = 0; i < LANES; i++) {
            int lane = (i + round) % LANES;
            EXPECT(t, transport_wait(t, lane, received) == 0);
            EXPECT(t, received[peer] == 64 && is_filled(in[lane], 64, peer, t->rank, round + lane));
        }
    }
    free(received);
}

static void case_barrier(struct transport *t)
{
    size_t *received = room((size_t)t->size * sizeof *received);
    EXPECT(t, transport_wait(t, 0, received) == 0); // nothing started, nothing awaited
    EXPECT(t, received[t->size - 1] == 0);
    for (int i = 0; i < 50; i++)
        EXPECT(t, transport_barrier(t) == 0);
    free(received);
}

static void battery_in_order(struct transport *t)
{
    void (*const cases[])(struct transport *) = {
        case_barrier, case_any_rank, case_named_rank, case_long_messages, case_all_to_all,
        case_layers,  case_queued,   case_both_lanes, case_large,         case_any_rank,
    };
    t->timeout_ns = LONGEST_S * 1000000000ll;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cases[i](t);
        EXPECT(t, transport_barrier(t) == 0);
    }
}

/* ---- the end of a world; at least two ranks ---- */

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

/* Rank 1 answers with words where rows are awaited; the others hear of it while they wait. */
static void battery_interrupted(struct transport *t)
{
    size_t ranks = (size_t)t->size;
    char *in = room(ranks * MIB), *out = calloc(ranks, MIB);
    t->timeout_ns = LONGEST_S * 1000000000ll;
    for (int r = 1; r < t->size && t->rank == 0; r++) {
        EXPECT(t, transport_start_recv(t, 0, r, in + r * MIB, MIB) == 0);
        EXPECT(t, transport_start_send(t, 0, r, out + r * MIB, MIB) == 0); // 1 never takes it
    }
    if (t->rank == 1)
        send_text(t, 0, "I give up");
    int status = t->rank == 1 ? TRANSPORT_INTERRUPTED : transport_wait(t, 0, NULL);
    while (t->rank > 1 && !status) { // it may get this layer's rows yet, but never the next one's
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
    EXPECT(t, transport_barrier(t) == 0);
    free(in);
    free(out);
}

/* What was started and dropped is over: the buffers may go, and words still pass. */
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
    EXPECT(t, transport_barrier(t) == 0);
}

/* The same where rank 1 leaves rows untaken and nothing else is awaited of it. */
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
    EXPECT(t, transport_barrier(t) == 0);
    free(out);
}

/* Rank 1 says nothing for longer than rank 0 is willing to wait. */
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
    t->timeout_ns = 200000000;
    int64_t start = clock_ns();
    EXPECT(t, transport_start_recv(t, 0, 1, in, sizeof in) == 0);
    EXPECT(t, transport_wait(t, 0, NULL) == STATUS_LOST_RANK);
    EXPECT(t, seconds_since(start) > 0.19 && seconds_since(start) < 5);
    EXPECT(t, strstr(error_text(), "lost rank 1: rank 0 awaited rows"));
    error_capture(true);
    EXPECT(t, transport_recv(t, &from, in, sizeof in, &n) == STATUS_LOST_RANK);
    EXPECT(t, !*error_text()); // the first error is the one that is told
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
    t->timeout_ns = 200000000;
    EXPECT(t, transport_recv(t, &from, in, sizeof in, &n) == STATUS_LOST_RANK);
    EXPECT(t, strstr(error_text(), "lost any rank: rank 0 awaited a message"));
    release(t, -1);
}

/* Rank 1 closes its end while rank 0 waits for ever; what it said before is still heard. */
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
    EXPECT(t, strstr(error_text(), "lost rank 1: rank 0 awaited rows, but it has ended"));
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
    EXPECT(t, strstr(error_text(), "lost rank 1: rank 0 awaited a message, but it has ended"));
    release(t, 1);
}

static void battery_gone_barrier(struct transport *t)
{
    t->timeout_ns = NO_DEADLINE;
    if (t->rank == 1)
        return;
    error_capture(true);
    EXPECT(t, transport_barrier(t) == STATUS_LOST_RANK);
    EXPECT(t, strstr(error_text(), "at a barrier, but it has ended"));
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
    {"silent", battery_silent, 2},
    {"silent_message", battery_silent_message, 2},
    {"gone", battery_gone, 2},
    {"gone_message", battery_gone_message, 2},
    {"gone_barrier", battery_gone_barrier, 2},
    {"too_large", battery_too_large, 2},
    {"too_large_message", battery_too_large_message, 2},
};
enum { N_BATTERIES = sizeof batteries / sizeof *batteries };
