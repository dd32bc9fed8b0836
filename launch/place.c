/* epmoe place: a placement of experts computed from recorded routing, and what it is worth. */
#include "study/place.h"

#include "base/file.h"
#include "base/log.h"
#include "launch/launch.h"
#include "study/place_print.h"
#include "study/replay.h"

struct place_command {
    const char *from, *on, *out;
    long ranks, home, replicas;
    int goal, format;
};

static const char goals[] = "both|decode|prefill";

static int parse(struct place_command *c, int argc, char **argv)
{
    struct command_spec spec = {
        "place",
        "Compute a placement of the experts from recorded routing.",
        "--from ROUTING --ranks 5 [-o PLACEMENT] [options]",
        NULL,
        NULL,
        "ROUTING is what --record-routing of run, batch or bench has written; PLACEMENT is for\n"
        "--placement of all commands. The table compares it with an even one. docs/study.md."};
    struct option_spec table[] = {
        {"from", 0, OPTION_TEXT, &c->from, "ROUTING", "the recorded routing", 0, 0, NULL},
        {"on", 0, OPTION_TEXT, &c->on, "ROUTING",
         "compare the placements on another recording of the model (that of --from)", 0, 0, NULL},
        {"ranks", 0, OPTION_INT, &c->ranks, "N", "one coordinator, N-1 workers", 1, 1024, NULL},
        {"home", 0, OPTION_INT, &c->home, "N", "experts of each layer that stay on rank 0 (0)", 0,
         MAX_EXPERTS, NULL},
        {"replicas", 0, OPTION_INT, &c->replicas, "N",
         "further copies of hot experts in each layer, at most (0)", 0, MAX_GROUPS - MAX_EXPERTS,
         NULL},
        {"goal", 0, OPTION_CHOICE, &c->goal, goals,
         "what to even out: activated experts in decode, rows in prefill (both)", 0, 0, NULL},
        {"output", 'o', OPTION_TEXT, &c->out, "PLACEMENT", "write the placement", 0, 0, NULL},
        {"report", 0, OPTION_CHOICE, &c->format, "text|json",
         "form of the report (text); json also has heat and pairs of experts", 0, 0, NULL},
        {0}};
    return options_parse(&spec, table, argc, argv);
}

static int check(const struct place_command *c)
{
    if (!c->from)
        return fail(STATUS_USAGE, "place: expected --from ROUTING, found none");
    if (!c->ranks)
        return fail(STATUS_USAGE, "place: expected --ranks N, found none");
    int status = outfile_check_apart(c->out, c->from);
    if (!status)
        status = outfile_check_apart(c->out, c->on);
    return status ? status : outfile_check(c->out);
}

struct recordings {
    struct routing_file from, on;
};

static int read_recordings(struct recordings *r, const struct place_command *c,
                           struct arena *memory)
{
    const struct routing_head *a = &r->from.head, *b = &r->on.head;
    int status = routing_read(&r->from, c->from, memory);
    if (status || !c->on) {
        r->on = r->from;
        return status;
    }
    status = routing_read(&r->on, c->on, memory);
    if (!status && (a->digest != b->digest || a->n_layers != b->n_layers ||
                    a->n_experts != b->n_experts || r->on.n_sparse != r->from.n_sparse))
        status = fail(STATUS_BAD_FILE, "%s: expected a recording of the model of %s, found another",
                      c->on, c->from);
    return status;
}

static void report(const struct place_command *c, const struct routing_file *on,
                   const struct placement *even, const struct placement *placed,
                   const struct placement *copied, struct arena *memory)
{
    static const char *const names[] = {"both", "decode", "prefill"};
    struct place_report r = {.file = on,
                             .path = c->from,
                             .on = c->on ? c->on : c->from,
                             .out = c->out,
                             .goal = names[c->goal],
                             .n_ranks = (int)c->ranks,
                             .home = c->home,
                             .replicas = c->replicas,
                             .n_copies = copied->n_copies,
                             .placement = copied};
    balance_stats_make(&r.even, on, even, memory);
    balance_stats_make(&r.placed, on, placed, memory);
    if (c->replicas)
        balance_stats_make(&r.copied, on, copied, memory);
    place_print(&r, c->format == 1, stdout);
}

static int place(const struct place_command *c, const struct recordings *r, struct arena *memory)
{
    struct placement_spec spec = {.text = "even", .home = c->home};
    struct placement even, placed, copied;
    struct config layers;
    struct place_wish wish = {(int)c->ranks, c->home, 0, (enum place_goal)c->goal};
    int ranks = (int)c->ranks;
    int status = replay_layers(&layers, &r->from, c->from);
    if (!status)
        status = placement_build(&even, memory, &layers, ranks, &spec);
    if (!status)
        status = place_by_routing(&placed, memory, &r->from, &layers, &wish);
    wish.copies = (int)c->replicas;
    if (!status)
        status = place_by_routing(&copied, memory, &r->from, &layers, &wish);
    if (!status && c->out)
        status = place_write(&copied, c->out);
    if (!status)
        report(c, &r->on, &even, &placed, &copied, memory);
    return status;
}

int command_place(struct process *p, int argc, char **argv)
{
    struct place_command c = {0};
    struct arena memory = {0};
    struct recordings recordings;
    (void)p;
    int status = parse(&c, argc, argv);
    if (status)
        return status == OPTIONS_HELP ? 0 : status;
    status = check(&c);
    if (!status)
        status = read_recordings(&recordings, &c, &memory);
    if (!status)
        status = place(&c, &recordings, &memory);
    arena_free(&memory);
    return status;
}
