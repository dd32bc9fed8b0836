/* Gated feed-forward blocks: the two products of each, for many runs of rows. */
#include "base/check.h"
#include "kernels/cpu/work.h"

static char *row_at(const struct product *p, int row, int column)
{
    return (char *)p->y + ((size_t)row * p->ldy + (size_t)column) * (size_t)dtype_bytes(p->y_type);
}

/* y := silu(gate) * up. Panels of c alternate: 16 columns of gate, then 16 of up. The matrices of
 * an ffn have no bias. */
static void finish_swiglu(const struct cpu_isa *isa, const struct product *p, float *c, int row,
                          int rows, int panel, int panels)
{
    for (int r = 0; r < rows; r++, c += panels * PANEL)
        for (int i = 0; i < panels; i += 2)
            isa->swiglu(row_at(p, row + r, (panel + i) / 2 * PANEL), p->y_type, c + i * PANEL,
                        c + (i + 1) * PANEL, PANEL);
}

/* y := c as rows: rounded to y_type, and zero from the last column to the stride. */
static void finish_rows(const struct cpu_isa *isa, const struct product *p, float *c, int row,
                        int rows, int panel, int panels)
{
    int n = panels * PANEL, pad = 0;
    if (panel + panels == panel_count(p->w->n))
        pad = (int)p->ldy - (panel + panels) * PANEL;
    for (int r = 0; r < rows; r++, c += panels * PANEL) {
        write_out(isa, p, row_at(p, row + r, panel * PANEL), c, n);
        if (pad)
            memset(row_at(p, row + r, panel * PANEL + n), 0,
                   (size_t)(pad * dtype_bytes(p->y_type)));
    }
}

struct ffn_call {
    const struct ffn_run *runs;
    const char *x;
    char *y, *hidden;
    enum dtype y_type;
    bool much;                    // see struct product
    size_t hidden_stride;         // elements from one hidden row to the next
    struct quant_rows read, made; // inputs and hidden rows, of blocks that are quantised; else none
};

static struct product gate_up_product(const struct list *l, int i)
{
    const struct ffn_call *c = l->of;
    const struct ffn_run *run = &c->runs[i];
    const struct matrix *m = &run->ffn->gate_up;
    size_t at = (size_t)run->first * c->hidden_stride * (size_t)dtype_bytes(m->type);
    return (struct product){.w = m,
                            .x = c->x + (size_t)run->x_first * matrix_input_bytes(m),
                            .rows = run->rows,
                            .finish = finish_swiglu,
                            .y = c->hidden + at,
                            .ldy = (size_t)row_stride(run->ffn->down.k),
                            .y_type = m->type};
}

static struct product down_product(const struct list *l, int i)
{
    const struct ffn_call *c = l->of;
    const struct ffn_run *run = &c->runs[i];
    const struct matrix *m = &run->ffn->down;
    const char *hidden = m->quant ? c->made.to : c->hidden;
    return (struct product){.w = m,
                            .x = hidden + (size_t)run->first * matrix_input_bytes(m),
                            .rows = run->rows,
                            .finish = finish_rows,
                            .y = c->y + (size_t)run->first * row_bytes(c->y_type, m->n),
                            .ldy = (size_t)row_stride(m->n),
                            .y_type = c->y_type,
                            .much = c->much};
}

/* Make a run for each block that has rows. Returns the number of runs; *rows := the rows of y. */
static int find_runs(struct ffn_run *runs, const struct ffn_job *job, int *rows)
{
    int n = 0;
    *rows = 0;
    for (int i = 0; i < job->list->n; i++) {
        int own = job->count ? job->count[i] : job->n;
        if (own > 0)
            runs[n++] = (struct ffn_run){&job->list->ffns[i], job->count ? *rows : 0, *rows, own};
        *rows += own;
    }
    return n;
}

/* Set the rows that a job reads: to be quantised if its weights are, else gathered if it has an
 * index. */
