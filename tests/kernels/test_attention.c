/* Rotary embedding, the cache and attention, on every instruction set and for every type: against
 * the formula in double precision, and bit for bit row by row, in chunks, beside other sequences,
 * and with other numbers of threads. */
#include "tests/rig/kernel_rig.h"

enum { STRIDE = 32 }; // blocks of a sequence

/* Where a head's part of a block begins, in elements. */
static size_t part_index(const struct kv_layer *kv, int32_t block, int head)
{
    size_t part = kv_block_bytes(&dev, type, 1, kv->head_dim) / (size_t)dtype_bytes(type);
    return ((size_t)block * (size_t)kv->n_kv_heads + (size_t)head) * part;
}

/* Where in that part element i of the key (or value) of a position is: on a GPU position by
 * position. */
static size_t index_in_part(const struct kv_layer *kv, bool key, int pos, int i)
{
    size_t slot = (size_t)(pos % KV_BLOCK), input = (size_t)i, output = slot;
    size_t inputs = (size_t)row_stride(kv->head_dim);
    if (on_gpu())
        return slot * inputs + input;
    if (!key) {
        input = slot;
        output = (size_t)i;
        inputs = KV_BLOCK;
    }
    return output / PANEL * inputs * PANEL + panel_index(type, input, output % PANEL);
}

/* What an earlier user of the blocks may leave: anything, where keys and values go. */
static void fill_with_rubbish(const struct kv_layer *kv, int sequences)
{
    for (int part = 0; part < sequences * STRIDE * kv->n_kv_heads; part++) {
        size_t start = part_index(kv, part / kv->n_kv_heads, part % kv->n_kv_heads);
        for (int i = 0; i < KV_BLOCK * kv->head_dim; i++) {
            int pos = i / kv->head_dim, j = i % kv->head_dim;
            dtype_store(type, kv->k, start + index_in_part(kv, true, pos, j), j % 3 ? 7 : NAN);
            dtype_store(type, kv->v, start + index_in_part(kv, false, pos, j), INFINITY);
        }
    }
}

/* A cache whose blocks lie in no order. */
static struct kv_layer cache_open(int sequences, int n_kv_heads, int head_dim)
{
    int blocks = sequences * STRIDE;
    size_t bytes = kv_block_bytes(&dev, type, n_kv_heads, head_dim) * (size_t)blocks;
    int32_t *table = buffer((size_t)blocks * sizeof *table);
    for (int i = 0; i < blocks; i++)
        table[i] = (i * 7 + 3) % blocks; // 7 and 32, 64, 96 have no factor in common
    return (struct kv_layer){
        .type = type,
        .n_kv_heads = n_kv_heads,
        .head_dim = head_dim,
        .k = buffer(bytes),
        .v = buffer(bytes),
        .table = table,
        .table_stride = STRIDE,
    };
}

/* cos and sin of an angle for each position, or 1 and 0 when `still`. */
static struct rope_table rope_open(int positions, int head_dim, bool still)
{
    int half = head_dim / 2;
    size_t bytes = (size_t)(positions * half) * sizeof(float);
    float *c = buffer(bytes), *s = buffer(bytes);
    for (int i = 0; i < positions * half; i++) {
        double angle = i / half * pow(10000, -2.0 * (i % half) / head_dim);
        c[i] = still ? 1 : (float)cos(angle);
        s[i] = still ? 0 : (float)sin(angle);
    }
    return (struct rope_table){c, s, half, 0};
}

static double cached(const struct kv_layer *kv, bool key, int seq, int pos, int head, int i)
{
    int32_t block = kv->table[seq * kv->table_stride + pos / KV_BLOCK];
    size_t index = part_index(kv, block, head) + index_in_part(kv, key, pos, i);
    return dtype_load(type, key ? kv->k : kv->v, index);
}

/* ---- rope ---- */

/* What is normed together before it is rotated. */
enum normed { NOTHING, HEADS, ALL_HEADS };

static const struct head_norm no_norm;

static struct head_norm norm_open(enum normed normed, int head_dim, int n_heads, int n_kv_heads)
{
    if (normed == NOTHING)
        return no_norm;
    int q = normed == HEADS ? head_dim : head_dim * n_heads;
    int k = normed == HEADS ? head_dim : head_dim * n_kv_heads;
    return (struct head_norm){floats((size_t)q, 1), floats((size_t)k, 1), q, k, 0.05f};
}

