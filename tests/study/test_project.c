/* Projections of a case that is worked out by hand: its numbers are in the comments, by the
 * formulas of docs/measuring.md. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "study/project.h"
#include "tests/rig/cm.h"

/* One layer of four experts, two for a row of 64 bytes. A step of one row at position 4, to experts
 * 0 and 3; one of two rows from position 0 on, to 0 and 1, and to 0 and 2; and where there are
 * three steps another one of one row, to 0 and 1. */
enum { EXPERTS = 4, K = 2, HIDDEN = 32 };
static const uint8_t sparse[] = {1};
static const struct routing_head head = {.version = "test",
                                         .model = "test",
                                         .n_layers = 1,
                                         .n_experts = EXPERTS,
                                         .top_k = K,
                                         .hidden = HIDDEN,
                                         .dtype = DTYPE_BF16,
                                         .sparse = sparse};

static const struct costs prices = {{[COST_MESSAGE] = 1,
                                     [COST_LAP] = 10,
                                     [COST_OUT] = 0.001,
                                     [COST_BACK] = 0.01,
                                     [COST_NARROWED] = 0.1,
                                     [COST_AFTER_WORK] = 5,
                                     [COST_ROW] = 2,
                                     [COST_EXPERT] = 3,
                                     [COST_STEP] = 100,
                                     [COST_HOME_ROW] = 20,
                                     [COST_POSITION] = 0.5,
                                     [COST_OUTPUT] = 7}};

static void record(struct routing_file *f, int steps_wanted, struct arena *memory)
{
    static const int32_t tokens[2];
    static const uint8_t decode[] = {0, 3}, prefill[] = {0, 1, 0, 2}, more[] = {0, 1};
    const struct routing_run one = {0, 4, 1}, two = {1, 0, 2};
    const struct routing_step steps[] = {
        {1, 1, &one, tokens, decode}, {2, 1, &two, tokens, prefill}, {1, 1, &one, tokens, more}};
    struct routing_writer w;
    char path[64];
    snprintf(path, sizeof path, "/tmp/project-%ld", (long)getpid());
    assert_int_equal(routing_write_begin(&w, path, &head), 0);
    for (int i = 0; i < steps_wanted; i++)
        routing_write_step(&w, &head, &steps[i]);
    assert_int_equal(routing_write_end(&w), 0);
    assert_int_equal(routing_read(f, path, memory), 0);
    unlink(path);
}

struct testing {
    struct arena memory;
    struct routing_file file;
    struct fit fit;
    struct project_options o;
    struct project_report r;
};

static void open_testing_of(struct testing *t, int steps, int ranks, int coordinators)
{
    *t = (struct testing){0};
    record(&t->file, steps, &t->memory);
    t->fit.prices = prices;
    t->o = (struct project_options){.file = &t->file,
                                    .path = "test",
                                    .fit = &t->fit,
                                    .prices = prices,
                                    .n_counts = 1,
                                    .counts = {ranks},
                                    .coordinators = coordinators,
                                    .layers_share = 0.75,
                                    .placement = PROJECT_EVEN,
                                    .steps = 8};
    assert_int_equal(replay_layers(&t->o.layers, &t->file, "test"), 0);
}

static void open_testing(struct testing *t, int ranks, int coordinators)
{
    open_testing_of(t, 2, ranks, coordinators);
}

static const struct projection *run(struct testing *t, enum replay_kind kind)
{
    assert_int_equal(project_run(&t->r, &t->o), 0);
    assert_int_equal(t->r.n, t->o.n_counts * 2);
    return &t->r.list[kind];
}

static void close_testing(struct testing *t)
{
    project_free(&t->r);
    arena_free(&t->memory);
}

static void assert_near(double found, double expected)
{
    if (!(fabs(found - expected) < 1e-9 * (1 + fabs(expected))))
        fail_msg("expected %.12g, found %.12g", expected, found);
}

static const struct project_way *way_of(const struct projection *p, struct exchange_options o)
{
    for (int i = 0; i < p->n_ways; i++)
        if (memcmp(&p->ways[i].options, &o, sizeof o) == 0)
            return &p->ways[i];
    fail_msg("no such way");
    return NULL;
}

