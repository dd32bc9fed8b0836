/* From logits to tokens: marks, penalties and the best tokens on every device, and what samplers
 * make of them. */
#include "tests/rig/kernel_rig.h"

#include "coordinator/picker.h"

#include <math.h>

static void open_best_cpu(int threads)
{
    enum isa isa;
    assert_int_equal(isa_choose(&isa, isa_available()), STATUS_OK);
    open_dev(isa, threads);
}

static void once(void (*body)(void))
{
    body();
    close_dev();
    drain();
}

/* Nothing here has a type: once on the best CPU path, and on a GPU if there is one. */
static void on_each_device(void (*body)(void))
{
    start_over();
    type = DTYPE_F32;
    if (!only_cuda()) {
        open_best_cpu(2);
        once(body);
    }
    for (int way = 0; open_gpu(way); way++)
        once(body);
}

/* ---- the device's part ---- */

static void marks_body(void)
{
    enum { VOCAB = 77, SEQUENCES = 3, N = 300 };
    int words = seen_words(VOCAB);
    uint32_t *marks = buffer((size_t)(SEQUENCES * words) * sizeof *marks);
    int32_t *tokens = buffer(N * sizeof *tokens), *seq = buffer(N * sizeof *seq);
    struct penalty *penalties = buffer(SEQUENCES * sizeof *penalties);
    float *logits = floats(SEQUENCES * VOCAB, 3), wanted[SEQUENCES * VOCAB];
    bool said[SEQUENCES][VOCAB] = {0};
    for (int i = 0; i < N; i++) { // sequence 1 says nothing
        seq[i] = i % 2 * 2;
        tokens[i] = i * i % VOCAB;
        said[seq[i]][tokens[i]] = true;
    }
    logits[0] = 0;
    logits[VOCAB - 1] = -INFINITY;
    for (int row = 0; row < SEQUENCES; row++) { // the rows are not in the sequences' order
        penalties[row] = (struct penalty){(row + 2) % 3, row == 2 ? 1 : 1.3f};
        for (int t = 0; t < VOCAB; t++) {
            float z = logits[row * VOCAB + t];
            bool loses = said[(row + 2) % 3][t] && row != 2;
            wanted[row * VOCAB + t] = !loses ? z : z > 0 ? z / 1.3f : z * 1.3f;
        }
    }
    add_seen(&dev, marks, tokens, seq, N, VOCAB);
    penalise(&dev, logits, marks, penalties, SEQUENCES, VOCAB);
    to_host();
    same(logits, wanted, sizeof wanted, "penalise");
}

static void test_marks(void **state)
{
    (void)state;
    on_each_device(marks_body);
}

/* Is a better than b? */
static bool precedes(const struct candidate *a, const struct candidate *b)
{
    return a->logit > b->logit || (a->logit == b->logit && a->token < b->token);
}

static void check_top(const float *logits, int vocab, const struct candidate *best, int most)
{
    bool *taken = scratch((size_t)vocab * sizeof *taken);
    for (int i = 0; i < most; i++) {
        assert_in_range(best[i].token, 0, vocab - 1);
        float z = logits[best[i].token];
        assert_true(best[i].logit == (isnan(z) ? INFINITY : z));
        assert_true(i == 0 || precedes(&best[i - 1], &best[i]));
        taken[best[i].token] = true;
    }
    for (int t = 0; t < vocab; t++) { // nobody better was left out
        struct candidate other = {isnan(logits[t]) ? INFINITY : logits[t], t};
        assert_true(taken[t] || precedes(&best[most - 1], &other));
    }
}

static void top_case(int n, int vocab, int most)
{
    float *logits = floats((size_t)(n * vocab), 9);
    struct candidate *best = buffer((size_t)(n * most) * sizeof *best);
    for (int t = 0; t < vocab; t++) {
        if (n > 1) // few different ones, zeros of both signs among them
            logits[vocab + t] = (float)(t * 7 % 5 - 4) * (t % 2 ? 1.0f : -1.0f) * 0.0f +
                                (float)(t % 11 < 9 ? 0 : t % 3);
        if (n > 2)
            logits[2 * vocab + t] = t % 4 ? NAN : -INFINITY;
        if (n > 3 && t % 5)
            logits[3 * vocab + t] = t % 2 ? NAN : INFINITY;
    }
    top_tokens(&dev, best, logits, n, vocab, most);
    to_host();
    for (int row = 0; row < n; row++)
        check_top(logits + row * vocab, vocab, best + row * most, most);
}

