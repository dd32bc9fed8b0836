/* However rows travel, the logits are those of a single process. Any two choices of model,
 * precision, wire, number of workers, placement, strategy, dedup, combine and overlap are tried
 * together (tests/rig/covering.h); all combinations of how rows travel, without a model:
 * tests/exchange/test_exchange.c.
 *   combine rows            the same bytes, on any wire
 *   combine sum, f32        max |delta| <= 1e-5 of the logits' range, unless weights are quantised
 *   combine sum, otherwise  as near to the f32 logits as combine rows on the same wire, times 1.3,
 *                           and the same bytes for every strategy, dedup and overlap
 *   wire bf16, int8         within 1 %, 3 % of the logits on the model's own wire; within 6 % where
 *                           weights are quantised
 * Near is the median token's RMS distance over RMS. The measured figures are printed.
 * Under mpirun (tests/program/mpi_strategies.sh): the rows of the table with as many ranks. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/rig/cm.h"
#include "tests/rig/covering.h"
#include "tests/rig/logits.h"

enum { N_TOKENS = 50, CHUNK = 33, MOST_WORKERS = 9 };

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

enum shape { EVEN, SOME_AT_HOME, SKEWED, SHAPES };
enum { ONE_PROCESS = 1 };

static const char *const models[] = {
    "models/austen-moe",
    "tests/golden/models/moe-60",
    "tests/golden/models/moe-60-short",
    "tests/golden/models/moe-fused",
    "tests/golden/models/moe-head-dim",
    "tests/golden/models/moe-long",
    "tests/golden/models/moe-mlp-only-layers",
    "tests/golden/models/moe-published",
    "tests/golden/models/moe-renormalised",
    "tests/golden/models/moe-sharded",
    "tests/golden/models/moe-sparse-step-2",
    "tests/golden/models/moe-top-1",
};
enum { MODELS = sizeof models / sizeof *models };

/* Where all matrices are quantised, the type is the checkpoint's, whatever is written here. */
static const struct precision precisions[] = {
    {.type = DTYPE_F32},
    {.type = DTYPE_BF16},
    {.type = DTYPE_F16},
    {.matrices = QUANT_Q8, .blocks = QUANT_Q8},
    {.matrices = QUANT_Q4, .blocks = QUANT_Q4},
    {.type = DTYPE_F32, .blocks = QUANT_Q8},
    {.type = DTYPE_F32, .blocks = QUANT_Q4},
};
enum { PRECISIONS = sizeof precisions / sizeof *precisions };

