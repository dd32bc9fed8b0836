/* Ranks that are not there: whatever the way, bytes and messages between the coordinator and each
 * of them are those that as many ranks as threads exchange. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/cluster.h"
#include "study/alltoall_state.h"
#include "study/replay.h"
#include "study/virtual.h"
#include "tests/rig/cm.h"
#include "tests/rig/pairs.h"

enum { RANKS = 6, EXPERTS = 17, K = 3, HIDDEN = 50, SIZES = 3 };
/* Rank 5 has none, and some are at home. */
static int32_t rank_of[EXPERTS] = {0, 1, 1, 2, 2, 2, 0, 1, 2, 1, 3, 4, 4, 3, 1, 1, 1};

/* ---- ranks as threads ---- */

/* Messages of rows that rank 0 awaits from each rank, in all laps of a run. In the other lane ranks
 * meet. */
static const struct transport_ops *real;
static uint64_t awaited[RANKS];

static int counting_recv(struct transport *t, int lane, int from, void *buffer, size_t capacity)
{
    awaited[from] += lane == 0;
    return real->start_recv(t, lane, from, buffer, capacity);
}

struct run {
    struct transport ends[RANKS];
    pthread_t threads[RANKS];
    struct alltoall_options o;
};

struct rank_setup {
    struct run *run;
    int rank;
};
static struct rank_setup setups[RANKS];

static void *serve(void *argument)
{
    const struct rank_setup *s = argument;
    alltoall_serve(&s->run->ends[s->rank], &s->run->o);
    transport_close(&s->run->ends[s->rank]);
    return NULL;
}

static void run_threads(struct run *r, struct alltoall_report *report)
{
    static struct transport_ops counting;
    transport_open_local(r->ends, RANKS);
    real = r->ends[0].ops;
    counting = *real;
    counting.start_recv = counting_recv;
    r->ends[0].ops = &counting;
    for (int rank = 1; rank < RANKS; rank++) {
        setups[rank] = (struct rank_setup){r, rank};
        assert_int_equal(pthread_create(&r->threads[rank], NULL, serve, &setups[rank]), 0);
    }
    assert_int_equal(alltoall_coordinate(report, r->ends, &r->o), 0);
    cluster_stop(r->ends);
    for (int rank = 1; rank < RANKS; rank++)
        pthread_join(r->threads[rank], NULL);
    transport_close(r->ends);
}

/* ---- both ---- */

/* Laps of a size: the first, one for iterations, and one more that is timed apart. */
enum { LAPS = 3 };

static void compare_size(struct virtual_ranks *v, const struct run *r,
                         const struct alltoall_size *s, uint64_t *messages_back)
{
    struct arena memory = {0};
    struct traffic t;
    uint64_t out = 0, messages = 0;
    traffic_draw(&t, r->o.weights, EXPERTS, s->rows, K, r->o.seed, &memory);
    virtual_lap(v, &t, &r->o.placement->layers[0]);
    for (int rank = 1; rank < RANKS; rank++) {
        assert_int_equal(v->pairs[rank].out, s->with[rank].sent);
        assert_int_equal(v->pairs[rank].back, s->with[rank].received);
        out += v->pairs[rank].out;
        messages += v->pairs[rank].messages_out;
        messages_back[rank] += LAPS * v->pairs[rank].messages_back;
    }
    assert_int_equal(v->pairs[0].messages_out + v->pairs[0].messages_back, 0);
    assert_int_equal(out, s->out);
    assert_int_equal(messages, s->messages);
    assert_true(messages >= RANKS - 1);
    arena_free(&memory);
}

static void compare_way(struct run *r, const struct exchange_options *way, const char *skew)
{
    struct arena memory = {0};
    struct alltoall_report report;
    struct virtual_ranks v;
    double *weights;
    uint64_t messages_back[RANKS] = {0};
    assert_int_equal(skew_parse(&weights, skew, EXPERTS, K, &memory), 0);
    r->o.exchange = *way;
    r->o.weights = weights;
    memset(awaited, 0, sizeof awaited);
    run_threads(r, &report);
    struct exchange_limits limits = alltoall_limits(&r->o);
    virtual_open(&v, RANKS, &limits, way);
    for (int i = 0; i < SIZES; i++)
        compare_size(&v, r, &report.size[i], messages_back);
    for (int rank = 1; rank < RANKS; rank++)
        assert_int_equal(messages_back[rank], awaited[rank]);
    virtual_close(&v);
    alltoall_report_free(&report);
    arena_free(&memory);
}

static void counts_are_those_of_threads(void **state)
{
    static const int32_t no_pieces;
    static const char *const skews[] = {"uniform", "zipf:4"};
    struct exchange_options ways[REPLAY_MAX_WAYS];
    struct arena memory = {0};
    struct placement placement;
    (void)state;
    struct run r = {.o = {.hidden = HIDDEN,
                          .top_k = K,
                          .experts = EXPERTS,
                          .type = DTYPE_F32,
                          .n_sizes = SIZES,
                          .rows = {1, 5, 64},
                          .iterations = 1,
                          .version = "test",
                          .placement = &placement}};
    struct config one = alltoall_layer(&r.o);
    assert_int_equal(placement_from_ranks(&placement, &memory, &one, rank_of, &no_pieces, RANKS),
                     0);
    int n = replay_ways(ways, DTYPE_F32);
    assert_int_equal(n, 30);
    for (int i = 0; i < 2 * n; i += pairs_only() ? 13 : 1)
        compare_way(&r, &ways[i / 2], skews[i % 2]);
    arena_free(&memory);
}

/* With a skew a padded lap needs several rounds, so messages are no constant of the ranks. */
static void padding_has_rounds(void **state)
{
    static int32_t expert[64 * K];
    static float weight[64 * K];
    struct exchange_options way = {.strategy = STRATEGY_PADDED};
    struct arena memory = {0};
    struct placement placement;
    struct config one = {.n_layers = 1, .n_experts = EXPERTS, .top_k = K, .sparse = {true}};
    struct exchange_limits limits = {64, K, EXPERTS, HIDDEN, DTYPE_F32, 0, EXPERTS};
    struct virtual_ranks v;
    (void)state;
    const struct placement_spec even = {.text = "even"};
    assert_int_equal(placement_build(&placement, &memory, &one, RANKS, &even), 0);
    for (int i = 0; i < 64 * K; i++)
        expert[i] = i % K; // all of rank 1
    struct traffic t = {64, K, expert, weight};
    virtual_open(&v, RANKS, &limits, &way);
    virtual_lap(&v, &t, &placement.layers[0]);
    // 64 rows of 3 experts: room back for 1.5 * 192 / 5, so 58 of 192 rows a round
    assert_int_equal(v.pairs[1].messages_back, 4);
    assert_int_equal(v.pairs[5].messages_back, 4);
    virtual_close(&v);
    arena_free(&memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(counts_are_those_of_threads),
                                       cmocka_unit_test(padding_has_rounds)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
