/* Rows from GPU to GPU by NCCL, on the emulation: logits are the bytes of the same ranks with rows
 * through the host's memory, for 1 to 4 and 8 workers, some experts at home, and more workers
 * than experts. What goes wrong: tests/nccl.sh. */
#include <stdlib.h>
#include <string.h>

#include "tests/cm.h"
#include "tests/logits.h"

enum { N_TOKENS = 9, CHUNK = 7 };

static int32_t tokens[N_TOKENS];

static struct logits_case case_of(const char *dir, enum dtype type, int ranks, long home,
                                  enum transport_choice transport)
{
    for (int i = 0; i < N_TOKENS; i++)
        tokens[i] = (i * 29 + 5) % 64;
    return (struct logits_case){.dir = dir,
                                .dtype = type,
                                .threads = 1,
                                .chunk = CHUNK,
                                .ranks = ranks,
                                .tokens = tokens,
                                .n = N_TOKENS,
                                .placement = {.home = home, .home_given = home > 0},
                                .device = DEVICE_CUDA,
                                .transport = (int)transport};
}

static void check_ranks(const char *dir, enum dtype type, int ranks, long home, enum dedup dedup)
{
    int vocab;
    struct exchange_options x = {.dedup = dedup};
    struct logits_case staged = case_of(dir, type, ranks, home, TRANSPORT_AUTO);
    struct logits_case direct = case_of(dir, type, ranks, home, TRANSPORT_NCCL);
    float *a = logits_over(&staged, &x, &vocab), *b = logits_over(&direct, &x, &vocab);
    assert_non_null(a);
    assert_non_null(b);
    if (memcmp(a, b, N_TOKENS * (size_t)vocab * sizeof *a) != 0)
        fail_msg("%s, %d ranks, %ld at home, dedup %d: other bytes", dir, ranks, home, dedup);
    free(a);
    free(b);
}

static void same_logits(void **state)
{
    (void)state;
    for (int ranks = 2; ranks <= 5; ranks++)
        check_ranks(SOURCE_DIR "/tests/golden/models/moe-60", DTYPE_BF16, ranks, ranks % 3 * 7,
                    (enum dedup)(ranks % 2));
    check_ranks(SOURCE_DIR "/tests/golden/models/moe-sparse-step-2", DTYPE_F32, 9, 0, DEDUP_ON);
    check_ranks(SOURCE_DIR "/tests/golden/models/moe-top-1", DTYPE_F16, 4, 1, DEDUP_OFF);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_logits),
    };
    setenv("EPMOE_EMULATED_GPUS", "9", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
