/* Placements: every expert has one place, whatever the rule; and files that say so, good and bad.
 * And the bytes that follow, against what loading really takes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "launch/ranks.h"
#include "model/balance.h"
#include "model/footprint.h"
#include "tests/rig/cm.h"
#include "tests/rig/placed_model.h"

static void check_layer(const struct layer_placement *l, int experts, int ranks)
{
    for (int r = 0; r < ranks; r++)
        for (int g = l->rank_first[r]; g < l->rank_first[r + 1]; g++) {
            assert_int_equal(l->rank_of[l->block_at[g]], r);
            assert_int_equal(l->group_of[l->block_at[g]], g);
        }
    assert_int_equal(l->rank_first[0], 0);
    assert_int_equal(l->rank_first[ranks], experts);
}

/* Shares of the workers differ by one expert at most, and nothing but `home` is at home. */
static void check_rule(const char *rule, int ranks, int home)
{
    struct config m = model(60);
    struct placement p;
    struct placement_spec spec = {rule, home, true, NULL};
    assert_int_equal(placement_build(&p, &memory, &m, ranks, &spec), 0);
    assert_null(p.layers[1].rank_of);
    check_layer(&p.layers[2], 60, ranks);
    assert_int_equal(placement_count(&p.layers[2], 0), ranks == 1 ? 60 : home);
    int most = 0, least = 60;
    for (int r = 1; r < ranks; r++) {
        struct holding h = placement_holding(&p, r);
        assert_int_equal(h.experts, 2 * h.most);
        assert_int_equal(h.least, h.most);
        most = h.most > most ? h.most : most;
        least = h.least < least ? h.least : least;
    }
    assert_true(ranks == 1 || most - least <= 1);
}

static void every_expert_has_one_place(void **state)
{
    (void)state;
    static const int homes[] = {0, 1, 7, 59, 60};
    for (int ranks = 1; ranks <= 75; ranks++)
        for (int i = 0; i < 5; i++) {
            check_rule("even", ranks, homes[i]);
            check_rule("round-robin", ranks, homes[i]);
        }
}

/* ---- balanced ---- */

/* The shape of Qwen1.5-MoE-A2.7B. */
static struct config large_model(void)
{
    struct config m = {.dim = 2048,
                       .n_layers = 2,
                       .n_heads = 16,
                       .n_kv_heads = 16,
                       .head_dim = 128,
                       .vocab_size = 151936,
                       .n_experts = 60,
                       .top_k = 4,
                       .expert_dim = 1408,
                       .shared_dim = 5632,
                       .sparse = {true, true},
                       .dtype = DTYPE_BF16};
    return m;
}

static struct balance_times place_large(struct placement *p, struct balance *b,
                                        const struct config *m, enum balance_phase phase)
{
    static double busy[256];
    struct placement_spec spec = {NULL, 0, false, b};
    b->m = m;
    b->precision = precision_of(DTYPE_BF16);
    b->chunk = USUAL_CHUNK;
    b->home = -1;
    assert_int_equal(placement_build(p, &memory, m, b->n_ranks, &spec), 0);
    return balance_times(b, p, phase, busy);
}

/* Everything has one place, and no step is expected to take less than the bound or more than the
 * slowest rank alone would. */
static void balance_is_between_its_bounds(void **state)
{
    (void)state;
    struct config m = large_model();
    for (int ranks = 1; ranks <= 70; ranks += ranks < 10 ? 1 : 20)
        for (int overlap = 0; overlap < 2; overlap++)
            for (int phase = 0; phase < BALANCE_PHASES; phase++) {
                struct balance b = {
                    .load = usual_workload, .n_ranks = ranks, .halved = overlap ? 2 : 0};
                struct placement p;
                struct balance_times t = place_large(&p, &b, &m, (enum balance_phase)phase);
                check_layer(&p.layers[1], 60, ranks);
                check_layer(&p.pieces[1], 4, ranks);
                assert_int_equal(p.output_first[ranks], m.vocab_size);
                for (int r = 0; r < ranks; r++)
                    assert_true(p.output_first[r] <= p.output_first[r + 1]);
                assert_true(t.step >= t.bound * 0.999 && t.step <= t.alone * 1.001);
                assert_true(t.own <= t.bound);
            }
}

