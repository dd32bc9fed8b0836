/* The exchange alone, without a model: any placement and any routing, however uneven, gives what
 * a single rank gives, by every strategy. Messages: tests/exchange/test_dispatch.c,
 * tests/exchange/test_results.c. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "exchange/root.h"
#include "exchange/worker.h"
#include "kernels/ops.h"
#include "tests/rig/blocks.h"
#include "tests/rig/cm.h"
#include "tests/rig/covering.h"
#include "tests/rig/pairs.h"

enum { MOST_ROWS = 40, K = 3, PIECES = 4, WIDTH = 37, STEPS = 8 };
/* Each step is a layer of its own kind: with experts and pieces, without pieces, or without
 * experts. */
static const int step_rows[STEPS] = {1, MOST_ROWS, 7, 1, 33, 2, 1, 29};
static const int step_k[STEPS] = {K, K, 0, K, K, K, 0, K};
static const int step_pieces[STEPS] = {PIECES, PIECES, PIECES, 0, 1, PIECES, 2, 0};

enum pattern { EVEN, SAME_EXPERTS, ONE_EXPERT, PATTERNS };

/* Of every step: its layer's experts, if it has any, and its pieces. */
struct placed {
    struct blocks experts[STEPS], pieces[STEPS];
};

static void place(struct placed *p, enum placing how, int ranks)
{
    for (int s = 0; s < STEPS; s++) {
        place_blocks(&p->experts[s], step_k[s] ? EXPERTS : 0, how, ranks);
        place_blocks(&p->pieces[s], step_pieces[s], how == COPIES ? SPREAD : how, ranks);
    }
}

static struct exchange_layer layer_of(const struct placed *p, int s)
{
    return (struct exchange_layer){grouping_of(&p->experts[s]), p->experts[s].rank_first,
                                   p->pieces[s].rank_first, step_k[s]};
}

/* What the step brings: the same for any number of ranks. */
struct step {
    int n;
    int32_t expert[MOST_ROWS * K];
    float weight[MOST_ROWS * K], h[MOST_ROWS * WIDTH];
};

static void make_steps(struct step *steps, enum pattern how)
{
    seed = 7;
    for (int s = 0; s < STEPS; s++) {
        struct step *t = &steps[s];
        t->n = step_rows[s];
        for (int i = 0; i < t->n * K; i++) {
            int first = how == EVEN ? (int)draw(EXPERTS) : 4;
            t->expert[i] = how == ONE_EXPERT ? 0 : (first + i % K) % EXPERTS;
            t->weight[i] = (float)draw(1000) * 1e-3f;
        }
        for (int i = 0; i < t->n * WIDTH; i++)
            t->h[i] = (float)draw(2000) * 1e-3f - 1;
    }
}

/* An expert: y := a x + b, another one for each. */
static void expert_rows(void *y, const void *x, const int32_t *source, enum dtype type, int expert,
                        int first, int n)
{
    size_t stride = (size_t)row_stride(WIDTH);
    for (int r = first; r < first + n; r++)
        for (int i = 0; i < row_stride(WIDTH); i++) {
            size_t to = (size_t)r * stride + (size_t)i;
            size_t from = (size_t)(source ? source[r] : r) * stride + (size_t)i;
            float a = 0.3f + 0.11f * (float)expert, b = 0.01f * (float)(i * (expert + 1) % 17);
            dtype_store(type, y, to, i < WIDTH ? a * dtype_load(type, x, from) + b : 0);
        }
}

/* A piece: z := a x + b in f32 for every row. */
static void piece_rows(float *z, const void *x, enum dtype type, int piece, int n)
{
    size_t stride = (size_t)row_stride(WIDTH);
    for (size_t r = 0; r < (size_t)n; r++)
        for (size_t i = 0; i < stride; i++) {
            float a = 0.7f - 0.13f * (float)piece, b = 0.003f * (float)((int)i * (piece + 2) % 13);
            float in = i < WIDTH ? dtype_load(type, x, r * stride + i) : 0;
            z[r * stride + i] = i < WIDTH ? a * in + b : 0;
        }
}

