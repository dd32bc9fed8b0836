/* Primitives that go row by row, and the plan: on every instruction set of this machine and for
 * every type, against the formula in double, and bit for bit against themselves; and products of
 * tiny numbers. */
#include "tests/rig/kernel_rig.h"

/* From a table of every type and odd alignment. */
static void embed_body(void)
{
    enum { VOCAB = 7, N = 9 };
    for (int c = 0; c < LENGTH(row_widths); c++)
        for (enum dtype from = DTYPE_F32; from <= DTYPE_BF16; from++) {
            int dim = row_widths[c];
            size_t bytes = (size_t)(VOCAB * dim * dtype_bytes(from));
            void *aligned = scratch(bytes);
            for (int i = 0; i < VOCAB * dim; i++)
                dtype_store(from, aligned, (size_t)i, uniform());
            char *table = (char *)buffer(bytes + 1) + 1;
            memcpy(table, aligned, bytes);
            int32_t *tokens = buffer(N * sizeof *tokens);
            for (int i = 0; i < N; i++)
                tokens[i] = (i * 5 + 3) % VOCAB;
            float *x = buffer((size_t)(N * dim) * sizeof *x);
            embed(&dev, x, table, from, type, tokens, N, dim);
            to_host();
            for (int i = 0; i < N * dim; i++) {
                size_t source = (size_t)(tokens[i / dim] * dim + i % dim);
                assert_true(x[i] == dtype_round(type, dtype_load(from, table, source)));
            }
            drain();
        }
}

static void test_embed(void **state)
{
    (void)state;
    everywhere(embed_body);
}

static void rmsnorm_body(void)
{
    for (int c = 0; c < LENGTH(row_widths); c++) {
        int dim = row_widths[c], n = 5;
        float *x = floats((size_t)(n * dim), 3), *w = floats((size_t)dim, 2);
        size_t bytes = (size_t)n * row_bytes(type, dim);
        void *h = memset(buffer(bytes), 0x55, bytes), *one = buffer(bytes);
        rmsnorm(&dev, h, type, x, w, n, dim, 1e-6f);
        for (int r = 0; r < n; r++)
            rmsnorm(&dev, row_of(one, type, dim, r), type, x + r * dim, w, 1, dim, 1e-6f);
        to_host();
        for (int r = 0; r < n; r++) {
            double squares = 0;
            for (int i = 0; i < dim; i++)
                squares += (double)x[r * dim + i] * (double)x[r * dim + i];
            double inverse = 1 / sqrt(squares / dim + (double)1e-6f);
            for (int i = 0; i < row_stride(dim); i++) {
                double y = i < dim ? (double)x[r * dim + i] * inverse * (double)w[i] : 0;
                double bound = case_epsilon(type) + case_sum_bound(dim) + 4 * 0x1p-24;
                // subnormal f16 has a fixed step
                near(at(h, dim, r, i), y, bound * fabs(y) + (type == DTYPE_F16 ? 0x1p-25 : 0),
                     "rmsnorm");
            }
        }
        same(one, h, bytes, "rmsnorm row by row");
    }
}

static void test_rmsnorm(void **state)
{
    (void)state;
    everywhere(rmsnorm_body);
}

/* exp from -104 to 88, and what would overflow; silu of the same. */
static void exp_body(void)
{
    for (float x = -104; x < 88; x += 0.0037f) {
        float y, sum = dev.cpu->exp_row(&y, &x, 0, 1);
        near((double)y, x < EXP_LOW ? 0 : exp((double)x), 3 * 0x1p-24 * exp((double)x), "exp");
        assert_true(sum == y);
    }
    float lowest = -INFINITY, y = 1;
    assert_true(dev.cpu->exp_row(&y, &lowest, 3, 1) == 0 && y == 0);
    for (int i = 0; i < LENGTH(extreme_values); i++) {
        float x = extreme_values[i], up = 0.25f, h;
        dev.cpu->swiglu(&h, DTYPE_F32, &x, &up, 1);
        double wanted = (double)x / (1 + exp(-(double)x)) * 0.25;
        near((double)h, wanted, EXP_ROUNDINGS * 0x1p-24 * fabs(wanted) + 1e-30, "silu");
    }
}

static void test_exp(void **state)
{
    (void)state;
    on_every_cpu(exp_body);
}

