/* What a worker accepts as a dispatch and what it refuses, with which words: every field, every
 * bound from both sides, every strategy, dedup, combine, wire and length. */
#include "tests/rig/cm.h"

#include "tests/rig/dispatch_cases.h"
#include "tests/rig/exchange_rig.h"

/* ---- making messages ---- */

static int clamp(int64_t value, int most)
{
    return value < 0 ? 0 : value > most ? most : (int)value;
}

static int places_of(const struct dispatch *m)
{
    return clamp((int64_t)m->count[0] + m->count[1] + m->count[2], PAIRS + 1);
}

/* Rows that travel: what the header says, as far as there is room for them. */
static int rows_of(const struct exchange_options *o, const struct dispatch *m)
{
    return clamp(m->rows, o->dedup == DEDUP_ON ? MOST_ROWS : PAIRS + 1);
}

static size_t bytes_of(const struct exchange_options *o, const struct dispatch *m)
{
    return rig_message_bytes(o, OWN, places_of(m), rows_of(o, m));
}

static float weight_of(int place)
{
    return (float)(1 + place);
}

/* The message, as exact sends it; row r is r + 1 all over. */
static size_t encode(const struct exchange_options *o, char *to, const struct dispatch *m,
                     int rounds, int rounds_back)
{
    int32_t header[] = {m->rows, m->back, rounds, rounds_back};
    size_t places = (size_t)places_of(m), at = 16 + sizeof m->count;
    memset(to, 0, bytes_of(o, m));
    memcpy(to, header, sizeof header);
    memcpy(to + 16, m->count, sizeof m->count);
    if (o->dedup == DEDUP_ON || o->combine == COMBINE_SUM) {
        memcpy(to + at, m->index, places * 4);
        at += places * 4;
    }
    for (size_t p = 0; o->combine == COMBINE_SUM && p < places; p++)
        dtype_store(DTYPE_F32, to + at, p, weight_of((int)p));
    char *rows = to + rig_rows_at(o, OWN, (int)places);
    for (int r = 0; r < rows_of(o, m); r++)
        rig_put_row(o, rows + (size_t)r * rig_row_bytes(o), (float)(r + 1));
    return bytes_of(o, m);
}

/* Rounds that the rows for so many places need on their way back, within what a worker accepts. */
static int rounds_back_for(const struct exchange_options *o, int back)
{
    return rig_rounds((size_t)clamp(back, PAIRS) * rig_row_bytes(o), rig_round_of(o, N).back);
}

/* Send a message's bytes as the strategy does, padding the last round, and no more. */
static void offer(struct rig *r, const char *bytes, size_t n)
{
    size_t round = rig_round_of(&r->options, N).out;
    if (r->options.strategy != STRATEGY_PADDED)
        rig_send(r, 0, 1, bytes, n);
    else
        for (size_t at = 0; at == 0 || at < n; at += round)
            rig_send(r, 0, 1, bytes + at, round);
    rig_say_end(r, 0, 1);
}

/* Offer it to a worker that has just started: the status, with the words in error_text(). */
static int receive(struct rig *r, const struct exchange_options *o, const char *bytes, size_t n,
                   const struct exchange_work **work)
{
    error_capture(true); // forgets the last words
    rig_open(r, o, 1);
    offer(r, bytes, n);
    return worker_end_receive(r->worker[0], &rig_layer, N, work);
}

/* ---- comparing ---- */

static void describe(char *text, size_t size, const struct exchange_options *o, const char *name)
{
    struct exchange_words w = exchange_words(o);
    snprintf(text, size, "%s, dedup %s, combine %s, wire %s: %s", w.strategy, w.dedup, w.combine,
             w.wire, name);
}

static void expect_words(const char *what, int status, int expected, const char *says)
{
    if (status != expected || strcmp(error_text(), says) != 0)
        fail_msg("%s: expected status %d, \"%s\", found %d, \"%s\"", what, expected, says, status,
                 error_text());
}

/* What comes back as row i when every expert gives its input back. */
static float expected_back(const struct exchange_options *o, const struct dispatch *m, int i)
{
    float sum = 0;
    if (o->combine == COMBINE_ROWS)
        return (float)(1 + (rig_dedup(o) ? m->index[i] : i));
    for (int p = 0; p < places_of(m); p++)
        if (m->index[p] == i)
            sum += weight_of(p) * (float)(1 + (rig_dedup(o) ? i : p));
    return sum;
}