struct run {
    struct exchange_options options;
    enum dtype type;
    int ranks;
    const struct placed *placed;
    struct transport *end;
};

static void run_experts(const struct run *r, int s, void *y, const void *x, const int32_t *source,
                        const int32_t *count)
{
    const struct blocks *b = &r->placed->experts[s];
    int first = 0, rank = r->end->rank;
    for (int g = b->rank_first[rank]; g < b->rank_first[rank + 1]; g++) {
        int n = count[g - b->rank_first[rank]];
        expert_rows(y, x, source, r->type, b->block_at[g], first, n);
        first += n;
    }
}

static void run_pieces(const struct run *r, int s, float *z, const void *x, int n)
{
    const struct blocks *b = &r->placed->pieces[s];
    int rank = r->end->rank;
    for (int g = b->rank_first[rank]; g < b->rank_first[rank + 1]; g++, z += n * row_stride(WIDTH))
        piece_rows(z, x, r->type, b->block_at[g], n);
}

/* A rank's end; n: how many exchanges, one or one for each half of a step. */
struct open_exchange {
    struct root_end *root[LANES];     // rank 0
    struct worker_end *worker[LANES]; // any other
    struct dev d;
    int n;
    struct exchange_options options;
};

static void open_end(struct open_exchange *x, const struct run *r)
{
    struct exchange_setup setup = {
        .host = &x->d,
        .dev = &x->d,
        .transport = r->end,
        .limits = {MOST_ROWS, K, EXPERTS, WIDTH, r->type, PIECES, MOST_GROUPS},
        .options = r->options};
    dev_open_cpu(&x->d, ISA_PLAIN, 1);
    x->options = r->options;
    x->n = r->end->rank ? worker_end_open(x->worker, &setup) : root_open(x->root, &setup);
}

/* Rows of a step in half i. */
static int rows_of(const struct open_exchange *x, int n, int i)
{
    int second = x->n > 1 ? exchange_second_half(&x->options, n) : 0;
    return i ? second : n - second;
}

static void *work(void *argument)
{
    const struct run *r = argument;
    const struct exchange_work *at;
    struct open_exchange x;
    bool good = true;
    open_end(&x, r);
    for (int turn = 0; turn < STEPS * x.n && good; turn++) {
        struct worker_end *half = x.worker[turn % x.n];
        int s = turn / x.n, n = rows_of(&x, step_rows[s], turn % x.n);
        struct exchange_layer layer = layer_of(r->placed, s);
        if (layer_stays(&layer, 0, r->ranks))
            continue;
        good = worker_end_receive(half, &layer, n, &at) == 0;
        if (good) {
            run_experts(r, s, at->y, at->rows, at->source, at->count);
            run_pieces(r, s, at->z, at->all, n);
            good = worker_end_return(half) == 0;
        }
    }
    for (int i = 0; i < x.n; i++)
        good = good && worker_end_finish(x.worker[i]) == 0;
    transport_close(r->end);
    dev_close(&x.d);
    return good ? argument : NULL;
}

/* What the coordinator has of a half that is away. */
struct half {
    _Alignas(64) char h[MOST_ROWS * 64 * 4], y[MOST_ROWS * K * 64 * 4];
    _Alignas(64) float z[MOST_ROWS * PIECES * 64];
    int step;
    int32_t count[MOST_GROUPS], slot[MOST_ROWS * K], source[MOST_ROWS * K];
    struct routing routing;
};

