#include "study/rally.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/pulse.h"
#include "worker/answers.h"

static int size_of(const struct transport *t)
{
    return t ? t->size : 1;
}

/* A worker's first message: its version, instruction sets, and a digest of its options and files.
 */
static int rally_hello(struct transport *t, const char *version, uint64_t digest)
{
    struct control hello = {.kind = CONTROL_HELLO,
                            .hello = {.version = version,
                                      .host = t->hosts[t->rank],
                                      .device = "cpu",
                                      .isas = isa_available(),
                                      .digest = digest}};
    return control_send(t, 0, &hello);
}

static int check_hello(const struct hello *h, int rank, const char *version, uint64_t digest)
{
    if (strcmp(h->version, version) != 0)
        return fail(STATUS_FAILED, "rank %d on %s: expected version %s, found %s", rank, h->host,
                    version, h->version);
    if (h->digest != digest)
        return fail(STATUS_USAGE,
                    "rank %d on %s: expected the options and files of rank 0, found others", rank,
                    h->host);
    return 0;
}

int rally_greet(struct transport *t, const char *version, uint64_t digest, unsigned *common)
{
    struct arena memory = {0};
    int status = 0;
    *common = isa_available();
    for (int rank = 1; rank < size_of(t) && !status; rank++) {
        struct control m;
        status = control_expect(t, rank, CONTROL_HELLO, &m, &memory);
        if (!status)
            status = check_hello(&m.hello, rank, version, digest);
        if (!status)
            *common &= m.hello.isas;
    }
    arena_free(&memory);
    return status;
}

int rally_understand(struct lap_setup *lap, struct placement *p, struct arena *memory,
                     const struct config *layers, const struct setup *setup)
{
    static const int32_t no_pieces;
    const struct exchange_words words = {setup->strategy, setup->combine, setup->dedup, setup->wire,
                                         setup->overlap};
    if (!(isa_available() >> setup->isa & 1))
        return fail(STATUS_FAILED, "setup: expected an instruction set of this rank, found %u",
                    setup->isa);
    lap->isa = (enum isa)setup->isa;
    const struct expert_copies copies = {setup->n_copies, setup->copy_cell, setup->copy_rank};
    int status = exchange_understand(&lap->options, &words);
    if (!status)
        status = placement_from_ranks(p, memory, layers, setup->rank_of, &no_pieces,
                                      lap->transport->size);
    if (!status)
        status = placement_add_copies(p, memory, &copies);
    if (!status)
        lap->limits.groups = p->groups_most;
    return status;
}

int rally_ready(struct transport *t, uint64_t bytes)
{
    struct control ready = {.kind = CONTROL_READY, .ready = {.bytes = bytes}};
    return control_send(t, 0, &ready);
}

static int answer(struct transport *t, struct rally_worker *w, const struct control *m)
{
    if (m->kind == CONTROL_STOP)
        w->stopped = true;
    else if (m->kind == CONTROL_STEP)
        return w->step(w->of, m->step.n_rows);
    else if (m->kind == CONTROL_SETUP && w->set_up)
        return w->set_up(w->of, &m->setup);
    else if (m->kind == CONTROL_CLOCK && w->log)
        return answers_clock(t, clock_ns());
    else if (m->kind == CONTROL_RECORDS && w->log)
        return answers_records(t, w->log);
    else
        return fail(STATUS_FAILED, "expected %sstep%s or stop, found %s",
                    w->set_up ? "setup, " : "", w->log ? ", clock, records" : "",
                    control_name(m->kind));
    return 0;
}

static int answer_all(struct transport *t, struct rally_worker *w)
{
    int status = 0;
    while (!status && !w->stopped) {
        struct control message;
        status = answers_next(t, &message, &w->message);
        if (status)
            return status;
        status = answer(t, w, &message);
        if (status == TRANSPORT_INTERRUPTED)
            status = 0; // rank 0 gave up: hear what it has to say
    }
    return status;
}