static void one_row(void **state)
{
    struct testing t;
    (void)state;
    open_testing(&t, 3, 1);
    const struct projection *p = run(&t, REPLAY_DECODE);
    const struct project_way *w = &p->ways[0]; // exact, dedup, rows, the model's wire
    assert_near(p->rows, 1);
    assert_near(p->alone, 129.5 + 2 * 2 + 2 * 3); // 100 + 20 + 5 positions + an output
    assert_near(w->home, 129.5);
    assert_near(w->experts, 2 + 3);     // each worker has one row of one expert
    assert_near(w->out, 2 * (32 + 64)); // a(16 + 4 * 2 + 4 * 1) and a row
    assert_near(w->back, 2 * 64);
    assert_near(w->messages_out + w->messages_back, 4);
    assert_near(w->exchange, 4 + 15 + 0.192 + 1.28); // messages, the lap, bytes
    assert_near(w->busiest_out, 192);
    w = way_of(p, (struct exchange_options){.wire = WIRE_INT8}); // rows of 4 + 32 bytes
    assert_near(w->out, 2 * (32 + 48));                          // rounded up to 16
    assert_near(w->back, 2 * 36);
    assert_near(w->exchange, 4 + 15 + 0.160 + 0.72 + 0.1 * (160 + 72));
    assert_int_equal(p->holders, 2);
    close_testing(&t);
}

static void two_rows(void **state)
{
    struct testing t;
    (void)state;
    open_testing(&t, 3, 1);
    const struct projection *p = run(&t, REPLAY_PREFILL);
    const struct project_way *w = &p->ways[0];
    assert_near(p->alone, 148.5 + 4 * 2 + 3 * 3); // 100 + 2 * 20 + (1 + 2) positions + an output
    assert_near(w->experts, 3 * 2 + 2 * 3);       // worker 1: three rows of experts 0 and 1
    assert_near(w->out, 48 + 2 * 64 + 32 + 64);   // a(16 + 8 + 12) and two rows; a(28) and one
    assert_near(w->back, 3 * 64 + 64);
    assert_near(w->exchange, 4 + 15 + 0.272 + 2.56);
    assert_near(project_exposed_exchange(w), w->exchange); // nothing hides it
    assert_near(project_exposed_experts(w), w->experts);
    assert_near(w->step, 148.5 + 12 + 21.832);
    const struct project_rank *one = &p->per_rank[1], *two = &p->per_rank[2];
    assert_near(one->rows, 3);
    assert_near(one->experts, 2);
    assert_near(one->seconds, 12);
    assert_near(two->rows, 1);
    assert_near(two->seconds, 5);
    assert_near(p->per_rank[0].rows, 0);
    // per_rank is of the best way
    assert_near(p->per_rank[0].sent, p->ways[p->best].out);
    assert_near(one->received + two->received, p->ways[p->best].out);
    assert_near(one->sent + two->sent, p->ways[p->best].back);
    for (int i = 0; i < p->n_ways; i++) {
        const struct exchange_options *o = &p->ways[i].options;
        assert_true(p->ways[i].step >= p->ways[p->best_of_all].step);
        assert_true(p->ways[i].step >= p->ways[p->best].step || o->wire != WIRE_MODEL ||
                    o->combine != COMBINE_ROWS);
    }
    assert_true(p->ways[p->best].options.wire == WIRE_MODEL);
    assert_true(p->ways[p->best].options.combine == COMBINE_ROWS);
    close_testing(&t);
}

/* Two coordinators have a row each of the step of two; of the other step one has the row. */
static void two_coordinators(void **state)
{
    struct testing t;
    (void)state;
    open_testing(&t, 4, 2);
    const struct projection *p = run(&t, REPLAY_PREFILL);
    const struct project_way *w = &p->ways[0];
    assert_int_equal(p->workers, 2);
    // coordinator 0 sends 96 and an empty message of 32, coordinator 1 twice 96
    assert_near(w->out, 128 + 192);
    assert_near(w->busiest_out, 192);
    assert_near(w->back, 128 + 128);
    assert_near(w->messages_out, 4);
    // worker 1 takes longest: 4 messages, 192 bytes in, 192 back
    assert_near(w->exchange, 4 + 15 + 0.192 + 1.92);
    assert_near(w->home, 100 + 20 + 2 * 0.5 + 7); // coordinator 1: the row that ends the prompt
    assert_near(w->experts, 12);                  // as with one: the same experts get the same rows
    p = &t.r.list[REPLAY_DECODE];
    assert_near(p->ways[0].exchange, 4 + 15 + 0.192 + 1.28);
    assert_near(p->ways[0].home, 129.5);
    close_testing(&t);
}

