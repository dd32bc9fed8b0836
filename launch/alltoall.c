/* epmoe alltoall: the all-to-all of a layer by itself, without a model. */
#include "study/alltoall.h"

#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/units.h"
#include "coordinator/cluster.h"
#include "launch/launch.h"
#include "launch/lists.h"
#include "launch/ranks.h"
#include "study/alltoall_state.h"
#include "study/byte_matrix.h"
#include "study/matrix_bench.h"
#include "worker/answers.h"

struct alltoall_command {
    struct alltoall_options options;
    const char *tokens, *least, *most, *emit;
    struct placement_spec placement;
    long hidden, top_k, experts, ranks, warmup, iterations, seed;
    int dtype, strategy, dedup, combine, wire, format, transport;
    double factor, timeout_s;
    const char *matrix;
    bool sizes_given, routed_given; // -b, -e, -f; any option that has to do with routing
    struct matrix_options matrix_options;
    struct arena memory;
    struct placement placed;
};

static const char notes[] =
    "A size is the bytes of a step's rows: -b, -e and -f list sizes, cut down to whole rows, and\n"
    "--tokens gives the rows themselves. A lap takes rows to the ranks of their experts and "
    "results\n"
    "back. The table begins with what was run; docs/measuring.md derives its columns.";

enum { SIZE_OPTIONS = 7, ROW_OPTIONS = 12, RUN_OPTIONS = 6 };

static void size_options(struct option_spec *table, struct alltoall_command *o)
{
    const struct option_spec own[SIZE_OPTIONS] = {
        {"minbytes", 'b', OPTION_TEXT, &o->least, "SIZE", "smallest size, e.g. 8 or 1M (4K)", 0, 0,
         &o->sizes_given},
        {"maxbytes", 'e', OPTION_TEXT, &o->most, "SIZE", "largest size (4M)", 0, 0,
         &o->sizes_given},
        {"stepfactor", 'f', OPTION_REAL, &o->factor, "F", "from one size to the next (2)", 1.01,
         1e6, &o->sizes_given},
        {"tokens", 0, OPTION_TEXT, &o->tokens, "LIST", "instead of sizes: rows, e.g. 1,128", 0, 0,
         &o->routed_given},
        {"warmup", 'w', OPTION_INT, &o->warmup, "N", "laps before any is timed (5)", 0, 1 << 20,
         NULL},
        {"iters", 'n', OPTION_INT, &o->iterations, "N", "laps that are timed (20)", 1, 1 << 20,
         NULL},
        {"check", 'c', OPTION_FLAG, &o->options.check, NULL,
         "compare all that arrives, in a lap of its own", 0, 0, NULL},
    };
    memcpy(table, own, sizeof own);
}

static void row_options(struct option_spec *table, struct alltoall_command *o)
{
    const struct option_spec own[ROW_OPTIONS] = {
        {"hidden", 0, OPTION_INT, &o->hidden, "N", "values of a row (2048)", 1, 1 << 20,
         &o->routed_given},
        {"dtype", 0, OPTION_CHOICE, &o->dtype, "bf16|f16|f32", "type of the rows (bf16)", 0, 0,
         &o->routed_given},
        {"top-k", 0, OPTION_INT, &o->top_k, "N", "experts of a row (4)", 1, 64, &o->routed_given},
        {"experts", 0, OPTION_INT, &o->experts, "N", "experts in all (60)", 1, MAX_EXPERTS,
         &o->routed_given},
        {"skew", 0, OPTION_TEXT, &o->options.skew, "uniform|zipf:S|FILE",
         "how often each expert is wanted (uniform); FILE: a JSON list of weights", 0, 0,
         &o->routed_given},
        {"seed", 0, OPTION_INT, &o->seed, "S", "same seed, same routing (0)", 0, 0x1p53,
         &o->routed_given},
        {"placement", 0, OPTION_TEXT, &o->placement.text, "even|round-robin|FILE",
         "which rank holds which expert (even); docs/placement.md", 0, 0, &o->routed_given},
        {"home", 0, OPTION_INT, &o->placement.home, "N", "experts that stay on rank 0 (0)", 0,
         MAX_EXPERTS, &o->placement.home_given},
        {"strategy", 0, OPTION_CHOICE, &o->strategy, "exact|padded|allgather",
         "how rows travel, as of epmoe run", 0, 0, &o->routed_given},
        {"dedup", 0, OPTION_CHOICE, &o->dedup, "on|off",
         "a row travels once to each rank, not once to each expert (on)", 0, 0, &o->routed_given},
        {"combine", 0, OPTION_CHOICE, &o->combine, "rows|sum",
         "what comes back: each expert's row, or each worker's sum", 0, 0, &o->routed_given},
        {"wire", 0, OPTION_CHOICE, &o->wire, "model|bf16|int8", "type of the rows that travel", 0,
         0, &o->routed_given},
    };
    memcpy(table, own, sizeof own);
}

