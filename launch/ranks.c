#include "launch/ranks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "base/units.h"
#include "coordinator/cluster.h"
#include "model/hub.h"
#include "study/profile.h"
#include "worker/serve.h"

/* The cores that this process may use over the ranks that share them. If mpirun has bound the
 * ranks, each has cores of its own. */
static int default_threads(int ranks_here)
{
    int usable = usable_cores();
    bool bound = usable < (int)sysconf(_SC_NPROCESSORS_ONLN);
    int share = bound ? usable : usable / ranks_here;
    return share > 0 ? share : 1;
}

static int choose_threads(const struct model_options *o, int ranks_here)
{
    if (o->threads == 0)
        return default_threads(ranks_here);
    if (o->threads > usable_cores())
        warn("-t %ld: this rank may only use %d core%s%s", o->threads, usable_cores(),
             usable_cores() == 1 ? "" : "s",
             ranks_here > 1 ? "; mpirun --bind-to none lifts that" : "");
    return (int)o->threads;
}

int ranks_gpu(int i)
{
    int n = cuda_count();
    return n ? i % n : 0;
}

static enum device worker_device(const struct model_options *o)
{
    return (enum device)(o->worker_device ? o->worker_device - 1 : o->device);
}

/* What every local worker is given. */
struct local_setup {
    const char *model_dir;
    enum device device;
    int threads;
};

static int serve_local(struct transport *end, const void *given)
{
    const struct local_setup *s = given;
    struct worker_options o = {s->model_dir, s->device, ranks_gpu(end->rank), s->threads,
                               program_version()};
    return worker_serve(end, &o);
}

static int64_t timeout_ns(const struct model_options *o)
{
    return (int64_t)(o->timeout_s * 1e9);
}

static struct exchange_options exchange_of(const struct model_options *o)
{
    return (struct exchange_options){(enum strategy)o->strategy, (enum combine)o->combine,
                                     (enum dedup)o->dedup, (enum wire)o->wire,
                                     (enum overlap)o->overlap};
}

static struct coordinator_options options_of(const struct ranks *r, const struct model_options *o,
                                             const struct session_needs *needs)
{
    struct workload expect;
    CHECK(parse_expect(o->expect, &expect) == 0, "--expect was checked");
    struct dtype_choice dtype = dtype_chosen(o->dtype, o->expert_dtype);
    return (struct coordinator_options){
        .model_dir = r->model_dir,
        .version = program_version(),
        .dtype = dtype.type,
        .quant = dtype.matrices,
        .expert_quant = dtype.experts,
        .device = (enum device)o->device,
        .gpus = worker_device(o) == DEVICE_CUDA ? cuda_count() : 0,
        .eager = o->eager,
        .chunk = (int)o->chunk,
        .context = (int)o->context,
        .wanted = needs->context,
        .max_sequences = needs->max_sequences,
        .logit_rows = needs->logit_rows,
        .placement = o->placement,
        .expect = expect,
        .exchange = exchange_of(o),
        .kv_bytes = o->kv_bytes,
        .profile = {.on = o->profile.table || o->profile.json || o->profile.trace,
                    .keep = o->profile.trace},
        .record = o->profile.routing,
        .model_name = o->model};
}

static int ranks_here(const struct process *p, const struct model_options *o)
{
    return p->mpi ? p->local_size : o->ranks ? (int)o->ranks : 1;
}

/* CUDA loads a kernel at its first launch, and for that waits until the GPU is idle. If ranks of
 * one process share a GPU, it never is: NCCL's kernels of other ranks run on it, and wait for what
 * this rank launches next. So all kernels must be loaded at the start, which CUDA reads from its
 * environment at its first call. */
static void prepare_sharing(const struct model_options *o)
{
    char unused[1];
    if (o->transport == TRANSPORT_NCCL && nccl_can_share(unused, sizeof unused))
        setenv("CUDA_MODULE_LOADING", "EAGER", 0);
}

/* Only this host's ranks are checked. If ranks of another host share a GPU, NCCL will report it. */
const char *ranks_why_not_nccl(const struct process *p, const struct model_options *o)
{
    static char text[320];
    char sharing[128];
    if (!nccl_built())
        return "expected a build with NCCL, found one without: configure with -DEPMOE_NCCL=ON";
    if (o->device != DEVICE_CUDA || worker_device(o) != DEVICE_CUDA)
        return "expected --device cuda for all ranks";
    bool shared = nccl_can_share(sharing, sizeof sharing) && o->transport == TRANSPORT_NCCL;
    prepare_sharing(o); // before this program's first call of CUDA, which counts GPUs
    int gpus = cuda_count();
    if (gpus >= ranks_here(p, o) || (shared && gpus > 0))
        return NULL;
    snprintf(text, sizeof text,
             "expected a GPU for each of %d ranks, found %d: ranks that share one want --transport "
             "%s, or nccl with %s",
             ranks_here(p, o), gpus, p->mpi ? "mpi" : "local", sharing);
    return text;
}

int ranks_check_transport(const struct process *p, const struct model_options *o)
{
    const char *why = o->transport == TRANSPORT_NCCL ? ranks_why_not_nccl(p, o) : NULL;
    if (o->transport == TRANSPORT_LOCAL && p->mpi)
        return fail(STATUS_USAGE, "--transport local: expected no mpirun, found one: "
                                  "local ranks are --ranks N of one process");
    if (o->transport == TRANSPORT_MPI && !p->mpi)
        return fail(STATUS_USAGE, "--transport mpi: expected mpirun, found none");
    return why ? fail(STATUS_USAGE, "--transport nccl: %s", why) : 0;
}

