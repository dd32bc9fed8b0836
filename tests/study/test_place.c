/* Placements computed from recorded routing, and the figures by which they are compared: on
 * recordings whose best placement is known, and against figures that are counted plainly here. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "study/balance_stats.h"
#include "study/place.h"
#include "study/place_print.h"
#include "tests/rig/cm.h"

enum { EXPERTS = 9, K = 2, LAYERS = 3, RANKS = 4, STEPS = 60, MOST_ROWS = 5 };
static const uint8_t sparse[LAYERS] = {1, 0, 1};
static const struct routing_head head = {.version = "test",
                                         .model = "test",
                                         .n_layers = LAYERS,
                                         .n_experts = EXPERTS,
                                         .top_k = K,
                                         .hidden = 8,
                                         .sparse = sparse};

static uint32_t seed = 3;
static uint32_t draw(uint32_t below)
{
    seed = seed * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)seed * below >> 32);
}

/* Steps of one row, or of several of one sequence; the experts of pair i are choose's. */
static void record(struct routing_file *f, struct arena *memory, int rows_most,
                   void (*choose)(uint8_t *pair, int layer))
{
    char path[64];
    struct routing_writer w;
    snprintf(path, sizeof path, "/tmp/place-%ld", (long)getpid());
    assert_int_equal(routing_write_begin(&w, path, &head), 0);
    for (int i = 0; i < STEPS; i++) {
        int rows = i % 4 == 3 ? rows_most : 1;
        const struct routing_run run = {0, i, rows};
        static const int32_t tokens[MOST_ROWS];
        uint8_t experts[2 * MOST_ROWS * K];
        for (int p = 0; p < 2 * rows; p++)
            choose(experts + p * K, p / rows);
        const struct routing_step step = {rows, 1, &run, tokens, experts};
        routing_write_step(&w, &head, &step);
    }
    assert_int_equal(routing_write_end(&w), 0);
    assert_int_equal(routing_read(f, path, memory), 0);
    unlink(path);
}

static void at_random(uint8_t *pair, int layer)
{
    (void)layer;
    pair[0] = (uint8_t)(draw(3) ? draw(EXPERTS) : draw(3));
    do
        pair[1] = (uint8_t)draw(EXPERTS);
    while (pair[1] == pair[0]);
}

/* Expert 0 is in every row. */
static void one_is_hot(uint8_t *pair, int layer)
{
    (void)layer;
    pair[0] = 0;
    pair[1] = (uint8_t)(1 + draw(EXPERTS - 1));
}

/* Expert 1 is in every row. */
static void one_is_hot_away(uint8_t *pair, int layer)
{
    (void)layer;
    pair[0] = 1;
    pair[1] = (uint8_t)(2 + draw(EXPERTS - 2));
}

/* Each row goes to two neighbours: 3 and 4, or 5 and 6, or 7 and 8; in an even placement with three
 * at home, to one worker. */
static void neighbours(uint8_t *pair, int layer)
{
    (void)layer;
    pair[0] = (uint8_t)(3 + 2 * draw(3));
    pair[1] = (uint8_t)(pair[0] + 1);
}

static struct config layers_of(const struct routing_file *f)
{
    struct config layers;
    assert_int_equal(replay_layers(&layers, f, "file"), 0);
    return layers;
}

/* The rank that a row of this number in its step goes to for an expert: its copies take turns. */
static int rank_of_row(const struct layer_placement *l, int expert, int row)
{
    int n = 1, ranks[RANKS] = {l->rank_of[expert]};
    for (int i = 0; i < l->n_copies; i++)
        if (l->copy_of[i] == expert)
            ranks[n++] = l->copy_rank[i];
    return ranks[row % n];
}

/* Of one layer (its number among those with experts), counted plainly. */
static void check_layer(const struct balance_stats *s, const struct routing_file *f,
                        const struct placement *p, int i, int l)
{
    uint64_t rows[REPLAY_KINDS][RANKS] = {0}, experts[REPLAY_KINDS][RANKS] = {0};
    uint64_t rows_most[REPLAY_KINDS] = {0}, experts_most[REPLAY_KINDS] = {0};
    int32_t expert[MOST_ROWS * K];
    for (int step = 0; step < f->n_steps; step++) {
        int n = f->steps[step].n_rows, kind = n == 1 ? REPLAY_DECODE : REPLAY_PREFILL;
        uint64_t of[RANKS] = {0}, hit[RANKS] = {0};
        routing_experts(f, &f->steps[step], i, expert);
        for (int e = 0; e < EXPERTS; e++) {
            int count[RANKS] = {0};
            for (int pair = 0; pair < n * K; pair++)
                count[rank_of_row(&p->layers[l], e, pair / K)] += expert[pair] == e;
            for (int rank = 0; rank < RANKS; rank++) {
                of[rank] += (uint64_t)count[rank];
                hit[rank] += count[rank] > 0;
            }
        }
        uint64_t most = 0, most_hit = 0;
        for (int rank = 0; rank < RANKS; rank++) {
            rows[kind][rank] += of[rank];
            experts[kind][rank] += hit[rank];
            most = of[rank] > most ? of[rank] : most;
            most_hit = hit[rank] > most_hit ? hit[rank] : most_hit;
        }
        rows_most[kind] += most;
        experts_most[kind] += most_hit;
    }
    for (int kind = 0; kind < REPLAY_KINDS; kind++) {
        const struct layer_balance *b = &s->layers[kind][i];
        assert_memory_equal(b->rows, rows[kind], sizeof rows[kind]);
        assert_memory_equal(b->experts, experts[kind], sizeof experts[kind]);
        assert_int_equal(b->rows_most, rows_most[kind]);
        assert_int_equal(b->experts_most, experts_most[kind]);
    }
}