static void call_read(struct dev *d, struct ffn_call *c, const struct ffn_job *job,
                      struct room *room, int rows)
{
    const struct matrix *m = &job->list->ffns->gate_up;
    size_t bytes = row_bytes(m->type, m->k);
    if (m->quant) {
        c->read = quant_rows_of(d, room, m, job->x, rows);
        c->read.source = job->source;
        c->x = c->read.to;
    } else if (job->source) {
        char *gathered = take_scratch(d, room, rows, bytes);
        cpu_gather(d, gathered, job->x, job->source, rows, bytes);
        c->x = gathered;
    }
}

/* Prepare *c for a job. Returns the number of its runs; if that is 0, *c is not set. */
static int call_open(struct dev *d, struct ffn_call *c, const struct ffn_job *job,
                     struct room *room)
{
    const struct ffn *one = job->list->ffns;
    int rows, n_runs;
    CHECK(room->runs + job->list->n <= d->runs + d->n_runs, "%d blocks, reserved for %d",
          job->list->n, d->n_runs);
    n_runs = find_runs(room->runs, job, &rows);
    if (n_runs == 0)
        return 0;
    *c = (struct ffn_call){.runs = room->runs,
                           .x = job->x,
                           .y = job->y,
                           .y_type = job->y_type,
                           .much = is_much(rows, row_bytes(job->y_type, one->down.n)),
                           .hidden_stride = (size_t)row_stride(one->down.k)};
    room->runs += n_runs;
    call_read(d, c, job, room, job->count ? rows : job->n);
    c->hidden = take_scratch(d, room, rows, row_bytes(one->down.type, one->down.k));
    if (one->down.quant)
        c->made = quant_rows_of(d, room, &one->down, c->hidden, rows);
    return n_runs;
}

/* Called by each thread of the team. All calls of one run_ffn() have quantised weights, or none
 * has. */
static void ffn_phases(struct ffn_call *calls, struct work *gate_up, struct work *down)
{
    bool quantised = calls->read.rows > 0;
    for (int i = 0; i < gate_up->n_lists && quantised; i++)
        quant_rows_run(&calls[i].read);
    if (quantised) {
#pragma omp barrier
    }
    work_run(gate_up);
#pragma omp barrier
    for (int i = 0; i < gate_up->n_lists && quantised; i++)
        quant_rows_run(&calls[i].made);
    if (quantised) {
#pragma omp barrier
    }
    work_run(down);
}

/* At most MOST_LISTS jobs by one team. */
static void run_jobs(struct dev *d, const struct ffn_job *jobs, int n_jobs)
{
    struct ffn_call calls[MOST_LISTS];
    struct work gate_up = {.isa = d->cpu}, down = {.isa = d->cpu};
    struct room room = {d->scratch, d->runs};
    double cost = 0;
    for (int i = 0; i < n_jobs; i++) {
        struct ffn_call *call = &calls[gate_up.n_lists];
        int n = call_open(d, call, &jobs[i], &room);
        if (n == 0)
            continue;
        struct list *lists[2] = {&gate_up.lists[gate_up.n_lists++], &down.lists[down.n_lists++]};
        *lists[0] = (struct list){gate_up_product, call, n, 0};
        *lists[1] = (struct list){down_product, call, n, 0};
        cost += list_cost(lists[0]) + list_cost(lists[1]);
    }
    if (gate_up.n_lists == 0)
        return;
    int threads = team_size(d, cost);
    work_open(&gate_up, threads);
    work_open(&down, threads);
#pragma omp parallel num_threads(threads) if (threads > 1)
    ffn_phases(calls, &gate_up, &down);
}

void cpu_ffn(struct dev *d, const struct ffn_job *jobs, int n_jobs)
{
    for (int i = 0; i < n_jobs; i += MOST_LISTS)
        run_jobs(d, jobs + i, n_jobs - i < MOST_LISTS ? n_jobs - i : MOST_LISTS);
}
