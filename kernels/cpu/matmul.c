/* Products with packed matrices: single products, and the two of an ffn for many runs of rows.
 *
 * Work is divided into items of up to GROUP panels times some rows. Threads take items in order,
 * one at a time. So one thread reads a group's weights from memory, and they stay in its cache
 * while it goes through the rows. What follows the sums (bias, adding, SwiGLU, rounding) is done
 * block by block while they are in L1. No result depends on which thread takes which item. */
#include <limits.h>

#include "base/check.h"
#include "base/pulse.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/quant.h"

/* y := finish(x w^T) */
struct product {
    const struct matrix *w;
    const char *x; // rows of matrix_input_bytes(w)
    int rows;
    void (*finish)(const struct cpu_isa *isa, const struct product *p, float *c, int row, int rows,
                   int panel, int panels); // may change c
    void *y;
    size_t ldy; // in elements of y_type
    enum dtype y_type;
    bool much; // y, with those of the other products of the call, is more than caches are for
};

/* Outputs beyond this are written past the caches: reading each line from memory only to overwrite
 * it took as long as a third of the products, on AMX. */
enum { CACHED_BYTES = 1 << 20 };

static bool is_much(int rows, size_t row_bytes)
{
    return (size_t)rows * row_bytes > CACHED_BYTES;
}

static void write_out(const struct cpu_isa *isa, const struct product *p, void *to,
                      const float *from, int n)
{
    (p->much ? isa->store_past : isa->store)(to, p->y_type, from, n);
}

/* How many columns of y the panels have, and the first of them. */
static int columns_of(const struct product *p, int panel, int panels, int *first)
{
    *first = panel * PANEL;
    int left = p->w->n - *first;
    return left < panels * PANEL ? left : panels * PANEL;
}

/* y := c + bias */
static void finish_set(const struct cpu_isa *isa, const struct product *p, float *c, int row,
                       int rows, int panel, int panels)
{
    int first, n = columns_of(p, panel, panels, &first);
    for (int r = 0; r < rows; r++, c += panels * PANEL) {
        for (int i = 0; p->w->bias && i < n; i++)
            c[i] += p->w->bias[first + i];
        write_out(isa, p, (float *)p->y + (size_t)(row + r) * p->ldy + first, c, n);
    }
}

/* y += c + bias */
static void finish_add(const struct cpu_isa *isa, const struct product *p, float *c, int row,
                       int rows, int panel, int panels)
{
    (void)isa;
    int first, n = columns_of(p, panel, panels, &first);
    for (int r = 0; r < rows; r++, c += panels * PANEL) {
        float *y = (float *)p->y + (size_t)(row + r) * p->ldy + first;
        for (int i = 0; i < n; i++)
            y[i] += p->w->bias ? c[i] + p->w->bias[first + i] : c[i];
    }
}

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

/* Products that do not depend on each other, such as those of one ffn job. */
struct list {
    struct product (*at)(const struct list *l, int i); // product i
    const void *of;                                    // what `at` makes products from
    int n, items;                                      // products, and items of all of them
};

/* One or two lists, divided into items. The items of two take turns, in proportion to how many each
 * has: where the products of one are bound by memory and those of the other by arithmetic, threads
 * are mostly at different ones, and both are used. */
enum { MOST_LISTS = 2 };
struct work {
    const struct cpu_isa *isa;
    const struct blocking *blocking;
    struct list lists[MOST_LISTS];
    int n_lists, item_rows, item_panels; // the most rows and panels of an item
    int next;                            // the first item that no thread has taken
};

struct item {
    struct product p;
    int product, before, count; // the number of p, of items before it, and of its own items
    int panel, panels, first, rows;
};

static int groups(const struct work *w, const struct product *p)
{
    return (panel_count(p->w->n) + w->item_panels - 1) / w->item_panels;
}

static int row_blocks(const struct work *w, const struct product *p)
{
    return p->rows / w->item_rows + (p->rows % w->item_rows != 0);
}

/* Go on to item `number` of a list. On entry *it is the list's last item of this thread. Numbers
 * only grow, so the search for the product starts there. */
static void find_item(const struct work *w, const struct list *l, int number, struct item *it)
{
    while (number >= it->before + it->count) {
        it->before += it->count;
        it->p = l->at(l, ++it->product);
        it->count = groups(w, &it->p) * row_blocks(w, &it->p);
    }
    int own = groups(w, &it->p), group = (number - it->before) % own;
    int left = panel_count(it->p.w->n) - group * w->item_panels;
    it->panel = group * w->item_panels;
    it->panels = left < w->item_panels ? left : w->item_panels;
    it->first = (number - it->before) / own * w->item_rows;
    it->rows = it->p.rows - it->first < w->item_rows ? it->p.rows - it->first : w->item_rows;
}

