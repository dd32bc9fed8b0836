/* Memory is compared with what ranks will take: by a byte, for all of a host or for one process;
 * and what would fit is said. */
#include <string.h>

#include "base/log.h"
#include "model/memory_fit.h"
#include "tests/rig/cm.h"

enum { RANKS = 3 };

static struct config config;
static struct memory_plan plan;
static struct arena memory;

static int set_up(void **state)
{
    (void)state;
    struct generation_defaults unused;
    struct placement_spec even = {.text = "even", .home = 20};
    error_capture(true);
    if (config_load(&config, &unused, SOURCE_DIR "/tests/golden/models/moe-60") != 0)
        return -1;
    memory_plan_open(&plan, &config, precision_of(DTYPE_BF16), 6400);
    return placement_build(&plan.placement, &memory, &config, RANKS, &even);
}

static int tear_down(void **state)
{
    (void)state;
    arena_free(&memory);
    return 0;
}

static struct memory_room room(uint64_t bytes)
{
    return (struct memory_room){bytes, "RAM"};
}

static const struct memory_room no_limit = {UINT64_MAX, "ulimit -v"};

static void refused(const struct memory_need *n, struct memory_room here, struct memory_room own,
                    const char *says)
{
    assert_int_equal(memory_fit_in(n, "a-host", here, own), STATUS_FAILED);
    if (!strstr(error_text(), says) || !strstr(error_text(), "memory of a-host: needs "))
        fail_msg("expected %s, found %s", says, error_text());
}

/* Rank 0 and rank 2 share the host: their sum must fit there, to the byte. */
static void all_ranks_of_a_host_count(void **state)
{
    (void)state;
    const bool on_host[RANKS] = {true, false, true};
    struct memory_need n = memory_need_of(&plan, 0, 1000, on_host);
    uint64_t own = memory_plan_share(&plan, 0).bytes + 1000;
    uint64_t all = own + memory_plan_share(&plan, 2).bytes;
    assert_int_equal(n.ranks, 2);
    assert_int_equal(n.weights + n.experts + n.kv + n.buffers, own);
    assert_int_equal(n.others, all - own);
    assert_int_equal(memory_fit_in(&n, "a-host", room(all), no_limit), 0);
    refused(&n, room(all - 1), no_limit, "1 other rank 0.");
    assert_int_equal(memory_fit_in(&n, "a-host", room(all), room(own)), 0);
    refused(&n, room(all), room(own - 1), "left (RAM)");
    n.threads = true; // one process has both
    refused(&n, room(all), room(own), "left (RAM)");
    assert_int_equal(memory_fit_in(&n, "a-host", room(all), room(all)), 0);
}

static void what_would_fit_is_said(void **state)
{
    (void)state;
    const bool alone[RANKS] = {true, false, false};
    struct memory_need n = memory_need_of(&plan, 0, 0, alone);
    uint64_t rest = n.weights + n.experts;
    assert_int_equal(n.kv, plan.kv_bytes);
    refused(&n, room(rest + n.kv / 2), no_limit, "KV cache of 6400 positions");
    refused(&n, room(rest + n.kv / 2), no_limit, ": -c 3200 would fit");
    n.kv = 0;
    uint64_t expert = memory_plan_expert_of_each(&plan);
    refused(&n, room(n.weights + 3 * expert + 1), no_limit, ": --home 3 would fit, with the other");
    refused(&n, room(n.weights - 1), no_limit, "more ranks on other hosts are needed");
}

/* A worker has no KV cache and no router. */
static void a_worker_counts_its_own(void **state)
{
    (void)state;
    const bool on_host[RANKS] = {false, true, true};
    struct memory_need n = memory_need_of(&plan, 1, 0, on_host);
    assert_int_equal(n.kv, 0);
    assert_int_equal(n.weights + n.experts, memory_plan_share(&plan, 1).bytes);
    assert_int_equal(n.others, memory_plan_share(&plan, 2).bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_ranks_of_a_host_count),
        cmocka_unit_test(what_would_fit_is_said),
        cmocka_unit_test(a_worker_counts_its_own),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
