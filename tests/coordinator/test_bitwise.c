/* Row invariance, end to end: the same logits, byte for byte, for any number of threads, any chunk
 * and any number of ranks (more workers than experts too), overlapped or not, and any placement, in
 * f32, bf16, f16, q8 and q4, on every instruction set that this machine has.
 * tests/program/mpi_bitwise.sh does the same over MPI. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model/pieces.h"
#include "tests/rig/cm.h"
#include "tests/rig/logits.h"
#include "tests/rig/pairs.h"

enum { N_TOKENS = 150 };

/* Of the variants, how many are left out between two when pairs are enough. */
enum { PAIRS_STRIDE = 9 };

static size_t stride(void)
{
    return pairs_only() ? PAIRS_STRIDE : 1;
}

struct variant {
    int threads, chunk, ranks;
    enum overlap overlap;
};

static const struct variant variants[] = {
    {2, 2048, 1, OVERLAP_OFF}, {3, 2048, 1, OVERLAP_OFF}, {1, 1, 1, OVERLAP_OFF},
    {2, 7, 1, OVERLAP_OFF},    {1, 64, 1, OVERLAP_OFF},   {1, 2048, 2, OVERLAP_OFF},
    {1, 2048, 3, OVERLAP_OFF}, {2, 33, 5, OVERLAP_OFF},   {1, 50, 8, OVERLAP_OFF},
    {1, 2048, 9, OVERLAP_OFF}, {1, 100, 70, OVERLAP_OFF}, {1, 2048, 1, OVERLAP_ON},
    {1, 2048, 2, OVERLAP_ON},  {2, 33, 5, OVERLAP_ON},    {1, 3, 4, OVERLAP_ON},
    {1, 1, 3, OVERLAP_ON},     {1, 100, 70, OVERLAP_ON},  {1, 2048, 4, OVERLAP_AUTO},
    {1, 63, 3, OVERLAP_AUTO},
};

/* Tokens that any vocabulary of 64 and more has. */
static void fill(int32_t *tokens, int n)
{
    uint32_t x = 7;
    for (int i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        tokens[i] = (int32_t)(x >> 26);
    }
}

/* How a run keeps its weights. */
struct kind {
    enum dtype dtype;
    enum quant quant, expert_quant;
};

static const char *kind_name(const struct kind *k)
{
    static char text[16];
    snprintf(text, sizeof text, "%s/%s", weight_name(k->dtype, k->quant),
             weight_name(k->dtype, k->expert_quant));
    return text;
}

/* Variants from `first` on, in strides. */
static void check(const char *dir, const struct kind *kind, const char *isa, size_t first)
{
    int32_t tokens[N_TOKENS];
    int vocab;
    fill(tokens, N_TOKENS);
    struct logits_case t = {.dir = dir,
                            .isa = isa,
                            .dtype = kind->dtype,
                            .quant = kind->quant,
                            .expert_quant = kind->expert_quant,
                            .threads = 1,
                            .chunk = 2048,
                            .ranks = 1,
                            .tokens = tokens,
                            .n = N_TOKENS};
    float *reference = logits_of(&t, &vocab);
    assert_non_null(reference);
    for (size_t i = first % stride(); i < sizeof variants / sizeof *variants; i += stride()) {
        t.threads = variants[i].threads;
        t.chunk = variants[i].chunk;
        t.ranks = variants[i].ranks;
        struct exchange_options x = {.overlap = variants[i].overlap};
        float *logits = logits_over(&t, &x, &vocab);
        assert_non_null(logits);
        size_t bytes = (size_t)N_TOKENS * (size_t)vocab * sizeof *logits;
        if (memcmp(logits, reference, bytes) != 0)
            fail_msg("%s %s %s: other bytes with -t %d --chunk %d --ranks %d --overlap %s", dir,
                     isa, kind_name(kind), t.threads, t.chunk, t.ranks, x.overlap ? "on" : "off");
        free(logits);
    }
    free(reference);
}

/* A list of ranks for `blocks` blocks, drawn at random from n without `empty`. With copies some
 * blocks are on two or three ranks. */
