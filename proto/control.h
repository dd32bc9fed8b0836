/* What ranks say to each other on the control plane, as plain C; callers never see protobuf.
 * docs/protocol.md tells the order. Coordinator is rank 0. */
#pragma once

#include <stdint.h>

#include "base/arena.h"
#include "base/dtype.h"
#include "base/trace.h"
#include "transport/transport.h"

enum control_kind {
    CONTROL_HELLO,   // worker -> coordinator: who I am and what I see
    CONTROL_SETUP,   // coordinator -> worker: what we all agree on
    CONTROL_READY,   // worker -> coordinator: my experts are loaded
    CONTROL_STEP,    // coordinator -> worker: one forward pass follows
    CONTROL_STATS,   // both ways: a question, and its answer
    CONTROL_FAULT,   // worker -> coordinator: I give up, and why
    CONTROL_STOP,    // coordinator -> worker: done
    CONTROL_CLOCK,   // both ways: a question, and its answer by the worker's clock
    CONTROL_RECORDS, // both ways: a question, and the worker's log since the last
    CONTROL_SPEED,   // both ways: a question, and what the worker's device can do
    CONTROL_LOGITS,  // coordinator -> worker: rows follow, whose logits are wanted
};

struct hello {
    const char *version, *host, *device;
    uint32_t isas;   // bits (1 << enum isa) that this rank can run
    uint64_t digest; // checkpoint_digest()
};

struct setup {
    uint32_t isa; // enum isa that all ranks use, 0 to 31
    enum dtype dtype;
    int n_layers, n_experts;
    const int32_t *rank_of; // [n_layers][n_experts]; -1 in dense layers
    int n_pieces;
    const int32_t *piece_rank_of; // [n_pieces] of all layers, one after the other
    int n_output_first;
    const int32_t *output_first; // [n_output_first] first output of each rank, then their number
    int max_rows, logit_rows;    // of any step; of any Logits
    const char *strategy, *combine, *dedup, *wire, *overlap; // see exchange/options.h
    bool profile;                                            // keep a log of phases
    const void *nccl_ids; // [n_nccl_ids][CONTROL_NCCL_ID_BYTES] see transport/nccl.h
    int n_nccl_ids;       // 0: none
};

struct ready {
    uint64_t bytes; // of weights this rank holds
    uint32_t experts;
    double seconds; // loading took
};

struct step {
    int n_rows; // tokens of the step, at most setup.max_rows
    int second; // of these, rows of the second half, fewer than n_rows; 0: there is none
};

struct stats {
    uint64_t steps, rows; // served
    uint64_t compute_ns;
    uint64_t peak_bytes;    // resident
    double squares, errors; // that narrowing rows for the wire has made; see struct wire_error
};

struct clock_answer {
    uint64_t heard_ns, said_ns; // the worker's clock_ns(), at most INT64_MAX
};

struct records {
    const struct trace_event *events; // [n], in order of time
    size_t n;                         // at most CONTROL_MAX_MARKS
    uint64_t left;                    // marks in messages that follow
    uint64_t dropped;
};

struct speed {
    uint32_t isa; // enum isa, 0 to 31
    enum dtype dtype;
    double flops, read_bytes_per_s; // of a question 0
    uint64_t memory;                // bytes for weights
};

struct logits {
    int n_rows, best; // best: see exchange/outputs.h; at most TOP_MOST
};

struct fault {
    int code; // enum status, never STATUS_OK
    const char *text;
};

struct control {
    enum control_kind kind;
    int from;         // set by control_recv
    const char *host; // of the sender, where the message says it (Hello, Fault), or ""
    union {
        struct hello hello;
        struct setup setup;
        struct ready ready;
        struct step step;
        struct stats stats;
        struct fault fault;
        struct clock_answer clock;
        struct records records;
        struct speed speed;
        struct logits logits;
    };
};

/* Limits of what travels; breaking them is a CHECK for the sender and STATUS_FAILED for the
 * receiver. Texts are not empty (a Fault's may be) and hold no NUL. */
enum {
    CONTROL_TEXT_BYTES = 255, // version, host, device, and the words of Setup
    CONTROL_NCCL_ID_BYTES = 128,
    CONTROL_NCCL_MAX_IDS = 2,   // lanes
    CONTROL_FAULT_BYTES = 4095, // a Fault's text; a longer one is cut
    CONTROL_MAX_LAYERS = 4096,
    CONTROL_MAX_EXPERTS = 65536, // of a layer
    CONTROL_MAX_CELLS = 1 << 20, // layers * experts
    CONTROL_MAX_RANKS = 1 << 16,
    CONTROL_MAX_ROWS = 1 << 24,  // of a step
    CONTROL_MAX_MARKS = 1 << 18, // of a Records; what it needs at most fits a message
};

int control_send(struct transport *t, int to, const struct control *message);

/* The next message from `from` (or ANY_RANK). Strings and arrays live in the arena. A message that
 * does not unpack, lacks a field or holds one out of range is STATUS_FAILED, by rank and field. */
int control_recv(struct transport *t, int from, struct control *message, struct arena *arena);

/* As control_recv, but any kind other than `kind` is an error. A Fault, expected or not, is printed
 * as the worker's own words ("rank 3 on host: …") and its code returned, which is never 0. */
int control_expect(struct transport *t, int from, enum control_kind kind, struct control *message,
                   struct arena *arena);

/* "Hello", "Setup", … */
const char *control_name(enum control_kind kind);

/* For tests and fuzzing: unpack bytes as if rank `from` had sent them, and the bytes that
 * control_send would send from `host` (malloc'ed; *n their number). */
void *control_pack(const struct control *message, const char *host, size_t *n);
int control_unpack(const void *bytes, size_t n, int from, struct control *message,
                   struct arena *arena);

const char *control_library(void); // "protobuf-c 1.4.1", for --version
