/* What the coordinator sends, byte for byte as docs/protocol.md has it, and what it accepts as
 * results: each worker's message has one length and no other, in every round. And how either end's
 * wait for rows ends when they never come. */
#include "tests/rig/cm.h"

#include "tests/rig/exchange_rig.h"

enum { N = 4, PAIRS = N * K, MOST_BYTES = 1 << 12, VARIANTS = 36 };
#define LENGTH(array) ((int)(sizeof(array) / sizeof *(array)))

static const int32_t routing[PAIRS] = {0, 1, 1, 4, 2, 1, 4, 3};
static const float weights[PAIRS] = {0.5f, 1, 2, 3, 4, 5, 6, 7};

/* Of each worker: its experts, its places' rows and weights, and these rows once. */
static const struct share {
    int experts, places, rows;
    int32_t count[OWN], index[5], source[5], distinct[4];
    float weight[5];
} shares[RANKS] = {
    [1] = {3, 5, 4, {3, 1, 1}, {0, 1, 2, 2, 3}, {0, 1, 2, 2, 3}, {0, 1, 2, 3}, {1, 2, 5, 4, 7}},
    [2] = {1, 2, 2, {2}, {0, 1}, {1, 3}, {1, 3}, {3, 6}},
    [3] = {0},
};

struct trip {
    struct rig r;
    struct routing routing;
    struct row_terms terms;
    int32_t count[EXPERTS], slot[PAIRS], source[PAIRS];
    _Alignas(64) float h[N * WIDTH], y[PAIRS * WIDTH];
    char said[RANKS][MOST_BYTES]; // what a worker was sent, or gives back
};

static struct exchange_options variant(int i)
{
    return (struct exchange_options){(enum strategy)(i % 3), (enum combine)(i / 3 % 2),
                                     (enum dedup)(i / 6 % 2), (enum wire)(i / 12 % 3), OVERLAP_OFF};
}

static void describe(char *text, size_t size, const struct exchange_options *o, const char *what)
{
    struct exchange_words w = exchange_words(o);
    snprintf(text, size, "%s, dedup %s, combine %s, wire %s: %s", w.strategy, w.dedup, w.combine,
             w.wire, what);
}

static int rows_back(const struct exchange_options *o, int rank)
{
    return o->combine == COMBINE_SUM ? shares[rank].rows : shares[rank].places;
}

static size_t back_bytes(const struct exchange_options *o, int rank)
{
    return (size_t)rows_back(o, rank) * rig_row_bytes(o);
}

static size_t out_bytes(const struct exchange_options *o, int rank)
{
    const struct share *s = &shares[rank];
    return rig_message_bytes(o, s->experts, s->places, rig_dedup(o) ? s->rows : s->places);
}

static struct dispatch_rounds {
    int out, back;
} rounds_of(const struct exchange_options *o)
{
    struct dispatch_rounds most = {1, 1};
    struct rig_round round = rig_round_of(o, N);
    for (int rank = 1; rank < RANKS && o->strategy == STRATEGY_PADDED; rank++) {
        int out = rig_rounds(out_bytes(o, rank), round.out),
            back = rig_rounds(back_bytes(o, rank), round.back);
        most.out = out > most.out ? out : most.out;
        most.back = back > most.back ? back : most.back;
    }
    return most;
}

/* Row r of the step is r + 1 all over. */
static void dispatch(struct trip *t, const struct exchange_options *o)
{
    *t = (struct trip){.routing = {.n = N, .k = K, .expert = routing, .weight = weights}};
    error_capture(true); // forgets the last words
    rig_open(&t->r, o, 0);
    for (int i = 0; i < N * WIDTH; i++)
        t->h[i] = (float)(1 + i / WIDTH);
    sort_rows(&(struct sorting){t->count, t->slot, t->source, NULL, RIG_GROUPS}, routing, N, K);
    t->routing.slot = t->slot;
    t->routing.source = t->source;
    t->routing.count = t->count;
    t->routing.layer = rig_layer;
    assert_int_equal(root_begin(t->r.root[0], &rig_layer, t->h, N), 0);
    assert_int_equal(root_dispatch(t->r.root[0], &t->routing, t->y, rig_z()), 0);
}

