/* Rows by NCCL against rows through the host's memory, on one loaded model: all strategies, overlap
 * off and on; the logits of a prefill and of some decode steps must be the same bytes.
 *   gpu_ranks -m MODEL --ranks N [--rows R] [--steps S]      ranks as threads
 *   mpirun -n N gpu_ranks -m MODEL [--rows R] [--steps S]    ranks as processes
 * All on CUDA devices, shared where there are fewer than ranks. A line for each; exit code 0 when
 * all are the same, 77 with the reason where NCCL cannot run here, else 1 (2: wrong options).
 * Milliseconds are of one pass, for information. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "coordinator/cluster.h"
#include "coordinator/forward.h"
#include "coordinator/unembed.h"
#include "launch/ranks.h"

enum { LOGIT_ROWS = 16, SKIPPED = 77 };

struct options {
    struct model_options model;
    long rows, steps;
};

/* What one way of moving rows has given. */
struct pass {
    float *logits; // [rows + steps][vocab]
    double prefill_ms, step_ms;
};

struct comparison {
    struct ranks ranks;
    const struct options *options;
    int32_t *tokens, *seq, *pos; // [rows + steps]
    struct pass staged, direct;
};

static int parse(struct options *o, int argc, char **argv)
{
    const struct command_spec spec = {"gpu_ranks",
                                      "Compare rows by NCCL with rows through the host's memory.",
                                      "-m MODEL --ranks N [options]",
                                      NULL,
                                      NULL,
                                      NULL};
    const struct option_spec own[] = {
        {"rows", 0, OPTION_INT, &o->rows, "N", "rows of the prefill (64)", 2, 65536, NULL},
        {"steps", 0, OPTION_INT, &o->steps, "N", "decode steps after it (8)", 0, 4096, NULL},
    };
    struct option_spec table[MODEL_OPTIONS + 3] = {{0}};
    model_options_table(table, &o->model);
    memcpy(table + MODEL_OPTIONS, own, sizeof own);
    int status = options_parse(&spec, table, argc, argv);
    o->model.chunk = o->rows;
    o->model.device = DEVICE_CUDA;
    o->model.transport = TRANSPORT_NCCL;
    return status;
}

static int n_positions(const struct options *o)
{
    return (int)(o->rows + o->steps);
}

/* ---- one pass ---- */

/* A step of n rows from position `first` on, and its logits. */
static int step(struct comparison *t, float *logits, int first, int n)
{
    struct coordinator *c = &t->ranks.coordinator;
    size_t vocab = (size_t)c->config.vocab_size;
    struct batch b = {n, t->tokens + first, t->seq, t->pos + first};
    int status = forward(c, &b);
    for (int done = 0; done < n && !status; done += LOGIT_ROWS) {
        int32_t rows[LOGIT_ROWS];
        int count = n - done < LOGIT_ROWS ? n - done : LOGIT_ROWS;
        for (int i = 0; i < count; i++)
            rows[i] = done + i;
        const float *found = unembed_to_host(c, rows, count);
        if (!found)
            return STATUS_FAILED;
        memcpy(logits + (size_t)(first + done) * vocab, found,
               (size_t)count * vocab * sizeof *logits);
    }
    return status;
}

static double milliseconds_since(int64_t start)
{
    return (double)(clock_ns() - start) * 1e-6;
}

static int run_pass(struct comparison *t, struct pass *p, const struct exchange_options *x,
                    bool nccl)
{
    struct coordinator *c = &t->ranks.coordinator;
    int rows = (int)t->options->rows, n = n_positions(t->options);
    t->ranks.options.exchange = *x;
    t->ranks.options.nccl = nccl;
    int status = coordinator_change_exchange(c, &t->ranks.options);
    if (status)
        return status;
    CHECK(kv_cache_extend(&c->kv, 0, n), "no KV block left for %d positions", n);
    int64_t start = clock_ns();
    status = step(t, p->logits, 0, rows);
    p->prefill_ms = milliseconds_since(start);
    start = clock_ns();
    for (int at = rows; at < n && !status; at++)
        status = step(t, p->logits, at, 1);
    p->step_ms = n > rows ? milliseconds_since(start) / (n - rows) : 0;
    kv_cache_release(&c->kv, 0);
    return status;
}

/* ---- comparing ---- */

