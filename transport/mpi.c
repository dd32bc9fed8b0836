/* Ranks are processes under mpirun.
 *
 * Between start and end no call blocks inside MPI: every wait is a loop of our own around calls
 * that return at once. So it has a deadline, notices ranks that leave, and gives its core away
 * where others want it.
 *
 * All messages share one communicator and differ by tag. MPI keeps the order between two ranks, so
 * a rank that sees another's goodbye, or a control message, has seen everything sent before it. */
#include "transport/mpi_state.h"

#include <dlfcn.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "transport/offer.h"

/* A wait first polls, then also offers the core to other threads, then sleeps between two polls. It
 * goes from one to the next earlier if ranks share cores, and to sleep at once while another job
 * wants its core (offer_core). */
enum {
    ALONE_NS = 5000,
    POLL_NS = 20000000,
    POLL_CROWDED_NS = 2000000,
    NAP_NS = 50000,        // a sleep lasts a NAP_PART of the wait so far,
    LONG_NAP_NS = 1000000, // but no less and no more than these two
    NAP_PART = 64,
};
/* How long a rank waits for the goodbyes of the others after an error: grace_ns, or lost_grace_ns
 * if some rank is lost. A worker waits deference_ns longer, so that rank 0 ends first: its exit
 * code is the run's. */
static const int64_t grace_ns = 5000000000, lost_grace_ns = 1500000000, deference_ns = 1000000000;
static const int64_t end_ns = 2000000000;     // how long MPI_Finalize may take
static const int64_t start_ns = 120000000000; // how long MPI's start on all hosts may take

const char *mpi_error(int error)
{
    static char text[MPI_MAX_ERROR_STRING];
    int n;
    MPI_Error_string(error, text, &n);
    return text;
}

static void nap(int64_t waited)
{
    int64_t ns = waited / NAP_PART;
    struct timespec t = {0, ns < NAP_NS ? NAP_NS : ns > LONG_NAP_NS ? LONG_NAP_NS : ns};
    nanosleep(&t, NULL);
}

void mpi_begin_waiting(struct mpi_state *s)
{
    watch_begin(&s->watch, clock_ns());
}

static void pass_time(struct mpi_state *s, int64_t now)
{
    int64_t waited = now - s->watch.since_ns;
    if (!s->crowded && waited < ALONE_NS)
        return;
    pthread_mutex_unlock(&s->mutex);
    if (waited > (s->crowded ? POLL_CROWDED_NS : POLL_NS) || now < s->shared_until_ns)
        nap(waited);
    else
        offer_core(now, &s->shared_until_ns);
    pthread_mutex_lock(&s->mutex);
}