/* What the norm divides the `width` values from x on by. */
static double norm_divisor(const float *x, int width, float eps)
{
    double squares = 0;
    for (int i = 0; i < width; i++)
        squares += (double)x[i] * (double)x[i];
    return sqrt(squares / width + (double)eps);
}

static void rope_case(int head_dim, int n_heads, int n_kv_heads, enum normed normed)
{
    enum { N = 5 };
    static const int32_t seqs[N] = {0, 0, 0, 1, 1}, places[N] = {62, 63, 64, 0, 127};
    int32_t *seq = memcpy(buffer(sizeof seqs), seqs, sizeof seqs);
    int32_t *pos = memcpy(buffer(sizeof places), places, sizeof places);
    int heads = n_heads + 2 * n_kv_heads, ld = heads * head_dim + 1, half = head_dim / 2;
    struct kv_layer kv = cache_open(2, n_kv_heads, head_dim);
    struct rope_table rope = rope_open(2 * 128, head_dim, false);
    rope.stride = normed == HEADS ? 128 : 0; // each sequence its own angles
    struct positions where = {seq, pos, 0, 128};
    float *qkv = floats((size_t)(N * ld), 1);
    struct head_norm norm = norm_open(normed, head_dim, n_heads, n_kv_heads);
    size_t q_bytes = (size_t)(N * n_heads) * row_bytes(type, head_dim);
    void *q = memset(buffer(q_bytes), 0x55, q_bytes);
    rope_append(&dev, q, &kv, qkv, ld, &norm, &rope, &where, N, n_heads);
    to_host();
    double divisor = 1;
    for (int i = 0; i < N * heads * head_dim; i++) {
        int r = i / (heads * head_dim), head = i / head_dim % heads, j = i % head_dim;
        const float *x = qkv + r * ld + head * head_dim;
        int turn = (seq[r] * rope.stride + pos[r]) * half + j % half;
        double co = (double)rope.cosines[turn], si = (double)rope.sines[turn];
        bool query = head < n_heads;
        int width = query ? norm.q_width : norm.k_width;
        int column = (query ? head : head - n_heads) * head_dim;
        const float *weight = query ? norm.q : norm.k;
        if (weight && j == 0)
            divisor = norm_divisor(x - column % width, width, norm.eps);
        double a = (double)x[j % half], b = (double)x[half + j % half];
        if (weight) {
            a *= (double)weight[column % width + j % half] / divisor;
            b *= (double)weight[column % width + half + j % half] / divisor;
        }
        double turned = j < half ? a * co - b * si : b * co + a * si;
        double bound = case_epsilon(type) * fabs(turned);
        bound += (0x1p-22 + (weight ? case_sum_bound(width) : 0)) * (fabs(a) + fabs(b));
        bound += type == DTYPE_F16 ? 0x1p-25 : 0; // below 2^-14 f16 numbers are 2^-24 apart
        if (head < n_heads)
            near(at(q, head_dim, r * n_heads + head, j), turned / sqrt(head_dim), bound, "rope q");
        else if (head < n_heads + n_kv_heads)
            near(cached(&kv, true, seq[r], pos[r], head - n_heads, j), turned, bound, "rope k");
        else
            assert_true(cached(&kv, false, seq[r], pos[r], head - n_heads - n_kv_heads, j) ==
                        (double)dtype_round(type, x[j]));
    }
    for (int i = 0; i < N * n_heads; i++)
        for (int j = head_dim; j < row_stride(head_dim); j++)
            assert_true(at(q, head_dim, i, j) == 0);
}

static void rope_body(void)
{
    for (int c = 0; c < LENGTH(attention_cases); c++) {
        const struct attention_case *a = &attention_cases[c];
        for (enum normed normed = NOTHING; normed <= ALL_HEADS; normed++) {
            rope_case(a->head_dim, a->n_heads, a->n_kv_heads, normed);
            drain();
        }
    }
}

static void test_rope(void **state)
{
    (void)state;
    everywhere(rope_body);
}

/* ---- attention ---- */

/* All positions of all sequences go in, a sequence at a time; the last n of each are asked for. */
struct scene {
    const struct attention_case *c;
    struct kv_layer kv;
    struct rope_table rope;
    float *qkv; // [sequences * context][ld]
    int ld, rows;
    int32_t *seq, *pos;
    char *q;
    size_t q_row, a_row; // bytes of a row of q, and of the result
};