/* The experts give their input back, and it arrives: so the message was understood. */
static void check_back(struct rig *r, const struct exchange_work *work, const struct dispatch *m,
                       const char *what)
{
    static char rows[MOST_PIECES * 4 * WIDTH];
    const struct exchange_options *o = &r->options;
    size_t row = rig_row_bytes(o), back = (size_t)m->back * row, got = 0;
    bool padded = o->strategy == STRATEGY_PADDED;
    rig_give_back(work);
    if (work->n != places_of(m) || memcmp(work->count, m->count, sizeof m->count) != 0)
        fail_msg("%s: other counts", what);
    assert_int_equal(worker_end_return(r->worker[0]), 0);
    rig_say_end(r, 1, 0);
    for (int round = padded ? rounds_back_for(o, m->back) : 1; round > 0; round--) {
        long bytes = rig_take(r, 0, 1, rows + got, sizeof rows - got);
        assert_true(bytes == (long)(padded ? rig_round_of(o, N).back : back));
        got += (size_t)bytes;
    }
    assert_int_equal(worker_end_finish(r->worker[0]), 0);
    for (int i = 0; i < m->back * WIDTH; i++) {
        float wanted = expected_back(o, m, i / WIDTH),
              found = rig_value(o, rows + (size_t)(i / WIDTH) * row, i % WIDTH);
        if (!(found <= wanted * 1.00001f && found >= wanted * 0.99999f))
            fail_msg("%s: %g came back in row %d, not %g", what, (double)found, i / WIDTH,
                     (double)wanted);
    }
}

/* ---- the tables ---- */

static void check_dispatch(const struct exchange_options *o, const struct dispatch *m)
{
    static char bytes[1 << 14];
    const struct exchange_work *work;
    struct rig r;
    char what[200];
    describe(what, sizeof what, o, m->name);
    bool padded = o->strategy == STRATEGY_PADDED;
    int rounds = padded ? rig_rounds(bytes_of(o, m), rig_round_of(o, N).out) : 1;
    size_t n = encode(o, bytes, m, rounds, padded ? rounds_back_for(o, m->back) : 1);
    int status = receive(&r, o, bytes, n, &work);
    expect_words(what, status, m->says ? STATUS_FAILED : 0, m->says ? m->says : "");
    if (!m->says)
        check_back(&r, work, m, what);
    rig_close(&r);
}

static void every_field_and_bound(void **state)
{
    (void)state;
    for (int t = 0; t < LENGTH(tables); t++)
        for (int i = 0; i < tables[t].n; i++)
            for (enum wire wire = WIRE_MODEL; wire < WIRE_COUNT; wire++)
                for (enum strategy s = STRATEGY_EXACT; s <= STRATEGY_PADDED; s++) {
                    struct exchange_options o = {s, tables[t].combine, tables[t].dedup, wire,
                                                 OVERLAP_OFF};
                    check_dispatch(&o, &tables[t].cases[i]);
                }
}

/* ---- lengths ---- */

static void expected_length_words(char *text, size_t size, const struct exchange_options *o,
                                  const struct dispatch *m, size_t found)
{
    if (found < 16 + sizeof m->count)
        snprintf(text, size, "dispatch: expected %d counts, found %zu bytes", OWN, found);
    else
        snprintf(text, size, "dispatch: expected %zu bytes of %d rows, found %zu", bytes_of(o, m),
                 (int)m->rows, found);
}

/* exact: one length and no other. */
static void check_lengths(const struct exchange_options *o, const struct dispatch *m)
{
    static char bytes[1 << 14];
    const struct exchange_work *work;
    char what[200], says[160];
    struct rig r;
    size_t n = encode(o, bytes, m, 1, 1);
    for (size_t length = 0; length <= n + 40; length++) {
        int status = receive(&r, o, bytes, length, &work);
        snprintf(says, sizeof says, "%zu of %zu bytes", length, n);
        describe(what, sizeof what, o, says);
        expected_length_words(says, sizeof says, o, m, length);
        expect_words(what, status, length == n ? 0 : STATUS_FAILED, length == n ? "" : says);
        rig_close(&r);
    }
}