static void run_options(struct option_spec *table, struct alltoall_command *o)
{
    const struct option_spec own[RUN_OPTIONS] = {
        {"ranks", 0, OPTION_INT, &o->ranks, "N",
         "ranks as threads of this process: one coordinator, N-1 workers", 1, 1024, NULL},
        {"transport", 0, OPTION_CHOICE, &o->transport, "auto|local|mpi|nccl",
         "what moves rows: this process, MPI under mpirun (auto), or from GPU to GPU NCCL", 0, 0,
         NULL},
        {"matrix", 0, OPTION_TEXT, &o->matrix, "FILE",
         "instead of routed rows: bytes from rank to rank, as nccl-tests' alltoallv_perf reads "
         "them",
         0, 0, NULL},
        {"emit-matrix", 0, OPTION_TEXT, &o->emit, "FILE",
         "write the bytes from rank to rank of the largest size's lap, for nccl-tests", 0, 0,
         &o->routed_given},
        {"timeout", 0, OPTION_REAL, &o->timeout_s, "S",
         "seconds without progress until a rank counts as lost (30)", 0.1, 86400, NULL},
        {"output", 'o', OPTION_CHOICE, &o->format, "text|json|csv", "form of the report (text)", 0,
         0, NULL},
    };
    memcpy(table, own, sizeof own);
}

static int options_of(struct alltoall_command *o, int argc, char **argv)
{
    struct command_spec spec = {
        "alltoall",
        "Measure dispatch, combine and round trip of a layer's exchange, without a model.",
        "[--ranks 5] [-b 8 -e 64M -f 2 | --tokens 1,128] [options]",
        NULL,
        NULL,
        notes};
    struct option_spec table[SIZE_OPTIONS + ROW_OPTIONS + RUN_OPTIONS + 1] = {{0}};
    size_options(table, o);
    row_options(table + SIZE_OPTIONS, o);
    run_options(table + SIZE_OPTIONS + ROW_OPTIONS, o);
    return options_parse(&spec, table, argc, argv);
}

/* ---- sizes ---- */

static int add_rows(struct alltoall_options *o, uint64_t rows)
{
    if (rows > CONTROL_MAX_ROWS)
        return fail(STATUS_USAGE, "alltoall: expected up to %d rows, found %llu", CONTROL_MAX_ROWS,
                    (unsigned long long)rows);
    if (o->n_sizes && rows <= (uint64_t)o->rows[o->n_sizes - 1])
        return 0; // cut down to whole rows it is one that is there
    if (o->n_sizes == ALLTOALL_MAX_SIZES)
        return fail(STATUS_USAGE,
                    "alltoall: expected up to %d sizes, found more; a larger -f has "
                    "fewer",
                    ALLTOALL_MAX_SIZES);
    o->rows[o->n_sizes++] = (int)rows;
    return 0;
}

/* A size of less than a row counts as one row. */
static int list_sizes(struct alltoall_command *c)
{
    struct alltoall_options *o = &c->options;
    uint64_t row = wire_row_bytes(WIRE_MODEL, o->type, o->hidden), least, most;
    int status = parse_memory("-b", c->least, &least);
    if (!status)
        status = parse_memory("-e", c->most, &most);
    if (!status && least > most)
        status = fail(STATUS_USAGE, "alltoall: expected -b up to -e, found %s and %s", c->least,
                      c->most);
    for (double size = (double)least; !status && size <= (double)most; size *= c->factor)
        status = add_rows(o, (uint64_t)size < row ? 1 : (uint64_t)size / row);
    return status;
}

static int list_tokens(struct alltoall_command *c)
{
    struct alltoall_options *o = &c->options;
    if (c->sizes_given)
        return fail(STATUS_USAGE, "alltoall: expected --tokens or -b, -e and -f, found both");
    int status = parse_list(o->rows, &o->n_sizes, ALLTOALL_MAX_SIZES, c->tokens,
                            "alltoall: --tokens", 1, CONTROL_MAX_ROWS);
    for (int i = 1; i < o->n_sizes && !status; i++)
        if (o->rows[i] <= o->rows[i - 1])
            status = fail(STATUS_USAGE, "alltoall: --tokens: expected ascending numbers, found %s",
                          c->tokens);
    return status;
}

/* ---- what goes together ---- */