int rally_serve(struct transport *t, struct rally_worker *w, const char *version, uint64_t digest)
{
    error_capture(true);
    pulse_bind(t->pulse);
    int status = rally_hello(t, version, digest);
    if (!status)
        status = answer_all(t, w);
    if (status && status != STATUS_LOST_RANK)
        answers_give_up(t, status, &w->message);
    arena_free(&w->message);
    return status;
}

int rally_step(struct transport *t, int rows)
{
    struct control step = {.kind = CONTROL_STEP, .step = {rows, 0}};
    int status = 0;
    for (int rank = 1; rank < size_of(t) && !status; rank++)
        status = control_send(t, rank, &step);
    return status;
}

enum { MEETING_LANE = 1 }; // laps use lane 0

static int nothing_to_all(struct transport *t)
{
    int status = 0;
    for (int rank = 1; rank < t->size && !status; rank++)
        status = transport_start_send(t, MEETING_LANE, rank, "", 0);
    return status ? status : transport_wait(t, MEETING_LANE, NULL);
}

static int nothing_from_all(struct transport *t)
{
    static char none[1];
    int status = 0;
    for (int rank = 1; rank < t->size && !status; rank++)
        status = transport_start_recv(t, MEETING_LANE, rank, none, 0);
    return status ? status : transport_wait(t, MEETING_LANE, NULL);
}

static int nothing_to_root_and_back(struct transport *t)
{
    char none[1];
    int status = transport_start_send(t, MEETING_LANE, 0, "", 0);
    if (!status)
        status = transport_start_recv(t, MEETING_LANE, 0, none, 0);
    return status ? status : transport_wait(t, MEETING_LANE, NULL);
}

int rally_meet(struct transport *t)
{
    if (t->rank > 0)
        return nothing_to_root_and_back(t);
    int status = nothing_from_all(t);
    return status ? status : nothing_to_all(t);
}

int rally_open(struct rally_marks *m, struct transport *t, struct arena *memory)
{
    size_t ranks = (size_t)size_of(t);
    *m = (struct rally_marks){.clocks = arena_alloc(memory, ranks * sizeof *m->clocks),
                              .logs = arena_alloc(memory, ranks * sizeof *m->logs)};
    return t ? clocks_measure(t, m->clocks) : 0;
}

/* A log begins with the last mark of the collection before. */
static int keep_latest(struct rank_log *log, int rank, size_t wanted, uint64_t dropped)
{
    size_t old = log->n > wanted ? log->n - wanted : 0;
    if (old)
        memmove(log->events, log->events + old, wanted * sizeof *log->events);
    log->n -= old;
    if (log->n == wanted && dropped == 0)
        return 0;
    return fail(STATUS_FAILED, "rank %d: expected %zu marks, found %zu, and %llu without room",
                rank, wanted, log->n, (unsigned long long)dropped);
}

int rally_collect(struct rally_marks *m, struct transport *t, size_t wanted)
{
    struct arena memory = {0};
    int status = t ? clocks_measure(t, m->clocks) : 0;
    for (int rank = 1; rank < size_of(t) && !status; rank++) {
        struct rank_log *log = &m->logs[rank];
        uint64_t dropped = 0;
        log->n = 0;
        status = log_collect(log, t, rank, &dropped, &memory);
        if (!status)
            status = keep_latest(log, rank, wanted, dropped);
        if (status || log->n == 0)
            continue;
        int64_t width = clock_uncertainty(&m->clocks[rank]);
        bool same = clock_offset(&m->clocks[rank], log->events[0].ns) == 0;
        m->uncertainty_ns = !same && width > m->uncertainty_ns ? width : m->uncertainty_ns;
    }
    arena_free(&memory);
    return status;
}

int64_t rally_time(const struct rally_marks *m, int rank, size_t i)
{
    int64_t ns = m->logs[rank].events[i].ns;
    return ns - clock_offset(&m->clocks[rank], ns);
}

void rally_close(struct rally_marks *m, struct transport *t)
{
    for (int rank = 1; rank < size_of(t) && m->logs; rank++)
        free(m->logs[rank].events);
}