/* All workers take what is theirs: bytes of each into said. */
static void take_dispatch(struct trip *t, size_t *bytes)
{
    const struct exchange_options *o = &t->r.options;
    for (int rank = 1; rank < RANKS; rank++) {
        bytes[rank] = 0;
        for (int round = rounds_of(o).out; round > 0; round--) {
            long n =
                rig_take(&t->r, rank, 0, t->said[rank] + bytes[rank], MOST_BYTES - bytes[rank]);
            assert_true(n >= 0);
            if (o->strategy == STRATEGY_PADDED)
                assert_int_equal(n, (long)rig_round_of(o, N).out);
            bytes[rank] += (size_t)n;
        }
    }
}

/* ---- what is sent ---- */

static void put_rows(const struct exchange_options *o, char *to, const int32_t *row, int n)
{
    for (int i = 0; i < n; i++)
        rig_put_row(o, to + (size_t)i * rig_row_bytes(o), (float)(1 + row[i]));
}

static size_t encode(const struct exchange_options *o, char *to, int rank)
{
    const struct share *s = &shares[rank];
    int rows = rig_dedup(o) ? s->rows : s->places;
    struct dispatch_rounds rounds = rounds_of(o);
    int32_t header[] = {rows, rows_back(o, rank), rounds.out, rounds.back};
    size_t at = 16 + 4 * (size_t)s->experts, places = (size_t)s->places;
    memcpy(to, header, sizeof header);
    memcpy(to + 16, s->count, at - 16);
    if (o->dedup == DEDUP_ON || o->combine == COMBINE_SUM) {
        memcpy(to + at, s->index, places * 4);
        at += places * 4;
    }
    if (o->combine == COMBINE_SUM)
        memcpy(to + at, s->weight, places * 4);
    put_rows(o, to + rig_rows_at(o, s->experts, s->places), rig_dedup(o) ? s->distinct : s->source,
             rows);
    return out_bytes(o, rank);
}

static size_t encode_routing(const struct exchange_options *o, char *to)
{
    static const int32_t header[] = {N, 0, 1, 1}, all[N] = {0, 1, 2, 3};
    memcpy(to, header, sizeof header);
    memcpy(to + 16, routing, sizeof routing);
    if (o->combine == COMBINE_SUM)
        memcpy(to + 16 + sizeof routing, weights, sizeof weights);
    put_rows(o, to + rig_routing_bytes(o, N), all, N);
    return rig_allgather_bytes(o, N);
}

static void dispatches_are_as_documented(void **state)
{
    (void)state;
    static struct trip t;
    for (int i = 0; i < VARIANTS; i++) {
        struct exchange_options o = variant(i);
        size_t bytes[RANKS];
        dispatch(&t, &o);
        take_dispatch(&t, bytes);
        for (int rank = 1; rank < RANKS; rank++) {
            char wanted[MOST_BYTES] = {0}, what[160];
            bool all = o.strategy == STRATEGY_ALLGATHER;
            size_t n = all ? encode_routing(&o, wanted) : encode(&o, wanted, rank);
            describe(what, sizeof what, &o, "dispatch");
            if (o.strategy == STRATEGY_PADDED ? bytes[rank] < n : bytes[rank] != n)
                fail_msg("%s: %zu bytes for rank %d, not %zu", what, bytes[rank], rank, n);
            for (size_t at = 0; at < n; at++)
                if (t.said[rank][at] != wanted[at])
                    fail_msg("%s: rank %d: byte %zu differs", what, rank, at);
        }
        rig_close(&t.r);
    }
}

/* ---- what comes back ---- */

/* One message of the results that is not as it should be: its length. */
struct fault {
    int rank, round;
    long more; // bytes; 0: it is as it should be
};

