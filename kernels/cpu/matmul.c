/* Products with packed matrices: single products, and the two of an ffn for many runs of rows.
 *
 * Work is divided into items of GROUP panels times some rows. Threads take items in order, one at a
 * time. So one thread reads a group's weights from memory, and they stay in its cache while it goes
 * through the rows. What follows the sums (bias, adding, SwiGLU, rounding) is done block by block
 * while they are in L1. No result depends on which thread takes which item. */
#include <limits.h>

#include "base/check.h"
#include "base/pulse.h"
#include "kernels/cpu/cpu.h"

/* y := finish(x w^T) */
struct product {
    const struct matrix *w;
    const char *x; // rows of row_stride(w->k) elements
    int rows;
    void (*finish)(const struct cpu_isa *isa, const struct product *p, const float *c, int row,
                   int rows, int panel, int panels);
    void *y;
    size_t ldy; // in elements of y_type
    enum dtype y_type;
};

/* y := c + bias, or y += c + bias if add, for the w->n columns that the matrix has. */
static inline void finish_f32(const struct product *p, const float *c, int row, int rows, int panel,
                              int panels, bool add)
{
    int first = panel * PANEL, left = p->w->n - first;
    int columns = left < panels * PANEL ? left : panels * PANEL;
    const float *bias = p->w->bias ? p->w->bias + first : NULL;
    for (int r = 0; r < rows; r++, c += GROUP_COLUMNS) {
        float *y = (float *)p->y + (size_t)(row + r) * p->ldy + first;
        for (int i = 0; i < columns; i++) {
            float sum = bias ? c[i] + bias[i] : c[i];
            y[i] = add ? y[i] + sum : sum;
        }
    }
}

static void finish_set(const struct cpu_isa *isa, const struct product *p, const float *c, int row,
                       int rows, int panel, int panels)
{
    (void)isa;
    finish_f32(p, c, row, rows, panel, panels, false);
}

static void finish_add(const struct cpu_isa *isa, const struct product *p, const float *c, int row,
                       int rows, int panel, int panels)
{
    (void)isa;
    finish_f32(p, c, row, rows, panel, panels, true);
}

static char *row_at(const struct product *p, int row, int column)
{
    return (char *)p->y + ((size_t)row * p->ldy + (size_t)column) * (size_t)dtype_bytes(p->y_type);
}

/* y := silu(gate) * up. Panels of c alternate: 16 columns of gate, then 16 of up. The matrices of
 * an ffn have no bias. */
static void finish_swiglu(const struct cpu_isa *isa, const struct product *p, const float *c,
                          int row, int rows, int panel, int panels)
{
    for (int r = 0; r < rows; r++, c += GROUP_COLUMNS)
        for (int i = 0; i < panels; i += 2)
            isa->swiglu(row_at(p, row + r, (panel + i) / 2 * PANEL), p->y_type, c + i * PANEL,
                        c + (i + 1) * PANEL, PANEL);
}

/* y := c as rows: rounded to y_type, and zero from the last column to the stride. */
static void finish_rows(const struct cpu_isa *isa, const struct product *p, const float *c, int row,
                        int rows, int panel, int panels)
{
    int n = panels * PANEL, pad = 0;
    if (panel + panels == panel_count(p->w->n))
        pad = (int)p->ldy - (panel + panels) * PANEL;
    for (int r = 0; r < rows; r++, c += GROUP_COLUMNS) {
        isa->store(row_at(p, row + r, panel * PANEL), p->y_type, c, n);
        if (pad)
            memset(row_at(p, row + r, panel * PANEL + n), 0,
                   (size_t)(pad * dtype_bytes(p->y_type)));
    }
}

/* A list of n products, divided into items. */
struct work {
    const struct cpu_isa *isa;
    struct product (*at)(const struct work *w, int i); // product i
    const void *of;                                    // what `at` makes products from
    int n, item_rows;                                  // products; the most rows of an item
    int next;                                          // the first item that no thread has taken
};

struct item {
    struct product p;
    int product, before, count; // the number of p, of items before it, and of its own items
    int panel, panels, first, rows;
};

static int groups(const struct matrix *w)
{
    return (panel_count(w->n) + GROUP - 1) / GROUP;
}

static int row_blocks(const struct work *w, const struct product *p)
{
    return p->rows / w->item_rows + (p->rows % w->item_rows != 0);
}

