/* The benchmark of the all-to-all over ranks that are threads: every way that rows travel is
 * checked and counted; and where a transport turns over one byte, the error names the rank and the
 * place. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "coordinator/cluster.h"
#include "kernels/kernels.h"
#include "study/alltoall_state.h"
#include "study/matrix_bench.h"
#include "tests/rig/cm.h"
#include "tests/rig/pairs.h"

enum { RANKS = 4, EXPERTS = 10, K = 3, HIDDEN = 50, ROW = 64 * 2, ROWS = 17, SIZES = 2 };
/* Rank 3 has none. */
static int32_t rank_of[EXPERTS] = {0, 1, 1, 2, 2, 2, 0, 1, 2, 1};

/* ---- a transport that turns over one byte ---- */

static const struct transport_ops *real;
static struct {
    int from, to;     // of the message; from < 0: none
    size_t at, least; // the byte, in messages of so many bytes and more
} flip;

static int flipping_send(struct transport *t, int lane, int to, const void *rows, size_t bytes)
{
    if (t->rank == flip.from && to == flip.to && bytes >= flip.least)
        ((char *)(uintptr_t)rows)[flip.at] ^= 1;
    return real->start_send(t, lane, to, rows, bytes);
}

/* ---- a run ---- */

struct run {
    struct transport ends[RANKS];
    pthread_t threads[RANKS];
    struct arena memory;
    struct placement placement;
    struct alltoall_options o;
    const struct matrix_options *matrix; // instead of o
    struct alltoall_options *others;     // what ranks other than 0 are told; NULL: o
};

struct thread_setup {
    struct run *run;
    int rank;
};

static void *serve(void *argument)
{
    struct thread_setup *s = argument;
    struct transport *end = &s->run->ends[s->rank];
    if (s->run->matrix)
        matrix_serve(end, s->run->matrix);
    else
        alltoall_serve(end, s->run->others ? s->run->others : &s->run->o);
    transport_close(end);
    free(s);
    return NULL;
}

static void open_run(struct run *r)
{
    static struct transport_ops flipping;
    transport_open_local(r->ends, RANKS);
    real = r->ends[0].ops;
    flipping = *real;
    flipping.start_send = flipping_send;
    for (int rank = 0; rank < RANKS; rank++)
        r->ends[rank].ops = &flipping;
    for (int rank = 1; rank < RANKS; rank++) {
        struct thread_setup *s = malloc(sizeof *s);
        *s = (struct thread_setup){r, rank};
        assert_int_equal(pthread_create(&r->threads[rank], NULL, serve, s), 0);
    }
}

static void close_run(struct run *r)
{
    cluster_stop(&r->ends[0]);
    for (int rank = 1; rank < RANKS; rank++)
        pthread_join(r->threads[rank], NULL);
    transport_close(&r->ends[0]);
    arena_free(&r->memory);
}

static void set_options(struct run *r)
{
    static const int32_t no_pieces;
    double *weights;
    *r = (struct run){.o = {.hidden = HIDDEN,
                            .top_k = K,
                            .experts = EXPERTS,
                            .type = DTYPE_BF16,
                            .skew = "zipf:1",
                            .n_sizes = SIZES,
                            .rows = {1, ROWS},
                            .warmup = 1,
                            .iterations = 3,
                            .check = true,
                            .version = "test"}};
    struct config one = alltoall_layer(&r->o);
    assert_int_equal(skew_parse(&weights, r->o.skew, EXPERTS, K, &r->memory), 0);
    assert_int_equal(
        placement_from_ranks(&r->placement, &r->memory, &one, rank_of, &no_pieces, RANKS), 0);
    r->o.weights = weights;
    r->o.placement = &r->placement;
    flip.from = -1;
}

/* ---- what travels ---- */

static struct traffic traffic_of(struct run *r, int rows)
{
    struct traffic t;
    traffic_draw(&t, r->o.weights, EXPERTS, rows, K, r->o.seed, &r->memory);
    return t;
}

static bool goes_to(const struct traffic *t, int row, int rank)
{
    for (int j = 0; j < K; j++)
        if (rank_of[t->expert[row * K + j]] == rank)
            return true;
    return false;
}

static size_t align16(size_t n)
{
    return (n + 15) / 16 * 16;
}

/* Bytes of strategy exact with dedup, to a rank and back, as docs/protocol.md has them. */
static struct pair_bytes bytes_with(const struct traffic *t, int rank)
{
    size_t own = 0, pairs = 0, rows = 0;
    for (int e = 0; e < EXPERTS; e++)
        own += rank_of[e] == rank;
    for (int i = 0; i < t->n * K; i++)
        pairs += rank_of[t->expert[i]] == rank;
    for (int row = 0; row < t->n; row++)
        rows += goes_to(t, row, rank);
    return (struct pair_bytes){align16(16 + 4 * own + 4 * pairs) + rows * ROW, pairs * ROW};
}