static void top_body(void)
{
    static const int vocabs[] = {1, 2, 63, 64, 300, 2048, 2049, 9000};
    for (int i = 0; i < LENGTH(vocabs); i++) {
        static const int mosts[] = {1, 2, 20, 63, TOP_MOST};
        for (int j = 0; j < LENGTH(mosts) && mosts[j] <= vocabs[i]; j++)
            if (vocabs[i] < 5000 || mosts[j] != 2)
                top_case(i % 2 ? 4 : 1, vocabs[i], mosts[j]);
        drain();
    }
    top_case(1, 151936, 40); // three stages on a GPU: 75 slices, then 2
}

static void test_top(void **state)
{
    (void)state;
    on_each_device(top_body);
}

/* ---- samplers ---- */

/* A picker for one sequence on the present device, which has logits and tokens in its memory. */
struct rig {
    struct picker p;
    struct sampler s;
    float *logits, *host;
    int32_t *token, *seq;
    int vocab;
};

static void rig_open(struct rig *r, const struct sampler_options *o, int vocab)
{
    *r = (struct rig){.s.options = *o, .vocab = vocab};
    picker_open(&r->p, &dev, vocab, 2, 1);
    picker_begin(&r->p, &dev, 0, NULL, 0);
    r->host = dev_alloc_host(&dev, (size_t)vocab * sizeof *r->host);
    r->logits = dev_alloc_copy(&dev, r->host, (size_t)vocab * sizeof *r->logits);
    r->token = dev_alloc(&dev, sizeof *r->token);
    r->seq = dev_alloc(&dev, sizeof *r->seq);
}

static void see(struct rig *r, int32_t token)
{
    dev_upload(&dev, r->token, &token, sizeof token);
    picker_see(&r->p, &dev, r->token, r->seq, 1);
}

static int32_t pick(struct rig *r, const float *logits)
{
    memcpy(r->host, logits, (size_t)r->vocab * sizeof *logits);
    dev_upload(&dev, r->logits, r->host, (size_t)r->vocab * sizeof *logits);
    r->p.seq[0] = 0;
    r->p.samplers[0] = &r->s;
    picker_needs(&r->p, 1);
    assert_int_equal(picker_pick(&r->p, &dev, r->logits, r->host, 1), 0);
    if (r->p.picked[0] >= 0)
        see(r, r->p.picked[0]);
    return r->p.picked[0];
}

static int32_t pick_once(const struct sampler_options *o, const float *logits, int n)
{
    struct rig r;
    rig_open(&r, o, n);
    return pick(&r, logits);
}

static void lowest_of_equals(void)
{
    float logits[] = {-1, 3, 2, 3, -INFINITY};
    struct sampler_options greedy = {.top_p = 1, .repetition_penalty = 1};
    struct sampler_options top_1 = {
        .temperature = 1, .top_p = 1, .repetition_penalty = 1, .top_k = 1};
    struct sampler_options narrow = {.temperature = 1, .top_p = 1e-9, .repetition_penalty = 1};
    for (uint64_t i = 0; i < 20; i++) {
        top_1.seed = narrow.seed = i;
        assert_int_equal(pick_once(&greedy, logits, 5), 1);
        assert_int_equal(pick_once(&top_1, logits, 5), 1);
        assert_int_equal(pick_once(&narrow, logits, 5), 1);
    }
}

/* A row with NaN or infinity gives no token, whatever samples it. */
static void broken_logits(void)
{
    static const struct sampler_options options[] = {
        {.top_p = 1, .repetition_penalty = 1},
        {.temperature = 1, .top_p = 0.9, .repetition_penalty = 1.1, .top_k = 3},
        {.temperature = 1, .top_p = 1, .repetition_penalty = 1},
    };
    static const float rows[][5] = {
        {NAN, NAN, NAN, NAN, NAN},
        {-INFINITY, INFINITY, INFINITY, 0, 1},
        {-INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY},
        {1, 2, NAN, 4, 5},
        {1, 2, 3, 4, -NAN},
    };
    static const float sound[] = {-INFINITY, -INFINITY, 2, -INFINITY, -INFINITY};
    for (int i = 0; i < LENGTH(options); i++) {
        for (int j = 0; j < LENGTH(rows); j++)
            assert_int_equal(pick_once(&options[i], rows[j], 5), PICK_BROKEN);
        assert_int_equal(pick_once(&options[i], sound, 5), 2);
    }
}