static int check(const struct alltoall_command *c, const struct process *p)
{
    if (c->top_k > c->experts)
        return fail(STATUS_USAGE, "alltoall: expected --top-k up to --experts, found %ld of %ld",
                    c->top_k, c->experts);
    if (p->mpi && c->ranks)
        return fail(STATUS_USAGE, "--ranks %ld: under mpirun, -n sets the ranks", c->ranks);
    if (c->matrix && c->options.nccl)
        return fail(STATUS_USAGE,
                    "--matrix %s: expected --transport local or mpi, found nccl: its "
                    "bytes are in the hosts' memory",
                    c->matrix);
    if (c->matrix && (c->routed_given || c->sizes_given || c->placement.home_given))
        return fail(STATUS_USAGE,
                    "--matrix %s: expected no option of routed rows beside it, as it "
                    "says who sends what to whom",
                    c->matrix);
    if (placement_is_balanced(&c->placement))
        return fail(STATUS_USAGE, "--placement balanced: expected even, round-robin or a file: "
                                  "without a model there is nothing to balance");
    struct model_options as = model_options_default();
    as.transport = c->transport;
    as.ranks = c->ranks;
    as.device = c->options.nccl ? DEVICE_CUDA : DEVICE_CPU;
    return ranks_check_transport(p, &as);
}

static int n_ranks(const struct alltoall_command *c, const struct process *p)
{
    return p->mpi ? p->mpi->size : c->ranks ? (int)c->ranks : 1;
}

static int check_room(int ranks, uint64_t need, const char *advice)
{
    uint64_t room = memory_available();
    if (need <= room)
        return 0;
    return fail(STATUS_USAGE, "alltoall: %d ranks here take about %s, found %s free: %s", ranks,
                bytes_text((double)need).text, bytes_text((double)room).text, advice);
}

static int check_memory(const struct alltoall_command *c, const struct process *p)
{
    int all = n_ranks(c, p), here = p->mpi ? p->local_size : all;
    bool first = !p->mpi || p->mpi->rank == 0;
    uint64_t need = (first ? alltoall_bytes(&c->options, false) : 0) +
                    (uint64_t)(here - first) * alltoall_bytes(&c->options, true);
    return check_room(here, need, "give a smaller -e");
}

static int take_matrix(struct alltoall_command *c, const struct process *p)
{
    int ranks = n_ranks(c, p);
    struct matrix_options *m = &c->matrix_options;
    *m = (struct matrix_options){.file = c->matrix,
                                 .warmup = (int)c->warmup,
                                 .iterations = (int)c->iterations,
                                 .check = c->options.check,
                                 .version = c->options.version};
    int status = byte_matrix_read(&m->matrix, c->matrix, ranks);
    if (status)
        return status;
    // under mpirun each rank asks for itself alone: it does not know which ranks share its host
    uint64_t need = matrix_memory(&m->matrix, p->mpi ? p->mpi->rank : 0, p->mpi ? 1 : m->matrix.n);
    return check_room(p->mpi ? 1 : ranks, need, "give a matrix of fewer bytes");
}

/* Without a matrix: which tokens go to which experts, and whether there is memory for them. */
static int settle_traffic(struct alltoall_command *c, const struct process *p)
{
    struct alltoall_options *o = &c->options;
    double *weights = NULL;
    int status = exchange_choose_wire(&o->exchange, o->type);
    if (!status)
        status = c->tokens ? list_tokens(c) : list_sizes(c);
    if (!status)
        status = skew_parse(&weights, o->skew, o->experts, o->top_k, &c->memory);
    o->weights = weights;
    if (!status)
        status = check_memory(c, p);
    bool writes = !p->mpi || p->mpi->rank == 0;
    return status || !writes ? status : outfile_check(c->emit);
}

static int settle(struct alltoall_command *c, const struct process *p)
{
    static const enum dtype types[] = {DTYPE_BF16, DTYPE_F16, DTYPE_F32};
    struct alltoall_options *o = &c->options;
    o->hidden = (int)c->hidden;
    o->top_k = (int)c->top_k;
    o->experts = (int)c->experts;
    o->type = types[c->dtype];
    o->warmup = (int)c->warmup;
    o->iterations = (int)c->iterations;
    o->seed = (uint64_t)c->seed;
    o->nccl = c->transport == TRANSPORT_NCCL;
    o->exchange = (struct exchange_options){.strategy = (enum strategy)c->strategy,
                                            .combine = (enum combine)c->combine,
                                            .dedup = (enum dedup)c->dedup,
                                            .wire = (enum wire)c->wire};
    int status = check(c, p);
    if (status)
        return status;
    return c->matrix ? take_matrix(c, p) : settle_traffic(c, p);
}