/* padded: each round has one length and no other. `round` is the first one that has not. */
static void check_round_length(const struct exchange_options *o, const struct dispatch *m,
                               int round, size_t length)
{
    static char bytes[1 << 14];
    const struct exchange_work *work;
    char what[200], says[160];
    struct rig r;
    size_t out = rig_round_of(o, N).out;
    int rounds = rig_rounds(encode(o, bytes, m, 2, rounds_back_for(o, m->back)), out);
    assert_int_equal(rounds, 2);
    error_capture(true);
    rig_open(&r, o, 1);
    for (int i = 0; i < rounds; i++)
        rig_send(&r, 0, 1, bytes + (size_t)i * out, i == round ? length : out);
    rig_say_end(&r, 0, 1);
    int status = worker_end_receive(r.worker[0], &rig_layer, N, &work);
    snprintf(says, sizeof says, "round %d of %zu bytes, not %zu", round, length, out);
    describe(what, sizeof what, o, says);
    snprintf(says, sizeof says,
             length > out ? "rank 0: rows: expected at most %zu bytes, found %zu"
                          : "dispatch: expected a round of %zu bytes, found %zu",
             out, length);
    expect_words(what, status, length == out ? 0 : STATUS_FAILED, length == out ? "" : says);
    rig_close(&r);
}

/* Longer than any message may be: the transport has been told how much room there is, and there is
 * as much (a sanitizer sees whether). */
static void check_far_too_long(enum strategy strategy)
{
    static char bytes[1 << 20];
    const struct exchange_options o = {.strategy = strategy};
    const struct exchange_work *work;
    struct rig r;
    size_t n = sizeof bytes;
    for (int i = 0; i < 2; i++) {
        error_capture(true);
        rig_open(&r, &o, 1);
        rig_send(&r, 0, 1, bytes, n);
        rig_say_end(&r, 0, 1);
        assert_true(worker_end_receive(r.worker[0], &rig_layer, N, &work) != 0);
        bool refused = sscanf(error_text(),
                              "rank 0: rows: expected at most %zu bytes, found 1048576", &n) == 1;
        if (refused != (i == 0))
            fail_msg("%s: %s", exchange_words(&o).strategy, error_text());
        rig_close(&r);
    }
}

static void every_length(void **state)
{
    (void)state;
    for (enum strategy s = 0; s < STRATEGY_COUNT; s++)
        check_far_too_long(s);
    for (int t = 0; t < LENGTH(tables); t++)
        for (enum wire wire = WIRE_MODEL; wire < WIRE_COUNT; wire++) {
            struct exchange_options o = {STRATEGY_EXACT, tables[t].combine, tables[t].dedup, wire,
                                         OVERLAP_OFF};
            check_lengths(&o, &tables[t].cases[0]);
            o.strategy = STRATEGY_PADDED;
            size_t out = rig_round_of(&o, N).out, lengths[] = {0, out - 16, out - 1, out, out + 1};
            for (int i = 0; i < 2 * LENGTH(lengths); i++)
                check_round_length(&o, &tables[t].cases[0], i % 2, lengths[i / 2]);
        }
}

/* ---- rounds ---- */

/* The dispatch says so many rounds, and as many are sent. */
static int say_rounds(const struct exchange_options *o, const struct dispatch *m, int rounds,
                      int rounds_back)
{
    static char bytes[1 << 16];
    const struct exchange_work *work;
    struct rig r;
    size_t n = encode(o, bytes, m, rounds, rounds_back);
    if (o->strategy == STRATEGY_PADDED)
        n = (size_t)clamp(rounds, 40) * rig_round_of(o, N).out;
    int status = receive(&r, o, bytes, n, &work);
    rig_close(&r);
    return status;
}

static void one_round_where_nothing_pads(void **state)
{
    (void)state;
    static const int odd[][2] = {{0, 1}, {2, 1}, {-1, 1}, {1, 0}, {1, 2}, {1, MOST}, {LEAST, 1}};
    char what[200], says[160];
    for (int t = 0; t < LENGTH(tables); t++)
        for (int i = 0; i < LENGTH(odd); i++) {
            struct exchange_options o = {.combine = tables[t].combine, .dedup = tables[t].dedup};
            describe(what, sizeof what, &o, "other rounds than one");
            snprintf(says, sizeof says, "dispatch: expected 1 round and 1 back, found %d, %d",
                     odd[i][0], odd[i][1]);
            expect_words(what, say_rounds(&o, &tables[t].cases[0], odd[i][0], odd[i][1]),
                         STATUS_FAILED, says);
        }
}

