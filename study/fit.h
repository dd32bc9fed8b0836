/* The file that `epmoe calibrate` writes and `epmoe project` reads: prices that were fitted, where
 * and how well. docs/projection.md has every key. */
#pragma once

#include "base/arena.h"
#include "base/dtype.h"
#include "study/cost.h"

/* What of a model its prices depend on. */
struct fit_model {
    const char *name;
    uint64_t digest; // of the checkpoint, as recorded routing has it
    int layers, sparse_layers, hidden, experts, top_k;
    enum dtype dtype;
    // parameters of one expert; of all layers without experts; of the output matrix
    double expert_parameters, home_parameters, output_parameters;
};

struct span {
    double least, most;
};
static const struct span span_none = {1, 0}; // before anything is in it
/* Make room for v. */
static inline void span_widen(struct span *s, double v)
{
    bool empty = s->most < s->least;
    s->least = empty || v < s->least ? v : s->least;
    s->most = empty || v > s->most ? v : s->most;
}

/* What was measured: outside of it a prediction is extrapolated. */
struct fit_spans {
    struct span ranks, rows, lap_bytes, lap_messages, positions;
};

struct fit {
    const char *version, *processor, *isa, *transport;
    int cores, hosts, ranks, threads, ranks_at_once;
    bool has_model;
    struct fit_model model;
    struct costs prices; // those of a model are 0 without one
    struct fit_spans spans;
    struct goodness good;
};

/* The spans of all settings, of which there is one or more. */
struct fit_spans fit_spans_of(const struct setting *settings, int n);

/* Texts are in the arena. 0, or STATUS_BAD_FILE with file, key, what was expected and what was
 * found. */
int fit_read(struct fit *f, const char *path, struct arena *memory);
int fit_parse(struct fit *f, const char *text, size_t bytes, const char *name,
              struct arena *memory);

/* 0 or STATUS_FAILED; the file appears whole or not at all. */
int fit_write(const struct fit *f, const struct setting *settings, int n, const char *path);