/* The coordinator has attention to do: it gets less than the others; a fast rank gets more. */
static void balance_minds_who_is_busy_and_who_is_fast(void **state)
{
    (void)state;
    struct config m = large_model();
    struct placement p;
    struct rank_speed speeds[5] = {
        {1e11, 1e10, 0}, {1e11, 1e10, 0}, {3e11, 3e10, 0}, {1e11, 1e10, 0}, {1e11, 1e10, 0}};
    struct balance alike = {.load = usual_workload, .n_ranks = 5, .halved = 2};
    place_large(&p, &alike, &m, BALANCE_PREFILL);
    for (int r = 1; r < 5; r++) {
        assert_true(placement_count(&p.layers[0], 0) < placement_count(&p.layers[0], r));
        assert_int_equal(placement_count(&p.pieces[0], r), 1);
    }
    struct balance mixed = alike;
    mixed.speeds = speeds;
    place_large(&p, &mixed, &m, BALANCE_PREFILL);
    int fast = 15 * placement_count(&p.pieces[0], 2) + placement_count(&p.layers[0], 2);
    for (int r = 0; r < 5; r++)
        if (r != 2) {
            int slow = 15 * placement_count(&p.pieces[0], r) + placement_count(&p.layers[0], r);
            assert_true(fast > 2 * slow);
            assert_true(p.output_first[r + 1] - p.output_first[r] <
                        p.output_first[3] - p.output_first[2]);
        }
}

/* Workers with as many pieces hold as many experts, give or take one, also where measuring finds
 * them a little different. */
static void balance_is_even(void **state)
{
    (void)state;
    struct config m = large_model();
    for (int ranks = 3; ranks <= 9; ranks++)
        for (int measured = 0; measured < 2; measured++) {
            struct rank_speed speeds[9];
            for (int r = 0; r < ranks; r++)
                speeds[r] = (struct rank_speed){1e11 + 1e9 * (r * 5 % 3), 1e10 - 1e8 * (r % 2), 0};
            struct balance b = {
                .load = usual_workload, .n_ranks = ranks, .speeds = measured ? speeds : NULL};
            struct placement p;
            place_large(&p, &b, &m, BALANCE_DECODE);
            for (int r = 1; r < ranks; r++)
                for (int q = 1; q < r; q++)
                    if (placement_count(&p.pieces[0], q) == placement_count(&p.pieces[0], r))
                        assert_in_range(1 + placement_count(&p.layers[0], q) -
                                            placement_count(&p.layers[0], r),
                                        0, 2);
        }
}

/* With every expert on a second rank, too, a rank has as many rows to compute, and in a prefill
 * step all of its experts to read; where one rank alone has all experts, copies take rows from it.
 */
static void copies_share_the_time(void **state)
{
    (void)state;
    struct config m = large_model();
    struct placement p;
    struct balance b = {.m = &m,
                        .precision = precision_of(DTYPE_BF16),
                        .load = usual_workload,
                        .chunk = USUAL_CHUNK,
                        .n_ranks = 3};
    double one[3], two[3];
    int32_t rank_of[120], pieces[8] = {0}, cell[120], rank[120];
    for (int i = 0; i < 120; i++) {
        rank_of[i] = 1;
        cell[i] = i;
        rank[i] = 2;
    }
    struct expert_copies copies = {120, cell, rank};
    assert_int_equal(placement_from_ranks(&p, &memory, &m, rank_of, pieces, 3), 0);
    balance_times(&b, &p, BALANCE_PREFILL, one);
    assert_int_equal(placement_add_copies(&p, &memory, &copies), 0);
    balance_times(&b, &p, BALANCE_PREFILL, two);
    assert_true(one[2] == 0 && two[1] == two[2]);
    assert_true(two[1] > 0.49 * one[1] && two[1] < 0.51 * one[1]);
    balance_times(&b, &p, BALANCE_DECODE, two);
    assert_true(two[1] > 0 && two[2] == 0);
}