/* What is banned is not picked, though it be the best; and if all is, nothing. */
static void banned_tokens(void)
{
    static const float logits[] = {5, 4, 3, 2, 1};
    struct token_bans bans = {.n_suppressed = 2, .suppressed = {0, 2}};
    struct sampler_options o = {.top_p = 1, .repetition_penalty = 1, .bans = &bans};
    assert_int_equal(pick_once(&o, logits, 5), 1);
    bans.suppressed[bans.n_suppressed++] = 1;
    assert_int_equal(pick_once(&o, logits, 5), 3);
    o.temperature = 1;
    o.top_k = 1;
    assert_int_equal(pick_once(&o, logits, 5), 3);
    bans.suppressed[bans.n_suppressed++] = 4;
    bans.suppressed[bans.n_suppressed++] = 3;
    assert_int_equal(pick_once(&o, logits, 5), PICK_NONE_LEFT);
    // a token that was banned at one step may come at the next, at which another is banned, from
    // few candidates and from a whole row
    struct token_bans first = {.n_at_begin = 1, .at_begin = {0}};
    struct token_bans second = {.n_suppressed = 1, .suppressed = {1}};
    o = (struct sampler_options){.top_p = 1, .repetition_penalty = 1, .bans = &first};
    for (int frequency = 0; frequency < 2; frequency++) {
        struct rig r;
        o.frequency_penalty = frequency * 0.01;
        rig_open(&r, &o, 5);
        assert_int_equal(pick(&r, logits), 1);
        r.s.history.tokens = r.p.picked;
        r.s.history.n = 1;
        r.s.options.bans = &second;
        assert_int_equal(pick(&r, logits), 0);
    }
}

/* In a call of rows that need unlike numbers of candidates, each row gets its own. */
static void unlike_rows(void)
{
    static const struct candidate best[] = {{5, 0}, {5, 1}, {5, 2}, {5, 3}, {5, 4}, {5, 5}};
    struct sampler_options few = {
        .temperature = 1, .top_p = 1, .repetition_penalty = 1, .top_k = 1};
    struct sampler_options more = few;
    more.top_k = 3;
    for (uint64_t i = 0; i < 20; i++) {
        struct sampler a = {.options = few}, b = {.options = more};
        struct candidate copy[6];
        struct rig r;
        rig_open(&r, &few, 5);
        memcpy(copy, best, sizeof copy);
        a.options.seed = b.options.seed = i;
        r.p.samplers[0] = &a;
        r.p.samplers[1] = &b;
        assert_int_equal(picker_needs(&r.p, 2), 3);
        picker_pick_from(&r.p, copy, 3, 2);
        assert_int_equal(r.p.picked[0], 0);
        assert_in_range(r.p.picked[1], 3, 5);
    }
}

/* 20,000 draws against the probabilities; three sigma of the rarest is under 0.01. */
static void draws_follow_the_distribution(void **state)
{
    (void)state;
    enum { N = 5, DRAWS = 20000 };
    float logits[N] = {0.5f, 2, -1, 1, 0};
    struct sampler_options o = {
        .temperature = 0.8, .top_p = 1, .repetition_penalty = 1, .seed = 42};
    int count[N] = {0}, again[N] = {0};
    double p[N], sum = 0;
    struct rig s, t;
    skip_without_cpu();
    open_best_cpu(1);
    rig_open(&s, &o, N);
    rig_open(&t, &o, N);
    for (int i = 0; i < DRAWS; i++) {
        count[pick(&s, logits)]++;
        again[pick(&t, logits)]++;
    }
    for (int i = 0; i < N; i++)
        sum += p[i] = exp(logits[i] / 0.8);
    for (int i = 0; i < N; i++)
        assert_true(fabs(count[i] / (double)DRAWS - p[i] / sum) < 0.012);
    assert_memory_equal(count, again, sizeof count); // the same seed
    o = (struct sampler_options){
        .temperature = 1, .top_p = 0.8, .repetition_penalty = 1, .top_k = 3};
    rig_open(&s, &o, N);
    for (int i = 0; i < 2000; i++) {
        int32_t token = pick(&s, logits);
        assert_true(token == 1 ||
                    token == 3); // p(1) + p(3) of the three best is the first over 0.8
    }
    close_dev();
}

