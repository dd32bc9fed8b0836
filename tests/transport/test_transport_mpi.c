/* The battery over MPI, one battery a run, started by tests/transport/transport_mpi.sh. Beside
 * the batteries:
 *   die CODE      a worker exits with CODE and says no goodbye
 *   abort CODE    rank 0 ends all while the others wait
 *   hang          rank 1 never comes back; rank 0 notices and leaves with STATUS_LOST_RANK
 *   stop          rank 1 is stopped (SIGSTOP): rank 0 notices though it waits for rank 2
 *   stop_idle     the same, while rank 0 waits for no message and looks
 *   stop_0        rank 0 is stopped: the workers notice though they may wait for ever
 *   untidy        rank 0 leaves large messages of all kinds behind, and all end well
 *   computing     rank 0 only moves its pulse, and gets rank 1's rows; rows that are too large are
 * an error of its next call */
#include <signal.h>
#include <unistd.h>

#include "tests/rig/battery.h"

static int fails(const struct transport *t)
{
    int failures = atomic_load(&battery_failures);
    if (failures)
        fprintf(stderr, "rank %d: %d expectations failed\n", t->rank, failures);
    return failures > 0;
}

static int run_battery(struct transport *t, const char *name)
{
    for (int b = 0; b < N_BATTERIES; b++)
        if (strcmp(batteries[b].name, name) == 0) {
            if (t->size >= batteries[b].least_ranks)
                batteries[b].run(t);
            return fails(t);
        }
    return fail(STATUS_USAGE, "expected the name of a battery, found %s", name);
}

static int hang(struct transport *t)
{
    char in[64];
    t->timeout_ns = t->rank == 0 ? 300000000 : NO_DEADLINE;
    while (t->rank == 1)
        pause();
    int status = transport_start_recv(t, 0, t->rank == 0 ? 1 : 0, in, sizeof in);
    return status ? status : transport_wait(t, 0, NULL);
}

/* Whoever notices says so on stdout. */
static int stop(struct transport *t, int who)
{
    char in[64];
    size_t n;
    int from = t->rank == 0 ? 2 : 0;
    t->timeout_ns = 1000000000;
    if (t->rank == who)
        raise(SIGSTOP);
    t->patient = t->rank > 0;
    error_capture(true);
    int status = transport_recv(t, &from, in, sizeof in, &n);
    if (status == STATUS_LOST_RANK && names_lost(t, who, "no sign of life for 1.0 s, a message"))
        printf("noticed\n");
    return status;
}

static int stop_while_idle(struct transport *t)
{
    char in[64];
    size_t n;
    int status = 0, from = 0;
    t->timeout_ns = 1000000000;
    t->patient = t->rank > 0;
    error_capture(true);
    if (t->rank == 1)
        raise(SIGSTOP);
    if (t->rank > 0)
        return transport_recv(t, &from, in, sizeof in, &n);
    for (bool begins = true; !status; begins = false) {
        sleep_ms(20);
        status = transport_look(t, begins);
    }
    if (names_lost(t, 1, "no sign of life for 1.0 s, idle"))
        printf("noticed\n");
    return status;
}

static void leave_untidy(struct transport *t)
{
    enum { BYTES = 40 * MIB };
    static char rows[BYTES];
    t->timeout_ns = 300000000;
    for (int r = 1; r < t->size && t->rank == 0; r++) {
        EXPECT(t, transport_send(t, r, rows, 8 * MIB) == 0);
        EXPECT(t, transport_start_send(t, 0, r, rows, BYTES) == 0);
    }
    if (t->rank == 0) {
        error_capture(true);
        EXPECT(t, transport_wait(t, 0, NULL) == STATUS_LOST_RANK);
    } else {
        sleep_ms(500);
    }
}

/* Move this rank's pulse, as kernels do, until a control message is here, and a little longer: on a
 * busy machine that message may be seen before the pulse has looked for the rows sent before it. */
static bool compute(struct transport *t)
{
    int64_t deadline = clock_ns() + LONGEST_S * 1000000000ll;
    while (!transport_is_called_off(t) && clock_ns() < deadline)
        pulse();
    for (int i = 0; i < 20; i++) {
        sleep_ms(1);
        pulse();
    }
    return transport_is_called_off(t);
}

static void receive_while_computing(struct transport *t)
{
    enum { BYTES = 8 * MIB }; // more than MPI sends before the receiver asks for it
    unsigned char *rows = room(BYTES);
    size_t received[2] = {0};
    EXPECT(t, t->size == 2);
    if (t->rank == 0) {
        EXPECT(t, transport_start_recv(t, 1, 1, rows, BYTES) == 0);
        EXPECT(t, compute(t));
        EXPECT(t, transport_wait(t, 1, received) == 0 && received[1] == BYTES);
        EXPECT(t, is_filled(rows, BYTES, 1, 0, 0));
        expect_text(t, 1, "taken");
        error_capture(true);
        EXPECT(t, transport_start_recv(t, 0, 1, rows, 99) == 0);
        EXPECT(t, compute(t));
        EXPECT(t, strstr(error_text(), "rank 1: rows: expected at most 99 bytes, found 100"));
        EXPECT(t, transport_advance(t) == STATUS_FAILED);
        EXPECT(t, transport_wait(t, 0, NULL) == STATUS_FAILED);
    } else {
        fill(rows, BYTES, 1, 0, 0);
        EXPECT(t, transport_start_send(t, 1, 0, rows, BYTES) == 0);
        EXPECT(t, transport_wait(t, 1, NULL) == 0);
        send_text(t, 0, "taken");
        EXPECT(t, transport_start_send(t, 0, 0, rows, 100) == 0);
        sleep_ms(100);
        send_text(t, 0, "more");
        sleep_ms(500);
    }
    free(rows);
}

static int run(struct transport *t, const char *what, int code)
{
    char in[64];
    if (strcmp(what, "die") == 0) {
        if (t->rank == 1)
            _exit(code);
        t->timeout_ns = NO_DEADLINE;
        transport_start_recv(t, 0, t->rank == 0 ? 1 : 0, in, sizeof in);
        return transport_wait(t, 0, NULL);
    }
    if (strcmp(what, "hang") == 0)
        return hang(t);
    if (strcmp(what, "stop_idle") == 0)
        return stop_while_idle(t);
    if (strcmp(what, "stop") == 0 || strcmp(what, "stop_0") == 0)
        return stop(t, what[4] ? 0 : 1);
    if (strcmp(what, "untidy") == 0)
        leave_untidy(t);
    else if (strcmp(what, "computing") == 0)
        receive_while_computing(t);
    else
        return run_battery(t, what);
    return fails(t);
}

int main(int argc, char **argv)
{
    struct transport t;
    int local_rank, local_size;
    if (argc < 2)
        return fail(STATUS_USAGE, "expected what to test, found nothing");
    int status = transport_open_mpi(&t, &local_rank, &local_size);
    if (status)
        return status;
    EXPECT(&t, strcmp(t.name, "mpi") == 0 && t.hosts[t.rank][0]);
    EXPECT(&t, local_rank == t.rank && local_size == t.size); // a test runs on one host
    EXPECT(&t, strstr(transport_mpi_version(), "MPI"));
    status = run(&t, argv[1], argc > 2 ? atoi(argv[2]) : 0);
    transport_close(&t);
    return status;
}