static struct scene scene_open(const struct attention_case *c)
{
    struct scene s = {.c = c, .rows = c->sequences * c->context};
    s.ld = (c->n_heads + 2 * c->n_kv_heads) * c->head_dim;
    s.kv = cache_open(c->sequences, c->n_kv_heads, c->head_dim);
    fill_with_rubbish(&s.kv, c->sequences);
    s.rope = rope_open(c->context, c->head_dim, true);
    s.qkv = floats((size_t)(s.rows * s.ld), 2);
    s.seq = buffer((size_t)s.rows * sizeof *s.seq);
    s.pos = buffer((size_t)s.rows * sizeof *s.pos);
    for (int i = 0; i < s.rows; i++) {
        s.seq[i] = i / c->context;
        s.pos[i] = i % c->context;
    }
    s.q_row = (size_t)c->n_heads * row_bytes(type, c->head_dim);
    s.a_row = row_bytes(type, c->n_heads * c->head_dim);
    s.q = buffer((size_t)s.rows * s.q_row);
    return s;
}

/* Rows [first, first + n) as one step would do them. */
static void append(struct scene *s, int first, int n)
{
    struct positions where = {s->seq + first, s->pos + first, 0, STRIDE * KV_BLOCK};
    rope_append(&dev, s->q + (size_t)first * s->q_row, &s->kv, s->qkv + first * s->ld, s->ld,
                &no_norm, &s->rope, &where, n, s->c->n_heads);
}

static void attend(struct scene *s, char *a, int first, int n)
{
    struct positions where = {s->seq + first, s->pos + first, 0, STRIDE * KV_BLOCK};
    attention(&dev, a + (size_t)first * s->a_row, s->q + (size_t)first * s->q_row, &s->kv, &where,
              n, s->c->n_heads);
}

/* One head of one row against the formula, with q, k and v as they were rounded. A score is off by
 * its sum's error; a probability by e^that, exp itself and, for p v, rounding to the type. */
static void check_head(const struct scene *s, const char *a, int row, int head)
{
    const struct attention_case *c = s->c;
    int kv_head = head / (c->n_heads / c->n_kv_heads), keys = s->pos[row] + 1, hd = c->head_dim;
    double *score = scratch((size_t)keys * sizeof *score), top = -INFINITY, all = 0, worst = 0;
    for (int j = 0; j < keys; j++) {
        double size = 0;
        for (int i = 0; i < hd; i++) {
            double term = at(s->q, hd, row * c->n_heads + head, i) *
                          cached(&s->kv, true, s->seq[row], j, kv_head, i);
            score[j] += term;
            size += fabs(term);
        }
        top = score[j] > top ? score[j] : top;
        worst = size > worst ? size : worst;
    }
    double error = 2 * case_sum_bound(hd) * worst + EXP_ROUNDINGS * 0x1p-24;
    for (int j = 0; j < keys; j++)
        all += score[j] = exp(score[j] - top);
    for (int i = 0; i < hd; i++) {
        double sum = 0, size = 0;
        for (int j = 0; j < keys; j++) {
            double term = score[j] / all * cached(&s->kv, false, s->seq[row], j, kv_head, i);
            sum += term;
            size += fabs(term);
        }
        double bound = (2 * error + 2 * case_sum_bound(keys) + case_epsilon(type)) * size +
                       case_epsilon(type) * fabs(sum) + (type == DTYPE_F16 ? 0x1p-22 : 0);
        near(at(a, c->n_heads * hd, row, head * hd + i), sum, bound, "attention");
    }
}

static void attention_case_body(const struct attention_case *c)
{
    struct scene s = scene_open(c);
    int few = on_gpu() ? 1 + c->n / 4 : 1; // an emulated one is slow
    size_t bytes = (size_t)s.rows * s.a_row;
    char *a = memset(buffer(bytes), 0x55, bytes), *one = memset(buffer(bytes), 0x55, bytes);
    append(&s, 0, s.rows);
    for (int end = c->context; end <= s.rows; end += c->context) {
        attend(&s, a, end - c->n, c->n);
        for (int row = end - c->n; row < end; row += few)
            attend(&s, one, row, 1);
    }
    to_host();
    for (int end = c->context; end <= s.rows; end += c->context) {
        int first = end - c->n;
        for (int row = first; row < end; row += few)
            same(a + (size_t)row * s.a_row, one + (size_t)row * s.a_row, s.a_row,
                 "attention row by row");
        check_head(&s, a, first, 0);
        for (int head = 0; head < c->n_heads; head += 3)
            check_head(&s, a, end - 1, head);
        for (int i = c->n_heads * c->head_dim; i < row_stride(c->n_heads * c->head_dim); i++)
            assert_true(at(a, c->n_heads * c->head_dim, end - 1, i) == 0);
    }
}