static void test_bytes(void **state)
{
    struct alltoall_report report;
    struct run r;
    (void)state;
    set_options(&r);
    open_run(&r);
    assert_int_equal(alltoall_coordinate(&report, &r.ends[0], &r.o), 0);
    assert_int_equal(report.n_sizes, SIZES);
    for (int i = 0; i < SIZES; i++) {
        const struct alltoall_size *s = &report.size[i];
        struct traffic t = traffic_of(&r, r.o.rows[i]);
        uint64_t out = 0, back = 0, home = 0;
        for (int rank = 1; rank < RANKS; rank++) {
            struct pair_bytes with = bytes_with(&t, rank);
            assert_int_equal(s->with[rank].sent, with.sent);
            assert_int_equal(s->with[rank].received, with.received);
            out += with.sent;
            back += with.received;
        }
        for (int p = 0; p < t.n * K; p++)
            home += rank_of[t.expert[p]] == 0;
        assert_int_equal(s->out, out);
        assert_int_equal(s->back, back);
        assert_int_equal(s->messages, RANKS - 1);
        assert_int_equal(s->logical, 2u * (unsigned)t.n * K * ROW);
        assert_int_equal(s->local, 2 * home * ROW);
        assert_true(s->checked);
        assert_true(s->dispatch.median > 0 && s->dispatch.p99 >= s->dispatch.median);
        assert_true(s->combine.median > 0 && s->round.median > 0);
        assert_in_range(s->slowest, 1, RANKS - 1);
    }
    alltoall_report_free(&report);
    close_run(&r);
}

/* Every way: what arrives is checked by the ranks themselves. */
static void test_ways(void **state)
{
    static const struct {
        enum dtype type;
        enum wire wire;
    } wires[] = {{DTYPE_BF16, WIRE_MODEL},
                 {DTYPE_BF16, WIRE_INT8},
                 {DTYPE_F16, WIRE_INT8},
                 {DTYPE_F32, WIRE_BF16},
                 {DTYPE_F32, WIRE_MODEL}};
    enum { WIRES = sizeof wires / sizeof *wires };
    int stride = pairs_only() ? 7 : 1; // prime to the number of ways
    (void)state;
    for (int way = 0; way < STRATEGY_COUNT * DEDUP_COUNT * COMBINE_COUNT * WIRES; way += stride) {
        struct alltoall_report report;
        struct run r;
        set_options(&r);
        r.o.iterations = 1;
        r.o.type = wires[way % WIRES].type;
        r.o.exchange = (struct exchange_options){
            .strategy = (enum strategy)(way / WIRES / COMBINE_COUNT / DEDUP_COUNT),
            .dedup = (enum dedup)(way / WIRES / COMBINE_COUNT % DEDUP_COUNT),
            .combine = (enum combine)(way / WIRES % COMBINE_COUNT),
            .wire = wires[way % WIRES].wire};
        open_run(&r);
        if (alltoall_coordinate(&report, &r.ends[0], &r.o) != 0 || !report.size[1].checked)
            fail_msg("way %d: expected to be right", way);
        alltoall_report_free(&report);
        close_run(&r);
    }
}

/* ---- what is wrong ---- */

/* Pair `wanted` of a rank, in order of expert, then of row. */
static void find_pair(const struct traffic *t, int rank, int wanted, int *expert, int *row)
{
    for (*expert = 0; *expert < EXPERTS; ++*expert)
        for (*row = 0; *row < t->n; ++*row)
            for (int j = 0; j < K; j++)
                if (rank_of[*expert] == rank && t->expert[*row * K + j] == *expert && wanted-- == 0)
                    return;
    fail_msg("rank %d has no such pair", rank);
}

static void expect_error(struct run *r, const char *says)
{
    struct alltoall_report report;
    error_capture(true);
    open_run(r);
    int status = alltoall_coordinate(&report, &r->ends[0], &r->o);
    if (status != STATUS_FAILED || !strstr(error_text(), says))
        fail_msg("expected \"%s\", found %d, \"%s\"", says, status, error_text());
    alltoall_report_free(&report);
    close_run(r);
    error_capture(false);
}

/* A byte of a row on its way to rank 2: value 9 of the fifth pair's row, as strategy exact without
 * dedup sends it. */
static void test_wrong_row(void **state)
{
    struct run r;
    char says[192], host[HOST_BYTES] = "";
    int expert, row;
    (void)state;
    gethostname(host, sizeof host - 1);
    set_options(&r);
    r.o.exchange.dedup = DEDUP_OFF;
    struct traffic t = traffic_of(&r, ROWS);
    find_pair(&t, 2, 4, &expert, &row);
    flip.from = 0;
    flip.to = 2;
    flip.at = align16(16 + 4 * 4) + 4 * ROW + 9 * 2;
    flip.least = flip.at + 1;
    snprintf(says, sizeof says,
             "rank 2 on %s: dispatch: expert %d got a wrong row %d of %d: value 9: expected ", host,
             expert, row, ROWS);
    expect_error(&r, says);
}

