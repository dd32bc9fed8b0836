/* The battery over `local`: ranks are threads. */
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/rig/battery.h"
#include "tests/rig/cm.h"

struct rank {
    pthread_t thread;
    struct transport end;
    const struct battery *battery;
};

static void *run_rank(void *argument)
{
    struct rank *r = argument;
    pulse_bind(r->end.pulse);
    r->battery->run(&r->end);
    transport_close(&r->end);
    return NULL;
}

static int run_world(const struct battery *b, int size)
{
    struct transport *ends = room((size_t)size * sizeof *ends);
    struct rank *ranks = room((size_t)size * sizeof *ranks);
    int before = atomic_load(&battery_failures);
    transport_open_local(ends, size);
    for (int r = 0; r < size; r++) {
        ranks[r] = (struct rank){.end = ends[r], .battery = b};
        assert_int_equal(pthread_create(&ranks[r].thread, NULL, run_rank, &ranks[r]), 0);
    }
    for (int r = 0; r < size; r++)
        pthread_join(ranks[r].thread, NULL);
    free(ranks);
    free(ends);
    return atomic_load(&battery_failures) - before;
}

static int run_batteries(int size)
{
    int failures = 0;
    for (int b = 0; b < N_BATTERIES; b++)
        if (size >= batteries[b].least_ranks)
            failures += run_world(&batteries[b], size);
    return failures;
}

/* Each number of ranks in a process of its own, all at the same time: they mostly sleep. */
static void test_batteries(void **state)
{
    enum { SIZES = 5 };
    static const int sizes[SIZES] = {1, 2, 3, 5, 9};
    pid_t children[SIZES];
    int status;
    (void)state;
    for (int i = 0; i < SIZES; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0)
            exit(run_batteries(sizes[i]) != 0);
    }
    for (int i = 0; i < SIZES; i++) {
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        if (status != 0)
            fail_msg("%d ranks: expected no failure, see above", sizes[i]);
    }
}

/* Rank 2 is a thread that waits for something else than ranks, and gives no sign of life. */
static void *wait_elsewhere(void *argument)
{
    pthread_mutex_t *mutex = argument;
    pthread_mutex_lock(mutex);
    pthread_mutex_unlock(mutex);
    return NULL;
}

static void *rest(void *argument)
{
    struct transport *t = argument;
    pulse_bind(t->pulse);
    expect_text(t, 0, "over");
    transport_close(t);
    return NULL;
}

static void test_silent_while_idle(void **state)
{
    struct transport ends[3];
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_t resting, silent;
    int found = 0;
    (void)state;
    transport_open_local(ends, 3);
    for (int r = 0; r < 3; r++)
        ends[r].timeout_ns = 400000000;
    ends[1].patient = true;
    pthread_mutex_lock(&mutex);
    pthread_create(&resting, NULL, rest, &ends[1]);
    pthread_create(&silent, NULL, wait_elsewhere, &mutex);
    error_capture(true);
    for (bool begins = true; found == 0; begins = false) {
        sleep_ms(transport_look_ns(&ends[0]) / 1000000);
        found = transport_look(&ends[0], begins);
    }
    assert_int_equal(found, STATUS_LOST_RANK);
    assert_true(names_lost(&ends[0], 2, "no sign of life for 0.4 s, idle"));
    error_capture(false);
    send_text(&ends[0], 1, "over");
    pthread_mutex_unlock(&mutex);
    pthread_join(resting, NULL);
    pthread_join(silent, NULL);
    transport_close(&ends[0]);
    transport_close(&ends[2]);
}

/* Ends that nobody used close in any order. */
static void test_unused(void **state)
{
    struct transport ends[3];
    (void)state;
    transport_open_local(ends, 3);
    assert_string_equal(ends[2].name, "local");
    assert_int_equal(ends[2].rank, 2);
    assert_int_equal(ends[2].size, 3);
    assert_true(ends[2].hosts[2][0] != 0);
    assert_int_equal(transport_send(&ends[0], 1, "x", 1), 0); // is never received
    transport_close(&ends[1]);
    transport_close(&ends[0]);
    transport_close(&ends[2]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batteries),
        cmocka_unit_test(test_silent_while_idle),
        cmocka_unit_test(test_unused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