/* The step of two rows, a row in each half. A goes to experts 0 and 1, both worker 1's; B to 0 and
 * 2, one of each worker. The coordinator reads three quarters of its weights twice. */
static void two_halves(void **state)
{
    struct testing t;
    (void)state;
    open_testing(&t, 3, 1);
    const struct projection *p = run(&t, REPLAY_PREFILL);
    const struct project_way *w =
        way_of(p, (struct exchange_options){.overlap = OVERLAP_ON}); // exact, dedup, rows
    assert_int_equal(p->n_ways, 2 * t.r.list[REPLAY_DECODE].n_ways); // one row has no halves
    // once 25 + an output; A 75 + 20 + a position, B 75 + 20 + two
    assert_near(w->home, 32 + 95.5 + 96);
    assert_near(w->experts, (2 * 2 + 2 * 3) + (2 + 3));
    assert_near(w->out, (32 + 64 + 32) + 2 * (32 + 64)); // A: a(32), a row; a(24). B: a(28), a row
    assert_near(w->back, 128 + 128);
    assert_near(w->messages_out + w->messages_back, 4 + 4);
    assert_near(w->exchange, (4 + 15 + 0.128 + 1.28) + (4 + 15 + 0.192 + 1.28));
    // B leaves at 95.5 + 4 + 96 + 4, when A has long been back: 7.5 + 0.192 out, 5, 7.5 + 1.28 back
    assert_near(w->step, 32 + 199.5 + 7.692 + 5 + 8.78);
    assert_near(project_exposed_experts(w), 5);
    assert_near(project_exposed_exchange(w), 4 + 4 + 7.692 + 8.78);
    assert_near(w->step, w->home + project_exposed_experts(w) + project_exposed_exchange(w));
    assert_near(w->lap_bytes.least, 128 + 128);
    assert_near(w->lap_bytes.most, 192 + 128);
    assert_int_equal(p->ways[p->best].options.overlap, OVERLAP_OFF); // weights cost too much
    close_testing(&t);
}

/* The same step where only rows and what comes back cost anything. Whole: 2 x 20, then 3 x 2, then
 * 256 x 0.1. In halves A is back at 20 + 4 + 12.8, B at 40 + 2 + 12.8. */
static void halves_are_best(void **state)
{
    struct testing t;
    (void)state;
    open_testing(&t, 3, 1);
    t.o.prices = (struct costs){{[COST_HOME_ROW] = 20, [COST_ROW] = 2, [COST_BACK] = 0.1}};
    const struct projection *p = run(&t, REPLAY_PREFILL);
    const struct project_way *best = &p->ways[p->best];
    assert_near(p->ways[0].step, 40 + 6 + 25.6);
    assert_near(best->step, 54.8);
    assert_int_equal(best->options.overlap, OVERLAP_ON);
    assert_int_equal(best->options.strategy, STRATEGY_EXACT);
    assert_true(p->outside[OUTSIDE_OVERLAP]);
    assert_false(t.r.list[REPLAY_DECODE].outside[OUTSIDE_OVERLAP]);
    assert_near(p->per_rank[1].rows, 3); // per_rank is of the best way: expert 0 has rows in both
    assert_near(p->per_rank[1].experts, 3);
    assert_near(p->per_rank[1].seconds, 6);
    assert_near(p->per_rank[0].sent, best->out);
    project_free(&t.r);
    t.o.overlap = PROJECT_OVERLAP_OFF;
    p = run(&t, REPLAY_PREFILL);
    assert_near(p->ways[p->best].step, 71.6);
    assert_near(p->per_rank[1].experts, 2);
    close_testing(&t);
}

/* Only in halves: a step of one row, or of one row for each coordinator, goes whole all the same.
 */