static void repetition(void)
{
    float logits[] = {2.0f, 1.5f, -1.0f, -1.2f};
    struct sampler_options o = {.top_p = 1, .repetition_penalty = 1.5};
    struct rig s;
    rig_open(&s, &o, 4);
    see(&s, 0);                            // 2 / 1.5 < 1.5
    assert_int_equal(pick(&s, logits), 1); // and 1 is seen from now on: 1.0 < 1.33
    assert_int_equal(pick(&s, logits), 0);
    float negative[] = {-1.0f, -1.2f, -9, -9};
    see(&s, 0); // -1 * 1.5 < -1.2 ... but 1 was seen too: -1.8
    assert_int_equal(pick(&s, negative), 0);
}

/* A pick from the device's candidates is the pick from the whole row, penalties and all. */
static void whole_rows(void)
{
    enum { VOCAB = 300, STEPS = 25 };
    static const int top_ks[] = {1, 7, TOP_MOST, TOP_MOST + 1, 0};
    for (int i = 0; i < LENGTH(top_ks); i++) {
        struct sampler_options o = {
            .temperature = 2, .top_p = 0.95, .repetition_penalty = 1.5, .top_k = top_ks[i]};
        struct sampler alone = {.options = o};
        struct rig r;
        bool said[VOCAB] = {0};
        rig_open(&r, &o, VOCAB);
        assert_int_equal(sampler_needs(&o, 0, VOCAB), top_ks[i] > TOP_MOST ? 0 : top_ks[i]);
        for (int step = 0; step < STEPS; step++) {
            float *row = floats(VOCAB, 4), lost[VOCAB];
            struct candidate all[2 * VOCAB];
            for (int t = 0; t < VOCAB; t++)
                lost[t] = !said[t] ? row[t] : row[t] > 0 ? row[t] / 1.5f : row[t] * 1.5f;
            sampler_rank(all, lost, VOCAB);
            int32_t token = sampler_pick(&alone, all, VOCAB, all + VOCAB);
            assert_int_equal(pick(&r, row), token);
            said[token] = true;
        }
        drain();
    }
}

/* Best first, the lower token among equals; a zero is a zero, what is no number the best. */
static void test_ranking(void **state)
{
    enum { VOCAB = 3000 };
    static const float odd[] = {0.0f, -0.0f, INFINITY, -INFINITY, NAN, -NAN, 1e-42f, -1e-42f};
    static struct candidate all[2 * VOCAB];
    float *row = floats(VOCAB, 4);
    (void)state;
    skip_without_cpu();
    for (int i = 0; i < VOCAB; i++)
        if (i % 7 == 0)
            row[i] = odd[i / 7 % LENGTH(odd)];
        else if (i % 5 == 0)
            row[i] = row[i - 1];
    sampler_rank(all, row, VOCAB);
    for (int i = 0; i < VOCAB; i++) {
        float logit = row[all[i].token];
        assert_true(isnan(logit) ? all[i].logit == INFINITY : all[i].logit == logit);
        bool in_order = i == 0 || all[i - 1].logit > all[i].logit ||
                        (all[i - 1].logit == all[i].logit && all[i - 1].token < all[i].token);
        assert_true(in_order);
    }
    drain();
}

static void test_lowest_of_equals(void **state)
{
    (void)state;
    on_each_device(lowest_of_equals);
}

static void test_broken_logits(void **state)
{
    (void)state;
    on_each_device(broken_logits);
}

static void test_banned_tokens(void **state)
{
    (void)state;
    on_each_device(banned_tokens);
}

static void test_unlike_rows(void **state)
{
    (void)state;
    on_each_device(unlike_rows);
}

static void test_repetition(void **state)
{
    (void)state;
    on_each_device(repetition);
}

static void test_whole_rows(void **state)
{
    (void)state;
    on_each_device(whole_rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_marks),         cmocka_unit_test(test_top),
        cmocka_unit_test(test_ranking),       cmocka_unit_test(test_lowest_of_equals),
        cmocka_unit_test(test_broken_logits), cmocka_unit_test(draws_follow_the_distribution),
        cmocka_unit_test(test_repetition),    cmocka_unit_test(test_banned_tokens),
        cmocka_unit_test(test_unlike_rows),   cmocka_unit_test(test_whole_rows),
    };
    check_only();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