/* Take the next item: its, [n_lists], are this thread's last items. NULL when none is left. Of the
 * first `number` items of two lists, number * items / all are the first list's, rounded down. */
static const struct item *take(struct work *w, struct item *its)
{
    int64_t number = __atomic_fetch_add(&w->next, 1, __ATOMIC_RELAXED);
    int64_t first = w->lists[0].items, all = first + w->lists[1].items;
    if (number >= all)
        return NULL;
    int64_t before = number * first / all, after = (number + 1) * first / all;
    int which = after == before;
    find_item(w, &w->lists[which], (int)(which ? number - before : before), &its[which]);
    return &its[which];
}

/* The rows of an item go through the tile in blocks of about the same size. */
static int block_rows(const struct blocking *b, int rows)
{
    int blocks = (rows + b->rows - 1) / b->rows;
    int even = (rows + blocks - 1) / blocks;
    int size = (even + b->row_step - 1) / b->row_step * b->row_step;
    return size < b->rows ? size : b->rows;
}

static void run_tile(const struct cpu_isa *isa, float *c, const struct matrix *w, const void *x,
                     const void *panels, int n, int rows)
{
    int k = row_stride(w->k);
    if (w->quant)
        isa->quant_tile[w->quant](c, n * PANEL, x, (size_t)(k / QUANT_GROUP), panels, n, rows, k);
    else
        isa->tile[w->type](c, n * PANEL, x, (size_t)k, panels, n, rows, k, false);
}

/* All rows of an item times some of its panels. */
static void run_panels(const struct work *w, const struct item *it, int panel, int panels)
{
    const struct product *p = &it->p;
    int block = block_rows(w->blocking, it->rows);
    const char *weights = (const char *)p->w->data + (size_t)panel * matrix_panel_bytes(p->w);
    float c[CALL_SUMS] __attribute__((aligned(64))); // 24 KB
    for (int r = 0; r < it->rows; r += block) {
        int rows = it->rows - r < block ? it->rows - r : block, row = it->first + r;
        const char *x = p->x + (size_t)row * matrix_input_bytes(p->w);
        run_tile(w->isa, c, p->w, x, weights, panels, rows);
        p->finish(w->isa, p, c, row, rows, panel, panels);
        pulse();
    }
}

static void run_item(const struct work *w, const struct item *it)
{
    int most = it->rows > FEW_ROWS ? w->blocking->panels : GROUP;
    for (int i = 0; i < it->panels; i += most)
        run_panels(w, it, it->panel + i, it->panels - i < most ? it->panels - i : most);
}

/* What each thread of the team does: take items until none is left. */
static void work_run(struct work *w)
{
    struct item its[MOST_LISTS] = {{.product = -1}, {.product = -1}};
    for (const struct item *it; (it = take(w, its));)
        run_item(w, it);
    __atomic_thread_fence(__ATOMIC_SEQ_CST); // other threads see what was written past the caches
}

static int list_items(const struct work *w, const struct list *l)
{
    int items = 0;
    for (int i = 0; i < l->n; i++) {
        struct product p = l->at(l, i);
        items += groups(w, &p) * row_blocks(w, &p);
    }
    return items;
}

static int work_items(struct work *w)
{
    int items = 0;
    for (int i = 0; i < w->n_lists; i++)
        items += w->lists[i].items = list_items(w, &w->lists[i]);
    return items;
}

static int most_rows(const struct work *w)
{
    int most = 0;
    for (int i = 0; i < w->n_lists; i++)
        for (int j = 0; j < w->lists[i].n; j++) {
            int rows = w->lists[i].at(&w->lists[i], j).rows;
            most = rows > most ? rows : most;
        }
    return most;
}

static const struct blocking *blocking_of(const struct cpu_isa *isa, const struct matrix *w)
{
    bool tiles = isa->tiles.rows && w->type == DTYPE_BF16 && !w->quant;
    return tiles ? &isa->tiles : &isa->vectors;
}

/* Choose how large items are. Where there would be fewer than 4 for each thread, items have fewer
 * panels; products of few rows down to a gate and its up, those of many rows are divided by rows.
 * All products of a work are of one type, and quantised or not. */