/* As many rounds as the worker says it takes are taken, and no more. */
static void check_rounds(const struct exchange_options *o, const struct dispatch *m)
{
    static const int odd[][2] = {{0, 1}, {-1, 1}, {LEAST, 1}, {MOST, 1},
                                 {1, 0}, {1, -1}, {1, MOST}};
    char what[200], says[160];
    int most, back, needs = rig_rounds(bytes_of(o, m), rig_round_of(o, N).out);
    int needs_back = rounds_back_for(o, m->back);
    describe(what, sizeof what, o, "rounds");
    say_rounds(o, m, 0, 1);
    if (sscanf(error_text(), "dispatch: expected up to %d rounds and %d back", &most, &back) != 2)
        fail_msg("%s: %s", what, error_text());
    assert_true(most >= needs && back >= needs_back);
    expect_words(what, say_rounds(o, m, most, back), 0, "");
    expect_words(what, say_rounds(o, m, needs, needs_back), 0, "");
    for (int i = 0; i < LENGTH(odd) + 2; i++) {
        int rounds = i < LENGTH(odd) ? odd[i][0] : i == LENGTH(odd) ? most + 1 : most;
        int rounds_back = i < LENGTH(odd) ? odd[i][1] : i == LENGTH(odd) ? back : back + 1;
        snprintf(says, sizeof says, "dispatch: expected up to %d rounds and %d back, found %d, %d",
                 most, back, rounds, rounds_back);
        expect_words(what, say_rounds(o, m, rounds, rounds_back), STATUS_FAILED, says);
    }
}

/* Fewer rounds than the message needs, or than its rows need on their way back. */
static void check_missing_rounds(const struct exchange_options *o, const struct dispatch *m)
{
    char what[200], says[160];
    struct rig_round round = rig_round_of(o, N);
    int needs = rig_rounds(bytes_of(o, m), round.out), needs_back = rounds_back_for(o, m->back);
    assert_int_equal(needs, 2);
    describe(what, sizeof what, o, "one round too few");
    expected_length_words(says, sizeof says, o, m, round.out);
    expect_words(what, say_rounds(o, m, 1, needs_back), STATUS_FAILED, says);
    if (needs_back == 1)
        return;
    describe(what, sizeof what, o, "one round back too few");
    snprintf(says, sizeof says, "dispatch: expected at least %d rounds back for %d rows, found %d",
             needs_back, (int)m->back, needs_back - 1);
    expect_words(what, say_rounds(o, m, needs, needs_back - 1), STATUS_FAILED, says);
}

static void rounds_where_messages_are_padded(void **state)
{
    (void)state;
    for (int t = 0; t < LENGTH(tables); t++)
        for (enum wire wire = WIRE_MODEL; wire < WIRE_COUNT; wire++) {
            struct exchange_options o = {STRATEGY_PADDED, tables[t].combine, tables[t].dedup, wire,
                                         OVERLAP_OFF};
            check_rounds(&o, &tables[t].cases[0]);
            check_missing_rounds(&o, &tables[t].cases[0]);
        }
}

/* ---- allgather ---- */

struct gathered {
    const char *name;
    int32_t header[4], expert[PAIRS]; // [N][K]
    const char *says;
};

#define GATHERED(rows, back)                                                                       \
    "dispatch: expected 4 rows and 0 to give back, found " #rows " and " #back
#define ROUNDS(out, back) "dispatch: expected 1 round and 1 back, found " #out ", " #back
#define ROUTING(...)                                                                               \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }
#define USUAL ROUTING(1, 2, 1, 4, 3, 1, 4, 0)

static const struct gathered routings[] = {
    {"rows here and there", {N, 0, 1, 1}, USUAL, NULL},
    {"rows for others only", {N, 0, 1, 1}, ROUTING(0, 4, 4, 0, 0, 0, 4, 4), NULL},
    {"all rows for this worker", {N, 0, 1, 1}, ROUTING(1, 2, 1, 2, 1, 2, 1, 3), NULL},
    {"an expert twice", {N, 0, 1, 1}, ROUTING(2, 2, 2, 2, 2, 2, 2, 2), NULL},
    {"first expert below zero",
     {N, 0, 1, 1},
     ROUTING(-1, 2, 1, 4, 3, 1, 4, 0),
     "dispatch: expected experts below 5, found -1"},
    {"last expert below zero",
     {N, 0, 1, 1},
     ROUTING(1, 2, 1, 4, 3, 1, 4, LEAST),
     "dispatch: expected experts below 5, found -2147483648"},
    {"first expert one too high",
     {N, 0, 1, 1},
     ROUTING(5, 2, 1, 4, 3, 1, 4, 0),
     "dispatch: expected experts below 5, found 5"},
    {"last expert far too high",
     {N, 0, 1, 1},
     ROUTING(1, 2, 1, 4, 3, 1, 4, MOST),
     "dispatch: expected experts below 5, found 2147483647"},
    {"a row too few", {N - 1, 0, 1, 1}, USUAL, GATHERED(3, 0)},
    {"a row too many", {N + 1, 0, 1, 1}, USUAL, GATHERED(5, 0)},
    {"rows below zero", {-1, 0, 1, 1}, USUAL, GATHERED(-1, 0)},
    {"rows to give back", {N, 5, 1, 1}, USUAL, GATHERED(4, 5)},
    {"back below zero", {N, -1, 1, 1}, USUAL, GATHERED(4, -1)},
    {"no round", {N, 0, 0, 1}, USUAL, ROUNDS(0, 1)},
    {"two rounds", {N, 0, 2, 1}, USUAL, ROUNDS(2, 1)},
    {"no round back", {N, 0, 1, 0}, USUAL, ROUNDS(1, 0)},
    {"two rounds back", {N, 0, 1, 2}, USUAL, ROUNDS(1, 2)},
};

