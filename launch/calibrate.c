/* epmoe calibrate: what messages, bytes, rows and experts cost on the ranks at hand. */
#include "study/calibrate.h"

#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "coordinator/cluster.h"
#include "launch/launch.h"
#include "launch/local_ranks.h"
#include "launch/rank_counts.h"
#include "launch/ranks.h"
#include "study/model_shape.h"
#include "study/roof.h"
#include "worker/answers.h"

enum { MOST_COUNTS = 16, LAPS_HIDDEN = 2048, LAPS_TOP_K = 4, LAPS_EXPERTS = 60 };

struct calibrate_command {
    struct calibrate_options options;
    struct model_options model; // its model: NULL without
    const char *counts, *out, *fit;
    long rows, repetitions;
    bool check;
    int n_counts, rank_counts[MOST_COUNTS];
    struct arena memory;
    struct fit given; // of --fit
};

static const char notes[] =
    "Measures laps of an exchange by themselves, steps of rank 0 alone and of its experts, and\n"
    "steps of all ranks, everything twice in turn; a third of the settings is kept from the fit.\n"
    "With several numbers of ranks one fit serves all. docs/projection.md, docs/measuring.md.";

static int parse(struct calibrate_command *c, int argc, char **argv)
{
    struct command_spec spec = {"calibrate",
                                "Fit what messages, bytes, rows and experts cost on these ranks.",
                                "[-m MODEL] [--ranks 5] [--check] [-o FIT]",
                                NULL,
                                NULL,
                                notes};
    struct option_spec table[] = {
        {"model", 'm', OPTION_TEXT, &c->model.model, "MODEL",
         "also measure its steps: rank 0 must have room for all of it", 0, 0, NULL},
        {"ranks", 0, OPTION_TEXT, &c->counts, "LIST",
         "ranks as threads of this process, e.g. 5 or 2,3,5", 0, 0, NULL},
        {"output", 'o', OPTION_TEXT, &c->out, "FIT", "write the fit, for epmoe project", 0, 0,
         NULL},
        {"check", 0, OPTION_FLAG, &c->check, NULL,
         "also measure steps by every way, and print each that the fit has not seen", 0, 0, NULL},
        {"fit", 0, OPTION_TEXT, &c->fit, "FIT",
         "fit nothing: compare what FIT predicts with what is measured", 0, 0, NULL},
        {"rows", 0, OPTION_INT, &c->rows, "N", "rows of the largest lap and step (128)", 1, 2048,
         NULL},
        {"repeats", 'r', OPTION_INT, &c->repetitions, "N", "repetitions of a setting in a turn (7)",
         1, 1000, NULL},
        {"threads", 't', OPTION_INT, &c->model.threads, "N", "threads of each rank (1)", 1, 1024,
         NULL},
        {"timeout", 0, OPTION_REAL, &c->model.timeout_s, "S",
         "seconds without progress until a rank counts as lost (30)", 0.1, 86400, NULL},
        {0}};
    return options_parse(&spec, table, argc, argv);
}

/* ---- what is given ---- */

static int take_counts(struct calibrate_command *c, const struct process *p)
{
    if (p->mpi && c->counts)
        return fail(STATUS_USAGE, "calibrate: --ranks %s: under mpirun, -n sets the ranks",
                    c->counts);
    if (p->mpi) {
        c->n_counts = 1;
        c->rank_counts[0] = p->mpi->size;
        return c->rank_counts[0] > 1 ? 0
                                     : fail(STATUS_USAGE, "calibrate: expected 2 ranks or more, "
                                                          "found 1: alone nothing travels");
    }
    return parse_rank_counts(c->rank_counts, &c->n_counts, MOST_COUNTS, c->counts ? c->counts : "5",
                             "calibrate: --ranks", 2, 256);
}

/* The shape of laps: the model's, or that of Qwen1.5-MoE. */
static int take_shape(struct calibrate_command *c)
{
    struct calibrate_options *o = &c->options;
    struct config m;
    if (!c->model.model) {
        o->shape = (struct fit_model){.name = "",
                                      .hidden = LAPS_HIDDEN,
                                      .top_k = LAPS_TOP_K,
                                      .experts = LAPS_EXPERTS,
                                      .dtype = DTYPE_BF16};
        return 0;
    }
    int status = model_shape_read(&o->shape, &m, c->model.model, &c->memory);
    if (!status && m.n_experts == 0)
        status = fail(STATUS_USAGE, "calibrate: expected a model with experts, found none in %s",
                      c->model.model);
    o->has_model = true;
    o->context = status ? 0 : m.max_positions;
    return status;
}