static void draw_ranks(FILE *f, int blocks, int n, int empty, bool copies)
{
    static uint32_t x = 1;
    fputs("[", f);
    for (int b = 0; b < blocks; b++) {
        x = x * 1664525u + 1013904223u;
        int rank = (int)((uint64_t)(x >> 8) * (uint64_t)n >> 24);
        rank = rank == empty ? 0 : rank;
        fputs(b ? "," : "", f);
        if (copies && b % 3 == 0)
            fprintf(f, n > 2 && b % 2 ? "[%d,%d,%d]" : "[%d,%d]", rank, (rank + 1) % n,
                    (rank + 2) % n);
        else
            fprintf(f, "%d", rank);
    }
    fputs("]", f);
}

/* A placement file of n ranks, drawn at random: uneven, one worker empty unless it has copies, some
 * experts and pieces at home, and every layer another. */
static void draw_placement(const struct config *m, int n, bool copies, const char *path)
{
    int empty = n > 2 ? 1 + n % (n - 1) : -1;
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "{\"ranks\": %d, \"layers\": [", n);
    for (int l = 0; l < m->n_layers; l++) {
        fputs(l ? ", " : "", f);
        if (m->sparse[l])
            draw_ranks(f, m->n_experts, n, empty, copies);
        else
            fputs("null", f);
    }
    fputs("], \"pieces\": [", f);
    for (int l = 0; l < m->n_layers; l++) {
        fputs(l ? ", " : "", f);
        draw_ranks(f, pieces_of(m, l).n, n, empty, false);
    }
    fputs("]}", f);
    assert_int_equal(fclose(f), 0);
}

/* How rows travel to copies, another way for each number of ranks. */
static struct exchange_options way_to_copies(int ranks, enum overlap overlap)
{
    return (struct exchange_options){.strategy = (enum strategy)(ranks % STRATEGY_COUNT),
                                     .dedup = (enum dedup)(ranks / 2 % DEDUP_COUNT),
                                     .overlap = overlap};
}

/* Where pairs are enough, one placement for each number of ranks: others for each of 5 turns. */
static void check_placements(const char *dir, struct kind kind, int home, int turn)
{
    int32_t tokens[N_TOKENS];
    int vocab;
    char path[] = "/tmp/epmoe-placement-XXXXXX", copies[] = "/tmp/epmoe-placement-XXXXXX";
    struct config m;
    struct generation_defaults unused;
    fill(tokens, N_TOKENS);
    assert_int_equal(config_load(&m, &unused, dir), 0);
    assert_true(close(mkstemp(path)) == 0 && close(mkstemp(copies)) == 0);
    struct logits_case t = {.dir = dir,
                            .dtype = kind.dtype,
                            .quant = kind.quant,
                            .expert_quant = kind.expert_quant,
                            .threads = 1,
                            .chunk = 64,
                            .ranks = 1,
                            .tokens = tokens,
                            .n = N_TOKENS};
    float *reference = logits_of(&t, &vocab);
    assert_non_null(reference);
    const struct placement_spec specs[] = {{"round-robin", 0, false, NULL},
                                           {"even", home, true, NULL},
                                           {"round-robin", home, true, NULL},
                                           {path, 0, 0, NULL},
                                           {copies, 0, 0, NULL},
                                           {"balanced", 0, false, NULL},
                                           {"balanced", home, true, NULL}};
    for (t.ranks = 2; t.ranks <= 10; t.ranks++) {
        draw_placement(&m, t.ranks, false, path);
        draw_placement(&m, t.ranks, true, copies);
        for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
            struct exchange_options x = {.overlap = (enum overlap)((t.ranks + (int)i) % 2)};
            if (specs[i].text == copies)
                x = way_to_copies(t.ranks, x.overlap);
            if (pairs_only() && (t.ranks + turn) % 5 != (int)i)
                continue;
            t.placement = specs[i];
            float *logits = logits_over(&t, &x, &vocab);
            assert_non_null(logits);
            if (memcmp(logits, reference, (size_t)N_TOKENS * (size_t)vocab * sizeof *logits) != 0)
                fail_msg(
                    "%s %s: other bytes with --ranks %d --placement %s --home %ld --overlap %s",
                    dir, kind_name(&kind), t.ranks, specs[i].text, specs[i].home,
                    x.overlap ? "on" : "off");
            free(logits);
        }
    }
    free(reference);
    unlink(path);
    unlink(copies);
}

