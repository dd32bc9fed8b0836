/* Our kernels for the routed experts of one layer, bf16, random weights: milliseconds a call, by
 * rows. The same work and routing as run_kt_kernel.py has: the rows of a step are sorted by expert,
 * go through their experts, and their weighted sums come out.
 *
 *     experts EXPERTS TOP_K DIM WIDTH THREADS ROWS CALLS      e.g. experts 60 4 2048 1408 2 1,8 9
 */
#include <string.h>

#include "tools/peers/timing.h"

struct layer {
    struct dev d;
    int experts, top_k, dim, width, most_rows;
    struct ffn_list list;
    struct ffn *ffns;
    uint32_t random;
    int32_t *expert, *count, *slot, *source, *group_of;
    float *weight;
    void *x, *y, *out; // rows
};

/* Experts of each row: random, distinct within a row. */
static void draw_experts(struct layer *l, int rows)
{
    for (int i = 0; i < rows; i++) {
        int32_t *chosen = l->expert + i * l->top_k;
        for (int n = 0; n < l->top_k;) {
            l->random = l->random * 1664525u + 1013904223u;
            int32_t expert = (int32_t)((uint64_t)l->random * (uint64_t)l->experts >> 32);
            bool taken = false;
            for (int j = 0; j < n; j++)
                taken |= chosen[j] == expert;
            if (!taken)
                chosen[n++] = expert;
        }
    }
}

static double forward(struct layer *l, int rows)
{
    draw_experts(l, rows);
    int64_t start = clock_ns();
    struct sorting sorting = {.count = l->count,
                              .slot = l->slot,
                              .source = l->source,
                              .groups = {l->group_of, l->experts, l->experts, 1}};
    sort_rows(&sorting, l->expert, rows, l->top_k);
    struct ffn_job job = {.list = &l->list,
                          .y = l->y,
                          .y_type = DTYPE_BF16,
                          .x = l->x,
                          .source = l->source,
                          .count = l->count,
                          .n = rows * l->top_k};
    run_ffn(&l->d, &job, 1);
    sum_rows(&l->d, l->out, l->y, DTYPE_BF16, l->slot, l->weight, rows, l->top_k, l->dim);
    return seconds_since(start);
}

static void make_expert(struct layer *l, int i)
{
    struct ffn *f = &l->ffns[i];
    struct values gate = {.type = DTYPE_BF16, .noise = weight_noise(), .key = 3 * (uint64_t)i};
    struct values up = gate, down = gate;
    up.key++;
    down.key += 2;
    f->gate_up = empty_matrix(&l->d, 2 * row_stride(l->width), l->dim);
    f->down = empty_matrix(&l->d, l->dim, l->width);
    matrix_pack_pair(&l->d, &f->gate_up, &gate, &up, l->width);
    matrix_pack(&l->d, &f->down, 0, &down, l->dim);
}

static void make_experts(struct layer *l)
{
    l->ffns = dev_alloc_host(&l->d, (size_t)l->experts * sizeof *l->ffns);
    for (int i = 0; i < l->experts; i++)
        make_expert(l, i);
    l->list = (struct ffn_list){.ffns = l->ffns, .n = l->experts};
    ffn_list_open(&l->d, &l->list);
}

static void make_rows(struct layer *l)
{
    size_t assignments = (size_t)l->most_rows * (size_t)l->top_k;
    size_t bytes = (size_t)row_stride(l->dim) * sizeof(bf16);
    l->expert = dev_alloc(&l->d, assignments * sizeof *l->expert);
    l->slot = dev_alloc(&l->d, assignments * sizeof *l->slot);
    l->source = dev_alloc(&l->d, assignments * sizeof *l->source);
    l->weight = dev_alloc(&l->d, assignments * sizeof *l->weight);
    for (size_t i = 0; i < assignments; i++)
        l->weight[i] = 1 / (float)l->top_k;
    l->count = dev_alloc(&l->d, (size_t)l->experts * sizeof *l->count);
    l->group_of = dev_alloc(&l->d, (size_t)l->experts * sizeof *l->group_of);
    for (int i = 0; i < l->experts; i++)
        l->group_of[i] = i;
    l->x = dev_alloc(&l->d, (size_t)l->most_rows * bytes);
    noise_fill(weight_noise(), ~0u, 0, (size_t)l->most_rows * (size_t)row_stride(l->dim), l->x);
    l->y = dev_alloc(&l->d, assignments * bytes);
    l->out = dev_alloc(&l->d, (size_t)l->most_rows * bytes);
}

static void open_layer(struct layer *l, int threads)
{
    open_cpu(&l->d, threads);
    dev_reserve(&l->d, &(struct dev_limits){.type = DTYPE_BF16,
                                            .rows = l->most_rows * l->top_k,
                                            .ffn_width = l->width,
                                            .dim = l->dim,
                                            .n_experts = l->experts});
    make_experts(l);
    make_rows(l);
}

int main(int argc, char **argv)
{
    int size[7], rows[MOST_SIZES];
    if (argc != 8) {
        fprintf(stderr, "usage: experts EXPERTS TOP_K DIM WIDTH THREADS ROWS CALLS\n");
        return 2;
    }
    for (int i = 0; i < 7; i++) {
        int list[MOST_SIZES];
        parse_sizes(list, argv[i + 1]);
        size[i] = list[0];
    }
    int n_rows = parse_sizes(rows, argv[6]), calls = size[6] < MOST_CALLS ? size[6] : MOST_CALLS;
    struct layer l = {
        .experts = size[0], .top_k = size[1], .dim = size[2], .width = size[3], .random = 1};
    for (int i = 0; i < n_rows; i++)
        l.most_rows = rows[i] > l.most_rows ? rows[i] : l.most_rows;
    open_layer(&l, size[4]);
    forward(&l, 1);
    printf("{\"milliseconds\": {");
    for (int i = 0; i < n_rows; i++) {
        double seconds[MOST_CALLS];
        for (int j = 0; j < calls; j++)
            seconds[j] = forward(&l, rows[i]);
        printf("%s\"%d\": %.4f", i ? ", " : "", rows[i], median(seconds, calls) * 1e3);
    }
    printf("}}\n");
    dev_close(&l.d);
    return 0;
}