/* For --transport auto: use NCCL if each rank has a GPU of its own. */
static bool choose_nccl(const struct process *p, const struct model_options *o,
                        const struct transport *t)
{
    if (o->transport != TRANSPORT_AUTO || !t)
        return o->transport == TRANSPORT_NCCL;
    const char *why = ranks_why_not_nccl(p, o);
    if (why && o->device == DEVICE_CUDA)
        note("rows travel through the host's memory, not by NCCL: %s", why);
    return !why;
}

static int check(const struct process *p, const struct model_options *o)
{
    if (!o->model)
        return fail(STATUS_USAGE, "expected -m MODEL, found none");
    if (p->mpi && o->ranks)
        return fail(STATUS_USAGE, "--ranks %ld: under mpirun, -n sets the ranks", o->ranks);
    struct workload unused;
    int status = parse_expect(o->expect, &unused);
    return status ? status : ranks_check_transport(p, o);
}

static int serve(const struct process *p, const struct model_options *o)
{
    struct worker_options w = {o->model, worker_device(o), ranks_gpu(p->local_rank),
                               choose_threads(o, p->local_size), program_version()};
    p->mpi->timeout_ns = timeout_ns(o);
    return worker_serve(p->mpi, &w) == STATUS_LOST_RANK ? STATUS_LOST_RANK : 0;
}

int ranks_command(struct process *p, int parsed, const struct model_options *o,
                  int (*here)(struct process *p, const void *options), const void *options)
{
    if (parsed)
        return parsed == OPTIONS_HELP ? 0 : parsed;
    int status = check(p, o);
    if (status)
        return status;
    return p->mpi && p->mpi->rank > 0 ? serve(p, o) : here(p, options);
}

int ranks_check_apart(const struct profile_command *o, const char *other)
{
    const char *const files[] = {o->json, o->trace, o->routing};
    enum { FILES = sizeof files / sizeof *files };
    int status = 0;
    for (int i = 0; i < FILES && !status; i++)
        status = outfile_check_apart(files[i], other);
    return status;
}

/* Can the files of a profile be written, each for itself? */
static int check_profile_files(const struct profile_command *o)
{
    const char *const files[] = {o->json, o->trace, o->routing};
    enum { FILES = sizeof files / sizeof *files };
    int status = 0;
    for (int i = 0; i < FILES && !status; i++) {
        for (int j = 0; j < i && !status; j++)
            status = outfile_check_apart(files[i], files[j]);
        if (!status)
            status = outfile_check(files[i]);
    }
    return status;
}

int ranks_open(struct ranks *r, const struct process *p, const struct model_options *o,
               const struct session_needs *needs)
{
    int n_local = o->ranks ? (int)o->ranks : 1;
    int threads = choose_threads(o, p->mpi ? p->local_size : n_local);
    struct transport *t = p->mpi;
    memset(r, 0, sizeof *r);
    log_verbose(o->verbose);
    int status = check_profile_files(&o->profile);
    if (!status)
        status = hub_resolve(&r->model_dir, o->model);
    if (status)
        return status;
    if (n_local > 1) {
        struct local_setup local = {r->model_dir, worker_device(o), threads};
        local_ranks_start(&r->local, n_local, timeout_ns(o), serve_local, &local, sizeof local);
        t = &r->local.ends[0];
    }
    if (p->mpi)
        p->mpi->timeout_ns = timeout_ns(o);
    r->options = options_of(r, o, needs);
    r->options.threads = threads;
    r->options.gpu = ranks_gpu(p->mpi ? p->local_rank : 0);
    r->options.nccl = choose_nccl(p, o, t);
    r->transport_name = !t ? "none" : r->options.nccl ? "nccl" : t->name;
    status = coordinator_open(&r->coordinator, &r->options, t);
    if (status) {
        local_ranks_join(&r->local);
        local_ranks_close(&r->local);
        free(r->model_dir);
    }
    return status;
}

int ranks_report_exchange(struct ranks *r)
{
    const struct exchange_options *x = &r->coordinator.options;
    const struct exchange_counters *moved = root_counters(r->coordinator.exchange[0]);
    double error;
    if (r->coordinator.transport)
        note("exchange: rows were away for %.1f ms exposed, %.1f ms hidden",
             (double)moved->exposed_ns * 1e-6, (double)moved->hidden_ns * 1e-6);
    if (x->wire == WIRE_MODEL)
        return 0;
    int status = coordinator_wire_error(&r->coordinator, &error);
    if (!status)
        fprintf(log_stream(), "wire %s: RMS error %.3g of the rows, %s travelled\n",
                exchange_words(x).wire, error,
                bytes_text((double)(moved->sent + moved->received)).text);
    return status;
}

int ranks_report_profile(struct ranks *r, const struct profile_command *o, FILE *table)
{
    const struct profile *p = r->coordinator.profile;
    int recorded = record_finish(r->coordinator.record); // one file is written at a time
    if (recorded || !p)
        return recorded;
    int status = coordinator_finish_profile(&r->coordinator);
    if (!status && o->table && table)
        profile_print(p, table);
    if (!status && o->json)
        status = profile_write_json(p, o->json);
    if (!status && o->trace)
        status = profile_write_trace(p, o->trace);
    return status;
}

/* Local workers must end before the coordinator is closed, as they read its memory. */
void ranks_close(struct ranks *r)
{
    if (r->local.ends)
        cluster_stop(&r->local.ends[0]);
    local_ranks_join(&r->local);
    coordinator_close(&r->coordinator);
    local_ranks_close(&r->local);
    free(r->model_dir);
}
