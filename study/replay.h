/* Recorded routing once more, without the model: every lap of every step and layer, by each way
 * that rows can travel, so that all ways are compared on the same traffic. docs/study.md. */
#pragma once

#include <stdio.h>

#include "exchange/exchange.h"
#include "model/placement.h"
#include "proto/routing.h"
#include "study/alltoall.h"
#include "study/traffic.h"
#include "study/wire_errors.h"

enum replay_kind { REPLAY_DECODE, REPLAY_PREFILL, REPLAY_KINDS };

struct replay_options {
    const struct routing_file *file;
    const char *path;
    struct config layers;        // what the file's head says of the model's layers
    int iterations;              // that are timed, each of the whole file
    bool check;                  // compare all that travels, in an iteration of its own
    struct placement *placement; // rank 0; workers are told
    const char *placed;          // what the user asked for, in words
    const char *version;
};

/* The layers of a file: 0, or STATUS_BAD_FILE where it has more layers or experts than a model. */
int replay_layers(struct config *layers, const struct routing_file *f, const char *path);

/* One way, for the steps of one kind. Bytes are of all steps together, as rank 0 counts them. */
struct replay_sums {
    uint64_t out, back, messages, logical, local;
    double ns; // of all round trips together: the median over the iterations
};

struct replay_way {
    struct exchange_options options;
    struct replay_sums sums[REPLAY_KINDS];
};

enum { REPLAY_MAX_WAYS = STRATEGY_COUNT * (int)DEDUP_COUNT * (int)COMBINE_COUNT * (int)WIRE_COUNT };

struct replay_report {
    int n_ranks, n_ways;
    const char *transport; // "local", "mpi" or "none"
    int steps[REPLAY_KINDS];
    uint64_t rows[REPLAY_KINDS];
    enum isa isa;
    struct replay_way ways[REPLAY_MAX_WAYS];
};

/* ways [REPLAY_MAX_WAYS] := all of them, the default first; returns their number. A wire that is
 * the model's own, or no narrower, is none, and neither is allgather without dedup. */
int replay_ways(struct exchange_options *ways, enum dtype type);

/* As alltoall_coordinate() and alltoall_serve(). */
int replay_coordinate(struct replay_report *r, struct transport *t, const struct replay_options *o);
int replay_serve(struct transport *t, const struct replay_options *o);

/* What a step is: decode if each of its sequences has one row. */
enum replay_kind replay_kind_of(const struct routing_step *s);

/* *t := a step's routing in the i-th layer with experts, with weights as traffic_draw() has them;
 * its arrays have room for the longest step. */
void replay_traffic(struct traffic *t, const struct routing_file *f,
                    const struct routing_step *step, int i);

/* errors: of the model's logits, or NULL where no model was given. CSV has none of them. */
void replay_print(const struct replay_report *r, const struct replay_options *o,
                  const struct wire_errors *errors, enum alltoall_format format, FILE *out);
