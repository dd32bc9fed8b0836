/* What --placement balanced knows of a layer: what each rank has to do in a step, and how long that
 * takes. For balance.c, which shares out, and balance_times.c, which says what was expected. */
#pragma once

#include "base/arena.h"
#include "model/balance.h"

/* In a step of fewer than MANY_ROWS rows it depends on chance how many of a rank's experts are hit,
 * and so which rank is slowest. The model draws the experts of such a step DRAWS times and takes
 * the mean time. In larger steps each rank gets its expected share of the rows. */
enum { DRAWS = 64, MANY_ROWS = 8 };

struct cost {
    double flops, bytes;
};

/* One kind of step through one kind of layer. */
struct step_cost {
    int rows;
    double times; // such steps that the workload has
    bool overlapped;
    struct cost own;    // what the coordinator alone does
    struct cost piece;  // all rows through one piece
    struct cost expert; // one expert's share of the rows through it; its weights are read once
};

/* What is to be shared out in a layer, and how much of it each rank has. */
struct shares {
    int n_ranks, n_experts, n_pieces, top_k;
    int *experts, *pieces; // [n_ranks]
    int *copies;           // [n_ranks] of experts that another rank has, too, and comes before it
    double *moved;         // [n_ranks] experts' worth of rows that copies bring, or take away
};

struct solver {
    const struct balance *b;
    struct step_cost steps[BALANCE_PHASES];
    struct shares s;
    uint64_t expert_bytes, piece_bytes; // of memory, over all layers of the kind
    uint64_t *memory;                   // [n_ranks] left for this kind of layer; NULL: no limit
    double *time, *behind;              // [n_ranks] of workload_times()
    int16_t (*prefix)[MAX_EXPERTS + 1]; // [DRAWS][e] how many of the experts 0 .. e - 1 are hit
    struct arena arena;
};

static inline double longer(double a, double b)
{
    return a > b ? a : b;
}

const struct rank_speed *balance_speed(const struct balance *b, int rank);

/* How long `rank` takes for c. */
double balance_seconds(const struct balance *b, int rank, struct cost c);

/* Of n weights, and of `rows` rows through a block of so many hidden values. */
double balance_weight_bytes(const struct balance *b, enum quant quant, double n);
struct cost balance_block_cost(const struct balance *b, int width, double rows);

/* Nothing is shared out yet. Its memory is `arena`: the caller frees that. */
struct solver balance_open(const struct balance *b, int layer);

/* Do the experts that a step hits depend on chance? */
bool balance_is_drawn(const struct solver *v, const struct step_cost *c);

/* What `rank` takes for its blocks, in one draw or in a step that is not drawn (draw -1); its
 * experts are those from `first` on. */
double balance_rank_time(const struct solver *v, const struct step_cost *c, int rank, int draw,
                         int first);

/* Rank 0 has `own` to do, then its blocks, `home`; the slowest of the others takes `slowest`. */
double balance_together(const struct step_cost *c, double own, double home, double slowest);

/* Seconds of one layer in a step: the mean over the draws, if the step is drawn. Adds to busy
 * [n_ranks], unless it is NULL, what each rank works. */
double balance_step_time(const struct solver *v, const struct step_cost *c, double *busy);

/* Seconds of one layer in all steps of the workload. */
double balance_workload_time(const struct solver *v);