/* Rows [first, first + n) of step s leave. */
static bool send_off(struct open_exchange *x, int i, struct half *half, const struct run *r,
                     const struct step *t, int s, int first, int n)
{
    int k = step_k[s];
    const int32_t *expert = t->expert + first * K;
    half->step = s;
    memset(half->h, 0, sizeof half->h);
    for (int at = 0; at < n * WIDTH; at++)
        dtype_store(r->type, half->h, (size_t)(at / WIDTH * row_stride(WIDTH) + at % WIDTH),
                    t->h[first * WIDTH + at]);
    const struct sorting to = {half->count, half->slot, half->source, NULL,
                               grouping_of(&r->placed->experts[s])};
    sort_rows(&to, expert, n, k);
    half->routing = (struct routing){n,
                                     k,
                                     expert,
                                     half->slot,
                                     t->weight + first * K,
                                     half->source,
                                     half->count,
                                     layer_of(r->placed, s)};
    if (root_begin(x->root[i], &half->routing.layer, half->h, n) != 0 ||
        root_dispatch(x->root[i], &half->routing, half->y, half->z) != 0)
        return false;
    run_experts(r, s, half->y, root_input(x->root[i]), half->source, half->count);
    run_pieces(r, s, half->z + root_home_pieces(x->root[i]) * row_stride(WIDTH),
               root_input(x->root[i]), n);
    return root_advance(x->root[i]) == 0;
}

static bool take_back(struct open_exchange *x, int i, struct half *half, const struct run *r,
                      float *sum)
{
    struct row_terms terms;
    int n = half->routing.n;
    if (root_combine(x->root[i], &terms) != 0)
        return false;
    memset(sum, 0, (size_t)n * WIDTH * sizeof *sum);
    struct pending_residual pending = {.pieces = half->z,
                                       .piece_at = r->placed->pieces[half->step].group_of,
                                       .n_pieces = step_pieces[half->step],
                                       .ld_pieces = row_stride(WIDTH),
                                       .y = half->y,
                                       .slot = terms.slot,
                                       .weight = terms.weight,
                                       .k = half->routing.k};
    add_norm(&x->d, sum, NULL, r->type, &pending, NULL, n, WIDTH, 0);
    return true;
}

/* What rank 0 has counted in a run. */
struct counted {
    struct exchange_counters moved;
    struct wire_error narrow;
};

/* All steps, each as one layer; sums of all rows into out [STEPS][MOST_ROWS * WIDTH]. The halves of
 * a step take turns as forward() has them: a turn begins with what left in the one before. */
static bool coordinate(struct open_exchange *x, const struct run *r, const struct step *steps,
                       float *out)
{
    static struct half halves[LANES];
    float *back[LANES] = {NULL, NULL};
    bool good = true;
    for (int turn = 0; turn < (STEPS + 1) * x->n && good; turn++) {
        int i = turn % x->n, s = turn / x->n;
        if (back[i])
            good = take_back(x, i, &halves[i], r, back[i]);
        if (!good || s == STEPS)
            continue;
        int first = i ? rows_of(x, steps[s].n, 0) : 0;
        back[i] = out + (s * MOST_ROWS + first) * WIDTH;
        good = send_off(x, i, &halves[i], r, &steps[s], s, first, rows_of(x, steps[s].n, i));
    }
    return good;
}

/* All steps over `ranks` ranks. */
static struct counted run_all(struct run *r, const struct step *steps, float *out)
{
    struct transport ends[MOST_RANKS];
    pthread_t threads[MOST_RANKS];
    struct run each[MOST_RANKS];
    struct open_exchange x;
    transport_open_local(ends, r->ranks);
    for (int rank = 0; rank < r->ranks; rank++) {
        each[rank] = *r;
        each[rank].end = &ends[rank];
        if (rank)
            assert_int_equal(pthread_create(&threads[rank], NULL, work, &each[rank]), 0);
    }
    open_end(&x, &each[0]);
    bool good = coordinate(&x, &each[0], steps, out);
    struct counted counted = {.moved = *root_counters(x.root[0])};
    assert_int_equal(root_wire_error(x.root[0], &counted.narrow), 0);
    if (!good)
        transport_close(&ends[0]);
    for (int rank = 1; rank < r->ranks; rank++) {
        void *result;
        pthread_join(threads[rank], &result);
        good = good && result;
    }
    assert_true(good);
    transport_close(&ends[0]);
    dev_close(&x.d);
    return counted;
}

