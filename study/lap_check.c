/* The values of a lap that is checked. Value c of row r is an integer from -127 to 127 that depends
 * on r and c, and one value of each row is 127. So rows are exact in every type, and in int8 with a
 * scale of 1. Expert e gives back the row turned by e + 1 places: any two experts' results of any
 * two rows differ. Routing weights are powers of two, so a rank's sum of such rows is exact in f32
 * and is rounded once, to the type of the rows. */
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "kernels/ops.h"
#include "study/lap.h"

static float value(int width, int row, int column)
{
    if (column == row % width)
        return 127;
    uint64_t key = ((uint64_t)(uint32_t)row << 32) + (uint32_t)column;
    return (float)((int)(hash_mix(key + 0x9e3779b97f4a7c15u) % 255) - 127);
}

static float result(int width, int row, int expert, int column)
{
    return value(width, row, (column + expert + 1) % width);
}

static size_t row_bytes(const struct lap *x)
{
    return wire_row_bytes(WIRE_MODEL, x->s.limits.type, x->s.limits.width);
}

/* Make *rows readable for the host: a GPU's are copied to `copy`, and *rows points there. 0, or
 * what dev_wait() said. */
static int fetch(struct lap *x, const void **rows, void *copy, size_t bytes)
{
    if (x->where == &x->host || !*rows)
        return 0;
    dev_download(x->where, copy, *rows, bytes);
    *rows = copy;
    return dev_wait(x->where);
}

/* Where the host writes rows: in their place, or to `copy` if that is a GPU's memory. Then store()
 * brings them to their place. */
static void *stage(struct lap *x, void *copy, void *rows)
{
    return x->where == &x->host ? rows : copy;
}

static void store(struct lap *x, void *rows, const void *staged, size_t bytes)
{
    if (rows != staged)
        dev_upload(x->where, rows, staged, bytes);
}

static void fill_result(const struct lap *x, void *to, int row, int expert)
{
    for (int c = 0; c < x->s.limits.width; c++)
        dtype_store(x->s.limits.type, to, (size_t)c, result(x->s.limits.width, row, expert, c));
}

void lap_fill(struct lap *x)
{
    const struct exchange_limits *l = &x->s.limits;
    char *h = stage(x, x->rows, x->h);
    for (int row = 0; row < x->routing.n; row++)
        for (int c = 0; c < l->width; c++)
            dtype_store(l->type, h + (size_t)row * row_bytes(x), (size_t)c,
                        value(l->width, row, c));
    store(x, x->h, h, (size_t)x->routing.n * row_bytes(x));
}

/* The first column in which a row is not as expected, or -1. */
static int differs(const struct lap *x, const void *found, const void *expected)
{
    const struct exchange_limits *l = &x->s.limits;
    for (int c = 0; c < l->width; c++)
        if (dtype_load(l->type, found, (size_t)c) != dtype_load(l->type, expected, (size_t)c))
            return c;
    return -1;
}

struct values_there {
    double expected, found;
};

static struct values_there values_at(const struct lap *x, const void *found, int c)
{
    enum dtype type = x->s.limits.type;
    return (struct values_there){(double)dtype_load(type, x->expected, (size_t)c),
                                 (double)dtype_load(type, found, (size_t)c)};
}

/* ---- a worker ---- */

static int first_slot(const struct lap *x, int rank)
{
    int slot = 0;
    for (int g = 0; g < x->routing.layer.rank_first[rank]; g++)
        slot += x->count[g];
    return slot;
}

static int check_row(struct lap *x, int row, int expert, const void *found)
{
    int width = x->s.limits.width;
    for (int c = 0; c < width; c++)
        dtype_store(x->s.limits.type, x->expected, (size_t)c, value(width, row, c));
    int c = differs(x, found, x->expected);
    if (c < 0)
        return 0;
    struct values_there v = values_at(x, found, c);
    return fail(STATUS_FAILED,
                "dispatch: expert %d got a wrong row %d of %d: value %d: expected %g, found %g",
                expert, row, x->routing.n, c, v.expected, v.found);
}

void lap_fill_results(struct lap *x)
{
    const struct exchange_layer *layer = &x->routing.layer;
    int rank = x->s.transport->rank, first = first_slot(x, rank), pair = 0;
    char *y = stage(x, x->results, x->work->y);
    for (int g = layer->rank_first[rank]; g < layer->rank_first[rank + 1]; g++)
        for (int i = 0; i < x->count[g]; i++, pair++)
            fill_result(x, y + (size_t)pair * row_bytes(x), x->source[first + pair],
                        x->expert_at[g]);
    store(x, x->work->y, y, (size_t)pair * row_bytes(x));
}

