/* A worker on its own, with a coordinator that breaks the rules: it says why it gives up, and stays
 * until it is stopped. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "kernels/device.h"
#include "model/config.h"
#include "model/pieces.h"
#include "proto/control.h"
#include "tests/rig/cm.h"
#include "worker/serve.h"

#define MODEL SOURCE_DIR "/tests/golden/models/moe-60"

struct meeting {
    struct transport ends[2];
    pthread_t thread;
    struct worker_options options;
    struct arena memory;
    int status;
};

static void *work(void *argument)
{
    struct meeting *m = argument;
    m->status = worker_serve(&m->ends[1], &m->options);
    transport_close(&m->ends[1]);
    return NULL;
}

static void begin(struct meeting *m)
{
    struct control hello;
    *m = (struct meeting){.options = {.model = MODEL, .threads = 1, .version = "test"}};
    transport_open_local(m->ends, 2);
    assert_int_equal(pthread_create(&m->thread, NULL, work, m), 0);
    assert_int_equal(control_expect(&m->ends[0], 1, CONTROL_HELLO, &hello, &m->memory), 0);
}

/* All experts on `rank`, the worker or not, the first of layer 0 on the other rank, too, if
 * `copied`; steps of up to 9 rows. */
static void send_setup(struct meeting *m, const char *overlap, int rank, bool copied)
{
    struct config c;
    struct generation_defaults unused;
    assert_int_equal(config_load(&c, &unused, MODEL), 0);
    size_t cells = (size_t)c.n_layers * (size_t)c.n_experts;
    int32_t *rank_of = arena_alloc(&m->memory, cells * sizeof *rank_of);
    for (size_t i = 0; i < cells; i++)
        rank_of[i] = rank;
    int n_pieces = pieces_total(&c);
    int32_t *piece_rank_of = arena_alloc(&m->memory, (size_t)n_pieces * sizeof *piece_rank_of);
    const int32_t cell = 0, other = 1 - rank;
    const int32_t output_first[] = {0, c.vocab_size, c.vocab_size};
    struct control setup = {.kind = CONTROL_SETUP,
                            .setup = {ISA_PLAIN, precision_of(c.dtype), c.n_layers, c.n_experts,
                                      rank_of, n_pieces, piece_rank_of, 3, output_first, 9, 1,
                                      "exact", "rows", "on", "model", overlap, .n_copies = copied,
                                      .copy_cell = &cell, .copy_rank = &other}};
    assert_int_equal(control_send(&m->ends[0], 1, &setup), 0);
}

static void set_up(struct meeting *m, const char *overlap)
{
    struct control ready;
    send_setup(m, overlap, 1, false);
    assert_int_equal(control_expect(&m->ends[0], 1, CONTROL_READY, &ready, &m->memory), 0);
}

static void stop(struct meeting *m)
{
    struct control stop = {.kind = CONTROL_STOP};
    assert_int_equal(control_send(&m->ends[0], 1, &stop), 0);
    pthread_join(m->thread, NULL);
    transport_close(&m->ends[0]);
    arena_free(&m->memory);
}

static void refuses(const char *overlap, struct step step, const char *says)
{
    struct meeting m;
    struct control message = {.kind = CONTROL_STEP, .step = step}, fault;
    begin(&m);
    set_up(&m, overlap);
    assert_int_equal(control_send(&m.ends[0], 1, &message), 0);
    assert_int_equal(control_recv(&m.ends[0], 1, &fault, &m.memory), 0);
    assert_int_equal(fault.kind, CONTROL_FAULT);
    assert_int_equal(fault.fault.code, STATUS_FAILED);
    assert_string_equal(fault.fault.text, says);
    stop(&m);
    assert_int_equal(m.status, STATUS_FAILED);
}

static void steps_are_split_as_agreed(void **state)
{
    (void)state;
    refuses("off", (struct step){10, 0}, "step: expected at most 9 rows, found 10");
    refuses("off", (struct step){4, 2}, "step: expected 0 of 4 rows in the second half, found 2");
    refuses("on", (struct step){5, 0}, "step: expected 2 of 5 rows in the second half, found 0");
    refuses("on", (struct step){5, 3}, "step: expected 2 of 5 rows in the second half, found 3");
}

/* Stats may be asked for at any time, and a step before Setup is no crash. */
static void questions_come_early(void **state)
{
    (void)state;
    struct meeting m;
    struct control stats = {.kind = CONTROL_STATS}, step = {.kind = CONTROL_STEP, .step = {1, 0}};
    struct control answer;
    begin(&m);
    assert_int_equal(control_send(&m.ends[0], 1, &stats), 0);
    assert_int_equal(control_expect(&m.ends[0], 1, CONTROL_STATS, &answer, &m.memory), 0);
    assert_int_equal(answer.stats.steps, 0);
    assert_int_equal(control_send(&m.ends[0], 1, &step), 0);
    assert_int_equal(control_recv(&m.ends[0], 1, &answer, &m.memory), 0);
    assert_int_equal(answer.kind, CONTROL_FAULT);
    assert_string_equal(answer.fault.text, "step: expected at most 0 rows, found 1");
    stop(&m);
}

static void expect_fault(struct meeting *m, const char *says)
{
    struct control fault;
    assert_int_equal(control_recv(&m->ends[0], 1, &fault, &m->memory), 0);
    assert_int_equal(fault.kind, CONTROL_FAULT);
    assert_string_equal(fault.fault.text, says);
}

/* A further Setup changes how rows travel, but not who has which experts. */
static void setups_come_again(void **state)
{
    (void)state;
    struct meeting m;
    struct control step = {.kind = CONTROL_STEP, .step = {5, 0}};
    begin(&m);
    set_up(&m, "off");
    set_up(&m, "on");
    assert_int_equal(control_send(&m.ends[0], 1, &step), 0);
    expect_fault(&m, "step: expected 2 of 5 rows in the second half, found 0");
    stop(&m);
    begin(&m);
    set_up(&m, "off");
    send_setup(&m, "off", 0, false);
    expect_fault(&m, "setup: expected the type, instruction set and placement of the first, found "
                     "others");
    stop(&m);
    begin(&m);
    set_up(&m, "off");
    send_setup(&m, "off", 1, true);
    expect_fault(&m, "setup: expected the type, instruction set and placement of the first, found "
                     "others");
    stop(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_are_split_as_agreed),
        cmocka_unit_test(questions_come_early),
        cmocka_unit_test(setups_come_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
