/* The logits of a checkpoint, in this process, with any number of local ranks: what parity and
 * bitwise tests compare. */
#pragma once

#include "launch/ranks.h"

struct logits_case {
    const char *dir, *isa; // isa NULL: the best
    enum dtype dtype;
    enum quant quant, expert_quant; // unless QUANT_NONE: of the checkpoint's own type, quantised so
    int threads, chunk, ranks;
    const int32_t *tokens;
    int n;
    struct placement_spec placement; // zero: even
    enum device device;
    int worker_device, transport; // as struct model_options has them: 0 is "as rank 0", auto
    double timeout_s;             // 0: the usual
};

/* [n][vocab] malloc'ed, NULL when the run failed (fail() has spoken). *vocab is set. */
float *logits_of(const struct logits_case *t, int *vocab);

/* The same with rows travelling as `x` says. */
float *logits_over(const struct logits_case *t, const struct exchange_options *x, int *vocab);

/* From now on cases with as many ranks as mpirun started run on those. All of them call logits_over
 * alike; only rank 0 gets logits, and the others serve and get NULL, as they do of other cases. */
void logits_join(struct transport *mpi);

/* n_new greedy tokens after the prompt into out; false when the run failed. */
bool greedy_of(const struct logits_case *t, int n_new, int32_t *out);

/* A tensor of a golden file as it lies there; NULL when absent. */
struct golden {
    char *bytes;
    struct js *header;
    const char *data;
};
bool golden_open(struct golden *g, const char *path);
void golden_close(struct golden *g);
const void *golden_tensor(const struct golden *g, const char *name, size_t *count);