int mpi_keep_waiting(struct transport *t, const bool *awaited, const char *what)
{
    struct mpi_state *s = t->state;
    int64_t now = clock_ns(), look = watch_next(t, &s->watch);
    pass_time(s, now);
    if (look < 0 || now < look)
        return 0;
    mpi_hear(s);
    return watch_look(t, &s->watch, awaited, what, clock_ns());
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

/* Say whether Open MPI yields in each call that finds nothing to do; returns whether it did so far.
 * Between start and end it must not: our waits yield or sleep themselves, and beside another job
 * each yield costs that job's whole turn. The function is Open MPI's own, not of mpi.h; where it is
 * missing, waits beside other jobs are slower. */
static bool let_mpi_yield(bool yield)
{
    bool (*set)(bool);
    *(void **)&set = dlsym(RTLD_DEFAULT, "opal_progress_set_yield_when_idle");
    return set && set(yield);
}

/* ---- control messages ---- */

static int mpi_send(struct transport *t, int to, const void *bytes, size_t n)
{
    struct mpi_state *s = t->state;
    CHECK(to >= 0 && to < t->size && to != t->rank, "rank %d sends to %d", t->rank, to);
    CHECK(n <= CONTROL_MAX_BYTES, "a message of %zu bytes", n);
    void *copy = malloc(n ? n : 1);
    CHECK_MEMORY(copy, "no memory for a message of %zu bytes", n);
    if (n)
        memcpy(copy, bytes, n);
    pthread_mutex_lock(&s->mutex);
    outgoing_add(s, &s->messages, copy, n, to, TAG_CONTROL, copy);
    outgoing_progress(&s->messages);
    pthread_mutex_unlock(&s->mutex);
    return 0;
}

int mpi_find_gone(const struct transport *t, int from)
{
    const struct mpi_state *s = t->state;
    for (int r = 0; r < t->size; r++)
        if (s->gone[r] && (from == ANY_RANK || from == r))
            return r;
    return -1;
}

static void await_only(struct transport *t, int from)
{
    struct mpi_state *s = t->state;
    memset(s->awaited, 0, (size_t)t->size);
    if (from != ANY_RANK)
        s->awaited[from] = true;
}

/* Wait until a message of this tag can be received, and match it. */
static int await_tag(struct transport *t, int from, int tag, const char *what, MPI_Message *handle,
                     MPI_Status *status)
{
    struct mpi_state *s = t->state;
    int found, lost = 0;
    await_only(t, from);
    mpi_begin_waiting(s);
    while (!lost) {
        mpi_note_goodbyes(s); // before the probe: all messages of a rank come before its goodbye
        MPI(MPI_Improbe(from == ANY_RANK ? MPI_ANY_SOURCE : from, tag, s->comm, &found, handle,
                        status));
        if (found)
            return 0;
        if (mpi_find_gone(t, from) >= 0)
            return report_gone(t, &s->watch, mpi_find_gone(t, from), what);
        outgoing_progress(&s->messages);
        lost = mpi_keep_waiting(t, from == ANY_RANK ? NULL : s->awaited, what);
    }
    return lost;
}

/* Wait until a matched receive is complete. */
static int finish(struct transport *t, int from, const char *what, MPI_Request *request)
{
    struct mpi_state *s = t->state;
    int lost = 0;
    await_only(t, from);
    mpi_begin_waiting(s);
    while (!lost) {
        int done;
        MPI(MPI_Test(request, &done, MPI_STATUS_IGNORE));
        if (done)
            return 0;
        lost = mpi_keep_waiting(t, s->awaited, what);
    }
    return lost;
}

static int receive(struct transport *t, int *from, void *buffer, size_t capacity, size_t *bytes)
{
    struct mpi_state *s = t->state;
    MPI_Message handle;
    MPI_Status found;
    int status = await_tag(t, *from, TAG_CONTROL, "a message awaited", &handle, &found);
    if (status)
        return status;
    int n = mpi_status_bytes(&found);
    if ((size_t)n > capacity)
        return report_too_large(&s->watch, found.MPI_SOURCE, "a message", (size_t)n, capacity);
    MPI_Request request;
    MPI(MPI_Imrecv(buffer, n, MPI_BYTE, &handle, &request));
    *from = found.MPI_SOURCE;
    *bytes = (size_t)n;
    return finish(t, *from, "a message awaited", &request);
}

static int mpi_recv(struct transport *t, int *from, void *buffer, size_t capacity, size_t *bytes)
{
    struct mpi_state *s = t->state;
    pthread_mutex_lock(&s->mutex);
    s->pulse.count++; // when a rest begins, and when it ends, the count moves
    s->pulse.waiting = t->patient;
    int status = receive(t, from, buffer, capacity, bytes);
    s->pulse.count++;
    s->pulse.waiting = false;
    pthread_mutex_unlock(&s->mutex);
    return status;
}

static bool mpi_is_called_off(struct transport *t)
{
    struct mpi_state *s = t->state;
    int from = t->rank ? 0 : ANY_RANK;
    pthread_mutex_lock(&s->mutex);
    mpi_note_goodbyes(s);
    bool off = mpi_find_gone(t, from) >= 0 ||
               mpi_is_there(s, from == ANY_RANK ? MPI_ANY_SOURCE : from, TAG_CONTROL);
    pthread_mutex_unlock(&s->mutex);
    return off;
}

/* ---- the end ---- */

static void send_empty(struct transport *t, int to, int tag)
{
    struct mpi_state *s = t->state;
    outgoing_add(s, &s->messages, NULL, 0, to, tag, NULL);
}

static bool is_missing(struct transport *t)
{
    struct mpi_state *s = t->state;
    bool any = false;
    for (int r = 0; r < t->size; r++) {
        s->awaited[r] = !s->gone[r];
        any = any || s->awaited[r];
    }
    return any;
}

static int64_t patience(const struct transport *t)
{
    const struct mpi_state *s = t->state;
    int64_t ns = grace_ns;
    if (s->watch.lost[0] && !s->gone[0])
        return 0; // rank 0 is lost, and the other workers will not wait either
    for (int r = 0; r < t->size; r++)
        if (s->watch.lost[r] && !s->gone[r])
            ns = lost_grace_ns;
    return ns + (t->rank ? deference_ns : 0);
}

/* Say goodbye to all ranks and wait for their goodbyes: MPI_Finalize does not return before all
 * ranks have called it. A worker waits as long as rank 0 shows signs of life, as rank 0 may still
 * have work. After an error, no rank waits longer than patience(). STATUS_LOST_RANK: some rank has
 * not said goodbye. */
static int part(struct transport *t)
{
    struct mpi_state *s = t->state;
    bool bad = s->watch.reported || s->cut_short;
    int64_t until = clock_ns() + patience(t);
    t->patient = bad || t->rank > 0;
    for (int r = 0; r < t->size; r++)
        if (r != t->rank)
            send_empty(t, r, TAG_GOODBYE);
    s->gone[t->rank] = true;
    mpi_begin_waiting(s);
    for (int lost = 0; !lost;) {
        mpi_note_goodbyes(s);
        outgoing_progress(&s->messages);
        if (!is_missing(t))
            return 0;
        lost = mpi_keep_waiting(t, s->awaited, "its goodbye awaited");
        if (bad)
            lost = clock_ns() > until ? STATUS_LOST_RANK : 0;
    }
    return STATUS_LOST_RANK;
}

/* If some rank has not said goodbye, MPI_Finalize is not called. mpirun then ends the remaining
 * ranks when this process exits. The beater thread stays, and ends the process after end_ns if the
 * caller does not. */
static int mpi_close(struct transport *t)
{
    struct mpi_state *s = t->state;
    pthread_mutex_lock(&s->mutex);
    int status = part(t);
    pthread_mutex_unlock(&s->mutex);
    beater_end(s);
    pulse_bind(NULL);
    beater_guard(s, end_ns, status ? NULL : "MPI_Finalize");
    t->state = NULL;
    if (status)
        return status;
    let_mpi_yield(s->mpi_yielded);
    MPI_Comm_free(&s->comm);
    MPI_Finalize();
    beater_close(s);
    for (int lane = 0; lane < LANES; lane++)
        outgoing_free(&s->rows[lane]);
    outgoing_free(&s->messages);
    watch_close(&s->watch);
    pthread_mutex_destroy(&s->mutex);
    free(s->hosts);
    free(s->in);
    free(s->gone);
    free(s->spoke);
    free(s->awaited);
    free(s);
    return 0;
}

static const struct transport_ops mpi_ops = {
    .send = mpi_send,
    .recv = mpi_recv,
    .start_send = mpi_start_send,
    .start_recv = mpi_start_recv,
    .wait = mpi_wait,
    .advance = mpi_advance,
    .is_called_off = mpi_is_called_off,
    .look = mpi_look,
    .drop = mpi_drop,
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

/* How many processes the launcher says that it has started; 0: nothing says so. *rank := this one's
 * number among them. */
static int launched(int *rank)
{
    static const char *const words[][2] = {
        {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"}, // Open MPI's mpirun
        {"PMI_SIZE", "PMI_RANK"},                         // srun --mpi=pmi2, mpiexec.hydra
        {"SLURM_STEP_NUM_TASKS", "SLURM_PROCID"},         // srun, also without any MPI
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        const char *size = getenv(words[i][0]), *number = getenv(words[i][1]);
        *rank = number ? atoi(number) : 0;
        if (size && number)
            return atoi(size);
    }
    return 0;
}

int transport_refuse_alone(void)
{
    int rank, tasks = launched(&rank);
    if (tasks <= 1)
        return 0;
    return rank > 0 ? STATUS_USAGE
                    : fail(STATUS_USAGE,
                           "expected the %d processes that were started to be ranks of one run, "
                           "found each alone: start them with Open MPI's mpirun (launch/mpirun.sh) "
                           "or srun --mpi=pmix",
                           tasks);
}

/* Find the ranks on this host. s->crowded := they are more than the cores that they may all use. */
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
    watch_open(&s->watch, size);
    s->hosts = calloc(n, sizeof *s->hosts);
    s->in = calloc(LANES * n, sizeof *s->in);
    s->gone = calloc(n, sizeof *s->gone);
    s->spoke = calloc(n, sizeof *s->spoke);
    s->awaited = calloc(n, sizeof *s->awaited);
    CHECK_MEMORY(s->hosts && s->in && s->gone && s->spoke && s->awaited, "no memory for %d ranks",
                 size);
    for (int i = 0; i < LANES * size; i++)
        s->in[i].chunk = MPI_REQUEST_NULL;
}

/* Settings that Open MPI reads when it starts. With more ranks than cores, its waits (at the start
 * and the end) shall yield. A process that no mpirun started shall not look for ssh. */
static void prepare(void)
{
    const char *here = getenv("OMPI_COMM_WORLD_LOCAL_SIZE");
    cpu_set_t cores;
    if (here && sched_getaffinity(0, sizeof cores, &cores) == 0 && atoi(here) > CPU_COUNT(&cores))
        setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0);
    if (!transport_under_mpi())
        setenv("OMPI_MCA_ess_singleton_isolated", "1", 0);
}

static void share_hosts(struct mpi_state *s)
{
    gethostname(s->hosts[s->rank], HOST_BYTES - 1);
    MPI(MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, s->hosts, HOST_BYTES, MPI_BYTE, s->comm));
}

