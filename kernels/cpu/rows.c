/* The primitives that work row by row: embedding, norms, routing, gathering and summing rows. */
#include <math.h>

#include "kernels/cpu/cpu.h"

enum { SUM_BLOCK = 512 }; // columns of a sum that are made at a time: they stay in registers and L1

/* to := from, exactly, of any alignment. A loop for each type, so that compilers make vectors of
 * it.
 */
static void widen(float *to, enum dtype type, const void *from, int n)
{
    if (type == DTYPE_F32)
        memcpy(to, from, (size_t)n * sizeof *to);
    else if (type == DTYPE_BF16)
        for (int i = 0; i < n; i++)
            to[i] = dtype_load(DTYPE_BF16, from, (size_t)i);
    else
        for (int i = 0; i < n; i++)
            to[i] = dtype_load(DTYPE_F16, from, (size_t)i);
}

void cpu_embed(struct dev *d, float *x, const void *table, enum dtype from, enum dtype as,
               const int32_t *tokens, int n, int dim)
{
    int threads = team_size(d, (double)n * dim * 8);
    size_t bytes = (size_t)dim * (size_t)dtype_bytes(from);
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int i = 0; i < n; i++) {
        float *to = x + (size_t)i * (size_t)dim;
        widen(to, from, (const char *)table + (size_t)tokens[i] * bytes, dim);
        for (int j = 0; from != as && j < dim; j++)
            to[j] = dtype_round(as, to[j]);
    }
}

void cpu_rmsnorm(struct dev *d, void *h, enum dtype type, const float *x, const float *weight,
                 int n, int dim, float eps)
{
    int threads = team_size(d, (double)n * dim * 4);
    size_t used = (size_t)dim * (size_t)dtype_bytes(type), bytes = row_bytes(type, dim);
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int i = 0; i < n; i++) {
        char *to = (char *)h + (size_t)i * bytes;
        const float *from = x + (size_t)i * (size_t)dim;
        d->cpu->weigh(to, type, from, inverse_rms(d->cpu, from, dim, eps), weight, dim);
        memset(to + used, 0, bytes - used);
    }
}

/* The best expert after `last`, the one chosen before it (-1: none was chosen). Experts are ordered
 * by score, largest first, and equal scores by number. A score of NaN is never chosen; when only
 * those are left, the result is expert 0. */
static int next_best(const float *score, int n_experts, int last)
{
    int best = -1;
    for (int e = 0; e < n_experts; e++) {
        bool later = last < 0 ? score[e] == score[e]
                              : score[e] < score[last] || (score[e] == score[last] && e > last);
        if (later && (best < 0 || score[e] > score[best]))
            best = e;
    }
    return best < 0 ? 0 : best;
}

static void route_row(const struct cpu_isa *isa, int32_t *expert, float *weight, const float *score,
                      int n_experts, int k, bool normalise)
{
    for (int j = 0; j < k; j++) {
        expert[j] = next_best(score, n_experts, j ? expert[j - 1] : -1);
        weight[j] = score[expert[j]];
    }
    float top = score[expert[0]], all = isa->exp_row(NULL, score, top, n_experts);
    float chosen = isa->exp_row(weight, weight, top, k);
    for (int j = 0; j < k; j++)
        weight[j] /= normalise ? chosen : all;
}

/* The group of each expert for one row. */
static const int32_t *groups_of_row(const struct grouping *g, int row)
{
    return g->group_of + (size_t)(row & (g->turns - 1)) * (size_t)g->n_experts;
}

static void count_groups(const struct sorting *to, const int32_t *expert, int n, int k)
{
    memset(to->count, 0, (size_t)to->groups.n_groups * sizeof *to->count);
    for (int row = 0; row < n; row++, expert += k) {
        const int32_t *group_of = groups_of_row(&to->groups, row);
        for (int j = 0; j < k; j++)
            to->count[group_of[expert[j]]]++;
    }
}

void sort_rows(const struct sorting *to, const int32_t *expert, int n, int k)
{
    int32_t *count = to->count;
    int groups = to->groups.n_groups;
    count_groups(to, expert, n, k);
    // count[g] becomes the end of group g; the loop after that fills each group from its end, and
    // so brings count[g] down to the group's begin
    for (int g = 1; g < groups; g++)
        count[g] += count[g - 1];
    for (int row = n - 1; row >= 0; row--) {
        const int32_t *group_of = groups_of_row(&to->groups, row);
        for (int i = (row + 1) * k - 1; i >= row * k; i--) {
            to->slot[i] = --count[group_of[expert[i]]];
            to->source[to->slot[i]] = row;
        }
    }
    // from begins back to counts
    for (int g = 0; g < groups; g++)
        count[g] = (g + 1 < groups ? count[g + 1] : n * k) - count[g];
    for (int g = 0; to->hit && g < groups; g++)
        *to->hit += count[g] > 0;
}

