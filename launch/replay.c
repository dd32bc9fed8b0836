/* epmoe replay: recorded routing by every way that rows can travel, without the model. */
#include "study/replay.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "coordinator/cluster.h"
#include "launch/launch.h"
#include "launch/local_ranks.h"
#include "launch/ranks.h"
#include "model/checkpoint.h"
#include "model/hub.h"
#include "worker/answers.h"
#include "worker/serve.h"

struct replay_command {
    struct replay_options options;
    struct placement_spec placement;
    struct arena memory;
    struct routing_file file;
    struct placement placed;
    struct model_options model; // of the errors; its model: NULL without
    long ranks, iterations;
    int format;
    double timeout_s;
    struct replay_report report;
    struct wire_errors errors;
};

static int parse(struct replay_command *c, int argc, char **argv)
{
    struct command_spec spec = {
        "replay",
        "Compare all ways that rows can travel on the traffic of recorded routing.",
        "FILE [--ranks 5] [options]",
        "FILE",
        &c->options.path,
        "FILE is what --record-routing of run, batch or bench has written. Experts compute "
        "nothing:\n"
        "the times are those of the exchange alone. docs/study.md."};
    struct option_spec table[] = {
        {"model", 'm', OPTION_TEXT, &c->model.model, "MODEL",
         "the recorded model: also tell what each narrower wire does to its logits", 0, 0, NULL},
        {"threads", 't', OPTION_INT, &c->model.threads, "N",
         "with -m: threads of each rank (0: cores over ranks on this host)", 0, 1024, NULL},
        {"ranks", 0, OPTION_INT, &c->ranks, "N",
         "ranks as threads of this process: one coordinator, N-1 workers", 1, 1024, NULL},
        {"placement", 0, OPTION_TEXT, &c->placement.text, "even|round-robin|FILE",
         "which rank holds which expert (even); docs/placement.md", 0, 0, NULL},
        {"home", 0, OPTION_INT, &c->placement.home, "N",
         "experts of each layer that stay on rank 0 (0)", 0, MAX_EXPERTS, &c->placement.home_given},
        {"iters", 'n', OPTION_INT, &c->iterations, "N", "times that the file is timed (3)", 1, 1000,
         NULL},
        {"check", 'c', OPTION_FLAG, &c->options.check, NULL,
         "compare all that arrives, before any time is taken", 0, 0, NULL},
        {"timeout", 0, OPTION_REAL, &c->timeout_s, "S",
         "seconds without progress until a rank counts as lost (30)", 0.1, 86400, NULL},
        {"output", 'o', OPTION_CHOICE, &c->format, "text|json|csv", "form of the report (text)", 0,
         0, NULL},
        {0}};
    return options_parse(&spec, table, argc, argv);
}

/* The recording must be of this model: of its checkpoint. */
static int check_model(const struct replay_command *c)
{
    struct checkpoint *checkpoint = NULL;
    uint64_t digest = 0;
    char *dir;
    int status = hub_resolve(&dir, c->model.model);
    if (status)
        return status;
    status = checkpoint_open(&checkpoint, dir);
    if (!status)
        status = checkpoint_digest(checkpoint, &digest);
    if (!status && digest != c->file.head.digest)
        status = fail(STATUS_BAD_FILE,
                      "%s: expected a recording of %s (digest %016llx), found one of %s (%016llx)",
                      c->options.path, c->model.model, (unsigned long long)digest,
                      c->file.head.model, (unsigned long long)c->file.head.digest);
    checkpoint_close(checkpoint);
    free(dir);
    return status;
}

static void set_model(struct replay_command *c)
{
    c->model.dtype = 1 + (int)c->file.head.dtype;
    c->model.placement = c->placement;
    c->model.overlap = OVERLAP_OFF;
    c->model.chunk = c->file.most_rows;
    c->model.ranks = c->ranks;
    c->model.timeout_s = c->timeout_s;
}

