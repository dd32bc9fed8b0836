#include "study/balance_stats.h"

#include <string.h>

static int32_t *room_for_layer(const struct routing_file *f, struct arena *memory)
{
    size_t pairs = (size_t)f->most_rows * (size_t)f->head.top_k;
    return arena_alloc(memory, pairs * sizeof(int32_t));
}

/* The model's number of the i-th layer with experts. */
static int layer_number(const struct routing_file *f, int i)
{
    int l = 0;
    for (; !f->head.sparse[l] || i > 0; l++)
        i -= f->head.sparse[l];
    return l;
}

/* count [groups] := rows of each in a step, which go to copies as the sort of rows has it. */
static void count_rows(int32_t *count, int32_t *expert, const struct routing_file *f,
                       const struct routing_step *step, int layer,
                       const struct layer_placement *placed)
{
    routing_experts(f, step, layer, expert);
    memset(count, 0, (size_t)placed->n_groups * sizeof *count);
    for (int i = 0; i < step->n_rows * f->head.top_k; i++)
        count[placement_group(placed, expert[i], i / f->head.top_k)]++;
}

/* One step's load on all ranks. */
static void add_step(struct layer_balance *b, const int32_t *count,
                     const struct layer_placement *placed, int n_ranks)
{
    uint64_t rows_most = 0, experts_most = 0;
    for (int rank = 0; rank < n_ranks; rank++) {
        uint64_t rows = 0, experts = 0;
        for (int g = placed->rank_first[rank]; g < placed->rank_first[rank + 1]; g++) {
            rows += (uint64_t)count[g];
            experts += count[g] > 0;
        }
        b->rows[rank] += rows;
        b->experts[rank] += experts;
        rows_most = rows > rows_most ? rows : rows_most;
        experts_most = experts > experts_most ? experts : experts_most;
    }
    b->rows_most += rows_most;
    b->experts_most += experts_most;
}

static void open_layer(struct layer_balance *b, const struct layer_placement *placed, int n_ranks,
                       struct arena *memory)
{
    b->rows = arena_alloc(memory, (size_t)n_ranks * sizeof *b->rows);
    b->experts = arena_alloc(memory, (size_t)n_ranks * sizeof *b->experts);
    for (int rank = 0; rank < n_ranks; rank++)
        b->holders += placement_count(placed, rank) > 0;
}

void balance_stats_make(struct balance_stats *s, const struct routing_file *f,
                        const struct placement *placement, struct arena *memory)
{
    int32_t *expert = room_for_layer(f, memory);
    int32_t *count = arena_alloc(memory, (size_t)placement->groups_most * sizeof *count);
    *s = (struct balance_stats){.n_ranks = placement->n_ranks, .n_layers = f->n_sparse};
    for (int kind = 0; kind < REPLAY_KINDS; kind++)
        s->layers[kind] = arena_alloc(memory, (size_t)f->n_sparse * sizeof *s->layers[kind]);
    for (int l = 0; l < f->n_sparse; l++) {
        const struct layer_placement *placed = &placement->layers[layer_number(f, l)];
        for (int kind = 0; kind < REPLAY_KINDS; kind++)
            open_layer(&s->layers[kind][l], placed, s->n_ranks, memory);
        for (int i = 0; i < f->n_steps; i++) {
            count_rows(count, expert, f, &f->steps[i], l, placed);
            add_step(&s->layers[replay_kind_of(&f->steps[i])][l], count, placed, s->n_ranks);
        }
    }
}

static double ratio(const struct balance_stats *s, enum replay_kind kind, int layer, bool experts)
{
    double most = 0, mean = 0;
    for (int l = layer < 0 ? 0 : layer; l < (layer < 0 ? s->n_layers : layer + 1); l++) {
        const struct layer_balance *b = &s->layers[kind][l];
        double sum = 0;
        for (int rank = 0; rank < s->n_ranks; rank++)
            sum += (double)(experts ? b->experts[rank] : b->rows[rank]);
        most += (double)(experts ? b->experts_most : b->rows_most);
        mean += b->holders ? sum / b->holders : 0;
    }
    return mean > 0 ? most / mean : 0;
}

double balance_rows(const struct balance_stats *s, enum replay_kind kind, int layer)
{
    return ratio(s, kind, layer, false);
}

double balance_experts(const struct balance_stats *s, enum replay_kind kind, int layer)
{
    return ratio(s, kind, layer, true);
}

void routing_heat(uint64_t *heat, const struct routing_file *f, struct arena *scratch)
{
    int32_t *expert = room_for_layer(f, scratch);
    size_t experts = (size_t)f->head.n_experts;
    memset(heat, 0, (size_t)f->n_sparse * experts * sizeof *heat);
    for (int i = 0; i < f->n_steps; i++)
        for (int l = 0; l < f->n_sparse; l++) {
            routing_experts(f, &f->steps[i], l, expert);
            for (int p = 0; p < f->steps[i].n_rows * f->head.top_k; p++)
                heat[(size_t)l * experts + (size_t)expert[p]]++;
        }
}

void routing_together(uint32_t *together, const struct routing_file *f, int layer,
                      struct arena *scratch)
{
    int32_t *expert = room_for_layer(f, scratch);
    size_t experts = (size_t)f->head.n_experts;
    int k = f->head.top_k;
    memset(together, 0, experts * experts * sizeof *together);
    for (int i = 0; i < f->n_steps; i++) {
        routing_experts(f, &f->steps[i], layer, expert);
        for (int row = 0; row < f->steps[i].n_rows; row++)
            for (int a = 0; a < k; a++)
                for (int b = 0; b < k; b++)
                    if (a != b)
                        together[(size_t)expert[row * k + a] * experts +
                                 (size_t)expert[row * k + b]]++;
    }
}