static int take_fit(struct calibrate_command *c)
{
    const struct fit_model *m = &c->given.model, *own = &c->options.shape;
    if (!c->fit)
        return 0;
    int status = fit_read(&c->given, c->fit, &c->memory);
    if (!status && (!c->given.has_model || m->digest != own->digest))
        status = fail(STATUS_BAD_FILE, "%s: expected a fit of %s, found %s", c->fit, own->name,
                      c->given.has_model ? "one of another model" : "one without a model");
    return status;
}

static int settle(struct calibrate_command *c, const struct process *p)
{
    bool writes = !p->mpi || p->mpi->rank == 0;
    c->options.most_rows = (int)c->rows;
    c->options.repetitions = (int)c->repetitions;
    c->options.all_ways = c->check;
    if ((c->check || c->fit) && !c->model.model)
        return fail(STATUS_USAGE, "calibrate: %s: expected -m MODEL, found none",
                    c->check ? "--check" : "--fit");
    if (c->fit && c->out)
        return fail(STATUS_USAGE,
                    "calibrate: --fit: expected no -o, found both: nothing is fitted");
    int status = take_counts(c, p);
    if (!status)
        status = take_shape(c);
    if (!status && writes)
        status = take_fit(c);
    return status || !writes ? status : outfile_check(c->out);
}

/* ---- the ranks ---- */

/* How many of n ranks can compute at the same time. Where a rank is bound to cores, each has its
 * own. Other hosts are taken to be like this one. */
