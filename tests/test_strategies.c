/* However rows travel, the logits are those of a single process: 1 to 9 workers (more than experts,
 * too), every strategy, dedup, combine and wire, whole steps and overlapped halves.
 *   combine rows            the same bytes, on any wire
 *   combine sum, f32        max |delta| <= 1e-5 of the logits' range
 *   combine sum, otherwise  as near to the f32 logits as combine rows on the same wire, times 1.3,
 *                           and the same bytes for every strategy, dedup and overlap
 *   wire bf16, int8         within 1 %, 3 % of the logits on the model's own wire
 * Near is the median token's RMS distance over RMS. The measured figures are printed.
 * Placements: even, round-robin with some experts at home, and one where a few ranks have it all.
 * Any routing: tests/test_exchange.c. Under mpirun (tests/mpi_strategies.sh): with its ranks. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/cm.h"
#include "tests/logits.h"

enum { N_TOKENS = 50, CHUNK = 33, MOST_WORKERS = 9 };

/* A sanitized build is slower by an order of magnitude, and sees the same code with fewer workers.
 */
#ifdef __SANITIZE_ADDRESS__
enum { STRIDE = 4 };
#else
enum { STRIDE = 1 };
#endif

static int32_t tokens[N_TOKENS];
static struct transport
    mpi; // size 0: not under mpirun; ranks are threads, as many as the test says

/* Tokens that any vocabulary of 64 and more has. */
static void fill(void)
{
    uint32_t x = 7;
    for (int i = 0; i < N_TOKENS; i++) {
        x = x * 1664525u + 1013904223u;
        tokens[i] = (int32_t)(x >> 26);
    }
}

enum shape { EVEN, SOME_AT_HOME, SKEWED };

struct model {
    const char *dir;
    enum dtype type;
    enum shape shape;
    int vocab;
    float *f32;   // logits in f32
    float *model; // on the model's own wire
    float *alone; // on the wire at hand
};

/* Two thirds of the experts on the last rank, the others at home and on rank 1; the ranks between
 * have none. */
static void write_skewed(const char *path, int n_experts, int ranks)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "{\"ranks\": %d, \"experts\": [", ranks);
    for (int e = 0; e < n_experts; e++)
        fprintf(f, "%s%d", e ? ", " : "", e % 3 ? ranks - 1 : e % 2);
    fputs("]}\n", f);
    assert_int_equal(fclose(f), 0);
}

static int experts_of(const char *dir)
{
    struct config c;
    struct generation_defaults g;
    assert_int_equal(config_load(&c, &g, dir), 0);
    return c.n_experts;
}

static float *run(struct model *m, enum dtype type, int ranks, const struct exchange_options *x)
{
    char path[] = "/tmp/epmoe-placement-XXXXXX";
    struct logits_case t = {.dir = m->dir,
                            .dtype = type,
                            .threads = 1,
                            .chunk = CHUNK,
                            .ranks = ranks,
                            .tokens = tokens,
                            .n = N_TOKENS};
    if (ranks > 1 && m->shape == SOME_AT_HOME)
        t.placement = (struct placement_spec){"round-robin", experts_of(m->dir) / 4, true};
    if (ranks > 1 && m->shape == SKEWED) {
        close(mkstemp(path));
        write_skewed(path, experts_of(m->dir), ranks);
        t.placement.text = path;
    }
    float *logits = logits_over(&t, x, &m->vocab);
    if (mpi.rank == 0)
        assert_non_null(logits);
    if (t.placement.text == path)
        unlink(path);
    return logits;
}

