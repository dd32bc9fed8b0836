/* Files of recorded routing: what is written is read again; a file that is cut or wrong anywhere is
 * refused with the place; one that was not finished is not there. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "proto/routing.h"
#include "tests/rig/cm.h"

static const uint8_t sparse[] = {1, 0, 1};
static const struct routing_head head = {.version = "0.1 (abc)",
                                         .model = "models/some",
                                         .digest = 0xfedcba9876543210u,
                                         .n_layers = 3,
                                         .n_experts = 7,
                                         .top_k = 2,
                                         .hidden = 48,
                                         .dtype = DTYPE_F16,
                                         .sparse = sparse};
/* [2 layers][rows][2] */
static const uint8_t experts_a[] = {0, 6, 1, 2, 5, 4, 3, 0, 6, 5, 2, 1}, experts_b[] = {1, 0, 4, 3};
static const int32_t tokens_a[] = {9, 0, 2147483647}, tokens_b[] = {5};
static const struct routing_run runs_a[] = {{3, 0, 2}, {0, 11, 1}}, runs_b[] = {{3, 2, 1}};
static const struct routing_step steps[] = {{3, 2, runs_a, tokens_a, experts_a},
                                            {1, 1, runs_b, tokens_b, experts_b}};

static char path[64];

static void write_file(void)
{
    struct routing_writer w;
    snprintf(path, sizeof path, "/tmp/routing-%ld", (long)getpid());
    assert_int_equal(routing_write_begin(&w, path, &head), 0);
    for (int i = 0; i < 2; i++)
        routing_write_step(&w, &head, &steps[i]);
    assert_int_not_equal(access(path, F_OK), 0); // not there before it is complete
    assert_int_equal(routing_write_end(&w), 0);
    routing_write_abort(&w);
}

static void test_round_trip(void **state)
{
    struct arena memory = {0};
    struct routing_file f;
    int32_t expert[6];
    static const int32_t second[] = {3, 0, 6, 5, 2, 1};
    (void)state;
    write_file();
    assert_int_equal(routing_read(&f, path, &memory), 0);
    assert_string_equal(f.head.version, head.version);
    assert_string_equal(f.head.model, head.model);
    assert_true(f.head.digest == head.digest && f.head.dtype == DTYPE_F16);
    assert_int_equal(f.head.n_layers, 3);
    assert_int_equal(f.head.n_experts, 7);
    assert_int_equal(f.head.top_k, 2);
    assert_int_equal(f.head.hidden, 48);
    assert_memory_equal(f.head.sparse, sparse, sizeof sparse);
    assert_int_equal(f.n_sparse, 2);
    assert_int_equal(f.n_steps, 2);
    assert_int_equal(f.rows, 4);
    assert_int_equal(f.most_rows, 3);
    assert_int_equal(f.sequences, 4);
    assert_int_equal(f.positions, 12);
    for (int i = 0; i < 2; i++) {
        const struct routing_step *s = &f.steps[i];
        assert_int_equal(s->n_rows, steps[i].n_rows);
        assert_int_equal(s->n_runs, steps[i].n_runs);
        assert_memory_equal(s->runs, steps[i].runs, (size_t)s->n_runs * sizeof *s->runs);
        assert_memory_equal(s->token, steps[i].token, (size_t)s->n_rows * sizeof *s->token);
    }
    routing_experts(&f, &f.steps[0], 1, expert);
    assert_memory_equal(expert, second, sizeof second);
    arena_free(&memory);
    unlink(path);
}

/* More than 256 experts: two bytes each. */
static void test_wide(void **state)
{
    static const uint8_t one[] = {1}, wide[] = {0x00, 0x01, 0xff, 0x00, 0x2b, 0x01};
    static const int32_t expected[] = {256, 255, 299}, token[] = {1};
    static const struct routing_run run[] = {{0, 0, 1}};
    struct routing_head h = head;
    struct routing_step s = {1, 1, run, token, wide};
    struct routing_writer w;
    struct arena memory = {0};
    struct routing_file f;
    int32_t expert[3];
    (void)state;
    h.n_layers = 1;
    h.sparse = one;
    h.n_experts = 300;
    h.top_k = 3;
    snprintf(path, sizeof path, "/tmp/routing-%ld", (long)getpid());
    assert_int_equal(routing_write_begin(&w, path, &h), 0);
    routing_write_step(&w, &h, &s);
    assert_int_equal(routing_write_end(&w), 0);
    assert_int_equal(routing_read(&f, path, &memory), 0);
    routing_experts(&f, &f.steps[0], 0, expert);
    assert_memory_equal(expert, expected, sizeof expected);
    arena_free(&memory);
    unlink(path);
}