static void check_route(const struct route_case *c, const float *score, const int32_t *expert,
                        const float *weight, bool normalise)
{
    double all = 0, chosen = 0;
    for (int e = 0; e < c->n_experts; e++)
        all += exp((double)score[e] - (double)score[expert[0]]);
    for (int j = 0; j < c->k; j++)
        chosen += exp((double)score[expert[j]] - (double)score[expert[0]]);
    for (int j = 0; j < c->k; j++) {
        double w = exp((double)score[expert[j]] - (double)score[expert[0]]);
        near((double)weight[j], w / (normalise ? chosen : all), 1e-5 * w + 1e-7, "route");
    }
    for (int j = 0; j + 1 < c->k; j++)
        assert_true(score[expert[j]] > score[expert[j + 1]] ||
                    (score[expert[j]] == score[expert[j + 1]] && expert[j] < expert[j + 1]));
    for (int e = 0; e < c->n_experts; e++) { // nobody better was left out
        int last = expert[c->k - 1], taken = 0;
        for (int j = 0; j < c->k; j++)
            taken += expert[j] == e;
        assert_true(taken || score[e] < score[last] || (score[e] == score[last] && e > last));
    }
}

static void route_body(void)
{
    enum { N = 6 };
    for (int i = 0; i < LENGTH(route_cases); i++) {
        const struct route_case *c = &route_cases[i];
        int ld = c->n_experts + 1;
        float *scores = floats((size_t)(N * ld), 8);
        for (int e = 0; e < c->n_experts; e++) {
            scores[ld + e] = (float)(e % 3);                                 // many equals
            scores[2 * ld + e] = extreme_values[e % LENGTH(extreme_values)]; // wide
        }
        int32_t *expert = buffer((size_t)(N * c->k) * sizeof *expert);
        float *weight = buffer((size_t)(N * c->k) * sizeof *weight);
        for (int normalise = 0; normalise < 2; normalise++) {
            route_rows(&dev, expert, weight, NULL, scores, ld, N, c->n_experts, c->k, normalise);
            to_host();
            for (int r = 0; r < N; r++)
                check_route(c, scores + r * ld, expert + r * c->k, weight + r * c->k, normalise);
        }
        for (int e = 0; e < ld; e++) // broken numbers must still name experts that exist
            scores[e] = e % 2 ? NAN : -INFINITY;
        route_rows(&dev, expert, weight, NULL, scores, ld, 1, c->n_experts, c->k, true);
        to_host();
        for (int j = 0; j < c->k; j++)
            assert_in_range(expert[j], 0, c->n_experts - 1);
    }
}

static void test_route(void **state)
{
    (void)state;
    everywhere(route_body);
}

static void check_sorted(const int32_t *count, const int32_t *slot, const int32_t *source,
                         const int32_t *expert, const struct grouping *groups, int n, int k)
{
    int next = 0;
    for (int g = 0; g < groups->n_groups; g++) {
        int before = next;
        for (int i = 0; i < n * k; i++)
            if (groups->group_of[i / k % groups->turns * groups->n_experts + expert[i]] == g) {
                assert_int_equal(slot[i], next);
                assert_int_equal(source[next++], i / k);
            }
        assert_int_equal(count[g], next - before);
    }
}

/* Experts have groups in an order of their own, and every third one another group in every other
 * turn: a copy. There are n_experts + n_copies groups. */
static struct grouping copied(int n_experts, int turns)
{
    int n_copies = 0;
    int32_t *group_of = buffer((size_t)(turns * n_experts) * 4);
    for (int e = 0; e < n_experts; e++) {
        int own = (e + 3) % n_experts, other = e % 3 || turns == 1 ? own : n_experts + n_copies++;
        for (int t = 0; t < turns; t++)
            group_of[t * n_experts + e] = t % 2 ? other : own;
    }
    return (struct grouping){group_of, n_experts, n_experts + n_copies, turns};
}

/* Many rows and few groups, and groups without rows. In each turn a row's experts have others. */
static void sort_body(void)
{
    enum { N = 700, K = 3, EXPERTS = 11, TURNS = 8 };
    static const int rows[] = {0, 1, 50, N};
    int32_t *expert = buffer(N * K * 4), *count = buffer(256);
    int32_t *group_of = buffer(TURNS * EXPERTS * 4);
    int32_t *slot = buffer(N * K * 4), *source = buffer(N * K * 4);
    float *weight = buffer(N * K * 4), *scores = floats(N * EXPERTS, 8);
    uint64_t *hit = buffer(sizeof *hit), wanted = 0;
    for (int i = 0; i < 6 * LENGTH(rows); i++) {
        int groups = 1 + i % 3 * 5, n = rows[i / 6];
        struct grouping by = {group_of, EXPERTS, groups, i % 6 < 3 ? 1 : TURNS};
        struct sorting to = {count, slot, source, hit, by};
        for (int e = 0; e < TURNS * EXPERTS; e++)
            group_of[e] = (e * 4 + e / EXPERTS + 1) % EXPERTS % groups;
        route_rows(&dev, expert, weight, &to, scores, EXPERTS, n, EXPERTS, K, true);
        to_host();
        check_sorted(count, slot, source, expert, &by, n, K);
        for (int g = 0; g < groups; g++)
            wanted += count[g] > 0;
        assert_int_equal(*hit, wanted);
    }
}