static void attention_body(void)
{
    for (int c = 0; c < LENGTH(attention_cases); c++) {
        attention_case_body(&attention_cases[c]);
        drain();
    }
}

static void test_attention(void **state)
{
    (void)state;
    everywhere(attention_body);
}

/* Everything at once; in chunks of odd size, each appended and attended to before the next; and
 * with two sequences in one step, on several threads: the same bits. */
static void chunks_body(void)
{
    static const struct attention_case shape = {64, 8, 4, 2, 300, 300};
    char *result[4];
    enum isa isa = dev.isa;
    size_t bytes = 0;
    for (int way = 0; way < 4; way++) {
        struct dev one = dev;
        open_dev(isa, way ? way : 1);
        seed = 5;
        struct scene s = scene_open(&shape);
        bytes = (size_t)s.rows * s.a_row;
        result[way] = buffer(bytes);
        int chunk = way ? s.rows : 37;
        for (int first = 0; first < s.rows; first += chunk) {
            int n = s.rows - first < chunk ? s.rows - first : chunk;
            append(&s, first, n);
            attend(&s, result[way], first, n);
        }
        to_host();
        dev_close(&dev);
        dev = one;
        same(result[0], result[way], bytes, way ? "chunks or threads" : "nothing");
    }
}

static void test_chunks(void **state)
{
    (void)state;
    on_every_cpu(chunks_body);
}

/* A few rows far into long sequences: with many threads they are divided into spans of positions,
 * whose sums are added up: the same bits. One row stands at a span's first position, one before. */
static void spans_body(void)
{
    static const struct attention_case shape = {128, 8, 2, 2, 0, 1100};
    static const int32_t places[] = {511, 512, 1099};
    enum { ROWS = 2 * LENGTH(places) };
    enum isa isa = dev.isa;
    struct scene s = scene_open(&shape), few = s;
    append(&s, 0, s.rows);
    to_host();
    few.seq = buffer(ROWS * sizeof *few.seq);
    few.pos = buffer(ROWS * sizeof *few.pos);
    few.q = buffer(ROWS * s.q_row);
    for (int r = 0; r < ROWS; r++) {
        few.seq[r] = r / LENGTH(places);
        few.pos[r] = places[r % LENGTH(places)];
        size_t row = (size_t)(few.seq[r] * shape.context + few.pos[r]);
        memcpy(few.q + (size_t)r * s.q_row, s.q + row * s.q_row, s.q_row);
    }
    char *first = buffer(ROWS * s.a_row), *a = buffer(ROWS * s.a_row);
    for (int threads = 1; threads <= 7; threads += 2) {
        struct dev one = dev;
        open_dev(isa, threads);
        attend(&few, threads == 1 ? first : a, 0, ROWS);
        to_host();
        dev_close(&dev);
        dev = one;
        if (threads > 1)
            same(first, a, ROWS * s.a_row, "spans on several threads");
    }
    for (int head = 0; head < shape.n_heads; head++)
        check_head(&few, first, ROWS - 1, head);
}

static void test_spans(void **state)
{
    (void)state;
    on_every_cpu(spans_body);
}

/* Rows that are alone of their sequences, at the end of more and less of it, before rows that are
 * not; each beside the formula, and on a GPU the same bits with less company. */