static void describe(char *text, size_t size, const struct run *r, enum placing how,
                     enum pattern to)
{
    struct exchange_words w = exchange_words(&r->options);
    snprintf(text, size,
             "%s, %s, dedup %s, combine %s, wire %s, overlap %s, %d ranks, placing %d, routing %d",
             dtype_name(r->type), w.strategy, w.dedup, w.combine, w.wire, w.overlap, r->ranks,
             (int)how, (int)to);
}

/* Sums of ranks round once more each; a bound of a few roundings of what was added. */
static void compare(const float *found, const float *alone, const struct step *steps,
                    const struct run *r, const char *what)
{
    double eps = r->options.wire == WIRE_INT8   ? 0x1p-7
                 : r->options.wire == WIRE_BF16 ? 0x1p-8
                 : r->type == DTYPE_F32         ? 0x1p-21
                                                : 0x1p-8;
    for (int s = 0; s < STEPS; s++)
        for (int i = 0; i < steps[s].n * WIDTH; i++) {
            int at = s * MOST_ROWS * WIDTH + i;
            bool same = memcmp(&found[at], &alone[at], 4) == 0;
            bool near = fabs((double)(found[at] - alone[at])) <= eps * 5;
            if (r->options.combine == COMBINE_ROWS ? !same : !near)
                fail_msg("%s: step %d, value %d: %g, not %g", what, s, i, (double)found[at],
                         (double)alone[at]);
        }
}

/* Rows in and out of all experts and pieces. */
static uint64_t logical_bytes(enum dtype type)
{
    uint64_t row = wire_row_bytes(WIRE_MODEL, type, WIDTH), sum = 0;
    uint64_t wide = wire_row_bytes(WIRE_MODEL, DTYPE_F32, WIDTH);
    for (int s = 0; s < STEPS; s++)
        sum += (uint64_t)step_rows[s] *
               ((uint64_t)step_k[s] * 2 * row + (uint64_t)step_pieces[s] * (row + wide));
    return sum;
}

static void check_counters(const struct counted *counted, const struct run *r, enum placing how,
                           const char *what)
{
    const struct exchange_counters *c = &counted->moved;
    bool some = r->ranks > 1 && how != HOME;
    if (c->logical != logical_bytes(r->type) || c->local > c->logical || (c->sent > 0) != some ||
        (c->messages > 0) != some)
        fail_msg("%s: counted %llu of %llu bytes, %llu sent", what, (unsigned long long)c->logical,
                 (unsigned long long)logical_bytes(r->type), (unsigned long long)c->sent);
    if ((counted->narrow.squares > 0) != (r->options.wire != WIRE_MODEL))
        fail_msg("%s: expected an error with a narrower wire, and only there", what);
}

/* ---- a combination of choices, and which of them are tried ---- */

enum factor { WAY, WIDTHS, RANKS, PLACING, PATTERN, FACTORS };

/* Off and on; OVERLAP_AUTO chooses between them (test_bitwise). */
enum { OVERLAPS = 2, WAYS = STRATEGY_COUNT * DEDUP_COUNT * OVERLAPS };
static const int rank_counts[] = {2, 3, 6, MOST_RANKS};

/* The wires of each type, rows and sums of each. */
static const struct {
    enum dtype type;
    enum wire wire;
} narrow[] = {{DTYPE_F32, WIRE_MODEL}, {DTYPE_F32, WIRE_BF16}, {DTYPE_F32, WIRE_INT8},
              {DTYPE_F16, WIRE_MODEL}, {DTYPE_F16, WIRE_INT8}, {DTYPE_BF16, WIRE_MODEL},
              {DTYPE_BF16, WIRE_INT8}};

