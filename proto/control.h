/* The control messages between ranks, as plain C structs; callers need no protobuf. For their order
 * see docs/protocol.md. The coordinator is rank 0. */
#pragma once

#include <stdint.h>

#include "base/arena.h"
#include "base/quant.h"
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
    struct precision precision;
    int n_layers, n_experts;
    const int32_t *rank_of; // [n_layers][n_experts]; -1 in dense layers
    int n_pieces;
    const int32_t *piece_rank_of; // [n_pieces] of all layers, one after the other
    int n_output_first;
    const int32_t *output_first; // [n_output_first] first output of each rank, then their number
    int max_rows, logit_rows;    // of any step; of any Logits
    const char *strategy, *combine, *dedup, *wire, *overlap; // see exchange/options.h
    bool profile;                                            // keep a log of phases
    const void *nccl_ids;     // [n_nccl_ids][CONTROL_NCCL_ID_BYTES] see transport/nccl.h
    int n_nccl_ids;           // 0: none
    int n_copies;             // of experts, beyond those of rank_of
    const int32_t *copy_cell; // [n_copies] layer * n_experts + expert, ascending
    const int32_t *copy_rank; // [n_copies]
};

struct ready {
    uint64_t bytes; // of the weights that the worker holds
    uint32_t experts;
    double seconds; // that loading took
};

struct step {
    int n_rows; // tokens of the step, at most setup.max_rows
    int second; // how many of these are of the second half, fewer than n_rows; 0: no second half
};

struct stats {
    uint64_t steps;         // served
    uint64_t rows;          // of experts and pieces, each by itself, over all layers
    uint64_t compute_ns;    // for these
    uint64_t peak_bytes;    // resident
    double squares, errors; // of narrowing rows for the wire; see struct wire_error
};

struct clock_answer {
    uint64_t heard_ns,
        said_ns; // clock_ns() of the worker when the question came, and at its answer
};

struct records {
    const struct trace_event *events; // [n], in order of time
    size_t n;                         // at most CONTROL_MAX_MARKS
    uint64_t left;                    // how many marks follow in later messages
    uint64_t dropped;                 // marks that the log had no room for
};

struct speed {
    uint32_t isa; // enum isa, 0 to 31
    struct precision precision;
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
    const char *host; // of the sender in a Hello or a Fault; "" in others
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

/* Limits of what messages hold. A sender that breaks one fails a CHECK, a receiver returns
 * STATUS_FAILED. Texts hold no NUL, and only a Fault's may be empty. */
enum {
    CONTROL_TEXT_BYTES = 255, // version, host, device, and the words of Setup
    CONTROL_NCCL_ID_BYTES = 128,
    CONTROL_NCCL_MAX_IDS = 2,   // one for each lane
    CONTROL_FAULT_BYTES = 4095, // a Fault's text; a longer one is cut
    CONTROL_MAX_LAYERS = 4096,
    CONTROL_MAX_EXPERTS = 65536, // of a layer
    CONTROL_MAX_CELLS = 1 << 20, // layers * experts
    CONTROL_MAX_RANKS = 1 << 16,
    CONTROL_MAX_ROWS = 1 << 24,  // of a step
    CONTROL_MAX_MARKS = 1 << 18, // of a Records; so many fit in CONTROL_MAX_BYTES
};

/* Send a message; 0, or an error of the transport. */
int control_send(struct transport *t, int to, const struct control *message);

/* Receive the next message from rank `from` (or ANY_RANK). Its strings and arrays are in the arena.
 * A message that does not unpack, lacks a field or has one out of range is STATUS_FAILED; the error
 * names the rank and the field. */
int control_recv(struct transport *t, int from, struct control *message, struct arena *arena);

/* As control_recv, but any kind other than `kind` is an error. A Fault, expected or not, is
 * reported with the worker's own text ("rank 3 on host: …"), and its code returned, which is never
 * 0. */
int control_expect(struct transport *t, int from, enum control_kind kind, struct control *message,
                   struct arena *arena);

/* "Hello", "Setup", … */
const char *control_name(enum control_kind kind);

/* For tests and fuzzing. control_pack: the bytes that control_send would send from `host`,
 * malloc'ed, *n of them. control_unpack: unpack bytes as if rank `from` had sent them. */
void *control_pack(const struct control *message, const char *host, size_t *n);
int control_unpack(const void *bytes, size_t n, int from, struct control *message,
                   struct arena *arena);

const char *control_library(void); // "protobuf-c 1.4.1", for --version