int lap_check_rows(struct lap *x)
{
    const struct exchange_layer *layer = &x->routing.layer;
    int rank = x->s.transport->rank, first = first_slot(x, rank), pair = 0;
    const void *rows = x->work->rows, *row_of = x->work->source;
    int status = fetch(x, &rows, x->rows, (size_t)x->work->n_rows * row_bytes(x));
    if (!status)
        status = fetch(x, &row_of, x->row_of, (size_t)x->work->n * sizeof *x->row_of);
    for (int e = 0; e < layer_experts(layer, rank) && !status; e++) {
        int expert = x->expert_at[layer->rank_first[rank] + e];
        if (x->work->count[e] != x->count[layer->rank_first[rank] + e])
            return fail(STATUS_FAILED, "dispatch: expert %d: expected %d rows, found %d", expert,
                        x->count[layer->rank_first[rank] + e], x->work->count[e]);
        for (int i = 0; i < x->work->count[e] && !status; i++, pair++) {
            int row = x->source[first + pair];
            int from = row_of ? ((const int32_t *)row_of)[pair] : pair;
            status = check_row(x, row, expert, (const char *)rows + (size_t)from * row_bytes(x));
        }
    }
    return status;
}

/* ---- rank 0 ---- */

void lap_forget_results(struct lap *x)
{
    size_t bytes = (size_t)x->routing.n * (size_t)x->routing.k * row_bytes(x);
    void *y = stage(x, x->results, x->y);
    memset(y, 0, bytes);
    store(x, x->y, y, bytes);
}

void lap_fill_home(struct lap *x)
{
    int home = root_home_rows(x->root[0]);
    char *y = stage(x, x->results, x->y);
    for (int slot = 0, group = 0, end = x->count[0]; slot < home; slot++) {
        while (slot >= end)
            end += x->count[++group];
        fill_result(x, y + (size_t)slot * row_bytes(x), x->source[slot], x->expert_at[group]);
    }
    store(x, x->y, y, (size_t)home * row_bytes(x));
}

/* The choice of a row whose slot this is. A rank's sum has the slot of the first of the row's
 * distinct ones there, which may be another row's; then -1. */
static int choice_of(const struct lap *x, int row, int slot)
{
    for (int j = 0; j < x->routing.k; j++)
        if (x->slot[row * x->routing.k + j] == slot)
            return j;
    return -1;
}

/* A row goes to one copy of its expert, and so does its slot. */
static int rank_of_slot(const struct lap *x, int slot)
{
    int rank = 0;
    while (slot >= first_slot(x, rank + 1))
        rank++;
    return rank;
}

/* x->expected := the rank's weighted sum for a row, as the wire shows it. */
static void expect_sum(struct lap *x, int row, int rank)
{
    const struct exchange_limits *l = &x->s.limits;
    const struct routing *r = &x->routing;
    for (int c = 0; c < l->width; c++) {
        float sum = 0;
        for (int j = 0; j < r->k; j++) {
            int expert = r->expert[row * r->k + j];
            if (rank_of_slot(x, x->slot[row * r->k + j]) == rank)
                sum += r->weight[row * r->k + j] * result(l->width, row, expert, c);
        }
        dtype_store(l->type, x->expected, (size_t)c, sum);
    }
    if (x->s.options.wire == WIRE_MODEL)
        return;
    struct wire_error unused = {0};
    narrow_rows(&x->host, x->wire, x->s.options.wire, x->expected, l->type, 1, l->width, &unused);
    widen_rows(&x->host, x->expected, l->type, x->wire, x->s.options.wire, 1, l->width);
}

static int check_sum(struct lap *x, const char *found, int row, int slot)
{
    int rank = rank_of_slot(x, slot);
    expect_sum(x, row, rank);
    int c = differs(x, found, x->expected);
    if (c < 0)
        return 0;
    struct values_there v = values_at(x, found, c);
    return fail(
        STATUS_FAILED,
        "combine: rank %d gave back a wrong sum of row %d of %d: value %d: expected %g, found %g",
        rank, row, x->routing.n, c, v.expected, v.found);
}

static int check_result(struct lap *x, const char *found, int row, int slot)
{
    int expert = x->routing.expert[row * x->routing.k + choice_of(x, row, slot)];
    fill_result(x, x->expected, row, expert);
    int c = differs(x, found, x->expected);
    if (c < 0)
        return 0;
    struct values_there v = values_at(x, found, c);
    return fail(STATUS_FAILED,
                "combine: rank %d gave back a wrong result of expert %d for row %d of %d: value "
                "%d: expected %g, found %g",
                rank_of_slot(x, slot), expert, row, x->routing.n, c, v.expected, v.found);
}

int lap_check_results(struct lap *x, const struct row_terms *terms)
{
    int k = x->routing.k, home = root_home_rows(x->root[0]);
    bool sums = x->s.options.combine == COMBINE_SUM && lap_travels(x);
    const void *y = x->y;
    int status = fetch(x, &y, x->results, (size_t)x->routing.n * (size_t)k * row_bytes(x));
    for (int row = 0; row < x->routing.n && !status; row++)
        for (int j = 0; j < k && terms->slot[row * k + j] >= 0 && !status; j++) {
            int slot = terms->slot[row * k + j];
            const char *found = (const char *)y + (size_t)slot * row_bytes(x);
            status = sums && slot >= home ? check_sum(x, found, row, slot)
                                          : check_result(x, found, row, slot);
        }
    return status;
}
