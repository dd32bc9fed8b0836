/* Products of rows with packed matrices, divided among a team's threads. For matmul.c and ffn.c.
 *
 * Work is divided into items of some panels times some rows (struct blocking). Threads take items
 * in order, one at a time. So one thread reads its panels' weights from memory, and they stay in
 * its cache while it goes through the rows. What follows the sums (bias, adding, SwiGLU, rounding)
 * is done block by block while they are in L1 or L2. No result depends on which thread takes which
 * item. */
#pragma once

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
    bool much; // is_much() of all outputs of the call: write y past the caches
};

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

/* Choose how large items are, for so many threads. All products of a work are of one type, and
 * quantised or not. */
void work_open(struct work *w, int threads);
/* Called by each thread of the team: take items until none is left. */
void work_run(struct work *w);
/* What all products of a list cost, in the bytes that team_size() takes. */
double list_cost(const struct list *l);

/* Are so many rows of outputs too large for the caches? Then they are written past the caches, by
 * write_out(): to read each line from memory only to overwrite it took a third of the time of a
 * layer's products on AMX. */
bool is_much(int rows, size_t row_bytes);
/* to := n sums, rounded to p->y_type, and past the caches if p->much. */
void write_out(const struct cpu_isa *isa, const struct product *p, void *to, const float *from,
               int n);

/* The next free bytes of the device's scratch, and the next free one of its runs. */
struct room {
    char *scratch;
    struct ffn_run *runs;
};
/* Take rows * bytes of the scratch. */
char *take_scratch(const struct dev *d, struct room *room, int rows, size_t bytes);
/* Take scratch for the rows x in quantised form, to be multiplied with w; quant_rows_run() fills
 * it. */
struct quant_rows quant_rows_of(const struct dev *d, struct room *room, const struct matrix *w,
                                const void *x, int rows);
