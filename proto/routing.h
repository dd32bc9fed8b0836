/* Files of recorded routing: for every step of a run, which experts each row went to in each layer,
 * and which tokens the rows were of. proto/routing.proto has the format. Callers need no protobuf.
 *
 * A file is complete or absent. A reader trusts nothing in it. */
#pragma once

#include <stdint.h>

#include "base/arena.h"
#include "base/dtype.h"
#include "base/file.h"

enum {
    ROUTING_MAX_LAYERS = 4096,
    ROUTING_MAX_EXPERTS = 65536,
    ROUTING_MAX_TOP_K = 256,
    ROUTING_MAX_HIDDEN = 1 << 20,
    ROUTING_MAX_ROWS = 1 << 24,      // of a step
    ROUTING_MAX_POSITIONS = 1 << 24, // of a sequence
    ROUTING_MAX_SEQUENCES = 1 << 16,
    ROUTING_TEXT_BYTES = 4095, // version and model
};

struct routing_head {
    const char *version, *model;
    uint64_t digest; // of the checkpoint
    int n_layers, n_experts, top_k, hidden;
    enum dtype dtype;
    const uint8_t *sparse; // [n_layers] 1: the layer has experts; at least one has
};

/* Rows of one sequence, whose positions follow each other. */
struct routing_run {
    int32_t sequence, position, rows;
};

struct routing_step {
    int n_rows, n_runs;
    const struct routing_run *runs; // [n_runs] their rows add up to n_rows
    const int32_t *token;           // [n_rows]
    const uint8_t *experts;         // as in the file; see routing_experts()
};

struct routing_file {
    struct routing_head head;
    int n_sparse; // layers that have experts
    int n_steps;
    struct routing_step *steps; // [n_steps]
    uint64_t rows;              // of all steps
    int most_rows;              // of a step
    int sequences, positions;   // one more than the largest of any run
};

/* Bytes of an expert's number. */
static inline size_t routing_expert_bytes(const struct routing_head *h)
{
    return h->n_experts > 256 ? 2 : 1;
}

/* Read a file of at most 1 GiB, or bytes that `name` is the name of. Everything is in the arena.
 * STATUS_BAD_FILE with the step, the field, what was expected and what was found. */
int routing_read(struct routing_file *f, const char *path, struct arena *memory);
int routing_parse(struct routing_file *f, const void *bytes, size_t n, const char *name,
                  struct arena *memory);

/* expert [n_rows][top_k] := those of a step in the i-th layer that has experts. */
void routing_experts(const struct routing_file *f, const struct routing_step *step, int i,
                     int32_t *expert);

/* A file that is being written. What is given to it breaks none of the limits above. */
struct routing_writer {
    struct outfile file;
    uint64_t steps, rows;
};
/* 0 or STATUS_FAILED. After the last step end() makes the file appear; abort() removes it, and is
 * legal after either. */
int routing_write_begin(struct routing_writer *w, const char *path,
                        const struct routing_head *head);
void routing_write_step(struct routing_writer *w, const struct routing_head *head,
                        const struct routing_step *step);
int routing_write_end(struct routing_writer *w);
void routing_write_abort(struct routing_writer *w);