/* Take the next item; false when none is left. On entry *it is the last item of this thread. Item
 * numbers only grow, so the search for the product starts there. */
static bool take(struct work *w, struct item *it)
{
    int number = __atomic_fetch_add(&w->next, 1, __ATOMIC_RELAXED);
    while (number >= it->before + it->count) {
        if (++it->product >= w->n)
            return false;
        it->before += it->count;
        it->p = w->at(w, it->product);
        it->count = groups(it->p.w) * row_blocks(w, &it->p);
    }
    int blocks = row_blocks(w, &it->p), group = (number - it->before) / blocks;
    int left = panel_count(it->p.w->n) - group * GROUP;
    it->panel = group * GROUP;
    it->panels = left < GROUP ? left : GROUP;
    it->first = (number - it->before) % blocks * w->item_rows;
    it->rows = it->p.rows - it->first < w->item_rows ? it->p.rows - it->first : w->item_rows;
    return true;
}

static void run_item(const struct cpu_isa *isa, const struct item *it)
{
    const struct product *p = &it->p;
    int k = row_stride(p->w->k);
    const char *panels = (const char *)p->w->data + (size_t)it->panel * panel_bytes(p->w->type, k);
    float c[MOST_BLOCK_ROWS * GROUP_COLUMNS] __attribute__((aligned(64))); // at most 16 KB
    for (int r = 0; r < it->rows; r += isa->block_rows) {
        int left = it->rows - r, row = it->first + r;
        int rows = left < isa->block_rows ? left : isa->block_rows;
        const char *x = p->x + (size_t)row * row_bytes(p->w->type, k);
        isa->tile[p->w->type](c, GROUP_COLUMNS, x, (size_t)k, panels, it->panels, rows, k, false);
        p->finish(isa, p, c, row, rows, it->panel, it->panels);
        pulse();
    }
}

/* What each thread of the team does: take items until none is left. */
static void work_run(struct work *w)
{
    struct item it = {.product = -1};
    while (take(w, &it))
        run_item(w->isa, &it);
}

/* Choose how many rows an item has. Rows are divided only when there are fewer groups of panels
 * than 4 for each thread. */
static void work_open(struct work *w, int threads)
{
    long total = 0, most_rows = 0;
    for (int i = 0; i < w->n; i++) {
        struct product p = w->at(w, i);
        total += p.rows ? groups(p.w) : 0;
        most_rows = p.rows > most_rows ? p.rows : most_rows;
    }
    long wanted = threads > 1 ? 4L * threads : 1, cuts = total ? (wanted + total - 1) / total : 1;
    long rows = (most_rows + cuts - 1) / cuts;
    int block = w->isa->block_rows;
    w->item_rows = cuts == 1 ? INT_MAX : (int)((rows + block - 1) / block * block);
}

static double product_cost(const struct product *p)
{
    double bytes = (double)panel_count(p->w->n) * (double)panel_bytes(p->w->type, p->w->k);
    return p->rows ? bytes * (1 + p->rows / 16.0) : 0;
}

static struct product the_product(const struct work *w, int i)
{
    (void)i;
    return *(const struct product *)w->of;
}

static void run_product(struct dev *d, const struct product *p)
{
    if (p->rows == 0)
        return;
    struct work w = {.isa = d->cpu, .at = the_product, .of = p, .n = 1};
    int threads = team_size(d, product_cost(p));
    work_open(&w, threads);
    if (threads == 1) {
        work_run(&w);
        return;
    }
#pragma omp parallel num_threads(threads)
    work_run(&w);
}

void cpu_matmul(struct dev *d, float *y, int ldy, const void *x, const struct matrix *w, int n)
{
    run_product(d,
                &(struct product){
                    .w = w, .x = x, .rows = n, .finish = finish_set, .y = y, .ldy = (size_t)ldy});
}

void cpu_matmul_add(struct dev *d, float *y, int ldy, const void *x, const struct matrix *w, int n)
{
    run_product(d,
                &(struct product){
                    .w = w, .x = x, .rows = n, .finish = finish_add, .y = y, .ldy = (size_t)ldy});
}

struct ffn_call {
    const struct ffn_run *runs;
    const char *x;
    char *y, *hidden;
    enum dtype y_type;
    size_t hidden_stride; // elements from one hidden row to the next
};