int transport_open_mpi(struct transport *t, int *local_rank, int *local_size)
{
    int provided;
    struct mpi_state *s = calloc(1, sizeof *s);
    CHECK_MEMORY(s, "no memory");
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    s->rank = rank ? atoi(rank) : 0; // for the beater, until MPI has started
    pthread_mutex_init(&s->mutex, NULL);
    beater_open(s);
    beater_guard(s, start_ns, "MPI's start on all ranks");
    prepare();
    MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &provided); // ends the process on an error
    if (provided < MPI_THREAD_SERIALIZED)
        return fail(STATUS_FAILED, "MPI: expected MPI_THREAD_SERIALIZED, found level %d", provided);
    *t = (struct transport){.ops = &mpi_ops, .name = "mpi", .pulse = &s->pulse, .state = s};
    MPI(MPI_Comm_dup(MPI_COMM_WORLD, &s->comm));
    MPI(MPI_Comm_set_errhandler(s->comm, MPI_ERRORS_RETURN));
    MPI(MPI_Comm_rank(s->comm, &t->rank));
    MPI(MPI_Comm_size(s->comm, &t->size));
    s->rank = t->rank;
    allocate(s, t->size);
    look_around(s, local_rank, local_size);
    share_hosts(s);
    t->hosts = (const char(*)[HOST_BYTES])s->hosts;
    s->pulse.decoding = -1;
    s->pulse.meanwhile = mpi_meanwhile;
    s->pulse.of = t;
    pulse_bind(&s->pulse);
    beater_guard(s, 0, NULL);
    s->mpi_yielded = let_mpi_yield(false);
    beater_begin(s, t->size);
    int status = t->size == 1 ? transport_refuse_alone() : 0;
    if (status)
        transport_close(t);
    return status;
}

const char *transport_mpi_version(void)
{
    static char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int n;
    MPI_Get_library_version(text, &n);
    text[strcspn(text, ",\n")] = 0; // "Open MPI v4.1.4, package: …"
    return text;
}
