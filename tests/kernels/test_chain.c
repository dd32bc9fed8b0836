/* Steps of a layer, as the forward pass puts them together, with all their primitives under way at
 * once: no wait stands between the first embed of a prompt and the last sum of the tokens after it,
 * and all steps use the same buffers. On every device the results are those of the plain path
 * within rounding; under way, and played as a graph, again and again, they are byte for byte those
 * of the same device with a wait after every primitive. */
#include "tests/rig/kernel_rig.h"

enum { VOCAB = 50, BLOCKS = 2 }; // blocks of a sequence

/* A prompt of so many tokens a sequence in one step, then steps of a token each. */
struct shape {
    int dim, n_heads, n_kv_heads, head_dim, n_experts, k, width, shared_width;
    int sequences, prompt, steps;
};

static const struct shape shapes[] = {
    {64, 4, 4, 16, 6, 2, 40, 64, 1, 1, 3},  // one sequence
    {96, 4, 2, 32, 7, 3, 33, 64, 2, 3, 1},  // several, prompts of a few rows
    {40, 2, 1, 64, 60, 4, 31, 40, 5, 1, 1}, // a batch, most experts idle
    {64, 2, 2, 32, 4, 2, 40, 64, 1, 34, 1}, // a prompt of many rows: tiles and cuBLAS
#ifndef EPMOE_EMULATED
    {192, 8, 4, 64, 16, 4, 64, 160, 4, 10, 4}, {320, 8, 8, 64, 24, 4, 48, 96, 9, 1, 4},
#endif
};

/* How often a shape runs under way, and as a graph: called, recorded, then played. An emulated GPU
 * is slow: there a shape has one type only. */
#ifdef EPMOE_EMULATED
enum { TIMES = 2, GRAPHS = 4, ALL_TYPES = 0 };
#else
enum { TIMES = 60, GRAPHS = 60, ALL_TYPES = 1 };
#endif

enum { PIECES = 2 };

/* Everything of a shape on the present device. */
struct layer {
    const struct shape *c;
    int rows, most; // of all steps together; of a step at most
    void *table;
    float *attn_norm, *ffn_norm, *last_norm;
    struct weights qkv, o, router;
    struct ffn experts[64], shared[PIECES];
    struct ffn_list expert_list, shared_list;
    struct head_norm head_norm;
    struct rope_table rope;
    struct kv_layer kv;
    size_t kv_bytes;
    int32_t *tokens, *seq, *pos, *group_of, *identity, *piece_at;
};

/* What a step leaves to the next one, none of which may show. */
struct between {
    float *x, *qkv, *scores, *dense, *weight;
    void *h, *last_h, *q, *a, *moved, *y, *y_moved, *sums;
    int32_t *expert, *count, *slot, *source;
    uint64_t *hit;
    int first_piece, end_piece; // of all pieces of memory
};

/* Of each row of each step. */
struct results {
    float *x;        // [rows][dim]
    void *h, *sums;  // rows: the last norm; what the experts made of rows that were moved
    float *scores;   // [rows][n_experts + 1]
    int32_t *expert; // [rows][k]
    size_t x_bytes, row_bytes, scores_bytes, expert_bytes; // of a row
};

/* ---- memory ---- */

static struct ffn random_ffn(int width, int dim)
{
    struct ffn f = {new_matrix(2 * row_stride(width), dim), random_weights(dim, width, false).m};
    struct values gate = {.data = random_source(width, dim)};
    struct values up = {.data = random_source(width, dim)};
    matrix_pack_pair(&dev, &f.gate_up, &gate, &up, width);
    return f;
}

static void open_experts(struct layer *L)
{
    const struct shape *c = L->c;
    for (int e = 0; e < c->n_experts; e++)
        L->experts[e] = random_ffn(c->width, c->dim);
    L->piece_at = buffer(PIECES * sizeof *L->piece_at);
    for (int p = 0; p < PIECES; p++) {
        L->shared[p] = random_ffn(c->shared_width, c->dim);
        L->piece_at[p] = PIECES - 1 - p;
    }
    L->expert_list = (struct ffn_list){L->experts, c->n_experts, NULL};
    L->shared_list = (struct ffn_list){L->shared, PIECES, NULL};
    ffn_list_open(&dev, &L->expert_list);
    ffn_list_open(&dev, &L->shared_list);
}