static void work_open(struct work *w, int threads)
{
    struct product one = w->lists[0].at(&w->lists[0], 0);
    w->blocking = blocking_of(w->isa, one.w);
    int wanted = threads > 1 ? 4 * threads : 1, block = w->blocking->rows, most = most_rows(w);
    w->item_rows = w->blocking->item_rows ? w->blocking->item_rows : INT_MAX;
    w->item_panels = most > FEW_ROWS ? w->blocking->item_panels : GROUP;
    int items = work_items(w);
    for (; items < wanted && w->item_panels > GROUP; items = work_items(w))
        w->item_panels /= 2;
    if (items == 0 || items >= wanted)
        return;
    if (most <= block)
        w->item_panels = 2;
    int cuts = (wanted + items - 1) / items, rows = (most + cuts - 1) / cuts;
    w->item_rows = (rows + block - 1) / block * block;
    work_items(w);
}

static double product_cost(const struct product *p)
{
    double bytes = (double)panel_count(p->w->n) * (double)matrix_panel_bytes(p->w);
    return p->rows ? bytes * (1 + p->rows / 16.0) : 0;
}

/* What several jobs take of the device's scratch and runs, one after the other. */
struct room {
    char *scratch;
    struct ffn_run *runs;
};

static char *take_scratch(const struct dev *d, struct room *room, int rows, size_t bytes)
{
    char *taken = room->scratch;
    room->scratch += (size_t)rows * bytes;
    CHECK(room->scratch <= (char *)d->scratch + d->scratch_bytes,
          "%d rows of %zu bytes in %zu bytes of scratch", rows, bytes, d->scratch_bytes);
    return taken;
}

/* The rows x that w is multiplied with, to be quantised. */
static struct quant_rows quant_rows_of(const struct dev *d, struct room *room,
                                       const struct matrix *w, const void *x, int rows)
{
    return (struct quant_rows){.isa = d->cpu,
                               .to = take_scratch(d, room, rows, quant_row_bytes(w->k)),
                               .x = x,
                               .type = w->type,
                               .rows = rows,
                               .k = w->k};
}

static struct product the_product(const struct list *l, int i)
{
    (void)i;
    return *(const struct product *)l->of;
}

/* Rows are quantised before the first of them is multiplied. */
static void product_phases(struct quant_rows *inputs, struct work *w)
{
    if (inputs->rows) {
        quant_rows_run(inputs);
#pragma omp barrier
    }
    work_run(w);
}

static void run_product(struct dev *d, struct product p)
{
    if (p.rows == 0)
        return;
    struct work w = {.isa = d->cpu, .lists = {{the_product, &p, 1, 0}}, .n_lists = 1};
    struct room room = {d->scratch, d->runs};
    struct quant_rows inputs = {.rows = 0};
    if (p.w->quant) {
        inputs = quant_rows_of(d, &room, p.w, p.x, p.rows);
        p.x = inputs.to;
    }
    int threads = team_size(d, product_cost(&p));
    work_open(&w, threads);
    if (threads == 1) {
        product_phases(&inputs, &w);
        return;
    }
#pragma omp parallel num_threads(threads)
    product_phases(&inputs, &w);
}

void cpu_matmul(struct dev *d, float *y, int ldy, const void *x, const struct matrix *w, int n)
{
    run_product(d, (struct product){.w = w,
                                    .x = x,
                                    .rows = n,
                                    .finish = finish_set,
                                    .y = y,
                                    .ldy = (size_t)ldy,
                                    .y_type = DTYPE_F32,
                                    .much = is_much(n, (size_t)ldy * sizeof *y)});
}

void cpu_matmul_add(struct dev *d, float *y, int ldy, const void *x, const struct matrix *w, int n)
{
    run_product(d,
                (struct product){
                    .w = w, .x = x, .rows = n, .finish = finish_add, .y = y, .ldy = (size_t)ldy});
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

static double list_cost(const struct list *l)
{
    double cost = 0;
    for (int i = 0; i < l->n; i++) {
        struct product p = l->at(l, i);
        cost += product_cost(&p);
    }
    return cost;
}

/* Which rows go through which block, to runs. Returns the number of runs; *rows: how many rows of
 * y.
 */
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

/* The rows that a job reads, one after the other: quantised, or gathered if it reads them through
 * an index. */
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

/* Returns the number of runs of a job, and makes *c of it unless that is 0. */
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

/* Calls of one run_ffn are all quantised or none is. */
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
