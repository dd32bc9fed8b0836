/* Blocks that outlive their sequences: each request gives what it gives alone, whatever was kept,
 * in a cache that is too small for all; every block is free, kept or used, and counted once. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "coordinator/generate.h"
#include "launch/ranks.h"
#include "tests/rig/cm.h"

enum { REQUESTS = 60, MOST = 300, MAX_NEW = 90, STEMS = 4 };
/* Of the tiny model: k and v, layers, heads, positions, head_dim padded, bf16. */
enum { BLOCK_BYTES = 2 * 2 * 2 * KV_BLOCK * 32 * 2 };

struct answer {
    int32_t prompt[MOST], ids[MAX_NEW];
    int n_ids;
    bool cancelled;
    struct request request;
    struct request_result result;
};

static bool on_token(void *context, int32_t token)
{
    struct answer *a = context;
    a->ids[a->n_ids++] = token;
    return false;
}

static int on_end(void *context, const struct request_result *r)
{
    struct answer *a = context;
    a->result = *r;
    return 0;
}

static uint32_t next_random(uint32_t *x)
{
    *x = *x * 1664525u + 1013904223u;
    return *x >> 8;
}

/* Prompts that begin as one of a few stems, for more or less of its length. */
static void fill(struct answer *answers)
{
    static int32_t stems[STEMS][MOST];
    uint32_t x = 7;
    memset(answers, 0, REQUESTS * sizeof *answers);
    for (int i = 0; i < STEMS * MOST; i++)
        stems[i / MOST][i % MOST] = (int32_t)(next_random(&x) % 100);
    for (int i = 0; i < REQUESTS; i++) {
        struct answer *a = &answers[i];
        int alike = (int)(next_random(&x) % 260), n = alike + 1 + (int)(next_random(&x) % 30);
        n = i % 9 == 0 ? 128
                       : n; // a whole number of blocks: the last token is computed all the same
        for (int k = 0; k < n; k++)
            a->prompt[k] = k < alike || i % 9 == 0 ? stems[i % STEMS][k] : (int32_t)(i + k) % 100;
        a->request = (struct request){.tokens = a->prompt,
                                      .n = n,
                                      .n_predict = 1 + (int)(next_random(&x) % (MAX_NEW - 1)),
                                      .ignore_eos = true,
                                      .sampler = {.temperature = i % 3 ? 0.8 : 0,
                                                  .top_p = 1,
                                                  .top_k = 20,
                                                  .repetition_penalty = i % 2 ? 1.3 : 1,
                                                  .seed = (uint64_t)i},
                                      .on_token = on_token,
                                      .on_end = on_end,
                                      .context = a};
    }
}

static void check_blocks(const struct kv_cache *kv)
{
    const struct prefixes *p = kv->prefixes;
    int *uses = calloc((size_t)kv->n_blocks, sizeof *uses), idle = 0;
    for (int s = 0; s < kv->max_sequences; s++)
        for (int i = 0; i < kv->taken[s]; i++)
            uses[kv->table[s * kv->blocks_per_sequence + i]]++;
    for (int i = 0; i < kv->n_free; i++) {
        assert_int_equal(uses[kv->free_blocks[i]], 0);
        assert_int_equal(p->blocks[kv->free_blocks[i]].serial, 0);
        uses[kv->free_blocks[i]] = -1;
    }
    for (int32_t b = p->oldest; b >= 0; b = p->blocks[b].newer, idle++) {
        assert_int_equal(uses[b], 0);
        assert_true(p->blocks[b].serial > 0);
        uses[b] = -1;
    }
    assert_int_equal(idle, p->n_idle);
    for (int i = 0; i < kv->n_blocks; i++) {
        assert_int_not_equal(uses[i], 0);
        assert_int_equal(p->blocks[i].users, uses[i] > 0 ? uses[i] : 0);
    }
    free(uses);
}