static void test_aborted(void **state)
{
    struct routing_writer w;
    (void)state;
    snprintf(path, sizeof path, "/tmp/routing-%ld", (long)getpid());
    assert_int_equal(routing_write_begin(&w, path, &head), 0);
    routing_write_step(&w, &head, &steps[0]);
    routing_write_abort(&w);
    assert_int_not_equal(access(path, F_OK), 0);
    error_capture(true);
    assert_int_equal(routing_write_begin(&w, "/nowhere/routing", &head), STATUS_FAILED);
    error_capture(false);
}

/* Cut anywhere, the file is refused. */
static void test_cut(void **state)
{
    struct arena memory = {0};
    struct routing_file f;
    size_t n;
    (void)state;
    write_file();
    char *bytes = file_read(path, 1 << 20, &n);
    assert_non_null(bytes);
    error_capture(true);
    for (size_t cut = 0; cut < n; cut++) {
        int status = routing_parse(&f, bytes, cut, "cut", &memory);
        if (status != STATUS_BAD_FILE || strncmp(error_text(), "cut: expected ", 14) != 0)
            fail_msg("cut at %zu: found %d, \"%s\"", cut, status, error_text());
        arena_reset(&memory);
    }
    error_capture(false);
    free(bytes);
    arena_free(&memory);
    unlink(path);
}

/* One thing is wrong with what is written. */
static void refuse(const struct routing_head *h, const struct routing_step *s, const char *says)
{
    struct routing_writer w;
    struct arena memory = {0};
    struct routing_file f;
    snprintf(path, sizeof path, "/tmp/routing-%ld", (long)getpid());
    assert_int_equal(routing_write_begin(&w, path, h), 0);
    routing_write_step(&w, h, s);
    assert_int_equal(routing_write_end(&w), 0);
    error_capture(true);
    int status = routing_read(&f, path, &memory);
    if (status != STATUS_BAD_FILE || !strstr(error_text(), says) || !strstr(error_text(), path))
        fail_msg("expected \"%s\", found %d, \"%s\"", says, status, error_text());
    error_capture(false);
    arena_free(&memory);
    unlink(path);
}

static void test_refused(void **state)
{
    static const uint8_t room[64]; // for as many experts as any of these heads speaks of
    struct routing_head h = head;
    struct routing_step s = steps[1];
    (void)state;
    s.experts = room;
    h.top_k = 8;
    refuse(&h, &s, "head.top_k: expected 1 to 7, found 8");
    h = head;
    h.hidden = 0;
    refuse(&h, &s, "head.hidden: expected 1 to 1048576, found 0");
    h = head;
    h.n_experts = 70000;
    refuse(&h, &s, "head.n_experts: expected 1 to 65536, found 70000");
    h = head;
    h.model = "";
    refuse(&h, &s, "head.model: expected a text of 1 to 4095 bytes, found 0");
    static const uint8_t none[] = {0, 0, 0};
    h = head;
    h.sparse = none;
    refuse(&h, &s, "head.sparse: expected a layer with experts, found none");
    static const uint8_t beyond[] = {1, 0, 4, 7}, twice[] = {1, 0, 4, 4};
    s.experts = beyond;
    refuse(&head, &s, "step 0: experts: expected 0 to 6, found 7");
    s.experts = twice;
    refuse(&head, &s, "step 0: experts: expected different ones in each row, found 4 twice");
    static const int32_t below[] = {-1};
    s = steps[1];
    s.token = below;
    refuse(&head, &s, "step 0: token: expected 0 to 2147483647, found 4294967295");
    static const struct routing_run runs[][1] = {
        {{1 << 16, 0, 1}}, {{0, 1 << 24, 1}}, {{0, (1 << 24) - 1, 2}}, {{0, 0, 2}}};
    static const char *const says[] = {"step 0: a run's sequence: expected 0 to 65535, found 65536",
                                       "step 0: a run's position: expected 0 to 16777215, found",
                                       "step 0: a run's rows: expected 1 to 1, found 2",
                                       "step 0: rows of its runs: expected 1, found 2"};
    for (int i = 0; i < 4; i++) {
        s = steps[1];
        s.runs = runs[i];
        refuse(&head, &s, says[i]);
    }
    s = steps[1];
    s.n_runs = 0;
    refuse(&head, &s, "step 0: rows of its runs: expected 1, found 0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_wide),
        cmocka_unit_test(test_aborted),    cmocka_unit_test(test_cut),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