static void test_stats(void **state)
{
    struct arena memory = {0};
    struct routing_file f;
    struct placement p;
    struct balance_stats s;
    struct placement_spec spec = {.text = "round-robin", .home = 2};
    (void)state;
    record(&f, &memory, MOST_ROWS, at_random);
    struct config layers = layers_of(&f);
    assert_int_equal(placement_build(&p, &memory, &layers, RANKS, &spec), 0);
    balance_stats_make(&s, &f, &p, &memory);
    check_layer(&s, &f, &p, 0, 0);
    check_layer(&s, &f, &p, 1, 2);
    static const int32_t cell[] = {0, 0, 5, 2 * EXPERTS + 1}, rank[] = {3, 1, 0, 2};
    const struct expert_copies copies = {4, cell, rank};
    assert_int_equal(placement_add_copies(&p, &memory, &copies), 0);
    balance_stats_make(&s, &f, &p, &memory);
    check_layer(&s, &f, &p, 0, 0);
    check_layer(&s, &f, &p, 1, 2);

    uint64_t heat[2 * EXPERTS], sum = 0;
    uint32_t together[EXPERTS * EXPERTS], pairs = 0;
    routing_heat(heat, &f, &memory);
    routing_together(together, &f, 1, &memory);
    for (int e = 0; e < EXPERTS; e++) {
        uint32_t of_row = 0;
        for (int other = 0; other < EXPERTS; other++) {
            assert_int_equal(together[e * EXPERTS + other], together[other * EXPERTS + e]);
            of_row += together[e * EXPERTS + other];
        }
        assert_int_equal(of_row, heat[EXPERTS + e] * (K - 1)); // each of its rows has K - 1 others
        assert_int_equal(together[e * EXPERTS + e], 0);
        sum += heat[EXPERTS + e];
        pairs += of_row;
    }
    assert_int_equal(sum, f.rows * K);
    assert_int_equal(pairs, f.rows * K * (K - 1));
    arena_free(&memory);
}

/* Two experts that are always wanted together go to two workers, and rank 0 keeps its own. */
static void test_best(void **state)
{
    struct arena memory = {0};
    struct routing_file f;
    struct placement even, p, again;
    struct balance_stats before, after;
    struct placement_spec spec = {.text = "even", .home = 3};
    (void)state;
    record(&f, &memory, 1, neighbours);
    struct config layers = layers_of(&f);
    assert_int_equal(placement_build(&even, &memory, &layers, RANKS, &spec), 0);
    assert_int_equal(
        place_by_routing(&p, &memory, &f, &layers, &(struct place_wish){RANKS, 3, 0, PLACE_BOTH}),
        0);
    balance_stats_make(&before, &f, &even, &memory);
    balance_stats_make(&after, &f, &p, &memory);
    for (int l = 0; l < LAYERS; l += 2) {
        for (int e = 0; e < 3; e++)
            assert_int_equal(p.layers[l].rank_of[e], 0);
        for (int e = 3; e < EXPERTS; e += 2)
            assert_int_not_equal(p.layers[l].rank_of[e], p.layers[l].rank_of[e + 1]);
        for (int rank = 1; rank < RANKS; rank++)
            assert_int_equal(placement_count(&p.layers[l], rank), 2);
    }
    assert_true(balance_experts(&before, REPLAY_DECODE, -1) >
                1.9 * balance_experts(&after, REPLAY_DECODE, -1));
    assert_int_equal(place_by_routing(&again, &memory, &f, &layers,
                                      &(struct place_wish){RANKS, 3, 0, PLACE_BOTH}),
                     0);
    for (int l = 0; l < LAYERS; l += 2)
        assert_memory_equal(again.layers[l].rank_of, p.layers[l].rank_of,
                            EXPERTS * sizeof(int32_t));
    arena_free(&memory);
}

/* Workers have as many experts as in an even placement. */
static void check_counts(const struct placement *p)
{
    for (int l = 0; l < LAYERS; l += 2)
        for (int rank = 1; rank < RANKS; rank++)
            assert_int_equal(placement_count(&p->layers[l], rank), EXPERTS / (RANKS - 1));
}