/* Of two tokens' logits: RMS of the difference over RMS of b. */
static double token_distance(const float *a, const float *b, int vocab)
{
    double squares = 0, size = 0;
    for (int i = 0; i < vocab; i++) {
        squares += pow((double)a[i] - (double)b[i], 2);
        size += pow((double)b[i], 2);
    }
    return sqrt(squares / size);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The median token's: where rounding flips an expert, a token is as far off as it likes. */
static double distance(const struct model *m, const float *a, const float *b)
{
    double each[N_TOKENS];
    for (int t = 0; t < N_TOKENS; t++)
        each[t] = token_distance(a + (size_t)t * (size_t)m->vocab, b + (size_t)t * (size_t)m->vocab,
                                 m->vocab);
    qsort(each, N_TOKENS, sizeof *each, ascending);
    return each[N_TOKENS / 2];
}

/* max |a - b| over the range of b */
static double largest_delta(const struct model *m, const float *a, const float *b)
{
    double largest = 0, low = INFINITY, high = -INFINITY;
    for (size_t i = 0; i < (size_t)N_TOKENS * (size_t)m->vocab; i++) {
        largest = fmax(largest, fabs((double)a[i] - (double)b[i]));
        low = fmin(low, (double)b[i]);
        high = fmax(high, (double)b[i]);
    }
    return largest / (high - low);
}

static void describe(char *text, size_t size, const struct model *m, int workers,
                     const struct exchange_options *x)
{
    struct exchange_words w = exchange_words(x);
    static const char *const shapes[] = {"", ", some at home", ", skewed"};
    snprintf(text, size, "%s %s, %d workers%s, %s, dedup %s, combine %s, wire %s, overlap %s",
             strrchr(m->dir, '/') + 1, dtype_name(m->type), workers, shapes[m->shape], w.strategy,
             w.dedup, w.combine, w.wire, w.overlap);
}

/* What sums of ranks may change. *worst: the largest ratio, for the record. */
static void check_sums(const struct model *m, const float *logits, const struct exchange_options *x,
                       const char *what, double *worst)
{
    bool exact = m->type == DTYPE_F32 && x->wire == WIRE_MODEL;
    double found = exact ? largest_delta(m, logits, m->alone)
                         : distance(m, logits, m->f32) / distance(m, m->alone, m->f32);
    *worst = fmax(*worst, found);
    if (!(found <= (exact ? 1e-5 : 1.3)))
        fail_msg("%s: %.3g of the range away, or %.3g times as far from f32 as combine rows", what,
                 exact ? found : 0, exact ? 0 : found);
}

static void check_workers(struct model *m, int workers, enum combine combine, enum wire wire,
                          double *worst)
{
    size_t bytes = (size_t)N_TOKENS * (size_t)m->vocab * sizeof(float);
    float *first = NULL;
    char what[240];
    for (int i = 0; i < STRATEGY_COUNT * DEDUP_COUNT * OVERLAP_COUNT; i++) {
        struct exchange_options x = {(enum strategy)(i / OVERLAP_COUNT / DEDUP_COUNT), combine,
                                     (enum dedup)(i / OVERLAP_COUNT % DEDUP_COUNT), wire,
                                     (enum overlap)(i % OVERLAP_COUNT)};
        float *logits = run(m, m->type, workers + 1, &x);
        const float *wanted = combine == COMBINE_ROWS ? m->alone : first;
        if (mpi.rank > 0)
            continue;
        describe(what, sizeof what, m, workers, &x);
        if (wanted && memcmp(logits, wanted, bytes) != 0)
            fail_msg("%s: other bytes", what);
        if (!wanted) {
            check_sums(m, logits, &x, what, worst);
            first = logits;
        } else {
            free(logits);
        }
    }
    free(first);
}

static void check_wire(struct model *m, enum wire wire, int first, int step)
{
    static const double bounds[] = {[WIRE_MODEL] = 0, [WIRE_BF16] = 0.01, [WIRE_INT8] = 0.03};
    double worst = 0;
    struct exchange_options x = {.wire = wire};
    int last = mpi.size ? first : MOST_WORKERS;
    m->alone = run(m, m->type, 1, &x);
    for (int workers = first; workers <= last; workers += step * STRIDE)
        for (int combine = 0; combine < COMBINE_COUNT; combine++)
            check_workers(m, workers, (enum combine)combine, wire, &worst);
    if (mpi.rank > 0)
        return;
    double moved = distance(m, m->alone, m->model);
    print_message("           %s %s wire %s: %.2g of the logits; sums %.3g\n",
                  strrchr(m->dir, '/') + 1, dtype_name(m->type), exchange_words(&x).wire, moved,
                  worst);
    if (!(moved <= bounds[wire]))
        fail_msg("%s: wire %s changes the logits by %.3g of their RMS", m->dir,
                 exchange_words(&x).wire, moved);
    free(m->alone);
}

/* On `first` workers, and every `step` more up to the most. */
static void check_placed(const char *dir, enum dtype type, enum shape shape, int first, int step)
{
    struct model m = {.dir = dir, .type = type, .shape = shape};
    struct exchange_options usual = {0};
    first = mpi.size ? mpi.size - 1 : first;
    fill();
    m.f32 = run(&m, DTYPE_F32, 1, &usual);
    m.model = run(&m, type, 1, &usual);
    for (enum wire wire = WIRE_MODEL; wire < WIRE_COUNT; wire++)
        if (wire != WIRE_BF16 || type == DTYPE_F32)
            check_wire(&m, wire, first, step);
    free(m.f32);
    free(m.model);
}

static void check_model(const char *dir, enum dtype type, int first, int step)
{
    check_placed(dir, type, EVEN, first, step);
}

static void many_experts(void **state)
{
    (void)state;
    check_model(SOURCE_DIR "/tests/golden/models/moe-60", DTYPE_F32, 1, 1);
    check_model(SOURCE_DIR "/tests/golden/models/moe-60", DTYPE_BF16, 3, 4);
}

static void fewer_experts_than_workers(void **state)
{
    (void)state;
    check_model(SOURCE_DIR "/tests/golden/models/moe-sparse-step-2", DTYPE_F32, 2, 6);
    check_model(SOURCE_DIR "/tests/golden/models/moe-sparse-step-2", DTYPE_BF16, 1, 1);
    check_model(SOURCE_DIR "/tests/golden/models/moe-top-1", DTYPE_F16, 5, 4);
}

static void every_checkpoint(void **state)
{
    (void)state;
    static const char *const names[] = {"moe-60-short",     "moe-fused",           "moe-head-dim",
                                        "moe-long",         "moe-mlp-only-layers", "moe-published",
                                        "moe-renormalised", "moe-sharded"};
    char dir[512];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(dir, sizeof dir, "%s/tests/golden/models/%s", SOURCE_DIR, names[i]);
        check_placed(dir, DTYPE_BF16, (enum shape)(i % 3), 3, 9);
    }
}

