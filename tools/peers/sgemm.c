/* OpenBLAS' sgemm beside our bf16 matmul on the products of Qwen1.5-MoE-A2.7B, on one thread.
 *
 *     sgemm [ROWS] [SHAPE]        e.g. sgemm 1,8 qkv; without arguments all
 *
 * y = x W^T with the same numbers for both: sgemm (sgemv where there is one row) reads W as f32,
 * our matmul as packed bf16, and both add up in f32. They take turns, call by call, and before each
 * call the caches are filled with something else, as other weights do in a model. Prints a line of
 * JSON for each product: GFLOP/s by the median call's wall time and by the median of the thread's
 * CPU time, and the most that the thread does with the instruction of f32 (FMA) and with that of
 * our bf16 products, measured before each shape. Fails if the two results differ by more than
 * rounding. */
#include <cblas.h>
#include <math.h>
#include <string.h>

#include "kernels/cpu/isa.h"
#include "tools/peers/timing.h"

enum { LEAST_CALLS = 3, PEAK_RUNS = 11 };
static const double least_seconds = 0.5; // of each side's calls
static const double peak_seconds = 0.01; // of each run
static const size_t evict_bytes = 64u << 20;

static const struct shape {
    const char *name;
    int n, k;
} shapes[] = {{"qkv", 6144, 2048},
              {"o", 2048, 2048},
              {"expert gate/up", 2816, 2048},
              {"expert down", 2048, 1408},
              {"lm_head", 151936, 2048}};

/* Seconds of calls. */
struct side {
    double wall[MOST_CALLS], cpu[MOST_CALLS], total;
    int n;
};

/* One product: y [rows][n] := x [rows][k] W^T, by either. */
struct product {
    const struct shape *shape;
    int rows;
    const float *weights, *x; // for sgemm
    struct matrix packed;     // for ours
    const bf16 *x_bf16;
    float *y, *y_sgemm;
    double fma_peak, bf16_peak; // GFLOP/s
};

static double thread_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* GFLOP/s of a second of CPU time, operands in registers or L1: the best of several runs, each long
 * enough for the clock. */
static double peak(const struct dev *d, enum dtype type)
{
    double best = 0;
    float sink = 0;
    long rounds = 1000;
    for (int i = 0; i < PEAK_RUNS;) {
        double start = thread_seconds();
        double flops = d->cpu->spin[type](rounds, &sink);
        double seconds = thread_seconds() - start;
        if (seconds < peak_seconds) {
            rounds *= 2;
            continue;
        }
        best = fmax(best, flops / seconds * 1e-9);
        i++;
    }
    return best;
}

static void *array(size_t bytes)
{
    void *data = aligned_alloc(64, (bytes + 63) / 64 * 64);
    CHECK_MEMORY(data, "no memory for %zu bytes", bytes);
    return data;
}

static void evict(void)
{
    static char *buffer;
    if (!buffer)
        buffer = array(evict_bytes);
    memset(buffer, 1, evict_bytes);
}

static void run_sgemm(struct dev *d, const struct product *p)
{
    (void)d;
    int n = p->shape->n, k = p->shape->k;
    if (p->rows == 1) {
        cblas_sgemv(CblasRowMajor, CblasNoTrans, n, k, 1, p->weights, k, p->x, 1, 0, p->y_sgemm, 1);
        return;
    }
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, p->rows, n, k, 1, p->x, k, p->weights, k,
                0, p->y_sgemm, n);
}

static void run_matmul(struct dev *d, const struct product *p)
{
    matmul(d, p->y, p->shape->n, p->x_bf16, &p->packed, p->rows);
}

static void time_call(struct side *s, struct dev *d, const struct product *p,
                      void (*run)(struct dev *, const struct product *))
{
    evict();
    double cpu = thread_seconds();
    int64_t start = clock_ns();
    run(d, p);
    s->wall[s->n] = seconds_since(start);
    s->cpu[s->n] = thread_seconds() - cpu;
    s->total += s->wall[s->n++];
}

static bool enough(const struct side *s)
{
    return s->n == MOST_CALLS || (s->n >= LEAST_CALLS && s->total >= least_seconds);
}