static void placements(void **state)
{
    (void)state;
    check_placements(SOURCE_DIR "/tests/golden/models/moe-60", (struct kind){.dtype = DTYPE_F32}, 7,
                     0);
    check_placements(SOURCE_DIR "/tests/golden/models/moe-60", (struct kind){.dtype = DTYPE_BF16},
                     7, 1);
    check_placements(SOURCE_DIR "/tests/golden/models/moe-sparse-step-2",
                     (struct kind){.dtype = DTYPE_F32}, 2, 3);
    check_placements(SOURCE_DIR "/tests/golden/models/moe-sparse-step-2",
                     (struct kind){.dtype = DTYPE_BF16}, 5, 2);
    check_placements(SOURCE_DIR "/tests/golden/models/qwen3-moe-fused",
                     (struct kind){.dtype = DTYPE_BF16}, 2, 1);
    check_placements(SOURCE_DIR "/tests/golden/models/olmoe-gqa", (struct kind){.dtype = DTYPE_F32},
                     3, 0);
    check_placements(SOURCE_DIR "/tests/golden/models/moe-60", (struct kind){.quant = QUANT_Q8}, 7,
                     2);
    check_placements(SOURCE_DIR "/tests/golden/models/moe-sparse-step-2",
                     (struct kind){.quant = QUANT_Q8, .expert_quant = QUANT_Q4}, 3, 0);
    check_placements(SOURCE_DIR "/tests/golden/models/mixtral-published",
                     (struct kind){.dtype = DTYPE_BF16}, 3, 2);
}

/* Two sets have the loops of another one but for some products: avxvnni for those of quantised
 * weights, amx for these and those of bf16. */
static bool has_own_products(int isa, const struct kind *kind)
{
    bool quantised = kind->quant || kind->expert_quant;
    return isa == ISA_AVX_VNNI ? quantised
           : isa == ISA_AMX    ? quantised || kind->dtype == DTYPE_BF16
                               : true;
}

/* When pairs are enough, all variants go with each instruction set, each type, and each model. */
static void check_everywhere(const char *dir, size_t model)
{
    // so that over all models each type meets each variant on one of plain, avx2 and avx512
    static const size_t starts[] = {0, 1, 2, 2, 1};
    static const struct kind kinds[] = {
        {.dtype = DTYPE_F32}, {.dtype = DTYPE_BF16},
        {.dtype = DTYPE_F16}, {.quant = QUANT_Q8},
        {.quant = QUANT_Q4},  {.dtype = DTYPE_BF16, .expert_quant = QUANT_Q4},
    };
    for (int isa = 0; isa < ISA_COUNT; isa++) {
        if (!(isa_available() & 1u << isa)) {
            printf("skipped: no %s path here\n", isa_name((enum isa)isa));
            continue;
        }
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
            if (has_own_products(isa, &kinds[i]))
                check(dir, &kinds[i], isa_name((enum isa)isa), 3 * model + starts[isa] + i);
    }
}

static void tiny_models(void **state)
{
    (void)state;
    check_everywhere(SOURCE_DIR "/tests/golden/models/moe-60", 0);
    check_everywhere(SOURCE_DIR "/tests/golden/models/moe-sparse-step-2", 1);
    check_everywhere(SOURCE_DIR "/tests/golden/models/dense-gqa", 2);
    check_everywhere(SOURCE_DIR "/tests/golden/models/qwen3-moe-fused", 3);
    check_everywhere(SOURCE_DIR "/tests/golden/models/olmoe-gqa", 4);
}

static void shipped_model(void **state)
{
    (void)state;
    check(SOURCE_DIR "/models/austen-moe", &(struct kind){.dtype = DTYPE_BF16}, NULL,
          4); // 13: 5 ranks, overlapped
    check(SOURCE_DIR "/models/austen-moe", &(struct kind){.quant = QUANT_Q8}, NULL, 5);
}

static void positions_that_turn_by_the_prompt_s_length(void **state)
{
    (void)state;
    check(SOURCE_DIR "/tests/golden/models/dynamic-long", &(struct kind){.dtype = DTYPE_BF16}, NULL,
          4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiny_models),
        cmocka_unit_test(placements),
        cmocka_unit_test(shipped_model),
        cmocka_unit_test(positions_that_turn_by_the_prompt_s_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
