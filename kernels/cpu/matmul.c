/* Single products with packed matrices. */
#include "kernels/cpu/work.h"

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
    int threads = team_size(d, list_cost(&w.lists[0]));
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