static int settle(struct replay_command *c, const struct process *p)
{
    c->options.file = &c->file;
    c->options.iterations = (int)c->iterations;
    c->options.placed = c->placement.text;
    c->options.placement = &c->placed;
    if (p->mpi && c->ranks)
        return fail(STATUS_USAGE, "--ranks %ld: under mpirun, -n sets the ranks", c->ranks);
    if (placement_is_balanced(&c->placement))
        return fail(STATUS_USAGE, "--placement balanced: expected even, round-robin or a file: "
                                  "epmoe place makes one from recorded routing");
    if (c->model.model && (p->mpi ? p->mpi->size : c->ranks) < 2)
        return fail(STATUS_USAGE, "replay: -m: expected 2 ranks or more, found 1: alone nothing "
                                  "travels");
    int status = routing_read(&c->file, c->options.path, &c->memory);
    if (!status)
        status = replay_layers(&c->options.layers, &c->file, c->options.path);
    if (status || !c->model.model)
        return status;
    set_model(c);
    return p->mpi && p->mpi->rank ? 0 : check_model(c);
}

static int coordinate(struct replay_command *c, struct transport *t)
{
    int status =
        placement_build(&c->placed, &c->memory, &c->options.layers, t->size, &c->placement);
    return status ? status : replay_coordinate(&c->report, t, &c->options);
}

static int serve(struct transport *end, const void *given)
{
    return replay_serve(end, given);
}

static int run_local(struct replay_command *c, int n, int64_t timeout_ns)
{
    struct local_ranks local = {0};
    local_ranks_start(&local, n, timeout_ns, serve, &c->options, sizeof c->options);
    int status = coordinate(c, local.ends);
    cluster_stop(local.ends);
    local_ranks_join(&local);
    local_ranks_close(&local);
    return status;
}

/* ---- the errors of the model's logits ---- */

static int measure_errors(struct process *p, const void *command)
{
    struct replay_command *c = (struct replay_command *)(uintptr_t)command;
    struct ranks ranks;
    int runs = 1;
    for (int i = 0; i < c->file.n_steps; i++)
        runs = c->file.steps[i].n_runs > runs ? c->file.steps[i].n_runs : runs;
    struct session_needs needs = {c->file.sequences, runs, c->file.positions};
    int status = ranks_open(&ranks, p, &c->model, &needs);
    if (status)
        return status;
    status = wire_errors_measure(&c->errors, &ranks.coordinator, &ranks.options, &c->file,
                                 c->options.path);
    ranks_close(&ranks);
    return status;
}

/* ---- a run ---- */

/* Under mpirun the workers serve the replay until they are told to stop, then the model. */
static int run_mpi(struct replay_command *c, struct process *p)
{
    int status = p->mpi->rank ? replay_serve(p->mpi, &c->options) : coordinate(c, p->mpi);
    if (p->mpi->rank)
        return status == STATUS_LOST_RANK ? status : 0;
    if (c->model.model)
        cluster_stop(p->mpi);
    return status;
}

static int run(struct replay_command *c, struct process *p)
{
    int64_t timeout_ns = (int64_t)(c->timeout_s * 1e9);
    int status = 0;
    if (p->mpi) {
        p->mpi->timeout_ns = timeout_ns;
        status = run_mpi(c, p);
    } else
        status = run_local(c, c->ranks ? (int)c->ranks : 1, timeout_ns);
    if (!status && c->model.model)
        status = ranks_command(p, 0, &c->model, measure_errors, c);
    if (!status && (!p->mpi || p->mpi->rank == 0))
        replay_print(&c->report, &c->options, c->model.model ? &c->errors : NULL,
                     (enum alltoall_format)c->format, stdout);
    return status;
}

int command_replay(struct process *p, int argc, char **argv)
{
    static struct replay_command c;
    c = (struct replay_command){.options = {.version = program_version()},
                                .placement = {.text = "even"},
                                .iterations = 3,
                                .model = model_options_default(),
                                .timeout_s = model_options_default().timeout_s};
    int status = parse(&c, argc, argv);
    if (status)
        return status == OPTIONS_HELP ? 0 : status;
    status = settle(&c, p);
    if (!status)
        status = run(&c, p);
    else if (p->mpi && p->mpi->rank > 0) // rank 0 may have none, if the file is missing here only
        answers_give_up(p->mpi, status, &c.memory);
    else if (p->mpi && c.model.model) // workers wait twice: for the replay, and for the model
        cluster_stop(p->mpi);
    arena_free(&c.memory);
    return status;
}