static void open_cache(struct layer *L)
{
    const struct shape *c = L->c;
    int blocks = c->sequences * BLOCKS, half = c->head_dim / 2;
    float *cosines = buffer((size_t)(BLOCKS * KV_BLOCK * half) * sizeof *cosines);
    float *sines = buffer((size_t)(BLOCKS * KV_BLOCK * half) * sizeof *sines);
    int32_t *table = buffer((size_t)blocks * sizeof *table);
    for (int i = 0; i < BLOCKS * KV_BLOCK * half; i++) {
        double angle = i / half * pow(10000, -1.0 * (i % half) / half);
        cosines[i] = (float)cos(angle);
        sines[i] = (float)sin(angle);
    }
    for (int i = 0; i < blocks; i++)
        table[i] = blocks - 1 - i;
    L->kv_bytes = kv_block_bytes(&dev, type, c->n_kv_heads, c->head_dim) * (size_t)blocks;
    L->rope = (struct rope_table){cosines, sines, half, 0};
    L->kv = (struct kv_layer){
        .type = type,
        .n_kv_heads = c->n_kv_heads,
        .head_dim = c->head_dim,
        .k = buffer(L->kv_bytes),
        .v = buffer(L->kv_bytes),
        .table = table,
        .table_stride = BLOCKS,
    };
}

/* Rows in order of the steps: prompts, then a token of each sequence. */
static void place_rows(struct layer *L)
{
    const struct shape *c = L->c;
    size_t bytes = (size_t)L->rows * sizeof(int32_t);
    L->tokens = buffer(bytes);
    L->seq = buffer(bytes);
    L->pos = buffer(bytes);
    L->identity = buffer(bytes);
    for (int i = 0; i < L->rows; i++) {
        int in_prompts = c->sequences * c->prompt, later = i - in_prompts;
        L->seq[i] = i < in_prompts ? i / c->prompt : later % c->sequences;
        L->pos[i] = i < in_prompts ? i % c->prompt : c->prompt + later / c->sequences;
        L->identity[i] = i;
    }
}

static void layer_open(struct layer *L, const struct shape *c)
{
    seed = 7;
    *L = (struct layer){.c = c, .most = c->sequences * c->prompt};
    L->rows = L->most + c->sequences * c->steps;
    L->table = typed_rows(VOCAB, row_stride(c->dim), 2); // more than VOCAB rows of dim
    L->attn_norm = floats((size_t)c->dim, 1);
    L->head_norm =
        (struct head_norm){floats((size_t)c->head_dim, 1), floats((size_t)c->head_dim, 1),
                           c->head_dim, c->head_dim, 1e-6f};
    L->ffn_norm = floats((size_t)c->dim, 1);
    L->last_norm = floats((size_t)c->dim, 1);
    L->qkv = random_weights((c->n_heads + 2 * c->n_kv_heads) * c->head_dim, c->dim, true);
    L->o = random_weights(c->dim, c->n_heads * c->head_dim, false);
    L->router = random_weights(c->n_experts + 1, c->dim, false);
    L->group_of = buffer((size_t)c->n_experts * sizeof *L->group_of);
    for (int e = 0; e < c->n_experts; e++)
        L->group_of[e] = e;
    open_experts(L);
    open_cache(L);
    place_rows(L);
}

