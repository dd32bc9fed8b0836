/* Against transformers: every golden case on every instruction set this machine has, and on a GPU
 * (or its emulation: there only so, and fewer tokens; each has its own build).
 *   f32:  max |delta| <= 1e-3 of the logits' range, and the same 64 greedy tokens.
 *   bf16: RMS distance from the f32 logits over transformers' own, median over the cases <= 1.05.
 * A single bf16 case is a lottery (one flipped expert decides it), so only the median counts. */
#include <dirent.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/rig/cm.h"
#include "tests/rig/logits.h"
#include "tests/rig/only.h"

enum { MAX_CASES = 64, N_GREEDY = 64 };

/* The emulation is slow: of a prompt that says nothing about length, its first tokens (no row
 * depends on later ones), and of the greedy tokens, which need all of the prompt, some, for one
 * case in three. That decode gives the bytes of prefill there is gpu_same's. */
#ifdef EPMOE_EMULATED
enum { ON_CPU = 0, N_TRIED = 8, GREEDY_EVERY = 3, FIRST_TOKENS = 20, LONG = 100 };
#else
enum { ON_CPU = 1, N_TRIED = N_GREEDY, GREEDY_EVERY = 1, FIRST_TOKENS = INT_MAX, LONG = 0 };
#endif

/* Cases in which a GPU meets nothing that others do not have: they differ in what the host reads,
 * or in length. The emulation leaves them out. */
static const char *const of_the_host[] = {
    "dynamic-long",    "linear",         "mixtral-defaults", "mixtral-head-dim", "mixtral-long",
    "olmoe-eps",       "olmoe-gqa",      "olmoe-long",       "qwen3-eps",        "qwen3-half",
    "qwen3-moe-fused", "qwen3-moe-long", "qwen3-moe-fp8",    "yarn-mscale"};

static bool is_left_out(const char *name)
{
    for (size_t i = 0; i < sizeof of_the_host / sizeof *of_the_host && !ON_CPU; i++)
        if (strcmp(name, of_the_host[i]) == 0)
            return true;
    return false;
}

struct parity_case {
    char dir[256], golden[320], name[256];
};

static struct parity_case cases[MAX_CASES];
static int n_cases;

static void add_case(const char *dir, const char *golden_dir, const char *name)
{
    struct parity_case *c = &cases[n_cases++];
    snprintf(c->dir, sizeof c->dir, "%s", dir);
    snprintf(c->golden, sizeof c->golden, "%s/golden.safetensors", golden_dir);
    snprintf(c->name, sizeof c->name, "%s", name);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct parity_case *)a)->name, ((const struct parity_case *)b)->name);
}

static void find_cases(void)
{
    const char *root = SOURCE_DIR "/tests/golden/models";
    DIR *dir = opendir(root);
    for (struct dirent *e; dir && (e = readdir(dir)) && n_cases < MAX_CASES - 1;) {
        char path[256];
        if (e->d_name[0] == '.' || is_left_out(e->d_name))
            continue;
        snprintf(path, sizeof path, "%s/%.60s", root, e->d_name);
        add_case(path, path, e->d_name);
    }
    if (dir)
        closedir(dir);
    add_case(SOURCE_DIR "/models/austen-moe", SOURCE_DIR "/tests/golden/austen", "austen-moe");
    qsort(cases, (size_t)n_cases, sizeof *cases, by_name);
}

struct distance {
    double largest, rms, range;
};

/* Between logits a of listed rows (all when rows is NULL) and golden logits b. */
static struct distance compare(const float *a, const float *b, const int32_t *rows, size_t n_rows,
                               size_t vocab)
{
    struct distance d = {0};
    float low = INFINITY, high = -INFINITY;
    for (size_t r = 0; r < n_rows; r++) {
        const float *ours = a + (rows ? (size_t)rows[r] : r) * vocab, *theirs = b + r * vocab;
        for (size_t v = 0; v < vocab; v++) {
            double delta = fabs((double)ours[v] - theirs[v]);
            d.largest = delta > d.largest || isnan(delta) ? delta : d.largest;
            d.rms += delta * delta;
            low = theirs[v] < low ? theirs[v] : low;
            high = theirs[v] > high ? theirs[v] : high;
        }
    }
    d.rms = sqrt(d.rms / (double)(n_rows * vocab));
    d.range = (double)high - low;
    return d;
}