/* A row of the table. */
struct model {
    char dir[512];
    struct precision precision;
    enum shape shape;
    int workers, vocab;
    struct exchange_options x;
    const float *f32;   // logits in f32
    const float *alone; // on the wire at hand
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

static float *run(struct model *m, const struct precision *p, int ranks,
                  const struct exchange_options *x)
{
    char path[] = "/tmp/epmoe-placement-XXXXXX";
    struct logits_case t = {.dir = m->dir,
                            .dtype = p->type,
                            .quant = p->matrices,
                            .expert_quant = p->blocks,
                            .threads = 1,
                            .chunk = CHUNK,
                            .ranks = ranks,
                            .tokens = tokens,
                            .n = N_TOKENS};
    if (ranks > 1 && m->shape == SOME_AT_HOME)
        t.placement = (struct placement_spec){"round-robin", experts_of(m->dir) / 4, true, NULL};
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

static void describe(char *text, size_t size, const struct model *m)
{
    struct exchange_words w = exchange_words(&m->x);
    static const char *const shapes[] = {"", ", some at home", ", skewed"};
    snprintf(text, size, "%s %s, %d workers%s, %s, dedup %s, combine %s, wire %s, overlap %s",
             strrchr(m->dir, '/') + 1, precision_text(&m->precision).text, m->workers,
             shapes[m->shape], w.strategy, w.dedup, w.combine, w.wire, w.overlap);
}

/* ---- logits of a single process, made once ---- */

/* [vocab] of each token, by model, precision and wire; NULL: not yet, or not on this rank. */
static float *known[MODELS][PRECISIONS][WIRE_COUNT];
static int vocab_of[MODELS];
static double largest_move, largest_sum_delta, largest_sum_ratio; // for the record

/* What a narrower wire may change. Quantised products round rows to 8 bits: what a wire changes by
 * less than a step may become a step. */
static void check_wire(const struct model *m, const float *wired, const float *usual)
{
    static const double floats[] = {[WIRE_MODEL] = 0, [WIRE_BF16] = 0.01, [WIRE_INT8] = 0.03};
    static const double quantised[] = {[WIRE_MODEL] = 0, [WIRE_BF16] = 0.06, [WIRE_INT8] = 0.06};
    const double *bounds = is_quantised(&m->precision) ? quantised : floats;
    double moved = distance(m, wired, usual);
    largest_move = fmax(largest_move, moved);
    if (!(moved <= bounds[m->x.wire]))
        fail_msg("%s %s: wire %s changes the logits by %.3g of their RMS", m->dir,
                 precision_text(&m->precision).text, exchange_words(&m->x).wire, moved);
}

static const float *alone(struct model *m, int model, int precision, enum wire wire)
{
    struct exchange_options x = {.wire = wire};
    float **at = &known[model][precision][wire];
    if (!*at && mpi.rank == 0) {
        *at = run(m, &precisions[precision], ONE_PROCESS, &x);
        vocab_of[model] = m->vocab;
    }
    m->vocab = vocab_of[model];
    return *at;
}

/* ---- a row of the table ---- */

enum factor { MODEL, PRECISION, WIRE, WORKERS, SHAPE, STRATEGY, DEDUP, COMBINE, OVERLAP, FACTORS };

/* bf16 is narrower than f32 alone. */
static bool allowed(int f, int a, int g, int b)
{
    if (f == WIRE && g == PRECISION)
        return allowed(g, b, f, a);
    if (f != PRECISION || g != WIRE || b != WIRE_BF16)
        return true;
    return precisions[a].type == DTYPE_F32 && !precisions[a].matrices;
}

static const struct covering *table(void)
{
    static struct covering c = {.n_factors = FACTORS,
                                .levels = {MODELS, PRECISIONS, WIRE_COUNT, MOST_WORKERS, SHAPES,
                                           STRATEGY_COUNT, DEDUP_COUNT, COMBINE_COUNT,
                                           OVERLAP_COUNT},
                                .allowed = allowed};
    if (!c.n)
        covering_make(&c);
    return &c;
}

static void any_two_choices_are_together(void **state)
{
    (void)state;
    const struct covering *c = table();
    print_message("           %d rows\n", c->n);
    assert_int_equal(covering_check(c), 0);
}

static void open_row(struct model *m, const int *row)
{
    *m = (struct model){.precision = precisions[row[PRECISION]],
                        .shape = (enum shape)row[SHAPE],
                        .workers = 1 + row[WORKERS],
                        .x = {(enum strategy)row[STRATEGY], (enum combine)row[COMBINE],
                              (enum dedup)row[DEDUP], (enum wire)row[WIRE],
                              (enum overlap)row[OVERLAP]}};
    snprintf(m->dir, sizeof m->dir, "%s/%s", SOURCE_DIR, models[row[MODEL]]);
    m->f32 = alone(m, row[MODEL], 0, WIRE_MODEL);
    const float *usual = alone(m, row[MODEL], row[PRECISION], WIRE_MODEL);
    m->alone = alone(m, row[MODEL], row[PRECISION], m->x.wire);
    if (mpi.rank == 0)
        check_wire(m, m->alone, usual);
}

/* What sums of ranks may change. */
static void check_sums(const struct model *m, const float *logits, const char *what)
{
    bool exact =
        m->precision.type == DTYPE_F32 && !is_quantised(&m->precision) && m->x.wire == WIRE_MODEL;
    double found = exact ? largest_delta(m, logits, m->alone)
                         : distance(m, logits, m->f32) / distance(m, m->alone, m->f32);
    double *worst = exact ? &largest_sum_delta : &largest_sum_ratio;
    *worst = fmax(*worst, found);
    if (!(found <= (exact ? 1e-5 : 1.3)))
        fail_msg("%s: %.3g of the range away, or %.3g times as far from f32 as combine rows", what,
                 exact ? found : 0, exact ? 0 : found);
}

/* Rows: as alone. Sums: near that, and as by the usual strategy, dedup and overlap. */
static void check_row(const int *row)
{
    struct model m;
    char what[240];
    open_row(&m, row);
    describe(what, sizeof what, &m);
    struct exchange_options usual = {.combine = m.x.combine, .wire = m.x.wire};
    bool sums = m.x.combine == COMBINE_SUM;
    float *logits = run(&m, &m.precision, m.workers + 1, &m.x);
    float *sum = sums ? run(&m, &m.precision, m.workers + 1, &usual) : NULL;
    if (mpi.rank == 0) {
        size_t bytes = (size_t)N_TOKENS * (size_t)m.vocab * sizeof(float);
        if (sums)
            check_sums(&m, sum, what);
        if (memcmp(logits, sums ? sum : m.alone, bytes) != 0)
            fail_msg("%s: other bytes", what);
    }
    free(logits);
    free(sum);
}

static void logits_of_every_row(void **state)
{
    (void)state;
    const struct covering *c = table();
    int rows = 0;
    fill();
    for (int i = 0; i < c->n; i++)
        if (!mpi.size || c->row[i][WORKERS] == mpi.size - 2) {
            check_row(c->row[i]);
            rows++;
        }
    assert_true(rows >= (mpi.size ? MODELS : MODELS * MOST_WORKERS));
    print_message("           %d rows; wires change %.2g; sums of ranks %.2g of the range in f32, "
                  "else %.3g times as far as rows\n",
                  rows, largest_move, largest_sum_delta, largest_sum_ratio);
}

static void forget(void)
{
    for (int i = 0; i < MODELS * PRECISIONS * WIRE_COUNT; i++)
        free(known[i / WIRE_COUNT / PRECISIONS][i / WIRE_COUNT % PRECISIONS][i % WIRE_COUNT]);
}

static int run_table(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_two_choices_are_together),
        cmocka_unit_test(logits_of_every_row),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    forget();
    return failed;
}

static int under_mpirun(void)
{
    int local_rank, local_size;
    if (transport_open_mpi(&mpi, &local_rank, &local_size) != 0)
        return 1;
    mpi.timeout_ns = (int64_t)300e9; // the cores may be few
    logits_join(&mpi);
    if (mpi.rank > 0 && !freopen("/dev/null", "w", stdout))
        return 1;
    int failed = run_table();
    return transport_close(&mpi) || failed;
}

int main(void)
{
    return getenv("OMPI_COMM_WORLD_SIZE") ? under_mpirun() : run_table();
}