/* ---- running ---- */

static int64_t timeout_ns(const struct alltoall_command *c)
{
    return (int64_t)(c->timeout_s * 1e9);
}

static int place(struct alltoall_command *c, int ranks)
{
    struct config one = alltoall_layer(&c->options);
    c->options.placement = &c->placed;
    c->options.placed = c->placement.text;
    return placement_build(&c->placed, &c->memory, &one, ranks, &c->placement);
}

/* What one lap has moved, as rank 0 has counted it: no two workers exchange anything. */
static int emit(const struct alltoall_report *r, const char *path)
{
    const struct alltoall_size *s = &r->size[r->n_sizes - 1];
    struct byte_matrix m = {.n = r->n_ranks};
    struct arena memory = {0};
    m.bytes = arena_alloc(&memory, (size_t)m.n * (size_t)m.n * sizeof *m.bytes);
    for (int rank = 0; rank < m.n; rank++) {
        m.bytes[rank] = s->with[rank].sent;
        m.bytes[rank * m.n] = s->with[rank].received;
    }
    int status = byte_matrix_write(&m, path);
    arena_free(&memory);
    return status;
}

static int coordinate_routed(struct alltoall_command *c, struct transport *t)
{
    static struct alltoall_report report;
    int status = alltoall_coordinate(&report, t, &c->options);
    if (!status)
        alltoall_print(&report, &c->options, t, (enum alltoall_format)c->format, stdout);
    if (!status && c->emit)
        status = emit(&report, c->emit);
    alltoall_report_free(&report);
    return status;
}

static int coordinate_matrix(struct alltoall_command *c, struct transport *t)
{
    struct matrix_report report;
    int status = matrix_coordinate(&report, t, &c->matrix_options);
    if (!status)
        matrix_print(&report, &c->matrix_options, t, (enum alltoall_format)c->format, stdout);
    arena_free(&report.memory);
    return status;
}

static int gpu_of(const struct alltoall_command *c, int rank_here)
{
    return c->options.nccl ? ranks_gpu(rank_here) : 0;
}

/* Ranks other than 0. */
static int serve(struct transport *end, const struct alltoall_command *c, int rank_here)
{
    struct alltoall_options own = c->options;
    own.gpu = gpu_of(c, rank_here);
    return c->matrix ? matrix_serve(end, &c->matrix_options) : alltoall_serve(end, &own);
}

static int serve_local(struct transport *end, const void *given)
{
    return serve(end, given, end->rank);
}

static int coordinate(struct alltoall_command *c, struct transport *t)
{
    if (c->matrix)
        return coordinate_matrix(c, t);
    int status = place(c, t->size);
    return status ? status : coordinate_routed(c, t);
}

/* Rank 0, and all others as threads. */
static int run_local(struct alltoall_command *c, int n)
{
    struct local_ranks local = {0};
    local_ranks_start(&local, n, timeout_ns(c), serve_local, c, sizeof *c);
    int status = coordinate(c, local.ends);
    cluster_stop(local.ends);
    local_ranks_join(&local);
    local_ranks_close(&local);
    return status;
}

static int run(struct alltoall_command *c, struct process *p)
{
    c->options.gpu = gpu_of(c, p->mpi ? p->local_rank : 0);
    if (!p->mpi)
        return run_local(c, n_ranks(c, p));
    p->mpi->timeout_ns = timeout_ns(c);
    if (p->mpi->rank == 0)
        return coordinate(c, p->mpi);
    return serve(p->mpi, c, p->local_rank) == STATUS_LOST_RANK ? STATUS_LOST_RANK : 0;
}

int command_alltoall(struct process *p, int argc, char **argv)
{
    struct alltoall_command c = {.options = {.skew = "uniform", .version = program_version()},
                                 .least = "4K",
                                 .most = "4M",
                                 .factor = 2,
                                 .placement = {.text = "even"},
                                 .hidden = 2048,
                                 .top_k = 4,
                                 .experts = 60,
                                 .warmup = 5,
                                 .iterations = 20,
                                 .timeout_s = model_options_default().timeout_s};
    int status = options_of(&c, argc, argv);
    if (status)
        return status == OPTIONS_HELP ? 0 : status;
    status = settle(&c, p);
    if (!status)
        status = run(&c, p);
    else if (p->mpi && p->mpi->rank > 0) // rank 0 may have none, if a file is missing here only
        answers_give_up(p->mpi, status, &c.memory);
    byte_matrix_free(&c.matrix_options.matrix);
    arena_free(&c.memory);
    return status;
}