/* The RMS difference of the results, in parts of the RMS. */
static double difference(const struct product *p)
{
    double error = 0, square = 0;
    for (size_t i = 0; i < (size_t)p->rows * (size_t)p->shape->n; i++) {
        double y = p->y_sgemm[i], off = p->y[i] - y;
        error += off * off;
        square += y * y;
    }
    return sqrt(error / square);
}

static void print_line(const struct product *p, struct side *ours, struct side *theirs)
{
    double gflop = 2e-9 * p->rows * (double)p->shape->n * p->shape->k;
    printf("{\"shape\": \"%s\", \"n\": %d, \"k\": %d, \"rows\": %d, ", p->shape->name, p->shape->n,
           p->shape->k, p->rows);
    printf("\"epmoe\": {\"wall\": %.2f, \"cpu\": %.2f}, ", gflop / median(ours->wall, ours->n),
           gflop / median(ours->cpu, ours->n));
    printf("\"openblas\": {\"wall\": %.2f, \"cpu\": %.2f}, ",
           gflop / median(theirs->wall, theirs->n), gflop / median(theirs->cpu, theirs->n));
    printf("\"fma_peak\": %.2f, \"bf16_peak\": %.2f, \"version\": \"%s\"}\n", p->fma_peak,
           p->bf16_peak, openblas_get_config());
    fflush(stdout);
}

static void measure(struct dev *d, struct product *p)
{
    struct side ours = {.n = 0}, theirs = {.n = 0};
    run_sgemm(d, p);
    run_matmul(d, p);
    double off = difference(p);
    if (!(off < 1e-4)) {
        fprintf(stderr, "sgemm: %s, %d rows: expected the same result up to rounding, found %g\n",
                p->shape->name, p->rows, off);
        exit(1);
    }
    while (!enough(&ours) || !enough(&theirs)) {
        time_call(&theirs, d, p, run_sgemm);
        time_call(&ours, d, p, run_matmul);
        if (theirs.n == MOST_CALLS)
            break;
    }
    print_line(p, &ours, &theirs);
}

static float *widened(const bf16 *from, size_t count)
{
    float *to = array(count * sizeof *to);
    for (size_t i = 0; i < count; i++)
        to[i] = bf16_to_float(from[i]);
    return to;
}

static bf16 *random_bf16(uint64_t key, size_t count)
{
    bf16 *to = array(count * sizeof *to);
    noise_fill(weight_noise(), key, 0, count, to);
    return to;
}

/* All numbers of rows on one matrix. */
static void measure_shape(const struct shape *shape, const int *rows, int n_rows)
{
    struct dev d;
    int most = 0;
    for (int i = 0; i < n_rows; i++)
        most = rows[i] > most ? rows[i] : most;
    size_t weights = (size_t)shape->n * (size_t)shape->k, outputs = (size_t)shape->n * (size_t)most;
    open_cpu(&d, 1);
    bf16 *w = random_bf16(1, weights), *x = random_bf16(2, (size_t)most * (size_t)shape->k);
    struct product p = {.shape = shape, .packed = empty_matrix(&d, shape->n, shape->k)};
    matrix_pack(&d, &p.packed, 0, &(struct values){.type = DTYPE_BF16, .data = w}, shape->n);
    float *wide = widened(w, weights), *x_wide = widened(x, (size_t)most * (size_t)shape->k);
    free(w);
    float *y = array(outputs * sizeof *y), *y_sgemm = array(outputs * sizeof *y);
    p.fma_peak = peak(&d, DTYPE_F32);
    p.bf16_peak = peak(&d, DTYPE_BF16);
    p.weights = wide, p.x = x_wide, p.x_bf16 = x, p.y = y, p.y_sgemm = y_sgemm;
    for (int i = 0; i < n_rows; i++) {
        p.rows = rows[i];
        measure(&d, &p);
    }
    free(wide), free(x_wide), free(x), free(y), free(y_sgemm);
    dev_close(&d);
}

int main(int argc, char **argv)
{
    int rows[MOST_SIZES], n_rows = parse_sizes(rows, argc > 1 ? argv[1] : "1,8,32,102,1500");
    int found = 0;
    openblas_set_num_threads(1);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        if (argc > 2 && strcmp(argv[2], shapes[i].name) != 0)
            continue;
        measure_shape(&shapes[i], rows, n_rows);
        found++;
    }
    if (!found)
        fprintf(stderr, "sgemm: no shape '%s'\n", argv[2]);
    return found ? 0 : 2;
}
