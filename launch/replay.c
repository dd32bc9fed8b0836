/* epmoe replay: recorded routing by every way that rows can travel, without the model. */
#include "study/replay.h"

#include <string.h>

#include "base/log.h"
#include "coordinator/cluster.h"
#include "launch/launch.h"
#include "launch/local_ranks.h"
#include "worker/answers.h"

struct replay_command {
    struct replay_options options;
    struct placement_spec placement;
    struct arena memory;
    struct routing_file file;
    struct placement placed;
    long ranks, iterations;
    int format;
    double timeout_s;
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
    int status = routing_read(&c->file, c->options.path, &c->memory);
    return status ? status : replay_layers(&c->options.layers, &c->file, c->options.path);
}

static int coordinate(struct replay_command *c, struct transport *t)
{
    static struct replay_report report;
    int status =
        placement_build(&c->placed, &c->memory, &c->options.layers, t->size, &c->placement);
    if (!status)
        status = replay_coordinate(&report, t, &c->options);
    if (!status)
        replay_print(&report, &c->options, t, (enum alltoall_format)c->format, stdout);
    return status;
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

static int run(struct replay_command *c, const struct process *p)
{
    int64_t timeout_ns = (int64_t)(c->timeout_s * 1e9);
    if (!p->mpi)
        return run_local(c, c->ranks ? (int)c->ranks : 1, timeout_ns);
    p->mpi->timeout_ns = timeout_ns;
    if (p->mpi->rank == 0)
        return coordinate(c, p->mpi);
    return replay_serve(p->mpi, &c->options) == STATUS_LOST_RANK ? STATUS_LOST_RANK : 0;
}

int command_replay(struct process *p, int argc, char **argv)
{
    struct replay_command c = {.options = {.version = program_version()},
                               .placement = {.text = "even"},
                               .iterations = 3,
                               .timeout_s = model_options_default().timeout_s};
    int status = parse(&c, argc, argv);
    if (status)
        return status == OPTIONS_HELP ? 0 : status;
    status = settle(&c, p);
    if (!status)
        status = run(&c, p);
    else if (p->mpi && p->mpi->rank > 0) // rank 0 may have none, if the file is missing here only
        answers_give_up(p->mpi, status, &c.memory);
    arena_free(&c.memory);
    return status;
}