/* A rank gets no more than it has memory for. */
static void balance_respects_memory(void **state)
{
    (void)state;
    struct config m = large_model();
    uint64_t expert = 3ull * 2048 * 1408 * 2;
    struct rank_speed speeds[3] = {{1e11, 1e10, 0}, {1e11, 1e10, 2 * 7 * expert}, {1e11, 1e10, 0}};
    struct balance b = {.load = usual_workload, .n_ranks = 3, .halved = 2, .speeds = speeds};
    struct placement p;
    place_large(&p, &b, &m, BALANCE_PREFILL);
    assert_int_equal(placement_count(&p.layers[0], 1) + placement_count(&p.pieces[0], 1), 7);
}

static void rules_are_what_they_are_called(void **state)
{
    (void)state;
    struct config m = model(8);
    static const struct {
        struct placement_spec spec;
        int ranks;
        int32_t rank_of[8];
    } cases[] = {
        {{"even", 0, false, NULL}, 4, {1, 1, 1, 2, 2, 2, 3, 3}},
        {{"even", 3, true, NULL}, 4, {0, 0, 0, 1, 1, 2, 2, 3}},
        {{"round-robin", 0, false, NULL}, 4, {1, 2, 3, 1, 2, 3, 1, 2}},
        {{"round-robin", 2, true, NULL}, 4, {0, 0, 3, 1, 2, 3, 1, 2}},
        {{"even", 6, true, NULL}, 5, {0, 0, 0, 0, 0, 0, 1, 2}},
        {{"round-robin", 0, false, NULL}, 1, {0, 0, 0, 0, 0, 0, 0, 0}},
        {{"even", 8, true, NULL}, 3, {0, 0, 0, 0, 0, 0, 0, 0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct placement p;
        assert_int_equal(placement_build(&p, &memory, &m, cases[i].ranks, &cases[i].spec), 0);
        assert_memory_equal(p.layers[0].rank_of, cases[i].rank_of, sizeof cases[i].rank_of);
        assert_memory_equal(p.layers[2].rank_of, cases[i].rank_of, sizeof cases[i].rank_of);
    }
}

static int parse(struct placement *p, int ranks, const char *text)
{
    struct config m = model(4);
    return placement_parse(p, &memory, &m, ranks, text, strlen(text), "plan.json");
}

static void files_say_it_layer_by_layer_or_once(void **state)
{
    (void)state;
    struct placement p;
    const int32_t a[] = {3, 1, 0, 1}, b[] = {1, 1, 1, 3};
    assert_int_equal(parse(&p, 4, "{\"ranks\":4,\"layers\":[[3,1,0,1],null,[1,1,1,3]]}"), 0);
    assert_memory_equal(p.layers[0].rank_of, a, sizeof a);
    assert_memory_equal(p.layers[2].rank_of, b, sizeof b);
    assert_null(p.layers[1].rank_of);
    struct holding home = placement_holding(&p, 0), empty = placement_holding(&p, 2);
    assert_int_equal(home.experts, 1);
    assert_int_equal(home.least, 0);
    assert_int_equal(home.most, 1);
    assert_int_equal(empty.experts, 0);
    assert_int_equal(parse(&p, 4, "{\"experts\":[3,1,0,1],\"ranks\":4}"), 0);
    assert_memory_equal(p.layers[0].rank_of, a, sizeof a);
    assert_memory_equal(p.layers[2].rank_of, a, sizeof a);
    // what stays at home fits any run
    assert_int_equal(parse(&p, 1, "{\"ranks\":1,\"experts\":[0,0,0,0]}"), 0);
    assert_int_equal(parse(&p, 1, "{\"ranks\":9,\"experts\":[0,0,0,0]}"), 0);
    assert_int_equal(placement_count(&p.layers[0], 0), 4);
}

static void bad_files_are_refused_by_key(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "expected JSON"},
        {"{\"ranks\":4,\"ranks\":4}", "expected JSON"},
        {"[4]", "expected an object with ranks and layers, found an array"},
        {"{\"ranks\":4}", "expected either layers or experts, found neither"},
        {"{\"ranks\":4,\"experts\":[],\"layers\":[]}", "found both"},
        {"{\"ranks\":4,\"expert\":[1,1,1,1]}", "found \"expert\""},
        {"{\"experts\":[1,1,1,1]}",
         "ranks: expected a whole number from 1 to 65536, found nothing"},
        {"{\"ranks\":0,\"experts\":[0,0,0,0]}", "found 0"},
        {"{\"ranks\":4.0,\"experts\":[1,1,1,1]}", "ranks: expected a whole number"},
        {"{\"ranks\":99999999999,\"experts\":[1,1,1,1]}", "found 99999999999"},
        {"{\"ranks\":3,\"experts\":[1,1,1,2]}",
         "ranks: expected 4, as many as this run has, found 3"},
        {"{\"ranks\":5,\"experts\":[1,1,1,2]}",
         "ranks: expected 4, as many as this run has, found 5"},
        {"{\"ranks\":4,\"experts\":[1,1,1]}",
         "experts: expected a rank for each of 4 experts, found 3"},
        {"{\"ranks\":4,\"experts\":[1,1,1,1,1]}", "found 5 ranks"},
        {"{\"ranks\":4,\"experts\":[1,1,4,1]}", "experts[2]: expected a rank from 0 to 3, found 4"},
        {"{\"ranks\":4,\"experts\":[1,-1,1,1]}",
         "experts[1]: expected a rank from 0 to 3, found -1"},
        {"{\"ranks\":4,\"experts\":[1,\"1\",1,1]}", "experts[1]: expected a rank"},
        {"{\"ranks\":4,\"experts\":[1,[],1,1]}",
         "experts[1]: expected 1 to 4 ranks that hold the expert, found 0"},
        {"{\"ranks\":4,\"experts\":[1,[0,1,2,3,0],1,1]}",
         "experts[1]: expected 1 to 4 ranks that hold the expert, found 5"},
        {"{\"ranks\":4,\"experts\":[1,[0,1,0],1,1]}",
         "experts[1][2]: expected each rank once, found 0 again"},
        {"{\"ranks\":4,\"experts\":[1,[0,1,1],1,1]}",
         "experts[1][2]: expected each rank once, found 1 again"},
        {"{\"ranks\":4,\"layers\":[[1,1,1,1],null,[1,1,1,[3,4]]]}",
         "layers[2][3][1]: expected a rank from 0 to 3, found 4"},
        {"{\"ranks\":4,\"experts\":[1,1,1,[[1],2]]}",
         "experts[3][0]: expected a rank from 0 to 3, found an array"},
        {"{\"ranks\":3,\"experts\":[0,[0,1],0,0]}",
         "ranks: expected 4, as many as this run has, found 3"},
        {"{\"ranks\":4,\"experts\":7}", "experts: expected a list of 4 ranks, found 7"},
        {"{\"ranks\":4,\"layers\":{}}", "layers: expected a list of 3 layers, found an object"},
        {"{\"ranks\":4,\"layers\":[[1,1,1,1],null]}", "layers: expected one for each of 3 layers"},
        {"{\"ranks\":4,\"layers\":[[1,1,1,1],[1,1,1,1],[1,1,1,1]]}",
         "layers[1]: expected null for a dense layer, found an array"},
        {"{\"ranks\":4,\"layers\":[[1,1,1,1],null,null]}",
         "layers[2]: expected a list of 4 ranks, found null"},
        {"{\"ranks\":4,\"layers\":[[1,1,1,1],null,[1,1,1,9]]}", "layers[2][3]: expected a rank"},
    };
    error_capture(true);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct placement p;
        assert_int_equal(parse(&p, 4, cases[i].text), STATUS_BAD_FILE);
        bool named = strncmp(error_text(), "plan.json: ", 11) == 0;
        if (!named || !strstr(error_text(), cases[i].says))
            print_error("%s: expected plan.json and \"%s\", found \"%s\"\n", cases[i].text,
                        cases[i].says, error_text());
        assert_true(named && strstr(error_text(), cases[i].says));
    }
    error_capture(false);
}