static struct between between_open(const struct layer *L)
{
    const struct shape *c = L->c;
    size_t n = (size_t)L->most, k = (size_t)c->k, row = row_bytes(type, c->dim);
    size_t heads = (size_t)c->n_heads * row_bytes(type, c->head_dim);
    struct between b = {.first_piece = n_pieces};
    b.x = buffer(n * (size_t)c->dim * 4);
    b.qkv = buffer(n * (size_t)L->qkv.m.n * 4);
    b.scores = buffer(n * (size_t)L->router.m.n * 4);
    b.dense = buffer(PIECES * n * row_bytes(DTYPE_F32, c->dim));
    b.weight = buffer(n * k * 4);
    b.h = buffer(n * row);
    b.last_h = buffer(n * row);
    b.q = buffer(n * heads);
    b.a = buffer(n * row_bytes(type, c->n_heads * c->head_dim));
    b.moved = buffer(n * k * row);
    b.y = buffer(n * k * row);
    b.y_moved = buffer(n * k * row);
    b.sums = buffer(n * row);
    b.expert = buffer(n * k * 4);
    b.count = buffer((size_t)c->n_experts * 4);
    b.slot = buffer(n * k * 4);
    b.source = buffer(n * k * 4);
    b.hit = buffer(sizeof *b.hit);
    b.end_piece = n_pieces;
    return b;
}

static struct results results_open(const struct layer *L)
{
    const struct shape *c = L->c;
    size_t n = (size_t)L->rows;
    struct results r = {.x_bytes = (size_t)c->dim * 4,
                        .row_bytes = row_bytes(type, c->dim),
                        .scores_bytes = (size_t)L->router.m.n * 4,
                        .expert_bytes = (size_t)c->k * 4};
    r.x = buffer(n * r.x_bytes);
    r.h = buffer(n * r.row_bytes);
    r.sums = buffer(n * r.row_bytes);
    r.scores = buffer(n * r.scores_bytes);
    r.expert = buffer(n * r.expert_bytes);
    return r;
}

/* ---- the primitives of a step ---- */

/* x += Wo attend(q, k, v) of rmsnorm(x) */
static void attend(const struct layer *L, const struct between *b, const struct positions *at,
                   int n)
{
    const struct shape *c = L->c;
    struct pending_residual none = {0};
    add_norm(&dev, b->x, b->h, type, &none, L->attn_norm, n, c->dim, 1e-6f);
    matmul(&dev, b->qkv, L->qkv.m.n, b->h, &L->qkv.m, n);
    rope_append(&dev, b->q, &L->kv, b->qkv, L->qkv.m.n, &L->head_norm, &L->rope, at, n, c->n_heads);
    attention(&dev, b->a, b->q, &L->kv, at, n, c->n_heads);
    matmul_add(&dev, b->x, c->dim, b->a, &L->o.m, n);
}

/* x += the shared expert and the experts of h := rmsnorm(x), all at home; last_h := rmsnorm(x) */
static void add_experts(const struct layer *L, const struct between *b, int n)
{
    const struct shape *c = L->c;
    struct sorting to = {
        b->count, b->slot, b->source, b->hit, {L->group_of, c->n_experts, c->n_experts, 1}};
    struct ffn_job jobs[2] = {{&L->shared_list, b->dense, DTYPE_F32, b->h, NULL, NULL, n},
                              {&L->expert_list, b->y, type, b->h, b->source, b->count, n * c->k}};
    struct pending_residual pending = {.pieces = b->dense,
                                       .piece_at = L->piece_at,
                                       .n_pieces = PIECES,
                                       .ld_pieces = row_stride(c->dim),
                                       .gate = b->scores + c->n_experts,
                                       .ld_gate = L->router.m.n,
                                       .y = b->y,
                                       .slot = b->slot,
                                       .weight = b->weight,
                                       .k = c->k};
    rmsnorm(&dev, b->h, type, b->x, L->ffn_norm, n, c->dim, 1e-6f);
    matmul(&dev, b->scores, L->router.m.n, b->h, &L->router.m, n);
    route_rows(&dev, b->expert, b->weight, &to, b->scores, L->router.m.n, n, c->n_experts, c->k,
               true);
    for (int together = n <= dev.joint_ffn_max_rows ? 2 : 1, i = 0; i < 2; i += together)
        run_ffn(&dev, jobs + i, together);
    add_norm(&dev, b->x, b->last_h, type, &pending, L->last_norm, n, c->dim, 1e-6f);
}