static struct product gate_up_product(const struct work *w, int i)
{
    const struct ffn_call *c = w->of;
    const struct ffn_run *run = &c->runs[i];
    const struct matrix *m = &run->ffn->gate_up;
    size_t at = (size_t)run->first * c->hidden_stride * (size_t)dtype_bytes(m->type);
    return (struct product){.w = m,
                            .x = c->x + (size_t)run->x_first * row_bytes(m->type, m->k),
                            .rows = run->rows,
                            .finish = finish_swiglu,
                            .y = c->hidden + at,
                            .ldy = (size_t)row_stride(run->ffn->down.k),
                            .y_type = m->type};
}

static struct product down_product(const struct work *w, int i)
{
    const struct ffn_call *c = w->of;
    const struct ffn_run *run = &c->runs[i];
    const struct matrix *m = &run->ffn->down;
    size_t at = (size_t)run->first * c->hidden_stride * (size_t)dtype_bytes(m->type);
    return (struct product){.w = m,
                            .x = c->hidden + at,
                            .rows = run->rows,
                            .finish = finish_rows,
                            .y = c->y + (size_t)run->first * row_bytes(c->y_type, m->n),
                            .ldy = (size_t)row_stride(m->n),
                            .y_type = c->y_type};
}

static void ffn_phases(struct work *gate_up, struct work *down)
{
    work_run(gate_up);
#pragma omp barrier
    work_run(down);
}

/* Set the stride of the hidden rows, and check that the scratch has room for them and for the
 * gathered rows before them. */
static void hidden_open(const struct dev *d, struct ffn_call *c, const struct ffn *f, int n)
{
    size_t hidden = (size_t)n * row_bytes(f->down.type, f->down.k);
    size_t before = (size_t)(c->hidden - (char *)d->scratch);
    c->hidden_stride = (size_t)row_stride(f->down.k);
    CHECK(before + hidden <= d->scratch_bytes, "%d rows of %d in %zu bytes of scratch", n,
          f->down.k, d->scratch_bytes);
}

static double work_cost(const struct work *w)
{
    double cost = 0;
    for (int i = 0; i < w->n; i++) {
        struct product p = w->at(w, i);
        cost += product_cost(&p);
    }
    return cost;
}

/* Which rows go through which block. Returns the number of runs; *rows: how many rows of y. */
static int find_runs(struct dev *d, const struct ffn_job *job, int *rows)
{
    int n = 0;
    *rows = 0;
    CHECK(job->list->n <= d->n_runs, "%d blocks, reserved for %d", job->list->n, d->n_runs);
    for (int i = 0; i < job->list->n; i++) {
        int own = job->count ? job->count[i] : job->n;
        if (own > 0)
            d->runs[n++] =
                (struct ffn_run){&job->list->ffns[i], job->count ? *rows : 0, *rows, own};
        *rows += own;
    }
    return n;
}

static void run_job(struct dev *d, const struct ffn_job *job)
{
    int rows, n_runs = find_runs(d, job, &rows);
    if (n_runs == 0)
        return;
    const struct ffn *one = job->list->ffns;
    struct ffn_call call = {
        .runs = d->runs, .x = job->x, .y = job->y, .hidden = d->scratch, .y_type = job->y_type};
    if (job->source) {
        size_t bytes = row_bytes(one->gate_up.type, one->gate_up.k);
        int read = job->count ? rows : job->n;
        cpu_gather(d, d->scratch, job->x, job->source, read, bytes);
        call.x = d->scratch;
        call.hidden += (size_t)read * bytes;
    }
    hidden_open(d, &call, one, rows);
    struct work gate_up = {.isa = d->cpu, .at = gate_up_product, .of = &call, .n = n_runs};
    struct work down = {.isa = d->cpu, .at = down_product, .of = &call, .n = n_runs};
    int threads = team_size(d, work_cost(&gate_up) + work_cost(&down));
    work_open(&gate_up, threads);
    work_open(&down, threads);
#pragma omp parallel num_threads(threads) if (threads > 1)
    ffn_phases(&gate_up, &down);
}

void cpu_ffn(struct dev *d, const struct ffn_job *jobs, int n_jobs)
{
    for (int i = 0; i < n_jobs; i++)
        run_job(d, &jobs[i]);
}