/* A byte of what rank 1 gives back: value 3 of its sixth result. */
static void test_wrong_result(void **state)
{
    struct run r;
    char says[128];
    int expert, row;
    (void)state;
    set_options(&r);
    struct traffic t = traffic_of(&r, ROWS);
    find_pair(&t, 1, 5, &expert, &row);
    flip.from = 1;
    flip.to = 0;
    flip.at = 5 * ROW + 3 * 2;
    flip.least = flip.at + 1;
    snprintf(says, sizeof says,
             "combine: rank 1 gave back a wrong result of expert %d for row %d of %d: value 3: "
             "expected ",
             expert, row, ROWS);
    expect_error(&r, says);
}

/* The same of a sum: rank 2's first distinct row. */
static void test_wrong_sum(void **state)
{
    struct run r;
    char says[128];
    int expert, row;
    (void)state;
    set_options(&r);
    r.o.exchange.combine = COMBINE_SUM;
    struct traffic t = traffic_of(&r, ROWS);
    find_pair(&t, 2, 0, &expert, &row);
    flip.from = 2;
    flip.to = 0;
    flip.at = 7 * 2;
    flip.least = 2 * ROW; // of the second size
    snprintf(says, sizeof says,
             "combine: rank 2 gave back a wrong sum of row %d of %d: value 7: expected ", row,
             ROWS);
    expect_error(&r, says);
}

/* A rank that was started with another seed. */
static void test_other_options(void **state)
{
    struct alltoall_report report;
    struct run r;
    (void)state;
    set_options(&r);
    struct alltoall_options others = r.o;
    others.seed = 1;
    r.others = &others;
    error_capture(true);
    open_run(&r);
    assert_int_equal(alltoall_coordinate(&report, &r.ends[0], &r.o), STATUS_USAGE);
    assert_non_null(strstr(error_text(), "expected the options and files of rank 0, found others"));
    alltoall_report_free(&report);
    close_run(&r);
    error_capture(false);
}

/* ---- a byte matrix ---- */

static uint64_t cells[RANKS * RANKS] = {3,  10000, 0, 5,     //
                                        77, 0,     1, 40000, //
                                        0,  0,     0, 0,     //
                                        2,  3,     5, 100};

static struct matrix_options matrix_options(void)
{
    return (struct matrix_options){.matrix = {RANKS, cells},
                                   .file = "cells",
                                   .warmup = 1,
                                   .iterations = 4,
                                   .check = true,
                                   .version = "test"};
}

static void test_matrix(void **state)
{
    struct matrix_options o = matrix_options();
    struct matrix_report report;
    struct run r = {.matrix = &o};
    (void)state;
    flip.from = -1;
    open_run(&r);
    assert_int_equal(matrix_coordinate(&report, &r.ends[0], &o), 0);
    assert_int_equal(report.wire, 10005 + 77 + 1 + 40000 + 10);
    assert_int_equal(report.local, 103);
    assert_int_equal(report.busiest, 77 + 1 + 40000);
    assert_true(report.checked && report.time.median > 0);
    arena_free(&report.memory);
    close_run(&r);
}

/* Between two workers, and to rank 0. */
static void test_wrong_byte(void **state)
{
    static const struct {
        int from, to;
        size_t at;
        const char *says;
    } cases[] = {
        {1, 3, 39999,
         "alltoallv: rank 3 received a wrong byte 39999 of 40000 from rank 1: expected"},
        {3, 0, 1, "alltoallv: rank 0 received a wrong byte 1 of 2 from rank 3: expected"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct matrix_options o = matrix_options();
        struct matrix_report report;
        struct run r = {.matrix = &o};
        flip.from = cases[i].from;
        flip.to = cases[i].to;
        flip.at = cases[i].at;
        flip.least = flip.at + 1;
        error_capture(true);
        open_run(&r);
        int status = matrix_coordinate(&report, &r.ends[0], &o);
        if (status != STATUS_FAILED || !strstr(error_text(), cases[i].says))
            fail_msg("expected \"%s\", found %d, \"%s\"", cases[i].says, status, error_text());
        arena_free(&report.memory);
        close_run(&r);
        error_capture(false);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),     cmocka_unit_test(test_ways),
        cmocka_unit_test(test_wrong_row), cmocka_unit_test(test_wrong_result),
        cmocka_unit_test(test_wrong_sum), cmocka_unit_test(test_other_options),
        cmocka_unit_test(test_matrix),    cmocka_unit_test(test_wrong_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
