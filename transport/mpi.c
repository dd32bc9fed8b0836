/* Ranks are processes under mpirun.
 *
 * Nothing here blocks inside MPI: every wait is a loop of our own around calls that return at once,
 * so it has a deadline, notices ranks that leave, and gives its core away when ranks outnumber
 * cores (which a plain mpirun --host localhost:4 does not, at a thousand times the latency).
 *
 * All messages share one communicator and differ by tag; MPI keeps the order between two ranks, so
 * whoever sees a rank's goodbye, or a control message, has seen everything sent before it. */
#include "transport/mpi_state.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "transport/lost.h"

/* How a wait passes its time: polling, then offering the core to others, then naps; all sooner
 * where ranks share cores. */
enum {
    ALONE_NS = 5000,
    POLL_NS = 20000000,
    POLL_CROWDED_NS = 2000000,
    LONG_NS = 1000000000,
    NAP_NS = 50000,
    LONG_NAP_NS = 1000000,
};
static const int64_t grace_ns = 5000000000; // for the others to leave, after an error

const char *mpi_error(int error)
{
    static char text[MPI_MAX_ERROR_STRING];
    int n;
    MPI_Error_string(error, text, &n);
    return text;
}

static void nap(int64_t ns)
{
    struct timespec t = {0, ns};
    nanosleep(&t, NULL);
}

bool mpi_keep_waiting(const struct transport *t, int64_t since)
{
    const struct mpi_state *s = t->state;
    int64_t waited = clock_ns() - since;
    if (t->timeout_ns != NO_DEADLINE && waited > t->timeout_ns)
        return false;
    if (waited > LONG_NS)
        nap(LONG_NAP_NS);
    else if (waited > (s->crowded ? POLL_CROWDED_NS : POLL_NS))
        nap(NAP_NS);
    else if (s->crowded || waited > ALONE_NS)
        sched_yield();
    return true;
}

bool mpi_is_there(const struct mpi_state *s, int from, int tag)
{
    int found;
    MPI(MPI_Iprobe(from, tag, s->comm, &found, MPI_STATUS_IGNORE));
    return found;
}

void mpi_note_goodbyes(struct mpi_state *s)
{
    while (mpi_is_there(s, MPI_ANY_SOURCE, TAG_GOODBYE)) {
        MPI_Status status;
        MPI(MPI_Recv(NULL, 0, MPI_BYTE, MPI_ANY_SOURCE, TAG_GOODBYE, s->comm, &status));
        s->gone[status.MPI_SOURCE] = true;
    }
}

int mpi_status_bytes(const MPI_Status *status)
{
    int bytes;
    MPI(MPI_Get_count(status, MPI_BYTE, &bytes));
    return bytes;
}

/* ---- control messages ---- */

static int mpi_send(struct transport *t, int to, const void *bytes, size_t n)
{
    struct mpi_state *s = t->state;
    CHECK(to >= 0 && to < t->size && to != t->rank, "rank %d sends to %d", t->rank, to);
    CHECK(n <= CONTROL_MAX_BYTES, "a message of %zu bytes", n);
    void *copy = malloc(n ? n : 1);
    CHECK(copy, "no memory for a message of %zu bytes", n);
    if (n)
        memcpy(copy, bytes, n);
    outgoing_add(s, &s->messages, copy, n, to, TAG_CONTROL, copy);
    outgoing_progress(&s->messages);
    return 0;
}

/* A rank out of `from` that has left, or -1. */
static int find_gone(const struct transport *t, int from)
{
    const struct mpi_state *s = t->state;
    for (int r = 0; r < t->size; r++)
        if (s->gone[r] && (from == ANY_RANK || from == r))
            return r;
    return -1;
}

/* Wait until a message of this tag is there. */
static int await_tag(struct transport *t, int from, int tag, const char *what, MPI_Message *handle,
                     MPI_Status *status)
{
    struct mpi_state *s = t->state;
    int64_t since = clock_ns();
    int found;
    for (;;) {
        mpi_note_goodbyes(s); // before the look: a goodbye is a rank's last message
        MPI(MPI_Improbe(from == ANY_RANK ? MPI_ANY_SOURCE : from, tag, s->comm, &found, handle,
                        status));
        if (found)
            return 0;
        if (find_gone(t, from) >= 0)
            return report_gone(t, &s->reported, find_gone(t, from), what);
        outgoing_progress(&s->messages);
        if (mpi_keep_waiting(t, since))
            continue;
        memset(s->awaited, 0, (size_t)t->size);
        if (from != ANY_RANK)
            s->awaited[from] = true;
        return report_silent(t, &s->reported, from == ANY_RANK ? NULL : s->awaited, what);
    }
}