static void open_tiny(struct ranks *r, int sequences, int blocks)
{
    struct process p = {.local_size = 1};
    struct model_options o = model_options_default();
    struct session_needs needs = {sequences, 5, 0};
    o.model = SOURCE_DIR "/tests/golden/models/moe-60";
    o.threads = 1;
    o.chunk = 100;
    o.kv_bytes = blocks * BLOCK_BYTES;
    assert_int_equal(ranks_open(r, &p, &o, &needs), 0);
}

/* All requests in order, each as soon as there is room; every tenth is cancelled in the middle and
 * asked again. Returns how many of the prompts' tokens were reused. */
static int run_all(struct ranks *r, struct answer *answers)
{
    struct scheduler s;
    int reused = 0;
    scheduler_open(&s, &r->coordinator);
    for (int next = 0; next < REQUESTS || s.n_running;) {
        while (next < REQUESTS && scheduler_admit(&s, &answers[next].request))
            next++;
        struct answer *newest = &answers[next - 1];
        if (next % 10 == 9 && newest->n_ids == 1 && !newest->cancelled) {
            scheduler_cancel(&s, newest);
            newest->n_ids = 0;
            newest->cancelled = true;
            next--;
            continue;
        }
        assert_int_equal(scheduler_step(&s), 0);
        check_blocks(&r->coordinator.kv);
    }
    scheduler_close(&s);
    for (int i = 0; i < REQUESTS; i++) {
        assert_true(answers[i].result.n_reused < answers[i].request.n);
        reused += answers[i].result.n_reused;
    }
    return reused;
}

static void compare(int sequences, int blocks)
{
    static struct answer alone[REQUESTS], kept[REQUESTS];
    struct ranks r;
    fill(alone);
    fill(kept);
    open_tiny(&r, 1, 0);
    for (int i = 0; i < REQUESTS; i++)
        assert_int_equal(generate(&r.coordinator, &alone[i].request), 0);
    ranks_close(&r);
    open_tiny(&r, sequences, blocks);
    kv_cache_keep(&r.coordinator.kv);
    int reused = run_all(&r, kept);
    print_message("%d sequences, %d blocks: %d tokens reused\n", sequences, blocks, reused);
    assert_true(reused > 20 * KV_BLOCK);
    kv_cache_forget(&r.coordinator.kv);
    assert_int_equal(r.coordinator.kv.n_free, r.coordinator.kv.n_blocks);
    ranks_close(&r);
    for (int i = 0; i < REQUESTS; i++) {
        assert_int_equal(kept[i].n_ids, alone[i].n_ids);
        assert_memory_equal(kept[i].ids, alone[i].ids, (size_t)alone[i].n_ids * sizeof(int32_t));
    }
}

static void test_room_for_all(void **state)
{
    (void)state;
    compare(4, 0);
}

static void test_too_little_room(void **state)
{
    (void)state;
    compare(3, 14);
    compare(1, 8);
}

/* A block is found behind the block it followed, and not behind another that has its place now. */
static void test_names(void **state)
{
    struct prefixes p;
    int32_t a[KV_BLOCK] = {1}, b[KV_BLOCK] = {2};
    (void)state;
    prefixes_open(&p, 3);
    prefixes_take(&p, 0);
    prefixes_name(&p, 0, 0, a);
    prefixes_take(&p, 1);
    prefixes_name(&p, 1, p.blocks[0].serial, b);
    assert_int_equal(prefixes_find(&p, 0, a), 0);
    assert_int_equal(prefixes_find(&p, 0, b), -1);
    assert_int_equal(prefixes_find(&p, p.blocks[0].serial, b), 1);
    assert_true(prefixes_give(&p, 0));
    assert_int_equal(prefixes_evict(&p), 0);
    prefixes_take(&p, 0);
    prefixes_name(&p, 0, 0, b); // other tokens, in the same memory
    assert_int_equal(prefixes_find(&p, p.blocks[0].serial, b), -1);
    prefixes_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_room_for_all),
                                       cmocka_unit_test(test_too_little_room),
                                       cmocka_unit_test(test_names)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