/* sums := the experts of the same rows, moved to their places first, as a worker takes them */
static void serve(const struct layer *L, const struct between *b, int n)
{
    const struct shape *c = L->c;
    int k = c->k;
    struct ffn_job job = {&L->expert_list, b->y_moved, type, b->moved, NULL, b->count, n * k};
    gather(&dev, b->moved, b->h, b->source, n * k, row_bytes(type, c->dim));
    run_ffn(&dev, &job, 1);
    sum_rows(&dev, b->sums, b->y_moved, type, b->slot, b->weight, n, k, c->dim);
}

/* Rows [first, first + n) of all. */
static void run_step(const struct layer *L, const struct between *b, const struct results *r,
                     int first, int n, int singles)
{
    const struct shape *c = L->c;
    size_t at = (size_t)first;
    struct positions where = {L->seq + first, L->pos + first, singles, BLOCKS * KV_BLOCK};
    embed(&dev, b->x, L->table, type, type, L->tokens + first, n, c->dim);
    attend(L, b, &where, n);
    add_experts(L, b, n);
    serve(L, b, n);
    gather(&dev, (char *)r->x + at * r->x_bytes, b->x, L->identity, n, r->x_bytes);
    gather(&dev, (char *)r->h + at * r->row_bytes, b->last_h, L->identity, n, r->row_bytes);
    gather(&dev, (char *)r->sums + at * r->row_bytes, b->sums, L->identity, n, r->row_bytes);
    gather(&dev, (char *)r->scores + at * r->scores_bytes, b->scores, L->identity, n,
           r->scores_bytes);
    gather(&dev, (char *)r->expert + at * r->expert_bytes, b->expert, L->identity, n,
           r->expert_bytes);
}

static void run_steps(const struct layer *L, const struct between *b, const struct results *r)
{
    const struct shape *c = L->c;
    run_step(L, b, r, 0, L->most, c->prompt == 1 ? L->most : 0);
    for (int first = L->most; first < L->rows; first += c->sequences)
        run_step(L, b, r, first, c->sequences, c->sequences);
}

/* ---- running and comparing ---- */

/* Nothing is left of an earlier run: bytes that are NaN, and no row's number. */
static void spoil(const struct layer *L, const struct between *b, const struct results *r)
{
    size_t n = (size_t)L->rows;
    for (struct piece *p = pieces + b->first_piece; p < pieces + b->end_piece; p++)
        memset(p->host, 0xff, p->bytes);
    memset(L->kv.k, 0, L->kv_bytes); // as blocks start
    memset(L->kv.v, 0, L->kv_bytes);
    memset(r->x, 0xff, n * r->x_bytes);
    memset(r->h, 0xff, n * r->row_bytes);
    memset(r->sums, 0xff, n * r->row_bytes);
    memset(r->scores, 0xff, n * r->scores_bytes);
    memset(r->expert, 0xff, n * r->expert_bytes);
    *b->hit = 0;
}

/* Two prompts take turns, so that what is left of one is wrong for the other. */
static void say(const struct layer *L, int prompt)
{
    for (int i = 0; i < L->rows; i++)
        L->tokens[i] = (i * 7 + prompt * 11 + 3) % VOCAB;
}

static void same_results(const struct layer *L, const struct results *a, const struct results *b,
                         const char *what)
{
    size_t n = (size_t)L->rows;
    same(a->scores, b->scores, n * a->scores_bytes, what);
    same(a->expert, b->expert, n * a->expert_bytes, what);
    same(a->sums, b->sums, n * a->row_bytes, what);
    same(a->x, b->x, n * a->x_bytes, what);
    same(a->h, b->h, n * a->row_bytes, what);
}

/* The results of both prompts, with a wait after every primitive. */
static void run_one_by_one(const struct layer *L, const struct between *b, struct results *r)
{
    one_by_one = true;
    for (int prompt = 0; prompt < 2; prompt++) {
        say(L, prompt);
        spoil(L, b, &r[prompt]);
        run_steps(L, b, &r[prompt]);
        to_host();
    }
    one_by_one = false;
}