/* Let a matched receive run to its end. */
static int finish(struct transport *t, int from, const char *what, MPI_Request *request)
{
    struct mpi_state *s = t->state;
    int64_t since = clock_ns();
    for (;;) {
        int done;
        MPI(MPI_Test(request, &done, MPI_STATUS_IGNORE));
        if (done)
            return 0;
        if (mpi_keep_waiting(t, since))
            continue;
        memset(s->awaited, 0, (size_t)t->size);
        s->awaited[from] = true;
        return report_silent(t, &s->reported, s->awaited, what);
    }
}

static int mpi_recv(struct transport *t, int *from, void *buffer, size_t capacity, size_t *bytes)
{
    struct mpi_state *s = t->state;
    MPI_Message handle;
    MPI_Status found;
    int status = await_tag(t, *from, TAG_CONTROL, "a message", &handle, &found);
    if (status)
        return status;
    int n = mpi_status_bytes(&found);
    if ((size_t)n > capacity)
        return report_too_large(&s->reported, found.MPI_SOURCE, "a message", (size_t)n, capacity);
    MPI_Request request;
    MPI(MPI_Imrecv(buffer, n, MPI_BYTE, &handle, &request));
    *from = found.MPI_SOURCE;
    *bytes = (size_t)n;
    return finish(t, *from, "a message", &request);
}

/* ---- together ---- */

static void send_empty(struct transport *t, int to, int tag)
{
    struct mpi_state *s = t->state;
    outgoing_add(s, &s->messages, NULL, 0, to, tag, NULL);
}

static int recv_empty(struct transport *t, int from, int tag)
{
    MPI_Message handle;
    MPI_Status unused;
    int status = await_tag(t, from, tag, "it at a barrier", &handle, &unused);
    if (!status)
        MPI(MPI_Mrecv(NULL, 0, MPI_BYTE, &handle, MPI_STATUS_IGNORE));
    return status;
}

/* Not MPI's own, which could neither name a missing rank nor stop waiting for it. */
static int mpi_barrier(struct transport *t)
{
    int status = 0;
    if (t->rank > 0) {
        send_empty(t, 0, TAG_ARRIVE);
        return recv_empty(t, 0, TAG_RELEASE);
    }
    for (int r = 1; r < t->size && !status; r++)
        status = recv_empty(t, r, TAG_ARRIVE);
    for (int r = 1; r < t->size && !status; r++)
        send_empty(t, r, TAG_RELEASE);
    return status;
}

/* Say goodbye and wait until all have: MPI_Finalize does not come back before all ranks are in it.
 * False: somebody stays away. */
static bool part(struct transport *t)
{
    struct mpi_state *s = t->state;
    bool bad = s->reported || s->cut_short;
    if (bad && (t->timeout_ns == NO_DEADLINE || t->timeout_ns > grace_ns))
        t->timeout_ns = grace_ns;
    for (int r = 0; r < t->size; r++)
        if (r != t->rank)
            send_empty(t, r, TAG_GOODBYE);
    s->gone[t->rank] = true;
    for (int64_t since = clock_ns();;) {
        int present = 0;
        mpi_note_goodbyes(s);
        outgoing_progress(&s->messages);
        for (int r = 0; r < t->size; r++)
            present += !s->gone[r];
        if (present == 0)
            return true;
        if (!mpi_keep_waiting(t, since))
            return false;
    }
}

/* Without MPI_Finalize mpirun ends the ranks that are left as soon as this process exits. */
static void mpi_close(struct transport *t)
{
    struct mpi_state *s = t->state;
    if (part(t)) {
        MPI_Comm_free(&s->comm);
        MPI_Finalize();
    }
    for (int lane = 0; lane < LANES; lane++)
        outgoing_free(&s->rows[lane]);
    outgoing_free(&s->messages);
    free(s->in);
    free(s->gone);
    free(s->spoke);
    free(s->awaited);
    free(s);
    t->state = NULL;
}

