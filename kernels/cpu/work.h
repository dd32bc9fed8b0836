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
    bool much; // y, with those of the other products of the call, is more than caches are for
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
/* What each thread of the team does: take items until none is left. */
void work_run(struct work *w);
/* For team_size(). */
double list_cost(const struct list *l);

/* Whether so many outputs are more than caches are for. Such are written past them (write_out):
 * reading each line from memory only to overwrite it took a third of a layer's products on AMX. */
bool is_much(int rows, size_t row_bytes);
void write_out(const struct cpu_isa *isa, const struct product *p, void *to, const float *from,
               int n);

/* What several jobs take of the device's scratch and runs, one after the other. */
struct room {
    char *scratch;
    struct ffn_run *runs;
};
char *take_scratch(const struct dev *d, struct room *room, int rows, size_t bytes);
/* The rows x that w is multiplied with, to be quantised. */
struct quant_rows quant_rows_of(const struct dev *d, struct room *room, const struct matrix *w,
                                const void *x, int rows);