static void what_is_written_reads_the_same(void **state)
{
    (void)state;
    char path[] = "/tmp/epmoe-placement-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    struct config m = model(60);
    struct placement p, again;
    struct placement_spec rule = {"round-robin", 7, true, NULL}, file = {path, 0, false, NULL};
    assert_int_equal(placement_build(&p, &memory, &m, 6, &rule), 0);
    assert_int_equal(placement_write(&p, path), 0);
    assert_int_equal(placement_build(&again, &memory, &m, 6, &file), 0);
    for (int l = 0; l < 3; l += 2)
        assert_memory_equal(p.layers[l].rank_of, again.layers[l].rank_of, 60 * sizeof(int32_t));
    assert_null(again.layers[1].rank_of);
    static const int32_t cell[] = {3, 3, 59, 150}, rank[] = {5, 1, 0, 4};
    struct expert_copies copies = {4, cell, rank};
    assert_int_equal(placement_add_copies(&p, &memory, &copies), 0);
    assert_int_equal(placement_write(&p, path), 0);
    assert_int_equal(placement_build(&again, &memory, &m, 6, &file), 0);
    struct expert_copies found = placement_copies(&again, &memory);
    assert_int_equal(found.n, 4);
    assert_memory_equal(found.cell, cell, sizeof cell);
    assert_memory_equal(found.rank, rank, sizeof rank);
    unlink(path);
}

