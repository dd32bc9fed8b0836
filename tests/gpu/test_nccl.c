/* Rows from GPU to GPU by NCCL, on the emulation: logits are the bytes of the same ranks with rows
 * through the host's memory, by every strategy, dedup, combine, wire and overlap, for 1 to 8
 * workers, some experts at home, more workers than experts, and ranks that share GPUs. What goes
 * wrong: tests/gpu/nccl.sh. */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/rig/cm.h"
#include "tests/rig/logits.h"
#include "tests/rig/pairs.h"

enum { N_TOKENS = 5, CHUNK = 3 }; // halves of 2 and 1, then of 1 and 1
#define MODELS SOURCE_DIR "/tests/golden/models/"

static int32_t tokens[N_TOKENS];

/* Ranks on GPUs. */
struct setting {
    const char *dir;
    enum dtype type;
    int ranks;
    long home;
};

static float *run(const struct setting *s, enum transport_choice transport,
                  const struct exchange_options *x, int *vocab)
{
    for (int i = 0; i < N_TOKENS; i++)
        tokens[i] = (i * 29 + 5) % 64;
    struct logits_case t = {.dir = s->dir,
                            .dtype = s->type,
                            .threads = 1,
                            .chunk = CHUNK,
                            .ranks = s->ranks,
                            .tokens = tokens,
                            .n = N_TOKENS,
                            .placement = {.home = s->home, .home_given = s->home > 0},
                            .device = DEVICE_CUDA,
                            .transport = (int)transport};
    return logits_over(&t, x, vocab);
}

/* 0 when rows through the host and rows by NCCL give the same bytes. */
static int compare(const struct setting *s, const struct exchange_options *x)
{
    int vocab;
    float *staged = run(s, TRANSPORT_LOCAL, x, &vocab), *direct = run(s, TRANSPORT_NCCL, x, &vocab);
    int status = !staged || !direct ||
                 memcmp(staged, direct, N_TOKENS * (size_t)vocab * sizeof *staged) != 0;
    free(staged);
    free(direct);
    return status;
}

/* In a process of its own: the emulation never uses memory again that was freed. */
static void check(const struct setting *s, const struct exchange_options *x)
{
    struct exchange_words w = exchange_words(x);
    int status = 0;
    pid_t child = fork();
    if (child == 0)
        exit(compare(s, x));
    assert_true(child > 0 && waitpid(child, &status, 0) == child);
    if (status != 0)
        fail_msg("%s, %d ranks, %ld at home, %s, combine %s, dedup %s, wire %s, overlap %s: "
                 "other bytes, or none",
                 s->dir, s->ranks, s->home, w.strategy, w.combine, w.dedup, w.wire, w.overlap);
}

/* The communicator whose calls only begin differs from the usual one while it is opened and asked
 * how it is, whatever its rows: for it a part of the cases is enough. */
static bool begins(void)
{
    const char *blocking = getenv("EPMOE_NCCL_BLOCKING");
    return blocking && strcmp(blocking, "0") == 0;
}

/* Strategy, combine, dedup and overlap in full, or in pairs: overlap is then given by combine and
 * dedup. Wires, ranks and experts at home by turns. */
static void any_options(void **state)
{
    (void)state;
    static const long homes[] = {0, 7, 14, 57}; // 3 are left for up to 8 workers
    enum { OTHERS = COMBINE_COUNT * DEDUP_COUNT * OVERLAP_AUTO };
    for (int i = 0, n = 0; i < STRATEGY_COUNT * OTHERS; i += begins() ? 5 : 1) {
        int strategy = i / OTHERS;
        if (!begins() && pairs_only() && __builtin_parity((unsigned)(i % OTHERS)))
            continue;
        struct exchange_options x = {.strategy = (enum strategy)strategy,
                                     .combine = (enum combine)(i % COMBINE_COUNT),
                                     .dedup = (enum dedup)(i / COMBINE_COUNT % DEDUP_COUNT),
                                     .wire = (enum wire)((n + strategy) % WIRE_COUNT),
                                     .overlap = (enum overlap)(i % OTHERS / (OTHERS / 2))};
        struct setting s = {MODELS "moe-60", DTYPE_F32, 2 + (n + 2 * strategy) % 8,
                            homes[(n + strategy) % 4]};
        check(&s, &x);
        n++;
    }
}

/* One expert a row, and layers without; the other types. */
static void other_models(void **state)
{
    (void)state;
    const struct setting s[] = {{MODELS "moe-top-1", DTYPE_F16, 4, 1},
                                {MODELS "moe-sparse-step-2", DTYPE_BF16, 9, 0}};
    for (int i = 0; i < STRATEGY_COUNT; i++) {
        struct exchange_options x = {.strategy = (enum strategy)i,
                                     .wire = i ? WIRE_INT8 : WIRE_MODEL,
                                     .overlap = (enum overlap)(i % 2)};
        check(&s[i % 2], &x);
    }
}

/* Ranks on fewer GPUs than there are of them. */
static void shared_gpus(void **state)
{
    (void)state;
    setenv("EPMOE_EMULATED_NCCL", "2.30.3", 1);
    setenv("NCCL_MULTI_RANK_GPU_ENABLE", "1", 1);
    for (int i = 0; i < STRATEGY_COUNT * OVERLAP_AUTO; i += begins() ? 3 : 1) {
        struct exchange_options x = {.strategy = (enum strategy)(i / OVERLAP_AUTO),
                                     .overlap = (enum overlap)(i % OVERLAP_AUTO)};
        struct setting s = {MODELS "moe-60", DTYPE_F32, 2 + i, 7};
        setenv("EPMOE_EMULATED_GPUS", i % 2 ? "1" : "3", 1);
        check(&s, &x);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_options), cmocka_unit_test(other_models),
        cmocka_unit_test(shared_gpus), // last: it leaves its environment
    };
    setenv("EPMOE_EMULATED_GPUS", "9", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