void cpu_route(struct dev *d, int32_t *expert, float *weight, const struct sorting *sorting,
               const float *scores, int ld, int n, int n_experts, int k, bool normalise)
{
    int threads = team_size(d, (double)n * n_experts * k * 8);
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int i = 0; i < n; i++)
        route_row(d->cpu, expert + (size_t)i * (size_t)k, weight + (size_t)i * (size_t)k,
                  scores + (size_t)i * (size_t)ld, n_experts, k, normalise);
    if (sorting)
        sort_rows(sorting, expert, n, k);
}

void cpu_gather(struct dev *d, void *to, const void *from, const int32_t *index, int n,
                size_t bytes)
{
    int threads = team_size(d, (double)n * (double)bytes);
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int i = 0; i < n; i++)
        memcpy((char *)to + (size_t)i * bytes, (const char *)from + (size_t)index[i] * bytes,
               bytes);
}

/* out := the sum over the row's slots, SUM_BLOCK columns at a time so that the sums stay in L1. */
static void sum_row(const struct cpu_isa *isa, char *out, const char *y, enum dtype type,
                    const int32_t *slot, const float *weight, int k, int dim)
{
    size_t bytes = row_bytes(type, dim), element = (size_t)dtype_bytes(type);
    for (int first = 0; first < dim; first += SUM_BLOCK) {
        float sum[SUM_BLOCK] = {0};
        int columns = dim - first < SUM_BLOCK ? dim - first : SUM_BLOCK;
        size_t at = (size_t)first * element;
        for (int j = 0; j < k && slot[j] >= 0; j++)
            isa->add_scaled(sum, y + (size_t)slot[j] * bytes + at, type, weight[j], columns);
        isa->store(out + at, type, sum, columns);
    }
    memset(out + (size_t)dim * element, 0, bytes - (size_t)dim * element);
}

void cpu_sum_rows(struct dev *d, void *out, const void *y, enum dtype type, const int32_t *slot,
                  const float *weight, int n, int k, int dim)
{
    int threads = team_size(d, (double)n * k * dim * 2);
    size_t bytes = row_bytes(type, dim);
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int i = 0; i < n; i++)
        sum_row(d->cpu, (char *)out + (size_t)i * bytes, y, type, slot + (size_t)i * (size_t)k,
                weight + (size_t)i * (size_t)k, k, dim);
}

/* 1 / (1 + exp(-x)) */
static float sigmoid(const struct cpu_isa *isa, float x)
{
    return 1 / (1 + isa->exp_row(NULL, &(float){0}, x, 1));
}

/* One row of x += by times the sum of its pieces, a block of columns at a time. */
static void add_row_pieces(const struct cpu_isa *isa, float *x, const struct pending_residual *a,
                           int row, int n, int dim, float by)
{
    for (int first = 0; first < dim; first += SUM_BLOCK) {
        float sum[SUM_BLOCK];
        int columns = dim - first < SUM_BLOCK ? dim - first : SUM_BLOCK;
        for (int p = 0; p < a->n_pieces; p++) {
            size_t at = (size_t)a->piece_at[p] * (size_t)n + (size_t)row;
            const float *piece = a->pieces + at * (size_t)a->ld_pieces + first;
            if (p == 0)
                memcpy(sum, piece, (size_t)columns * sizeof *sum);
            else
                isa->add_scaled(sum, piece, DTYPE_F32, 1, columns);
        }
        isa->add_scaled(x + first, sum, DTYPE_F32, by, columns);
    }
}

/* x += the sum of the pieces, times its gate */
static void add_pieces(struct dev *d, float *x, const struct pending_residual *a, int n, int dim)
{
    int threads = team_size(d, (double)n * dim * 8 * a->n_pieces);
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int i = 0; i < n; i++) {
        float by = a->gate ? sigmoid(d->cpu, a->gate[(size_t)i * (size_t)a->ld_gate]) : 1;
        add_row_pieces(d->cpu, x + (size_t)i * (size_t)dim, a, i, n, dim, by);
    }
}

/* x += the weighted sum of a->y at each row's slots */
static void add_experts(struct dev *d, float *x, enum dtype type, const struct pending_residual *a,
                        int n, int dim)
{
    int threads = team_size(d, (double)n * a->k * dim * 2);
    size_t bytes = row_bytes(type, dim);
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int i = 0; i < n; i++)
        for (int j = 0; j < a->k; j++) {
            size_t at = (size_t)i * (size_t)a->k + (size_t)j;
            if (a->slot[at] < 0)
                break;
            d->cpu->add_scaled(x + (size_t)i * (size_t)dim,
                               (const char *)a->y + (size_t)a->slot[at] * bytes, type,
                               a->weight[at], dim);
        }
}

void cpu_add_norm(struct dev *d, float *x, void *h, enum dtype type,
                  const struct pending_residual *pending, const float *norm, int n, int dim,
                  float eps)
{
    if (pending->n_pieces)
        add_pieces(d, x, pending, n, dim);
    if (pending->k)
        add_experts(d, x, type, pending, n, dim);
    if (norm)
        cpu_rmsnorm(d, h, type, x, norm, n, dim, eps);
}