static void choose_way(struct run *r, int way)
{
    r->options.strategy = (enum strategy)(way / OVERLAPS / DEDUP_COUNT);
    r->options.dedup = (enum dedup)(way / OVERLAPS % DEDUP_COUNT);
    r->options.overlap = (enum overlap)(way % OVERLAPS);
}

static void choose(struct run *r, const int *row)
{
    r->type = narrow[row[WIDTHS] / COMBINE_COUNT].type;
    r->options = (struct exchange_options){.wire = narrow[row[WIDTHS] / COMBINE_COUNT].wire,
                                           .combine = (enum combine)(row[WIDTHS] % COMBINE_COUNT)};
    r->ranks = rank_counts[row[RANKS]];
}

/* Which copy of an expert a row goes to, and so what a rank's sum holds, depends on the row's place
 * among those that go together, which overlap changes. */
static bool sums_differ(const struct run *r, enum placing how)
{
    return how == COPIES && r->options.combine == COMBINE_SUM && r->options.overlap != OVERLAP_OFF;
}

/* As on a single rank, and the bytes of the first way: exact with dedup, no overlap. What neither
 * of the two depends on is made again only where the row before had another. */
static void check_row(const int *row)
{
    static float alone[STEPS * MOST_ROWS * WIDTH], first[STEPS * MOST_ROWS * WIDTH],
        out[STEPS * MOST_ROWS * WIDTH];
    static struct step steps[STEPS];
    static struct placed placed;
    static int made[FACTORS] = {-1, -1, -1, -1, -1};
    char what[160];
    struct run r = {.placed = &placed};
    choose(&r, row);
    if (memcmp(made + WIDTHS, row + WIDTHS, (FACTORS - WIDTHS) * sizeof *row) != 0) {
        struct run one = r;
        make_steps(steps, (enum pattern)row[PATTERN]);
        place(&placed, HOME, one.ranks = 1);
        one.options.combine = COMBINE_ROWS;
        run_all(&one, steps, alone);
        place(&placed, (enum placing)row[PLACING], r.ranks);
        choose_way(&r, 0);
        run_all(&r, steps, first);
        memcpy(made, row, sizeof made);
    }
    choose_way(&r, row[WAY]);
    describe(what, sizeof what, &r, (enum placing)row[PLACING], (enum pattern)row[PATTERN]);
    struct counted counters = run_all(&r, steps, out);
    check_counters(&counters, &r, (enum placing)row[PLACING], what);
    compare(out, alone, steps, &r, what);
    if (!sums_differ(&r, (enum placing)row[PLACING]) && memcmp(out, first, sizeof out) != 0)
        fail_msg("%s: other bytes than exact with dedup, no overlap", what);
}

static bool any_two(int f, int a, int g, int b)
{
    (void)f, (void)a, (void)g, (void)b;
    return true;
}

static struct covering table = {.n_factors = FACTORS,
                                .levels = {WAYS, sizeof narrow / sizeof *narrow *COMBINE_COUNT,
                                           sizeof rank_counts / sizeof *rank_counts, PLACINGS,
                                           PATTERNS},
                                .allowed = any_two};

static void every_combination(void)
{
    int row[FACTORS], all = 1;
    for (int f = 0; f < FACTORS; f++)
        all *= table.levels[f];
    for (int i = 0; i < all; i++) {
        for (int f = 0, rest = i; f < FACTORS; rest /= table.levels[f++])
            row[f] = rest % table.levels[f];
        check_row(row);
    }
    print_message("           all %d combinations\n", all);
}

/* With any two of: strategy, dedup and overlap; type, wire and combine; ranks; placement; routing.
 */
static void any_placement_by_any_strategy(void **state)
{
    (void)state;
    if (!pairs_only()) {
        every_combination();
        return;
    }
    covering_make(&table);
    assert_int_equal(covering_check(&table), 0);
    for (int i = 0; i < table.n; i++)
        check_row(table.row[i]);
    print_message("           any two choices together: %d combinations\n", table.n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_placement_by_any_strategy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