static const struct transport_ops mpi_ops = {
    .send = mpi_send,
    .recv = mpi_recv,
    .start_send = mpi_start_send,
    .start_recv = mpi_start_recv,
    .wait = mpi_wait,
    .advance = mpi_advance,
    .drop = mpi_drop,
    .barrier = mpi_barrier,
    .close = mpi_close,
};

/* ---- start and end ---- */

bool transport_under_mpi(void)
{
    static const char *const signs[] = {
        "OMPI_COMM_WORLD_SIZE", // Open MPI's mpirun
        "PMIX_RANK",            // srun --mpi=pmix, and other PMIx launchers
        "PMI_RANK",             // srun --mpi=pmi2, mpiexec.hydra
    };
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
        if (getenv(signs[i]))
            return true;
    return false;
}

/* More ranks on this host than there are cores for all of them together. */
static void look_around(struct mpi_state *s, int *local_rank, int *local_size)
{
    MPI_Comm local;
    cpu_set_t cores;
    CPU_ZERO(&cores);
    sched_getaffinity(0, sizeof cores, &cores);
    MPI(MPI_Comm_split_type(s->comm, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &local));
    MPI(MPI_Comm_rank(local, local_rank));
    MPI(MPI_Comm_size(local, local_size));
    MPI(MPI_Allreduce(MPI_IN_PLACE, &cores, sizeof cores, MPI_BYTE, MPI_BOR, local));
    MPI(MPI_Comm_free(&local));
    s->crowded = *local_size > CPU_COUNT(&cores);
}

static void allocate(struct mpi_state *s, int size)
{
    size_t n = (size_t)size;
    s->in = calloc(LANES * n, sizeof *s->in);
    s->gone = calloc(n, sizeof *s->gone);
    s->spoke = calloc(n, sizeof *s->spoke);
    s->awaited = calloc(n, sizeof *s->awaited);
    CHECK(s->in && s->gone && s->spoke && s->awaited, "no memory for %d ranks", size);
    for (int i = 0; i < LANES * size; i++)
        s->in[i].chunk = MPI_REQUEST_NULL;
}

/* What Open MPI should know before it starts: our loops yield, and so should its own; and a process
 * alone needs no ssh. */
static void prepare(void)
{
    const char *here = getenv("OMPI_COMM_WORLD_LOCAL_SIZE");
    cpu_set_t cores;
    if (here && sched_getaffinity(0, sizeof cores, &cores) == 0 && atoi(here) > CPU_COUNT(&cores))
        setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0);
    if (!transport_under_mpi())
        setenv("OMPI_MCA_ess_singleton_isolated", "1", 0);
}

int transport_open_mpi(struct transport *t, int *local_rank, int *local_size)
{
    int provided;
    prepare();
    MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided); // ends the process on an error
    if (provided < MPI_THREAD_FUNNELED)
        return fail(STATUS_FAILED, "MPI: expected MPI_THREAD_FUNNELED, found level %d", provided);
    struct mpi_state *s = calloc(1, sizeof *s);
    CHECK(s, "no memory");
    *t = (struct transport){.ops = &mpi_ops, .name = "mpi", .state = s};
    MPI(MPI_Comm_dup(MPI_COMM_WORLD, &s->comm));
    MPI(MPI_Comm_set_errhandler(s->comm, MPI_ERRORS_RETURN));
    MPI(MPI_Comm_rank(s->comm, &t->rank));
    MPI(MPI_Comm_size(s->comm, &t->size));
    gethostname(t->host, sizeof t->host - 1);
    allocate(s, t->size);
    look_around(s, local_rank, local_size);
    return 0;
}

const char *transport_mpi_version(void)
{
    static char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int n;
    MPI_Get_library_version(text, &n);
    text[strcspn(text, ",\n")] = 0; // "Open MPI v4.1.4, package: …"
    return text;
}

void transport_abort(struct transport *t, int code)
{
    fflush(NULL);
    if (t->ops == &mpi_ops)
        MPI_Abort(MPI_COMM_WORLD, code);
    _exit(code);
}