/* The same under way, then as a graph: called, recorded and played (on the CPU always called). */
static void run_under_way(const struct layer *L, const struct between *b,
                          const struct results *wanted)
{
    static uint64_t key;
    struct results r = results_open(L);
    key++;
    int times = on_gpu() ? TIMES : 1, graphs = on_gpu() ? GRAPHS : 1; // a CPU's calls are over
    for (int i = 0; i < times + graphs; i++) {
        bool play = i >= times;
        say(L, i % 2);
        spoil(L, b, &r);
        to_device();
        if (!play) {
            run_steps(L, b, &r);
        } else if (dev_graph_begin(&dev, key)) {
            run_steps(L, b, &r);
            dev_graph_end(&dev);
        }
        to_host();
        same_results(L, &r, &wanted[i % 2], play ? "a graph" : "a chain under way");
    }
}

/* Whether a row went through the same experts. Where it did not, the scores were nearly equal. */
static bool same_experts(const struct layer *L, const struct results *a, const struct results *b,
                         int row)
{
    int k = L->c->k, ld = L->router.m.n;
    const int32_t *one = a->expert + row * k, *other = b->expert + row * k;
    const float *score = b->scores + row * ld;
    bool same_ones = memcmp(one, other, (size_t)k * sizeof *one) == 0;
    for (int j = 0; j < k && !same_ones; j++)
        near((double)score[one[j]], (double)score[other[j]],
             type == DTYPE_F32 ? 0x1p-10 : 64 * case_epsilon(type), "a choice");
    return same_ones;
}

/* Within what is rounded on the way through some ten primitives. */
static void near_row(const float *found, const float *wanted, int n, const char *what)
{
    double largest = 0, bound = type == DTYPE_F32 ? 0x1p-14 : 16 * case_epsilon(type);
    for (int i = 0; i < n; i++)
        largest = fmax(largest, fabs((double)wanted[i]));
    for (int i = 0; i < n; i++)
        near((double)found[i], (double)wanted[i], bound * largest, what);
}

static void near_results(const struct layer *L, const struct results *found,
                         const struct results *wanted)
{
    int dim = L->c->dim, ld = L->router.m.n, compared = 0;
    float *sums[2] = {scratch((size_t)dim * 4), scratch((size_t)dim * 4)};
    float *h[2] = {scratch((size_t)dim * 4), scratch((size_t)dim * 4)};
    for (int row = 0; row < L->rows; row++) {
        near_row(found->scores + row * ld, wanted->scores + row * ld, ld, "scores");
        if (!same_experts(L, found, wanted, row))
            continue;
        for (int i = 0; i < dim; i++) {
            sums[0][i] = (float)at(found->sums, dim, row, i);
            sums[1][i] = (float)at(wanted->sums, dim, row, i);
            h[0][i] = (float)at(found->h, dim, row, i);
            h[1][i] = (float)at(wanted->h, dim, row, i);
        }
        near_row(sums[0], sums[1], dim, "sums of moved rows");
        near_row(found->x + row * dim, wanted->x + row * dim, dim, "x");
        near_row(h[0], h[1], dim, "the last norm");
        compared++;
    }
    assert_true(compared >= L->rows * 3 / 4);
}

/* What the present device makes of a shape, and the layer it was made with. */
static struct between make_results(struct layer *L, const struct shape *c, struct results r[2])
{
    layer_open(L, c);
    struct between b = between_open(L);
    for (int i = 0; i < 2; i++)
        r[i] = results_open(L);
    run_one_by_one(L, &b, r);
    return b;
}

static void chain_body(void)
{
    for (int i = 0; i < LENGTH(shapes); i++) {
        static struct layer L;
        struct results plain[2], own[2];
        struct dev present = dev;
        if (!ALL_TYPES && type != (enum dtype)((i + 1) % 3))
            continue;
        open_dev(ISA_PLAIN, 1);
        make_results(&L, &shapes[i], plain);
        close_dev();
        dev = present;
        struct between b = make_results(&L, &shapes[i], own);
        for (int prompt = 0; prompt < 2; prompt++)
            near_results(&L, &own[prompt], &plain[prompt]);
        run_under_way(&L, &b, own);
        drain();
    }
}

static void test_chain(void **state)
{
    (void)state;
    everywhere(chain_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_chain)};
    check_only();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