/* True when all is the same; text: that, or what differs first. */
static bool compare(const struct comparison *t, char *text, size_t size)
{
    int vocab = t->ranks.coordinator.config.vocab_size;
    for (int i = 0; i < n_positions(t->options); i++)
        for (int j = 0; j < vocab; j++) {
            const float *a = t->staged.logits + (size_t)i * (size_t)vocab + j;
            const float *b = t->direct.logits + (size_t)i * (size_t)vocab + j;
            if (memcmp(a, b, sizeof *a) == 0)
                continue;
            snprintf(text, size, "row %d token %d: %.9g, not %.9g", i, j, (double)*b, (double)*a);
            return false;
        }
    snprintf(text, size, "same bytes");
    return true;
}

static int compare_all(struct comparison *t)
{
    int n_different = 0, status = 0;
    printf("%-10s %-7s %10s %10s %10s %10s  %s\n", "strategy", "overlap", "prefill ms", "staged",
           "step ms", "staged", "NCCL's logits");
    for (int i = 0; i < STRATEGY_COUNT * OVERLAP_AUTO && !status; i++) {
        struct exchange_options x = {.strategy = (enum strategy)(i / OVERLAP_AUTO),
                                     .overlap = (enum overlap)(i % OVERLAP_AUTO)};
        struct exchange_words words = exchange_words(&x);
        char text[96];
        status = run_pass(t, &t->staged, &x, false);
        if (!status)
            status = run_pass(t, &t->direct, &x, true);
        if (status)
            break;
        n_different += !compare(t, text, sizeof text);
        printf("%-10s %-7s %10.2f %10.2f %10.3f %10.3f  %s\n", words.strategy, words.overlap,
               t->direct.prefill_ms, t->staged.prefill_ms, t->direct.step_ms, t->staged.step_ms,
               text);
        fflush(stdout);
    }
    return status || n_different ? STATUS_FAILED : 0;
}

static void *array(size_t n, size_t size)
{
    void *a = calloc(n, size);
    CHECK(a, "no memory for %zu of %zu bytes", n, size);
    return a;
}

static void open_passes(struct comparison *t)
{
    size_t n = (size_t)n_positions(t->options);
    size_t vocab = (size_t)t->ranks.coordinator.config.vocab_size;
    t->tokens = array(n, sizeof *t->tokens);
    t->seq = array(n, sizeof *t->seq);
    t->pos = array(n, sizeof *t->pos);
    t->staged.logits = array(n * vocab, sizeof *t->staged.logits);
    t->direct.logits = array(n * vocab, sizeof *t->direct.logits);
    for (size_t i = 0; i < n; i++) {
        t->tokens[i] = (int32_t)((i * 7919 + 5) % vocab);
        t->pos[i] = (int32_t)i;
    }
}

/* Rank 0. */
static int run_here(struct process *p, const void *options)
{
    const struct options *o = options;
    struct comparison t = {.options = o};
    struct session_needs needs = {1, LOGIT_ROWS, n_positions(o)};
    if ((p->mpi ? p->mpi->size : o->model.ranks) < 2)
        return fail(STATUS_USAGE, "gpu_ranks: expected --ranks N or mpirun -n N of 2 or more");
    int status = ranks_open(&t.ranks, p, &o->model, &needs);
    if (status)
        return status == STATUS_USAGE ? status : STATUS_FAILED;
    open_passes(&t);
    status = compare_all(&t);
    ranks_close(&t.ranks);
    free(t.tokens);
    free(t.seq);
    free(t.pos);
    free(t.staged.logits);
    free(t.direct.logits);
    return status;
}

/* ---- starting ---- */

static int run(struct process *p, int argc, char **argv)
{
    struct options o = {.model = model_options_default(), .rows = 64, .steps = 8};
    int parsed = parse(&o, argc, argv);
    const char *why = parsed ? NULL : ranks_why_not_nccl(p, &o.model);
    if (!why)
        return ranks_command(p, parsed, &o.model, run_here, &o);
    if (!p->mpi || p->mpi->rank == 0)
        printf("skipped: %s\n", why);
    return SKIPPED;
}

int main(int argc, char **argv)
{
    struct transport mpi;
    struct process p = {.local_size = 1};
    if (!transport_under_mpi())
        return run(&p, argc, argv);
    int status = transport_open_mpi(&mpi, &p.local_rank, &p.local_size);
    if (status)
        return status;
    p.mpi = &mpi;
    mpi.timeout_ns = (int64_t)(model_options_default().timeout_s * 1e9);
    error_capture(mpi.rank > 0);
    status = run(&p, argc, argv);
    if (mpi.rank == 0)
        cluster_stop(&mpi);
    int lost = transport_close(&mpi);
    return status ? status : lost;
}