static void one_row_goes_whole(void **state)
{
    struct testing t, whole;
    (void)state;
    open_testing(&t, 4, 2);
    open_testing(&whole, 4, 2);
    t.o.overlap = PROJECT_OVERLAP_ON;
    for (int kind = 0; kind < REPLAY_KINDS; kind++) {
        const struct projection *a = run(&t, (enum replay_kind)kind);
        const struct projection *b = run(&whole, (enum replay_kind)kind);
        assert_int_equal(a->n_ways, b->n_ways);
        for (int i = 0; i < a->n_ways; i++) {
            assert_int_equal(a->ways[i].options.overlap, OVERLAP_ON);
            assert_int_equal(b->ways[i].options.overlap, OVERLAP_OFF);
            assert_near(a->ways[i].step, b->ways[i].step);
        }
        assert_false(a->outside[OUTSIDE_OVERLAP]);
        project_free(&t.r);
        project_free(&whole.r);
    }
    close_testing(&t);
    close_testing(&whole);
}

/* Two ranks a node: rank 0 and worker 1 on one, worker 2 on the other. */
static void topology(void **state)
{
    const struct topology sheet = {.name = "test",
                                   .source = "test",
                                   .ranks_per_node = 2,
                                   .intra = {1, 100, 0.5},
                                   .inter = {10, 10, 0}};
    struct testing t;
    (void)state;
    open_testing(&t, 3, 1);
    t.o.topology = &sheet;
    const struct projection *p = run(&t, REPLAY_DECODE);
    assert_near(p->ways[0].exchange, (10 + 96 / 10.0) + (10 + 64 / 10.0)); // the slower link
    assert_near(p->ways[0].home, 129.5);
    int node[6];
    topology_nodes(node, &(struct topology){.ranks_per_node = 2}, 2, 4);
    const int expected[6] = {0, 1, 0, 1, 2, 2}; // coordinators 0 and 1 of three nodes
    assert_memory_equal(node, expected, sizeof node);
    // three messages to worker 1, of which all but the first cost 0.5, and one back
    const struct virtual_pair pairs[] = {
        {0}, {.out = 50, .messages_out = 3, .messages_back = 1}, {0}};
    const struct star star = {1, 2, pairs};
    const int here[3] = {0, 0, 1};
    struct lap_time lap = star_time_by_topology(&star, &sheet, here);
    assert_near(lap.out, 1 + 2 * 0.5 + 0.5);
    assert_near(lap.back, 1);
    assert_near(lap.hand, 0);
    close_testing(&t);
}

/* Weights of 2 bytes read at 4 bytes a second, 8 flops a second. */
static void device(void **state)
{
    const struct topology t = {.flops = 8, .read_bytes = 4, .has_device = true};
    const struct fit_model m = {.layers = 3,
                                .hidden = 5,
                                .dtype = DTYPE_BF16,
                                .expert_parameters = 40,
                                .home_parameters = 100,
                                .output_parameters = 60};
    const struct fit fit = {.prices = prices};
    struct costs p = project_prices(&fit, &t, &m);
    (void)state;
    assert_near(p.of[COST_EXPERT], 40 * 2 / 4.0);
    assert_near(p.of[COST_ROW], 40 * 2 / 8.0);
    assert_near(p.of[COST_STEP], 160 * 2 / 4.0);
    assert_near(p.of[COST_HOME_ROW], 100 * 2 / 8.0);
    assert_near(p.of[COST_OUTPUT], 60 * 2 / 8.0);
    assert_near(p.of[COST_POSITION], 2 * 3 * 5 * (2 / 4.0 + 2 / 8.0));
    assert_near(p.of[COST_MESSAGE], 1);
    assert_near(p.of[COST_AFTER_WORK], 0);
    assert_near(project_layers_share(&m), 100 / 160.0);
}

