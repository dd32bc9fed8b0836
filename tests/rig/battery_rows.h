/* What tests/rig/battery.h is made of: contents that show who sent them to whom and when, short
 * control messages, and the cases of rows. All ranks of a world run each case together. */
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

/* ---- contents that differ by sender, receiver and round ---- */

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

/* ---- rows ---- */

static size_t skewed_size(int from, int to, int round)
{
    static const size_t sizes[] = {0, 64, 1, 8192, 0, 300001, 4096, 63};
    return sizes[(3 * from + 5 * to + round) % 8];
}

/* Each rank sends to each other, messages of 0 to 300001 bytes. */
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

/* A worker's side of layers as the runtime has them: it receives rows, changes each byte and sends
 * them back; one wait ends the sending of a layer's rows and the receiving of the next layer's. */
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
            send_text(t, r, "step"); // must not interrupt the rows of the step before
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

/* Two ranks send each other n bytes at the same time. */
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
    exchange_large(t, 16 * MIB); // exactly one, then exactly two chunks of the MPI transport
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

/* transport_start_send() returns at once, however much is under way. Messages of a lane arrive in
 * the order in which they were sent. The receiver takes all of the last lane first, though messages
 * of the other lanes were sent before them. */
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

/* A wait in one lane also receives what comes in the other, and keeps it for the wait there. */
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