/* The same as a dispatch of this worker's own places, and the weights so that its places have
 * weight_of(). Rows are to be met in their order. */
static struct dispatch own_share(const struct gathered *g, enum combine combine, float *weight)
{
    struct dispatch m = {.name = g->name, .says = g->says};
    int places = 0, rows = 0;
    for (int e = 1; e <= OWN; e++)
        for (int i = 0; i < PAIRS; i++)
            if (g->expert[i] == e) {
                weight[i] = weight_of(places);
                m.count[e - 1]++;
                m.index[places++] = i / K;
                rows = i / K >= rows ? i / K + 1 : rows;
            }
    m.back = combine == COMBINE_SUM ? rows : places;
    return m;
}

static size_t encode_routing(const struct exchange_options *o, char *to, const struct gathered *g,
                             struct dispatch *own)
{
    float weight[PAIRS] = {0};
    *own = own_share(g, o->combine, weight);
    memset(to, 0, rig_allgather_bytes(o, N));
    memcpy(to, g->header, sizeof g->header);
    memcpy(to + 16, g->expert, sizeof g->expert);
    if (o->combine == COMBINE_SUM)
        memcpy(to + 16 + sizeof g->expert, weight, sizeof weight);
    for (int r = 0; r < N; r++)
        rig_put_row(o, to + rig_routing_bytes(o, N) + (size_t)r * rig_row_bytes(o), (float)(r + 1));
    return rig_allgather_bytes(o, N);
}

static void check_routing(const struct exchange_options *o, const struct gathered *g)
{
    static char bytes[1 << 14];
    const struct exchange_work *work;
    struct dispatch own;
    struct rig r;
    char what[200];
    describe(what, sizeof what, o, g->name);
    int status = receive(&r, o, bytes, encode_routing(o, bytes, g, &own), &work);
    expect_words(what, status, g->says ? STATUS_FAILED : 0, g->says ? g->says : "");
    if (!g->says)
        check_back(&r, work, &own, what);
    rig_close(&r);
}

static void check_gathered_lengths(const struct exchange_options *o)
{
    static char bytes[1 << 14];
    const struct exchange_work *work;
    struct dispatch own;
    char what[200], says[160];
    struct rig r;
    size_t n = encode_routing(o, bytes, &routings[0], &own);
    for (size_t length = 0; length <= n + 40; length++) {
        int status = receive(&r, o, bytes, length, &work);
        snprintf(says, sizeof says, "%zu of %zu bytes", length, n);
        describe(what, sizeof what, o, says);
        snprintf(says, sizeof says, "dispatch: expected %d rows in %zu bytes, found %zu bytes", N,
                 n, length);
        expect_words(what, status, length == n ? 0 : STATUS_FAILED, length == n ? "" : says);
        rig_close(&r);
    }
}

static void everybodys_rows(void **state)
{
    (void)state;
    for (int i = 0; i < COMBINE_COUNT * DEDUP_COUNT * WIRE_COUNT; i++) {
        struct exchange_options o = {STRATEGY_ALLGATHER, (enum combine)(i % COMBINE_COUNT),
                                     (enum dedup)(i / COMBINE_COUNT % DEDUP_COUNT),
                                     (enum wire)(i / COMBINE_COUNT / DEDUP_COUNT), OVERLAP_OFF};
        for (int j = 0; j < LENGTH(routings); j++)
            check_routing(&o, &routings[j]);
        check_gathered_lengths(&o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_and_bound),
        cmocka_unit_test(every_length),
        cmocka_unit_test(one_round_where_nothing_pads),
        cmocka_unit_test(rounds_where_messages_are_padded),
        cmocka_unit_test(everybodys_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
