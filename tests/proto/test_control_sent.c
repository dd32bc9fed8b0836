/* Control messages over a transport: what is waited for, errors of other ranks, and junk. */
#include <string.h>

#include "base/log.h"
#include "tests/rig/cm.h"
#include "tests/rig/control_messages.h"

struct pair {
    struct transport ends[2];
    struct arena arena;
};

static void open_pair(struct pair *p)
{
    *p = (struct pair){0};
    transport_open_local(p->ends, 2);
    strcpy((char *)p->ends[1].hosts[1], "node7");
    error_capture(true);
}

static void close_pair(struct pair *p)
{
    transport_close(&p->ends[1]);
    transport_close(&p->ends[0]);
    arena_free(&p->arena);
    error_capture(false);
}

static void test_expect(void **state)
{
    struct pair p;
    struct control message;
    (void)state;
    open_pair(&p);
    for (int kind = 0; kind < N_KINDS; kind++) {
        if (kind == CONTROL_FAULT)
            continue;
        assert_int_equal(control_send(&p.ends[1], 0, &valid[kind]), 0);
        assert_int_equal(
            control_expect(&p.ends[0], ANY_RANK, (enum control_kind)kind, &message, &p.arena), 0);
        assert_int_equal(message.kind, kind);
        assert_int_equal(message.from, 1);
    }
    control_send(&p.ends[1], 0, &valid[CONTROL_READY]);
    assert_int_equal(control_expect(&p.ends[0], 1, CONTROL_HELLO, &message, &p.arena),
                     STATUS_FAILED);
    assert_string_equal(error_text(), "rank 1: expected Hello, found Ready");
    close_pair(&p);
}

static void test_fault(void **state)
{
    struct pair p;
    struct control message, fault = {.kind = CONTROL_FAULT, .fault = {STATUS_BAD_FILE, "no\nroom"}};
    (void)state;
    open_pair(&p);
    control_send(&p.ends[1], 0, &fault);
    assert_int_equal(control_expect(&p.ends[0], 1, CONTROL_READY, &message, &p.arena),
                     STATUS_BAD_FILE);
    assert_string_equal(error_text(), "rank 1 on node7: no\\x0aroom");
    fault.fault = (struct fault){STATUS_OK, ""};
    control_send(&p.ends[1], 0, &fault);
    assert_int_equal(control_expect(&p.ends[0], 1, CONTROL_FAULT, &message, &p.arena),
                     STATUS_FAILED);
    assert_string_equal(error_text(), "rank 1 on node7: it gave up without a reason");
    control_send(&p.ends[1], 0, &fault); // control_recv leaves it to its caller
    assert_int_equal(control_recv(&p.ends[0], 1, &message, &p.arena), 0);
    assert_int_equal(message.kind, CONTROL_FAULT);
    assert_string_equal(message.host, "node7");
    close_pair(&p);
}

static void test_recv_malformed(void **state)
{
    struct pair p;
    struct control message;
    (void)state;
    open_pair(&p);
    transport_send(&p.ends[1], 0, "junk", 4);
    assert_int_equal(control_expect(&p.ends[0], 1, CONTROL_READY, &message, &p.arena),
                     STATUS_FAILED);
    assert_string_equal(error_text(), "rank 1: expected a control message, found 4 other bytes");
    close_pair(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_expect),
        cmocka_unit_test(test_fault),
        cmocka_unit_test(test_recv_malformed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