/* Routing with the sort in the same call gives the bytes of routing, then sorting on the host. */
static void plan_body(void)
{
    enum { MOST = 40 };
    static const int rows[] = {0, 1, 2, 9, 32, MOST};
    for (int i = 0; i < 2 * LENGTH(route_cases) * LENGTH(rows); i++) {
        const struct route_case *c = &route_cases[i / 2 % LENGTH(route_cases)];
        int n = rows[i / 2 / LENGTH(route_cases)], k = c->k, ld = c->n_experts + 1;
        size_t pairs = (size_t)(n * k) * 4;
        float *scores = floats((size_t)(MOST * ld), 8), *weight[2];
        int32_t *expert[2];
        struct grouping by = copied(c->n_experts, i % 2 ? 4 : 1);
        size_t groups = (size_t)by.n_groups * 4;
        struct sorting to[2];
        for (int two = 0; two < 2; two++) {
            expert[two] = buffer(pairs);
            weight[two] = buffer(pairs);
            to[two] = (struct sorting){buffer(groups), buffer(pairs), buffer(pairs), buffer(8), by};
            memset(to[two].count, 0x55, groups);
        }
        for (int two = 0; two < 2; two++)
            route_rows(&dev, expert[two], weight[two], two ? NULL : &to[two], scores, ld, n,
                       c->n_experts, k, true);
        to_host();
        sort_rows(&to[1], expert[1], n, k);
        same(expert[0], expert[1], pairs, "sorting, experts");
        same(weight[0], weight[1], pairs, "sorting, weights");
        same(to[0].count, to[1].count, groups, "route, counts");
        same(to[0].slot, to[1].slot, pairs, "route, slots");
        same(to[0].source, to[1].source, pairs, "route, sources");
        same(to[0].hit, to[1].hit, sizeof *to[0].hit, "route, hits");
        check_sorted(to[0].count, to[0].slot, to[0].source, expert[0], &by, n, k);
        drain();
    }
}

static void test_plan(void **state)
{
    (void)state;
    everywhere(plan_body);
}

static void test_sort_rows(void **state)
{
    (void)state;
    everywhere(sort_body);
}

static void gather_body(void)
{
    for (int c = 0; c < LENGTH(row_widths); c++) {
        int n = row_counts[c % LENGTH(row_counts)], dim = row_widths[c];
        void *y = typed_rows(n, dim, 1), *moved = typed_rows(n, dim, 1);
        int32_t *slot = buffer((size_t)n * sizeof *slot);
        for (int i = 0; i < n; i++)
            slot[i] = (i * 7 + 2) % n;
        gather(&dev, moved, y, slot, n, row_bytes(type, dim));
        to_host();
        for (int i = 0; i < n; i++)
            same(row_of(moved, type, dim, i), row_of(y, type, dim, slot[i]), row_bytes(type, dim),
                 "gather");
        drain();
    }
}

static void check_sums(const float *x, const float *old, const struct pending_residual *a, int n,
                       int dim)
{
    for (int i = 0; i < n * dim; i++) {
        int r = i / dim;
        double by = a->gate ? 1 / (1 + exp(-(double)a->gate[r * a->ld_gate])) : 1;
        double sum = (double)old[i], size = fabs(sum);
        for (int p = 0; p < a->n_pieces; p++) {
            int at_row = a->piece_at[p] * n + r;
            double term = by * (double)a->pieces[at_row * a->ld_pieces + i % dim];
            sum += term;
            size += fabs(term);
        }
        for (int j = 0; j < a->k && a->slot[r * a->k + j] >= 0; j++) {
            int slot = a->slot[r * a->k + j];
            double term = (double)a->weight[r * a->k + j] * at(a->y, dim, slot, i % dim);
            sum += term;
            size += fabs(term);
        }
        near((double)x[i], sum,
             (case_sum_bound(a->k + a->n_pieces) + EXP_ROUNDINGS * 0x1p-23) * size, "add_norm");
    }
}

static float *copy_of(const float *x, size_t n)
{
    return memcpy(buffer(n * sizeof *x), x, n * sizeof *x);
}

