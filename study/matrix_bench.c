#include "study/matrix_bench.h"

#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/pulse.h"
#include "coordinator/cluster.h"
#include "proto/phase.h"
#include "study/quantile.h"
#include "study/rally.h"

enum { MARKS_OF_LAP = 2, MARK_STARTS = PHASE_PACK, MARK_ENDS = PHASE_UNPACK };

/* One rank's buffers: a message to and from each rank, its own included. */
struct side {
    struct transport *t;
    const struct matrix_options *o;
    struct arena memory;
    unsigned char **out, **in; // [ranks]
};

static size_t bytes_of(const struct side *s, int from, int to)
{
    return (size_t)s->o->matrix.bytes[from * s->o->matrix.n + to];
}

static uint64_t digest_of(const struct matrix_options *o)
{
    const int64_t numbers[] = {o->warmup, o->iterations, o->check};
    size_t cells = (size_t)o->matrix.n * (size_t)o->matrix.n;
    uint64_t hash = hash_bytes(HASH_START, numbers, sizeof numbers);
    return hash_bytes(hash, o->matrix.bytes, cells * sizeof *o->matrix.bytes);
}

/* Byte i of the message between two ranks. */
static unsigned char byte_at(int from, int to, size_t i)
{
    uint64_t key = ((uint64_t)(uint32_t)from << 32) + (uint32_t)to;
    return (unsigned char)(hash_mix(hash_mix(key) + i / 8) >> i % 8 * 8);
}

/* Pieces of a message after which other ranks see progress. */
enum { PULSE_BYTES = 1 << 20 };

static size_t piece_end(size_t from, size_t bytes)
{
    return bytes - from < PULSE_BYTES ? bytes : from + PULSE_BYTES;
}

static void fill(unsigned char *out, int from, int to, size_t bytes)
{
    for (size_t at = 0, end; at < bytes; at = end) {
        end = piece_end(at, bytes);
        for (size_t i = at; i < end; i++)
            out[i] = byte_at(from, to, i);
        pulse();
    }
}

static void clear(unsigned char *in, size_t bytes)
{
    for (size_t at = 0, end; at < bytes; at = end) {
        end = piece_end(at, bytes);
        memset(in + at, 0, end - at);
        pulse();
    }
}

static void open_side(struct side *s)
{
    int rank = s->t->rank;
    size_t ranks = (size_t)s->t->size;
    s->out = arena_alloc(&s->memory, ranks * sizeof *s->out);
    s->in = arena_alloc(&s->memory, ranks * sizeof *s->in);
    for (int r = 0; r < s->t->size; r++) {
        s->out[r] = arena_alloc(&s->memory, bytes_of(s, rank, r) + 1);
        s->in[r] = arena_alloc(&s->memory, bytes_of(s, r, rank) + 1);
        fill(s->out[r], rank, r, bytes_of(s, rank, r));
        clear(s->in[r], bytes_of(s, r, rank));
    }
}

uint64_t matrix_memory(const struct byte_matrix *m, int first, int n)
{
    uint64_t bytes = 0;
    for (int rank = first; rank < first + n; rank++)
        for (int r = 0; r < m->n; r++)
            bytes += m->bytes[rank * m->n + r] + m->bytes[r * m->n + rank];
    return bytes;
}

/* One lap: everything that this rank sends and receives. */
static int exchange(struct side *s)
{
    int rank = s->t->rank, status = 0;
    for (int r = 0; r < s->t->size && !status; r++)
        if (r != rank && bytes_of(s, r, rank))
            status = transport_start_recv(s->t, 0, r, s->in[r], bytes_of(s, r, rank));
    for (int i = 1; i < s->t->size && !status; i++) { // each rank begins with its neighbour
        int r = (rank + i) % s->t->size;
        if (bytes_of(s, rank, r))
            status = transport_start_send(s->t, 0, r, s->out[r], bytes_of(s, rank, r));
    }
    if (bytes_of(s, rank, rank))
        memcpy(s->in[rank], s->out[rank], bytes_of(s, rank, rank));
    pulse();
    return status ? status : transport_wait(s->t, 0, NULL);
}

/* The first wrong byte of a message, or `bytes`. */
static size_t first_wrong(const unsigned char *in, int from, int to, size_t bytes)
{
    for (size_t at = 0, end; at < bytes; at = end) {
        end = piece_end(at, bytes);
        for (size_t i = at; i < end; i++)
            if (in[i] != byte_at(from, to, i))
                return i;
        pulse();
    }
    return bytes;
}

static int check_side(const struct side *s)
{
    int rank = s->t->rank;
    for (int r = 0; r < s->t->size; r++) {
        size_t i = first_wrong(s->in[r], r, rank, bytes_of(s, r, rank));
        if (i < bytes_of(s, r, rank))
            return fail(STATUS_FAILED,
                        "alltoallv: rank %d received a wrong byte %zu of %zu from rank %d: "
                        "expected %d, found %d",
                        rank, i, bytes_of(s, r, rank), r, byte_at(r, rank, i), s->in[r][i]);
    }
    return 0;
}