/* Worker `rank` gives row i of its results the value 10 * rank + i; the padding is -1. */
static void give_back(struct trip *t, int rank, const struct fault *f)
{
    const struct exchange_options *o = &t->r.options;
    char *rows = t->said[rank];
    bool padded = o->strategy == STRATEGY_PADDED;
    size_t round = padded ? rig_round_of(o, N).back : back_bytes(o, rank);
    memset(rows, -1, MOST_BYTES);
    for (int i = 0; i < rows_back(o, rank); i++)
        rig_put_row(o, rows + (size_t)i * rig_row_bytes(o), (float)(10 * rank + i));
    for (int i = 0; i < rounds_of(o).back; i++) {
        bool odd = f && f->rank == rank && f->round == i;
        rig_send(&t->r, rank, 0, rows + (size_t)i * round,
                 (size_t)((long)round + (odd ? f->more : 0)));
    }
    rig_say_end(&t->r, rank, 0);
}

static int take_results(struct trip *t, const struct exchange_options *o, const struct fault *f)
{
    size_t bytes[RANKS];
    dispatch(t, o);
    take_dispatch(t, bytes);
    for (int rank = 1; rank < RANKS; rank++)
        give_back(t, rank, f);
    return root_combine(t->r.root[0], &t->terms);
}

static void check_results(const struct trip *t, const char *what)
{
    int first = 1; // a place of rank 0's own comes first
    for (int rank = 1; rank < RANKS; first += shares[rank++].places)
        for (int i = 0; i < rows_back(&t->r.options, rank) * WIDTH; i++) {
            float found = t->y[first * WIDTH + i], wanted = (float)(10 * rank + i / WIDTH);
            if (!(found >= wanted * 0.99f && found <= wanted * 1.01f))
                fail_msg("%s: rank %d, row %d: %g, not %g", what, rank, i / WIDTH, (double)found,
                         (double)wanted);
        }
}

static void results_find_their_places(void **state)
{
    (void)state;
    static struct trip t;
    for (int i = 0; i < VARIANTS; i++) {
        struct exchange_options o = variant(i);
        char what[160];
        describe(what, sizeof what, &o, "results");
        if (take_results(&t, &o, NULL) != 0)
            fail_msg("%s: %s", what, error_text());
        check_results(&t, what);
        rig_close(&t.r);
    }
}

static void check_fault(const struct exchange_options *o, const struct fault *f)
{
    static struct trip t;
    char name[80], what[200], says[160];
    long right = o->strategy == STRATEGY_PADDED ? (long)rig_round_of(o, N).back
                                                : (long)back_bytes(o, f->rank);
    if (right + f->more < 0)
        return;
    snprintf(name, sizeof name, "rank %d, round %d, %ld bytes more", f->rank, f->round, f->more);
    describe(what, sizeof what, o, name);
    snprintf(says, sizeof says,
             f->more > 0 ? "rank %d: rows: expected at most %ld bytes, found %ld"
                         : "rank %d: expected %ld bytes of rows back, found %ld",
             f->rank, right, right + f->more);
    int status = take_results(&t, o, f);
    if (status != STATUS_FAILED || strcmp(error_text(), says) != 0)
        fail_msg("%s: expected \"%s\", found status %d, \"%s\"", what, says, status, error_text());
    rig_close(&t.r);
}

static void results_have_one_length(void **state)
{
    (void)state;
    for (int i = 0; i < VARIANTS; i++) {
        struct exchange_options o = variant(i);
        long row = (long)rig_row_bytes(&o);
        const long more[] = {-1, 1, -4, 4, -row, row, -2 * row, -(long)rig_round_of(&o, N).back};
        for (int rank = 1; rank < RANKS; rank++)
            for (int round = 0; round < rounds_of(&o).back; round++)
                for (int j = 0; j < LENGTH(more); j++)
                    check_fault(&o, &(struct fault){rank, round, more[j]});
    }
}

/* ---- rows that never come ---- */

