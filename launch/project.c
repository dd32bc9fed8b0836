/* epmoe project: what other numbers of ranks would give, from recorded routing. */
#include "study/project.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "launch/launch.h"
#include "launch/rank_counts.h"
#include "launch/ranks.h"
#include "study/expert_run.h"
#include "study/model_shape.h"

struct project_command {
    struct project_options options;
    const char *counts, *matrix;
    struct model_options model; // its model: NULL without
    long coordinators, steps;
    int placement, overlap, experts, format;
    struct arena memory;
    struct routing_file file;
    struct fit fit;
    struct topology topology;
    struct fit_model shape; // of the fit, or of the model
};

static const char notes[] =
    "Counts are made by the exchange itself; the time of the wire is modelled, and the report "
    "says\n"
    "from what. docs/projection.md has every column, docs/measuring.md the formulas.";

static int parse(struct project_command *c, int argc, char **argv)
{
    struct project_options *o = &c->options;
    struct command_spec spec = {
        "project",
        "Predict steps of other numbers of ranks from recorded routing.",
        "--routing ROUTING (--fit FIT | --topology FILE -m MODEL) [--ranks 8..1024] [options]",
        NULL,
        NULL,
        notes};
    struct option_spec table[] = {
        {"routing", 0, OPTION_TEXT, &o->path, "ROUTING",
         "what --record-routing of run, batch or bench has written", 0, 0, NULL},
        {"fit", 0, OPTION_TEXT, &o->fit_path, "FIT", "what epmoe calibrate has written", 0, 0,
         NULL},
        {"topology", 0, OPTION_TEXT, &o->topology_path, "FILE",
         "a machine by its datasheet, for the wire and, if it says so, for computing", 0, 0, NULL},
        {"model", 'm', OPTION_TEXT, &c->model.model, "MODEL",
         "the recorded model: for --experts run, or beside a topology without a fit", 0, 0, NULL},
        {"ranks", 0, OPTION_TEXT, &c->counts, "LIST",
         "ranks: 8,64,1024, or 8..1024 for 8, 16, 32 and so on (8..1024)", 0, 0, NULL},
        {"coordinators", 0, OPTION_INT, &c->coordinators, "M",
         "of the ranks, those with attention, which share the rows of a step (1)", 1, 256, NULL},
        {"placement", 0, OPTION_CHOICE, &c->placement, "best|even|round-robin|computed",
         "of experts over the others; computed: as epmoe place does from ROUTING (best)", 0, 0,
         NULL},
        {"overlap", 0, OPTION_CHOICE, &c->overlap, "best|off|on",
         "whole steps, or in two halves that take turns; best: both, and what is faster (best)", 0,
         0, NULL},
        {"experts", 0, OPTION_CHOICE, &c->experts, "price|run",
         "experts by their prices, or their rows run here, rank by rank (price)", 0, 0, NULL},
        {"steps", 0, OPTION_INT, &c->steps, "N",
         "steps of each kind that are counted, at even distances (32)", 1, 1 << 20, NULL},
        {"threads", 't', OPTION_INT, &c->model.threads, "N", "threads of --experts run (1)", 1,
         1024, NULL},
        {"device", 0, OPTION_CHOICE, &c->model.device, "cpu|cuda",
         "what --experts run computes with", 0, 0, NULL},
        {"emit-matrix", 0, OPTION_TEXT, &c->matrix, "FILE",
         "write the bytes from rank to rank of the last row's best way, for nccl-tests", 0, 0,
         NULL},
        {"output", 'o', OPTION_CHOICE, &c->format, "text|json|csv", "form of the report (text)", 0,
         0, NULL},
        {0}};
    return options_parse(&spec, table, argc, argv);
}

/* ---- what is given ---- */

static bool needs_model(const struct project_command *c)
{
    return c->experts || !c->options.fit_path;
}

static int check(struct project_command *c)
{
    const struct project_options *o = &c->options;
    if (!o->path)
        return fail(STATUS_USAGE, "project: expected --routing ROUTING, found none");
    if (!o->fit_path && !o->topology_path)
        return fail(STATUS_USAGE, "project: expected --fit FIT, of epmoe calibrate, or --topology "
                                  "FILE with -m MODEL, found neither");
    if (needs_model(c) && !c->model.model)
        return fail(STATUS_USAGE, "project: expected -m MODEL with %s, found none",
                    c->experts ? "--experts run" : "--topology and no --fit");
    const char *const read[] = {o->path, o->fit_path, o->topology_path};
    int status = outfile_check(c->matrix);
    for (size_t i = 0; i < sizeof read / sizeof *read && !status; i++)
        status = outfile_check_apart(c->matrix, read[i]);
    return status;
}