struct golden_case {
    struct golden file;
    const int32_t *tokens, *rows, *greedy;
    const float *f32, *bf16;
    size_t n_tokens, n_tried; // of the prompt; those whose logits are compared
    size_t n_rows;            // rows of golden logits that are compared
};

/* How many of the first n_tried tokens' logits the file has: all, or those of ascending rows. */
static size_t rows_within(const struct golden_case *g, size_t n_listed)
{
    size_t n = 0;
    if (!g->rows)
        return g->n_tried;
    while (n < n_listed && (size_t)g->rows[n] < g->n_tried)
        n++;
    return n;
}

static void golden_load(struct golden_case *g, const struct parity_case *c)
{
    size_t n, n_greedy, n_listed = 0;
    assert_true(golden_open(&g->file, c->golden));
    g->tokens = golden_tensor(&g->file, "tokens", &g->n_tokens);
    g->f32 = golden_tensor(&g->file, "logits_f32", &n);
    g->bf16 = golden_tensor(&g->file, "logits_bf16", &n);
    g->greedy = golden_tensor(&g->file, "greedy", &n_greedy);
    g->rows = golden_tensor(&g->file, "rows", &n_listed);
    assert_true(g->tokens && g->f32 && g->bf16 && g->greedy && n_greedy == N_GREEDY);
    g->n_tried = g->n_tokens > LONG || g->n_tokens < FIRST_TOKENS ? g->n_tokens : FIRST_TOKENS;
    g->n_rows = rows_within(g, n_listed);
    assert_true(g->n_rows > 0);
}

/* What a case runs on. */
struct path {
    const char *name, *isa;
    enum device device;
};

static struct path paths[ISA_COUNT + 1];
static int n_paths;

static void find_paths(void)
{
    for (int isa = 0; isa < ISA_COUNT && ON_CPU && !only_cuda(); isa++)
        if (isa_available() & 1u << isa)
            paths[n_paths++] =
                (struct path){isa_name((enum isa)isa), isa_name((enum isa)isa), DEVICE_CPU};
    if (cuda_count() > 0)
        paths[n_paths++] = (struct path){"cuda", NULL, DEVICE_CUDA};
}

static struct logits_case case_on(const struct path *p, const struct parity_case *c,
                                  const struct golden_case *g, enum dtype dtype)
{
    return (struct logits_case){.dir = c->dir,
                                .isa = p->isa,
                                .dtype = dtype,
                                .threads = 2,
                                .chunk = 2048,
                                .tokens = g->tokens,
                                .n = (int)g->n_tried,
                                .device = p->device};
}