static int ranks_at_once(const struct calibrate_command *c, const struct process *p, int n)
{
    int here = p->mpi ? transport_ranks_here(p->mpi) : n;
    int room = usable_cores() / (int)c->model.threads;
    bool bound = p->mpi && usable_cores() < (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (bound || room >= here)
        return n;
    int all = (room > 1 ? room : 1) * n / here;
    return all > 1 ? all : 1;
}

static int hosts_of(const struct process *p)
{
    int n = 0;
    for (int rank = 0; p->mpi && rank < p->mpi->size; rank++) {
        int first = 0;
        while (strcmp(p->mpi->hosts[first], p->mpi->hosts[rank]) != 0)
            first++;
        n += first == rank;
    }
    return n > 0 ? n : 1;
}

static int64_t timeout_ns(const struct calibrate_command *c)
{
    return (int64_t)(c->model.timeout_s * 1e9);
}

static int serve_laps(struct transport *end, const void *given)
{
    return calibrate_serve_laps(end, given);
}

static int laps(struct calibration *c, const struct calibrate_command *o, const struct process *p,
                int n)
{
    int at_once = ranks_at_once(o, p, n);
    if (p->mpi) {
        int failed = calibrate_laps(c, p->mpi, &o->options, at_once);
        if (o->options.has_model) // workers go on as workers of the model
            cluster_stop(p->mpi);
        return failed;
    }
    struct local_ranks local = {0};
    local_ranks_start(&local, n, timeout_ns(o), serve_laps, &o->options, sizeof o->options);
    int status = calibrate_laps(c, local.ends, &o->options, at_once);
    cluster_stop(local.ends);
    local_ranks_join(&local);
    local_ranks_close(&local);
    return status;
}

/* ---- the model ---- */

static struct model_options model_of(const struct calibrate_command *o)
{
    struct model_options m = o->model;
    m.placement = (struct placement_spec){.text = "even"};
    m.overlap = OVERLAP_OFF;
    m.chunk = o->options.most_rows;
    return m;
}

static struct session_needs needs_of(const struct calibration *c)
{
    int sequences = calibrate_sequences(c);
    return (struct session_needs){sequences, sequences, calibrate_context(c)};
}

/* Rank 0 by itself, also under mpirun: then the others wait for a setup meanwhile. */
static int alone(struct calibration *c, const struct calibrate_command *o)
{
    struct process single = {.local_size = 1};
    struct model_options m = model_of(o);
    struct session_needs needs = needs_of(c);
    struct ranks ranks;
    const char *beside = o->out ? o->out : "epmoe-calibrate";
    size_t room = strlen(beside) + 64;
    char *path = arena_alloc(&c->memory, room);
    snprintf(path, room, "%s.routing-%ld", beside, (long)getpid());
    m.profile.routing = path;
    int status = ranks_open(&ranks, &single, &m, &needs);
    if (status)
        return status;
    status = calibrate_alone(c, &ranks.coordinator, &o->options, path);
    unlink(path);
    ranks_close(&ranks);
    return status;
}

static int steps(struct calibration *c, const struct calibrate_command *o, const struct process *p,
                 int n)
{
    struct model_options m = model_of(o);
    struct session_needs needs = needs_of(c);
    struct ranks ranks;
    m.ranks = p->mpi ? 0 : n;
    int status = ranks_open(&ranks, p, &m, &needs);
    if (status)
        return status;
    status =
        calibrate_steps(c, &ranks.coordinator, &ranks.options, &o->options, ranks_at_once(o, p, n));
    ranks_close(&ranks);
    return status;
}

/* ---- the fit ---- */

static struct fit make_fit(struct calibration *c, const struct calibrate_command *o,
                           const struct process *p, char *cpu)
{
    int most = 0;
    for (int i = 0; i < o->n_counts; i++)
        most = o->rank_counts[i] > most ? o->rank_counts[i] : most;
    struct fit f = {.version = o->options.version,
                    .processor = cpu,
                    .isa = isa_name(c->isa),
                    .transport = p->mpi ? p->mpi->name : "local",
                    .cores = usable_cores(),
                    .hosts = hosts_of(p),
                    .ranks = most,
                    .threads = (int)o->model.threads,
                    .ranks_at_once = ranks_at_once(o, p, most),
                    .has_model = o->options.has_model,
                    .model = o->options.shape,
                    .spans = fit_spans_of(c->settings, c->n)};
    if (o->fit) {
        f.prices = o->given.prices;
        for (int i = 0; i < c->n; i++)
            c->settings[i].held_out = true;
        cost_predict(c->settings, c->n, &f.prices);
    } else
        cost_fit(&f.prices, c->settings, c->n);
    f.good = goodness_of(c->settings, c->n);
    return f;
}

static int report(struct calibration *c, const struct calibrate_command *o, const struct process *p)
{
    char cpu[96];
    cpu_name(cpu, sizeof cpu);
    struct fit f = make_fit(c, o, p, cpu);
    int status = o->out ? fit_write(&f, c->settings, c->n, o->out) : 0;
    if (!status)
        calibrate_print(&f, c, o->check, !o->fit, stdout);
    return status;
}

static int measure(struct calibration *c, const struct calibrate_command *o, struct process *p)
{
    int status = 0;
    if (o->options.has_model)
        status = alone(c, o);
    for (int i = 0; i < o->n_counts && !status && o->options.has_model; i++)
        status = steps(c, o, p, o->rank_counts[i]);
    return status ? status : report(c, o, p);
}

/* Rank 0, after the laps. */
static struct calibration calibration;

static int measure_here(struct process *p, const void *command)
{
    return measure(&calibration, command, p);
}

/* Under mpirun the others serve laps, then the model. */
static int run(struct calibrate_command *c, struct process *p)
{
    int status = 0;
    if (p->mpi)
        p->mpi->timeout_ns = timeout_ns(c);
    if (p->mpi && p->mpi->rank > 0)
        status = calibrate_serve_laps(p->mpi, &c->options);
    for (int i = 0; i < c->n_counts && !status && (!p->mpi || p->mpi->rank == 0); i++)
        status = laps(&calibration, c, p, c->rank_counts[i]);
    if (p->mpi && p->mpi->rank > 0 && status)
        return status == STATUS_LOST_RANK ? status : 0;
    if (!status && c->options.has_model)
        return ranks_command(p, 0, &c->model, measure_here, c);
    return status || (p->mpi && p->mpi->rank > 0) ? status : report(&calibration, c, p);
}

/* An error may be one rank's alone, such as a file that one host lacks; the other ranks then wait
 * for it, so whoever has an error tells them. */
static void refuse(struct calibrate_command *c, struct process *p, int status)
{
    if (p->mpi->rank > 0) {
        answers_give_up(p->mpi, status, &c->memory);
        return;
    }
    calibrate_no_laps(p->mpi);
    if (c->model.model) // they wait once more: for the model
        cluster_stop(p->mpi);
}

int command_calibrate(struct process *p, int argc, char **argv)
{
    static struct calibrate_command c;
    c = (struct calibrate_command){.options = {.version = program_version()},
                                   .rows = 128,
                                   .repetitions = 7,
                                   .model = model_options_default()};
    c.model.threads = 1;
    int status = parse(&c, argc, argv);
    if (status)
        return status == OPTIONS_HELP ? 0 : status;
    status = settle(&c, p);
    calibration_open(&calibration, &c.options);
    if (!status)
        status = run(&c, p);
    else if (p->mpi)
        refuse(&c, p, status);
    calibration_close(&calibration);
    arena_free(&c.memory);
    return status;
}
