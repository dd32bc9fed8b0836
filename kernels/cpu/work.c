#include "kernels/cpu/work.h"

#include <limits.h>

#include "base/check.h"
#include "base/pulse.h"

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

void work_run(struct work *w)
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
    const struct blocking *own = w->quant                ? &isa->quantised
                                 : w->type == DTYPE_BF16 ? &isa->tiles
                                                         : &isa->vectors;
    return own->rows ? own : &isa->vectors;
}

/* Where there would be fewer than 4 items for each thread, they have fewer panels; products of few
 * rows down to a gate and its up, those of many rows are divided by rows. */
void work_open(struct work *w, int threads)
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

double list_cost(const struct list *l)
{
    double cost = 0;
    for (int i = 0; i < l->n; i++) {
        struct product p = l->at(l, i);
        cost += product_cost(&p);
    }
    return cost;
}

enum { CACHED_BYTES = 1 << 20 };

bool is_much(int rows, size_t row_bytes)
{
    return (size_t)rows * row_bytes > CACHED_BYTES;
}

void write_out(const struct cpu_isa *isa, const struct product *p, void *to, const float *from,
               int n)
{
    (p->much ? isa->store_past : isa->store)(to, p->y_type, from, n);
}

char *take_scratch(const struct dev *d, struct room *room, int rows, size_t bytes)
{
    char *taken = room->scratch;
    room->scratch += (size_t)rows * bytes;
    CHECK(room->scratch <= (char *)d->scratch + d->scratch_bytes,
          "%d rows of %zu bytes in %zu bytes of scratch", rows, bytes, d->scratch_bytes);
    return taken;
}

struct quant_rows quant_rows_of(const struct dev *d, struct room *room, const struct matrix *w,
                                const void *x, int rows)
{
    return (struct quant_rows){.isa = d->cpu,
                               .to = take_scratch(d, room, rows, quant_row_bytes(w->k)),
                               .x = x,
                               .type = w->type,
                               .rows = rows,
                               .k = w->k};
}