static void singles_body(void)
{
    static const struct attention_case shapes[] = {
        {64, 6, 2, 5, 1, 150}, {128, 4, 4, 4, 1, 129}, {10, 3, 1, 3, 1, 66}};
    for (int i = 0; i < LENGTH(shapes); i++) {
        const struct attention_case *c = &shapes[i];
        enum { TAIL = 3 };
        struct scene s = scene_open(c);
        int n = c->sequences - 1 + TAIL, longest[8];
        append(&s, 0, s.rows);
        to_host();
        struct scene few = s;
        few.seq = buffer((size_t)n * sizeof *few.seq);
        few.pos = buffer((size_t)n * sizeof *few.pos);
        few.q = buffer((size_t)n * s.q_row);
        for (int r = 0; r < n; r++) {
            few.seq[r] = r < c->sequences ? r : c->sequences - 1;
            few.pos[r] = r + 1 < c->sequences ? r * c->context / c->sequences : c->context - n + r;
            longest[r] = few.pos[r] + 1;
            memcpy(few.q + (size_t)r * s.q_row,
                   s.q + (size_t)(few.seq[r] * c->context + few.pos[r]) * s.q_row, s.q_row);
        }
        char *a = buffer((size_t)n * s.a_row), *one = buffer((size_t)n * s.a_row);
        struct positions where = {few.seq, few.pos, c->sequences - 1, c->context};
        attention(&dev, a, few.q, &s.kv, &where, n, c->n_heads);
        for (int r = 0; r < where.singles; r++) {
            struct positions alone = {few.seq + r, few.pos + r, 1, longest[r]};
            attention(&dev, one + (size_t)r * s.a_row, few.q + (size_t)r * s.q_row, &s.kv, &alone,
                      1, c->n_heads);
        }
        to_host();
        for (int r = 0; r < n; r++)
            for (int head = 0; head < c->n_heads; head++)
                check_head(&few, a, r, head);
        same(a, one, (size_t)where.singles * s.a_row, "the company");
        drain();
    }
}

static void test_singles(void **state)
{
    (void)state;
    everywhere(singles_body);
}

/* Steps of one row each, which nobody waits between: what a step begins before the kernels before
 * it are over must not show. Like any step's, the first of their kernels is embed. */
static void steps_body(void)
{
    enum { FIRST = 110, END = 130 };
    static const struct attention_case shape = {64, 2, 2, 1, 1, END};
    struct scene s = scene_open(&shape);
    char *wanted = buffer((size_t)END * s.a_row), *a = buffer((size_t)END * s.a_row);
    float *x = buffer(sizeof *x);
    int32_t *token = buffer(sizeof *token);
    append(&s, 0, END);
    to_host(); // a step of one row counts on it that keys before its own are there
    for (int i = FIRST; i < END; i++) {
        struct positions alone = {s.seq + i, s.pos + i, 1, END};
        attention(&dev, wanted + (size_t)i * s.a_row, s.q + (size_t)i * s.q_row, &s.kv, &alone, 1,
                  shape.n_heads);
    }
    to_host();
    fill_with_rubbish(&s.kv, 1);
    memset(s.q, 0xff, (size_t)END * s.q_row);
    append(&s, 0, FIRST);
    for (int i = FIRST; i < END; i++) {
        struct positions alone = {s.seq + i, s.pos + i, 1, END};
        embed(&dev, x, s.qkv, DTYPE_F32, DTYPE_F32, token, 1, 1);
        rope_append(&dev, s.q + (size_t)i * s.q_row, &s.kv, s.qkv + i * s.ld, s.ld, &no_norm,
                    &s.rope, &alone, 1, shape.n_heads);
        attention(&dev, a + (size_t)i * s.a_row, s.q + (size_t)i * s.q_row, &s.kv, &alone, 1,
                  shape.n_heads);
    }
    to_host();
    same(wanted + FIRST * s.a_row, a + FIRST * s.a_row, (END - FIRST) * s.a_row, "not waiting");
}

static void test_steps(void **state)
{
    (void)state;
    everywhere(steps_body);
}

/* Scores so far apart that all but one key vanish, and rows of equal scores. */
static void extremes_body(void)
{
    static const struct attention_case shape = {32, 2, 1, 1, 130, 130};
    struct scene s = scene_open(&shape);
    for (int row = 0; row < s.rows; row++)
        for (int i = 0; i < 3 * 32; i++) // queries 200, keys +-200 by position
            s.qkv[row * s.ld + i] = i < 64 ? 200 : row % 2 ? 200 : -200;
    size_t bytes = (size_t)s.rows * s.a_row;
    char *a = buffer(bytes);
    append(&s, 0, s.rows);
    attend(&s, a, 0, s.rows);
    to_host();
    for (int row = 0; row < s.rows; row += 43)
        check_head(&s, a, row, 1);
}

static void test_extremes(void **state)
{
    (void)state;
    everywhere(extremes_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rope),     cmocka_unit_test(test_attention),
        cmocka_unit_test(test_chunks),   cmocka_unit_test(test_spans),
        cmocka_unit_test(test_singles),  cmocka_unit_test(test_steps),
        cmocka_unit_test(test_extremes),
    };
    check_only();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