/* Each goal betters what it is about. */
static void test_goals(void **state)
{
    struct arena memory = {0};
    struct routing_file f;
    struct placement even, p;
    struct balance_stats before, after;
    struct placement_spec spec = {.text = "even"};
    (void)state;
    record(&f, &memory, MOST_ROWS, at_random);
    struct config layers = layers_of(&f);
    assert_int_equal(placement_build(&even, &memory, &layers, RANKS, &spec), 0);
    balance_stats_make(&before, &f, &even, &memory);
    assert_int_equal(
        place_by_routing(&p, &memory, &f, &layers, &(struct place_wish){RANKS, 0, 0, PLACE_DECODE}),
        0);
    check_counts(&p);
    balance_stats_make(&after, &f, &p, &memory);
    assert_true(balance_experts(&after, REPLAY_DECODE, -1) <
                balance_experts(&before, REPLAY_DECODE, -1));
    assert_int_equal(place_by_routing(&p, &memory, &f, &layers,
                                      &(struct place_wish){RANKS, 0, 0, PLACE_PREFILL}),
                     0);
    check_counts(&p);
    balance_stats_make(&after, &f, &p, &memory);
    assert_true(balance_rows(&after, REPLAY_PREFILL, -1) <
                balance_rows(&before, REPLAY_PREFILL, -1));
    arena_free(&memory);
}

/* A worker that has the hottest expert has as many as the others all the same. */
static void test_room(void **state)
{
    struct arena memory = {0};
    struct routing_file f;
    struct placement p;
    (void)state;
    record(&f, &memory, MOST_ROWS, one_is_hot);
    struct config layers = layers_of(&f);
    assert_int_equal(
        place_by_routing(&p, &memory, &f, &layers, &(struct place_wish){RANKS, 0, 0, PLACE_BOTH}),
        0);
    check_counts(&p);
    arena_free(&memory);
}

/* The hottest expert's rows are shared by copies, in prefill, where a step has several rows;
 * workers have even shares of all copies. Steps of one row have no use for copies, and get none. */
static void test_copies(void **state)
{
    struct arena memory = {0};
    struct routing_file f;
    struct placement without, with, single;
    struct balance_stats before, after;
    struct place_wish wish = {RANKS, 1, 0, PLACE_PREFILL};
    (void)state;
    record(&f, &memory, MOST_ROWS, one_is_hot_away);
    struct config layers = layers_of(&f);
    assert_int_equal(place_by_routing(&without, &memory, &f, &layers, &wish), 0);
    wish.copies = 4;
    assert_int_equal(place_by_routing(&with, &memory, &f, &layers, &wish), 0);
    wish.goal = PLACE_DECODE;
    assert_int_equal(place_by_routing(&single, &memory, &f, &layers, &wish), 0);
    assert_int_equal(without.n_copies + single.n_copies, 0);
    balance_stats_make(&before, &f, &without, &memory);
    balance_stats_make(&after, &f, &with, &memory);
    for (int l = 0; l < LAYERS; l += 2) {
        const struct layer_placement *at = &with.layers[l];
        assert_in_range(at->n_copies, 2, 4);
        assert_int_equal(at->rank_of[0], 0);
        assert_int_equal(at->copy_of[0], 1);
        for (int i = 0; i < at->n_copies; i++)
            assert_in_range(at->copy_rank[i], 1, RANKS - 1);
        for (int rank = 1; rank < RANKS; rank++)
            assert_in_range(placement_count(at, rank), 3, 4);
    }
    assert_true(balance_rows(&after, REPLAY_PREFILL, -1) <
                0.9 * balance_rows(&before, REPLAY_PREFILL, -1));
    arena_free(&memory);
}

/* What is written is a placement file. */
static void test_written(void **state)
{
    struct arena memory = {0};
    struct routing_file f;
    struct placement p, read;
    char path[] = "/tmp/placementXXXXXX";
    (void)state;
    record(&f, &memory, 1, at_random);
    struct config layers = layers_of(&f);
    assert_int_equal(
        place_by_routing(&p, &memory, &f, &layers, &(struct place_wish){RANKS, 1, 0, PLACE_BOTH}),
        0);
    assert_int_equal(close(mkstemp(path)), 0);
    assert_int_equal(place_write(&p, path), 0);
    struct placement_spec spec = {.text = path};
    assert_int_equal(placement_build(&read, &memory, &layers, RANKS, &spec), 0);
    for (int l = 0; l < LAYERS; l += 2)
        assert_memory_equal(read.layers[l].rank_of, p.layers[l].rank_of, EXPERTS * sizeof(int32_t));
    unlink(path);
    arena_free(&memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stats), cmocka_unit_test(test_best),   cmocka_unit_test(test_goals),
        cmocka_unit_test(test_room),  cmocka_unit_test(test_copies), cmocka_unit_test(test_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