static void home_has_its_limits(void **state)
{
    (void)state;
    struct config m = model(8);
    struct placement p;
    error_capture(true);
    struct placement_spec more = {"even", 9, true, NULL}, both = {"plan.json", 2, true, NULL};
    assert_int_equal(placement_build(&p, &memory, &m, 3, &more), STATUS_USAGE);
    assert_non_null(strstr(error_text(), "--home 9: expected at most 8"));
    assert_int_equal(placement_build(&p, &memory, &m, 3, &both), STATUS_USAGE);
    assert_non_null(strstr(error_text(), "--home 2: expected none beside --placement plan.json"));
    error_capture(false);
}

/* The bytes that inspect tells are those that loading takes. */
static void footprints_are_exact(void **state)
{
    (void)state;
    static const char *const names[] = {"moe-60",    "moe-mlp-only-layers", "moe-head-dim",
                                        "dense-gqa", "qwen3-moe-fused",     "olmoe-gqa"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char dir[256];
        struct ranks r;
        struct process p = {.local_size = 1};
        struct model_options o = model_options_default();
        struct session_needs needs = {1, 1, 10};
        snprintf(dir, sizeof dir, SOURCE_DIR "/tests/golden/models/%s", names[i]);
        o.model = dir;
        o.threads = 1;
        assert_int_equal(ranks_open(&r, &p, &o, &needs), 0);
        const struct coordinator *c = &r.coordinator;
        struct footprint f = footprint_of(&c->config, c->precision);
        assert_int_equal(c->weights.bytes, f.attention + f.router + f.unembed);
        assert_int_equal(c->shard.bytes, (uint64_t)c->shard.n_experts * f.expert + f.dense);
        ranks_close(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_expert_has_one_place),
        cmocka_unit_test(balance_is_between_its_bounds),
        cmocka_unit_test(balance_minds_who_is_busy_and_who_is_fast),
        cmocka_unit_test(balance_is_even),
        cmocka_unit_test(balance_respects_memory),
        cmocka_unit_test(copies_share_the_time),
        cmocka_unit_test(rules_are_what_they_are_called),
        cmocka_unit_test(files_say_it_layer_by_layer_or_once),
        cmocka_unit_test(bad_files_are_refused_by_key),
        cmocka_unit_test(what_is_written_reads_the_same),
        cmocka_unit_test(home_has_its_limits),
        cmocka_unit_test(footprints_are_exact),
    };
    return cmocka_run_group_tests(tests, NULL, end);
}