enum absence { SPEAKS, IS_GONE };

/* What ends the wait for rows that `from` has not sent. */
static void stay_away(struct rig *r, enum absence how, int from, int to)
{
    if (how == SPEAKS)
        rig_say_end(r, from, to);
    else
        transport_close(&r->ends[from]);
}

static void expect_absence(const char *what, int status, enum absence how)
{
    int expected = how == SPEAKS ? TRANSPORT_INTERRUPTED : STATUS_LOST_RANK;
    if (status != expected || (how == SPEAKS) != (strcmp(error_text(), "") == 0))
        fail_msg("%s: expected status %d, found %d, \"%s\"", what, expected, status, error_text());
}

static void check_missing_result(const struct exchange_options *o, enum absence how, int absent)
{
    static struct trip t;
    char what[160];
    size_t bytes[RANKS];
    describe(what, sizeof what, o, "a worker gives nothing back");
    dispatch(&t, o);
    take_dispatch(&t, bytes);
    for (int rank = 1; rank < RANKS; rank++)
        if (rank != absent)
            give_back(&t, rank, NULL);
    stay_away(&t.r, how, absent, 0);
    expect_absence(what, root_combine(t.r.root[0], &t.terms), how);
    root_drop(t.r.root[0]);
    rig_close(&t.r);
}

/* A worker to which nothing is said, or (padded) only the first of two rounds. */
static void check_missing_dispatch(const struct exchange_options *o, enum absence how, int said)
{
    static char message[MOST_BYTES];
    const struct exchange_work *work;
    const int32_t header[] = {0, 0, 2, 1};
    struct rig r;
    char what[160];
    describe(what, sizeof what, o, "no dispatch");
    memcpy(message, header, sizeof header);
    error_capture(true);
    rig_open(&r, o, 1);
    if (said)
        rig_send(&r, 0, 1, message, rig_round_of(o, N).out);
    stay_away(&r, how, 0, 1);
    expect_absence(what, worker_end_receive(r.worker[0], &rig_layer, N, &work), how);
    transport_drop(&r.ends[1]);
    rig_close(&r);
}

/* A worker has served a step in which it has no rows, and nobody takes what it gives back. */
static void check_result_not_taken(const struct exchange_options *o, enum absence how)
{
    static char message[MOST_BYTES];
    const struct exchange_work *work;
    bool all = o->strategy == STRATEGY_ALLGATHER, padded = o->strategy == STRATEGY_PADDED;
    const int32_t header[] = {all ? N : 0, 0, 1, 1};
    struct rig r;
    char what[160];
    describe(what, sizeof what, o, "results that nobody takes");
    memcpy(message, header, sizeof header);
    error_capture(true);
    rig_open(&r, o, 1);
    rig_send(&r, 0, 1, message,
             all      ? rig_allgather_bytes(o, N)
             : padded ? rig_round_of(o, N).out
                      : rig_message_bytes(o, OWN, 0, 0));
    assert_int_equal(worker_end_receive(r.worker[0], &rig_layer, N, &work), 0);
    assert_int_equal(worker_end_return(r.worker[0]), 0);
    stay_away(&r, how, 0, 1);
    expect_absence(what, worker_end_finish(r.worker[0]), how);
    rig_close(&r);
}

static void rows_that_never_come(void **state)
{
    (void)state;
    for (int i = 0; i < VARIANTS; i++) {
        struct exchange_options o = variant(i);
        for (enum absence how = SPEAKS; how <= IS_GONE; how++) {
            for (int rank = 1; rank < RANKS; rank++)
                check_missing_result(&o, how, rank);
            check_missing_dispatch(&o, how, 0);
            check_result_not_taken(&o, how);
        }
        if (o.strategy == STRATEGY_PADDED)
            check_missing_dispatch(&o, SPEAKS, 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dispatches_are_as_documented),
        cmocka_unit_test(results_find_their_places),
        cmocka_unit_test(results_have_one_length),
        cmocka_unit_test(rows_that_never_come),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