static void marks(void **state)
{
    const struct topology sheet = {.name = "test",
                                   .source = "test",
                                   .ranks_per_node = 2,
                                   .intra = {1, 100, 0},
                                   .inter = {10, 10, 0}};
    struct testing t;
    (void)state;
    open_testing(&t, 3, 1);
    t.fit.spans = (struct fit_spans){{2, 3}, {1, 2}, {192, 1e4}, {4, 4}, {0, 4}};
    const struct projection *p = run(&t, REPLAY_PREFILL);
    for (int i = 0; i < OUTSIDES; i++)
        assert_false(p->outside[i]);
    project_free(&t.r);
    t.fit.spans = (struct fit_spans){{2, 2}, {1, 1}, {1e3, 1e4}, {1, 3}, {0, 0}};
    p = run(&t, REPLAY_PREFILL);
    for (int i = 0; i < OUTSIDE_OVERLAP; i++)
        assert_true(p->outside[i]);
    assert_false(p->outside[OUTSIDE_OVERLAP]); // whole steps are best here
    p = &t.r.list[REPLAY_DECODE];
    assert_false(p->outside[OUTSIDE_ROWS]);
    project_free(&t.r);
    t.o.topology = &sheet; // its wire is not extrapolated from the fit
    p = run(&t, REPLAY_PREFILL);
    for (int i = 0; i < OUTSIDES; i++)
        assert_int_equal(p->outside[i], i == OUTSIDE_ROWS || i == OUTSIDE_POSITIONS);
    close_testing(&t);
}

/* Two steps of one row: means, and the least and the most of their laps. The later one needs worker
 * 1 alone: a(16 + 8 + 8) and a row to it, a(16 + 8) to worker 2, two rows back. */
static void mean_of_steps(void **state)
{
    struct testing t;
    (void)state;
    open_testing_of(&t, 3, 3, 1);
    const struct projection *p = run(&t, REPLAY_DECODE);
    const struct project_way *w = &p->ways[0];
    assert_near(w->out, (192 + 128) / 2.0);
    assert_near(w->back, 128);
    assert_near(w->lap_bytes.least, 128 + 128);
    assert_near(w->lap_bytes.most, 192 + 128);
    assert_near(w->lap_messages.most, 4);
    assert_near(w->experts, (5 + 10) / 2.0);
    assert_int_equal(t.r.taken[REPLAY_DECODE], 2);
    project_free(&t.r);
    t.o.steps = 1; // at even distances: the first of two
    p = run(&t, REPLAY_DECODE);
    assert_int_equal(t.r.taken[REPLAY_DECODE], 1);
    assert_near(p->ways[0].out, 192);
    close_testing(&t);
}

/* Experts that are really run: each rank's time is what the runner says of its rows alone. */
static int calls;
static double runner(void *of, int i, const struct traffic *t, const bool *wanted)
{
    double rows = 0;
    (void)of;
    assert_int_equal(i, 0);
    for (int pair = 0; pair < t->n * t->k; pair++)
        rows += wanted[t->expert[pair]];
    calls++;
    return 1000 * rows;
}

static void experts_are_run(void **state)
{
    const struct expert_runner run_here = {NULL, runner};
    struct testing t;
    (void)state;
    open_testing(&t, 3, 1);
    t.o.runner = &run_here;
    const struct projection *p = run(&t, REPLAY_PREFILL);
    assert_near(p->ways[0].experts, 3000);
    assert_near(p->per_rank[2].seconds, 1000);
    assert_near(p->alone, 148.5 + 4000);
    assert_true(calls > 0);
    close_testing(&t);
}

/* More workers than experts: some hold none, and are sent a message all the same. */
static void many_ranks(void **state)
{
    struct testing t;
    (void)state;
    open_testing(&t, 1024, 1);
    t.o.placement = PROJECT_BEST;
    const struct projection *p = run(&t, REPLAY_DECODE);
    assert_int_equal(p->holders, EXPERTS);
    assert_near(p->ways[0].messages_out, 1023);
    assert_near(p->ways[0].out, 2 * (32 + 64) + 2 * 32 + 1019 * 16); // a(16 + 4), and a(16)
    close_testing(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(one_row),
                                       cmocka_unit_test(two_rows),
                                       cmocka_unit_test(two_coordinators),
                                       cmocka_unit_test(two_halves),
                                       cmocka_unit_test(halves_are_best),
                                       cmocka_unit_test(one_row_goes_whole),
                                       cmocka_unit_test(topology),
                                       cmocka_unit_test(device),
                                       cmocka_unit_test(marks),
                                       cmocka_unit_test(mean_of_steps),
                                       cmocka_unit_test(experts_are_run),
                                       cmocka_unit_test(many_ranks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