static int laps_of(const struct matrix_options *o)
{
    return o->warmup + o->iterations;
}

/* ---- a worker ---- */

struct server {
    struct side side;
    struct trace log;
    int laps; // that are over
};

static int serve_lap(void *of, int rows)
{
    struct server *w = of;
    const struct matrix_options *o = w->side.o;
    struct trace *log = w->laps >= o->warmup ? &w->log : NULL;
    (void)rows; // the matrix says what is sent
    if (w->laps >= laps_of(o))
        return fail(STATUS_FAILED, "step: expected %d laps, found more", laps_of(o));
    trace_mark(log, MARK_STARTS);
    int status = exchange(&w->side);
    trace_mark(log, MARK_ENDS);
    w->laps++;
    if (!status && o->check && w->laps == laps_of(o))
        status = check_side(&w->side);
    return status ? status : rally_meet(w->side.t);
}

int matrix_serve(struct transport *t, const struct matrix_options *o)
{
    struct server s = {.side = {.t = t, .o = o}};
    struct rally_worker worker = {.of = &s, .step = serve_lap, .log = &s.log};
    pulse_bind(t->pulse); // large buffers take a while to fill
    trace_open(&s.log, phase_names, (size_t)(o->iterations + 1) * MARKS_OF_LAP);
    open_side(&s.side);
    int status = rally_serve(t, &worker, o->version, digest_of(o));
    trace_close(&s.log);
    arena_free(&s.side.memory);
    return status;
}

/* ---- rank 0 ---- */

struct own_times {
    int64_t *start, *end; // [iterations]
};

static int run_laps(struct side *s, struct own_times *own)
{
    int status = 0;
    for (int lap = 0; lap < laps_of(s->o) && !status; lap++) {
        int i = lap - s->o->warmup;
        status = rally_step(s->t, 1);
        int64_t start = clock_ns();
        if (!status)
            status = exchange(s);
        int64_t end = clock_ns();
        if (!status)
            status = rally_meet(s->t);
        if (i >= 0) {
            own->start[i] = start;
            own->end[i] = end;
        }
    }
    if (status == TRANSPORT_INTERRUPTED)
        status = cluster_fault(s->t);
    return status || !s->o->check ? status : check_side(s);
}

static void count(struct matrix_report *r, const struct side *s)
{
    for (int i = 0; i < r->n_ranks; i++) {
        uint64_t sent = 0, received = 0;
        for (int j = 0; j < r->n_ranks; j++) {
            sent += i != j ? bytes_of(s, i, j) : 0;
            received += i != j ? bytes_of(s, j, i) : 0;
        }
        r->wire += sent;
        r->local += bytes_of(s, i, i);
        r->busiest = sent > r->busiest ? sent : r->busiest;
        r->busiest = received > r->busiest ? received : r->busiest;
    }
}

static void take_times(struct matrix_report *r, const struct side *s, const struct own_times *own,
                       const struct rally_marks *marks)
{
    int n = s->o->iterations;
    double *values = arena_alloc(&r->memory, (size_t)n * sizeof *values);
    int *last = arena_alloc(&r->memory, (size_t)r->n_ranks * sizeof *last);
    for (int i = 0; i < n; i++) {
        int64_t start = own->start[i], end = own->end[i];
        int slowest = 0;
        for (int rank = 1; rank < r->n_ranks; rank++) {
            int64_t began = rally_time(marks, rank, (size_t)i * MARKS_OF_LAP);
            int64_t ended = rally_time(marks, rank, (size_t)i * MARKS_OF_LAP + 1);
            start = began < start ? began : start;
            slowest = ended > end ? rank : slowest;
            end = ended > end ? ended : end;
        }
        values[i] = (double)(end - start);
        last[slowest]++;
    }
    for (int rank = 1; rank < r->n_ranks; rank++)
        r->slowest = last[rank] > last[r->slowest] ? rank : r->slowest;
    r->time = lap_times_of(values, n);
}

int matrix_coordinate(struct matrix_report *r, struct transport *t, const struct matrix_options *o)
{
    struct side s = {.t = t, .o = o};
    struct rally_marks marks = {0};
    size_t times = (size_t)o->iterations * sizeof(int64_t);
    unsigned common;
    *r = (struct matrix_report){.n_ranks = t->size};
    struct own_times own = {arena_alloc(&r->memory, times), arena_alloc(&r->memory, times)};
    pulse_bind(t->pulse);
    int status = rally_greet(t, o->version, digest_of(o), &common);
    if (status)
        return status;
    open_side(&s);
    count(r, &s);
    status = rally_open(&marks, t, &r->memory);
    if (!status)
        status = run_laps(&s, &own);
    if (!status)
        status = rally_collect(&marks, t, (size_t)o->iterations * MARKS_OF_LAP);
    if (!status)
        take_times(r, &s, &own, &marks);
    else
        transport_drop(t);
    r->checked = o->check && !status;
    r->uncertainty_ns = marks.uncertainty_ns;
    rally_close(&marks, t);
    arena_free(&s.memory);
    return status;
}