static void uneven_placements(void **state)
{
    (void)state;
    for (enum shape shape = SOME_AT_HOME; shape <= SKEWED; shape++) {
        int first = shape == SKEWED ? 2 : 1;
        check_placed(SOURCE_DIR "/tests/golden/models/moe-60", DTYPE_F32, shape, first, 4);
        check_placed(SOURCE_DIR "/tests/golden/models/moe-sparse-step-2", DTYPE_BF16, shape, 3, 5);
        check_placed(SOURCE_DIR "/tests/golden/models/moe-top-1", DTYPE_F16, shape, first, 7);
        check_placed(SOURCE_DIR "/models/austen-moe", DTYPE_BF16, shape, 4, 9);
    }
}

static void shipped_model(void **state)
{
    (void)state;
    check_model(SOURCE_DIR "/models/austen-moe", DTYPE_F32, 1, 4);
    check_model(SOURCE_DIR "/models/austen-moe", DTYPE_BF16, 1, 1);
}

static int under_mpirun(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_experts),
        cmocka_unit_test(fewer_experts_than_workers),
        cmocka_unit_test(uneven_placements),
        cmocka_unit_test(shipped_model),
    };
    int local_rank, local_size;
#ifdef __SANITIZE_ADDRESS__ // one number of workers is enough there
    if (atoi(getenv("OMPI_COMM_WORLD_SIZE")) != 5)
        return 0;
#endif
    if (transport_open_mpi(&mpi, &local_rank, &local_size) != 0)
        return 1;
    mpi.timeout_ns = (int64_t)300e9; // the cores may be few
    logits_join(&mpi);
    if (mpi.rank > 0 && !freopen("/dev/null", "w", stdout))
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return transport_close(&mpi) || failed;
}

int main(void)
{
    if (getenv("OMPI_COMM_WORLD_SIZE"))
        return under_mpirun();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_experts),     cmocka_unit_test(fewer_experts_than_workers),
        cmocka_unit_test(every_checkpoint), cmocka_unit_test(uneven_placements),
        cmocka_unit_test(shipped_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
