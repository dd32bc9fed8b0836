/* Computes the logits of a checkpoint in this process, with any number of local ranks. Parity and
 * bitwise tests compare them. */
#pragma once

#include "launch/ranks.h"

struct logits_case {
    const char *dir, *isa; // isa NULL: the best
    enum dtype dtype;
    enum quant quant, expert_quant; // unless QUANT_NONE, dtype is the checkpoint's own type
    int threads, chunk, ranks;
    const int32_t *tokens;
    int n;
    struct placement_spec placement; // zero: even
    enum device device;
    int worker_device, transport; // as in struct model_options; 0: the device of rank 0, auto
    double timeout_s;             // 0: the default
};

/* The logits [n][vocab], malloc'ed; NULL if the run failed (fail() says why). Sets *vocab. */
float *logits_of(const struct logits_case *t, int *vocab);

/* The same, with these options of the exchange. */
float *logits_over(const struct logits_case *t, const struct exchange_options *x, int *vocab);

/* From now on a case with as many ranks as mpirun started runs on those ranks. All of them must
 * then call logits_over() with the same cases. Only rank 0 gets logits; the others serve as workers
 * and get NULL. For cases with another number of ranks they get NULL, too. */
void logits_join(struct transport *mpi);

/* Write the n_new greedy tokens after the prompt to out; false if the run failed. */
bool greedy_of(const struct logits_case *t, int n_new, int32_t *out);

/* A golden file. golden_tensor() returns a tensor as it stands in the file; NULL: there is none. */
struct golden {
    char *bytes;
    struct js *header;
    const char *data;
};
bool golden_open(struct golden *g, const char *path);
void golden_close(struct golden *g);
const void *golden_tensor(const struct golden *g, const char *name, size_t *count);