/* Each addend by itself and all together; one call and a call for each part give the same bytes. */
static void add_body(void)
{
    enum { K = 5 };
    for (int c = 0; c < LENGTH(row_widths); c++) {
        int n = row_counts[c % LENGTH(row_counts)], dim = row_widths[c], ld = dim + c % 3 * 2;
        size_t all = (size_t)(n * dim), h_bytes = (size_t)n * row_bytes(type, dim);
        void *y = typed_rows(n * K, dim, 1), *h = buffer(h_bytes), *h_after = buffer(h_bytes);
        int32_t *slot = buffer((size_t)(n * K) * sizeof *slot);
        int32_t *piece_at = buffer(3 * sizeof *piece_at);
        for (int p = 0; p < 3; p++)
            piece_at[p] = (p + 1) % (c % 3 + 1);
        for (int i = 0; i < n * K; i++)
            slot[i] = i % K > 1 && i / K % 3 == 2 ? -1 : (i * 7 + 2) % (n * K);
        struct pending_residual dense = {.pieces = floats((size_t)(3 * n * ld), 1),
                                         .piece_at = piece_at,
                                         .n_pieces = c % 3 + 1,
                                         .ld_pieces = ld};
        struct pending_residual experts = {
            .y = y, .slot = slot, .weight = floats((size_t)(n * K), 1), .k = K};
        dense.gate = c % 2 ? floats((size_t)(n * 2), 9) : NULL;
        dense.ld_gate = 2;
        struct pending_residual both = experts, none = {0};
        both.pieces = dense.pieces;
        both.piece_at = piece_at;
        both.n_pieces = dense.n_pieces;
        both.ld_pieces = ld;
        both.gate = dense.gate;
        both.ld_gate = 2;
        float *old = floats(all, 1), *x = copy_of(old, all), *parts = copy_of(old, all);
        float *first_part = copy_of(old, all);
        float *norm = floats((size_t)dim, 2);
        memset(h, 0x55, h_bytes);
        add_norm(&dev, x, h, type, &both, norm, n, dim, 1e-6f);
        add_norm(&dev, first_part, NULL, type, &dense, NULL, n, dim, 1e-6f);
        add_norm(&dev, parts, NULL, type, &dense, NULL, n, dim, 1e-6f);
        add_norm(&dev, parts, NULL, type, &experts, NULL, n, dim, 1e-6f);
        rmsnorm(&dev, h_after, type, x, norm, n, dim, 1e-6f);
        to_host();
        check_sums(x, old, &both, n, dim);
        check_sums(first_part, old, &dense, n, dim);
        same(x, parts, all * sizeof *x, "adding in one call");
        same(h, h_after, h_bytes, "the norm in the call that adds");
        add_norm(&dev, x, h, type, &none, norm, n, dim, 1e-6f);
        to_host();
        same(h, h_after, h_bytes, "nothing to add");
        same(x, parts, all * sizeof *x, "nothing to add");
        drain();
    }
}

static void test_add_norm(void **state)
{
    (void)state;
    everywhere(add_body);
}

static void test_gather(void **state)
{
    (void)state;
    everywhere(gather_body);
}

/* Weights and inputs down to subnormal numbers, whose products are smaller still: a row's bits are
 * the same alone and beside others. */
static void tiny_body(void)
{
    enum { ROWS = 3, N = 83, K = 96 };
    float *source = scratch(sizeof(float[N * K])), *y = buffer(sizeof(float[ROWS * N]));
    float *again = buffer(sizeof(float[ROWS * N]));
    struct matrix m = new_matrix(N, K);
    void *x = typed_rows(ROWS, K, 1);
    for (int i = 0; i < N * K; i++)
        source[i] = ldexpf(uniform(), -(i * 7919 % 140));
    for (int i = 0; i < ROWS * K; i++)
        dtype_store(type, row_of(x, type, K, i / K), (size_t)(i % K),
                    ldexpf(uniform(), -(i / K * 45 + i * 31 % 50)));
    matrix_pack(&dev, &m, 0, &(struct values){.type = DTYPE_F32, .data = source}, N);
    matmul(&dev, y, N, x, &m, ROWS);
    for (int r = 0; r < ROWS; r++)
        matmul(&dev, again + r * N, N, row_of(x, type, K, r), &m, 1);
    to_host();
    same(again, y, sizeof(float[ROWS * N]), "tiny numbers row by row");
}

static void test_tiny(void **state)
{
    (void)state;
    on_every_cpu(tiny_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiny),      cmocka_unit_test(test_embed),
        cmocka_unit_test(test_rmsnorm),   cmocka_unit_test(test_exp),
        cmocka_unit_test(test_route),     cmocka_unit_test(test_plan),
        cmocka_unit_test(test_sort_rows), cmocka_unit_test(test_gather),
        cmocka_unit_test(test_add_norm),
    };
    check_only();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