static void f32_logits_and_greedy_tokens(void **state)
{
    (void)state;
    for (int i = 0; i < n_cases; i++) {
        struct golden_case g;
        golden_load(&g, &cases[i]);
        for (int p = 0; p < n_paths; p++) {
            struct logits_case t = case_on(&paths[p], &cases[i], &g, DTYPE_F32);
            int32_t greedy[N_GREEDY];
            int vocab;
            float *ours = logits_of(&t, &vocab);
            assert_non_null(ours);
            struct distance d = compare(ours, g.f32, g.rows, g.n_rows, (size_t)vocab);
            printf("%-22s %-6s f32 max |delta| %.1e of the range\n", cases[i].name, paths[p].name,
                   d.largest / d.range);
            assert_true(d.largest <= 1e-3 * d.range);
            free(ours);
            if (i % GREEDY_EVERY != 1 % GREEDY_EVERY)
                continue;
            t.n = (int)g.n_tokens;
            assert_true(greedy_of(&t, N_TRIED, greedy));
            assert_memory_equal(greedy, g.greedy, N_TRIED * sizeof *greedy);
        }
        golden_close(&g.file);
    }
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Our RMS distance over transformers', for one case and path. */
static double bf16_ratio(const struct parity_case *c, const struct path *p)
{
    struct golden_case g;
    int vocab;
    golden_load(&g, c);
    struct logits_case t = case_on(p, c, &g, DTYPE_BF16);
    float *ours = logits_of(&t, &vocab);
    assert_non_null(ours);
    struct distance our = compare(ours, g.f32, g.rows, g.n_rows, (size_t)vocab);
    struct distance their = compare(g.bf16, g.f32, NULL, g.n_rows, (size_t)vocab);
    free(ours);
    golden_close(&g.file);
    return our.rms / their.rms;
}

static void bf16_is_no_worse_than_transformers(void **state)
{
    (void)state;
    for (int p = 0; p < n_paths; p++) {
        double ratio[MAX_CASES];
        for (int i = 0; i < n_cases; i++)
            ratio[i] = bf16_ratio(&cases[i], &paths[p]);
        qsort(ratio, (size_t)n_cases, sizeof *ratio, ascending);
        double median = (ratio[(n_cases - 1) / 2] + ratio[n_cases / 2]) / 2;
        printf("%-6s bf16 RMS over transformers': median %.3f, worst %.3f of %d cases\n",
               paths[p].name, median, ratio[n_cases - 1], n_cases);
        assert_true(median <= 1.05);
    }
}

/* Models whose weights are quantised here, and the most that logits may differ from those in f32,
 * root mean square, as a share of their range. A step is 1/127 of the largest weight of a group in
 * q8 and 1/8 in q4; the bounds are half as much again as what was found. */
static const struct {
    const char *name;
    double q8, q4;
} quantised[] = {{"austen-moe", 0.0012, 0.009}, {"moe-60", 0.006, 0.06}};

static const struct parity_case *case_named(const char *name)
{
    int i = 0;
    while (strcmp(cases[i].name, name) != 0)
        assert_true(++i < n_cases);
    return &cases[i];
}

static size_t best_of(const float *row, size_t vocab)
{
    size_t best = 0;
    for (size_t v = 1; v < vocab; v++)
        best = row[v] > row[best] ? v : best;
    return best;
}

/* How many rows have the same best token. */
static size_t same_best(const float *ours, const struct golden_case *g, size_t vocab)
{
    size_t n = 0;
    for (size_t r = 0; r < g->n_rows; r++)
        n += best_of(ours + (g->rows ? (size_t)g->rows[r] : r) * vocab, vocab) ==
             best_of(g->f32 + r * vocab, vocab);
    return n;
}

static void check_quantised(const struct parity_case *c, const struct path *p, enum quant quant,
                            double bound)
{
    struct golden_case g;
    int vocab;
    golden_load(&g, c);
    struct logits_case t = case_on(p, c, &g, DTYPE_BF16);
    t.quant = quant;
    float *ours = logits_of(&t, &vocab);
    assert_non_null(ours);
    struct distance d = compare(ours, g.f32, g.rows, g.n_rows, (size_t)vocab);
    printf("%-12s %-6s %s RMS %.5f of the range, bound %.5f; same best token in %zu of %zu rows\n",
           c->name, p->name, quant_name(quant), d.rms / d.range, bound,
           same_best(ours, &g, (size_t)vocab), g.n_rows);
    assert_true(d.rms <= bound * d.range);
    free(ours);
    golden_close(&g.file);
}

static void quantised_logits_are_near(void **state)
{
    (void)state;
    for (int p = 0; p < n_paths; p++)
        for (size_t i = 0; i < sizeof quantised / sizeof *quantised; i++) {
            const struct parity_case *c = case_named(quantised[i].name);
            check_quantised(c, &paths[p], QUANT_Q8, quantised[i].q8);
            check_quantised(c, &paths[p], QUANT_Q4, quantised[i].q4);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f32_logits_and_greedy_tokens),
        cmocka_unit_test(quantised_logits_are_near),
        cmocka_unit_test(bf16_is_no_worse_than_transformers),
    };
    check_only();
    find_cases();
    find_paths();
    return n_cases > 8 ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