static int check_model(const struct project_command *c, const struct fit_model *m, const char *file)
{
    const struct routing_head *h = &c->file.head;
    if (m->digest == h->digest && m->layers == h->n_layers && m->experts == h->n_experts &&
        m->top_k == h->top_k && m->hidden == h->hidden && m->sparse_layers == c->file.n_sparse &&
        m->dtype == h->dtype)
        return 0;
    return fail(STATUS_BAD_FILE,
                "%s: expected the model that %s was recorded of, %.60s in %s, found another, %.60s "
                "in %s",
                file, c->options.path, h->model, dtype_name(h->dtype), m->name,
                dtype_name(m->dtype));
}

static int take_routing(struct project_command *c)
{
    struct project_options *o = &c->options;
    int status = routing_read(&c->file, o->path, &c->memory);
    return status ? status : replay_layers(&o->layers, &c->file, o->path);
}

static int take_fit(struct project_command *c)
{
    struct project_options *o = &c->options;
    if (!o->fit_path)
        return 0;
    int status = fit_read(&c->fit, o->fit_path, &c->memory);
    if (!status && !c->fit.has_model)
        status = fail(STATUS_BAD_FILE,
                      "%s: model: expected an object, found null: epmoe calibrate -m MODEL also "
                      "measures a model's steps",
                      o->fit_path);
    if (!status)
        status = check_model(c, &c->fit.model, o->fit_path);
    o->fit = &c->fit;
    c->shape = c->fit.model;
    return status;
}

static int take_topology(struct project_command *c)
{
    struct project_options *o = &c->options;
    if (!o->topology_path)
        return 0;
    int status = topology_read(&c->topology, o->topology_path, &c->memory);
    o->topology = &c->topology;
    if (!status && !c->topology.has_device && !o->fit)
        status = fail(STATUS_BAD_FILE,
                      "%s: device: expected an object, or --fit FIT to take computing from, found "
                      "neither",
                      o->topology_path);
    return status;
}

static int take_model(struct project_command *c)
{
    struct fit_model found = {0};
    struct config unused;
    if (!needs_model(c))
        return 0;
    int status = model_shape_read(&found, &unused, c->model.model, &c->memory);
    found.dtype = c->file.head.dtype; // which --dtype may have changed
    if (!status)
        status = check_model(c, &found, c->model.model);
    c->model.dtype = 1 + (int)found.dtype;
    if (!c->options.fit)
        c->shape = found;
    return status;
}

static int take_counts(struct project_command *c)
{
    struct project_options *o = &c->options;
    return parse_rank_counts(o->counts, &o->n_counts, PROJECT_MAX_COUNTS, c->counts,
                             "project: --ranks", c->coordinators + 1, PROJECT_MAX_RANKS);
}

static int settle(struct project_command *c)
{
    static int (*const steps[])(struct project_command *) = {check,    take_counts,   take_routing,
                                                             take_fit, take_topology, take_model};
    struct project_options *o = &c->options;
    int status = 0;
    o->file = &c->file;
    o->coordinators = (int)c->coordinators;
    o->steps = (int)c->steps;
    o->placement = (enum project_placement)c->placement;
    o->overlap = (enum project_overlap)c->overlap;
    for (size_t i = 0; i < sizeof steps / sizeof *steps && !status; i++)
        status = steps[i](c);
    if (!status) {
        o->prices = project_prices(o->fit, o->topology, &c->shape);
        o->layers_share = project_layers_share(&c->shape);
    }
    return status;
}

/* ---- a run ---- */

static int run(struct project_command *c)
{
    struct project_report report;
    int status = project_run(&report, &c->options);
    if (!status && c->matrix)
        status = project_write_matrix(&report, &c->options, c->matrix);
    if (!status)
        project_print(&report, &c->options, (enum alltoall_format)c->format, stdout);
    project_free(&report);
    return status;
}

static int run_with_experts(struct process *p, const void *command)
{
    struct project_command *c = (struct project_command *)(uintptr_t)command;
    struct session_needs needs = {1, 1, 1};
    struct ranks ranks;
    c->model.chunk = c->file.most_rows;
    int status = ranks_open(&ranks, p, &c->model, &needs);
    if (status)
        return status;
    struct expert_run run_here;
    expert_run_open(&run_here, &ranks.coordinator, c->file.most_rows);
    c->options.runner = &run_here.runner;
    status = run(c);
    ranks_close(&ranks);
    return status;
}

int command_project(struct process *p, int argc, char **argv)
{
    static struct project_command c;
    c = (struct project_command){
        .counts = "8..1024", .coordinators = 1, .steps = 32, .model = model_options_default()};
    c.model.threads = 1;
    int status = parse(&c, argc, argv);
    if (status)
        return status == OPTIONS_HELP ? 0 : status;
    status = settle(&c);
    if (!status)
        status = c.experts ? ranks_command(p, 0, &c.model, run_with_experts, &c) : run(&c);
    arena_free(&c.memory);
    return status;
}
