/* Sequences that share steps: each gives what it gives alone, whatever the company, the chunk and
 * the ranks; none is admitted without memory, and a place that is free is taken at once. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "coordinator/generate.h"
#include "launch/ranks.h"
#include "tests/rig/cm.h"
#include "tests/rig/pairs.h"

enum { REQUESTS = 30, MAX_PROMPT = 150, MAX_NEW = 24 };
/* Of the tiny model: k and v, layers, heads, positions, head_dim padded, bf16. */
enum { BLOCK_BYTES = 2 * 2 * 2 * KV_BLOCK * 32 * 2 };

/* A request and what came out. */
struct answer {
    int32_t prompt[MAX_PROMPT], ids[MAX_NEW];
    int n_ids, stop_at; // on_token says stop at its n-th token; 0: never
    struct token_logprobs scored;
    float scores[MAX_PROMPT]; // [n_scores] of the prompt's tokens after the first
    int n_scores;
    struct request request;
    struct request_result result;
    struct scheduler *s; // to look at from the callbacks
    int ended;
};

static char broken_words[400]; // the last error of a request

static bool on_token(void *context, int32_t token)
{
    struct answer *a = context;
    assert_true(a->n_ids < MAX_NEW);
    a->ids[a->n_ids++] = token;
    return a->n_ids == a->stop_at;
}

static void on_scored(void *context, int i)
{
    struct answer *a = context;
    a->n_scores = i == 1 ? 0 : a->n_scores; // the answer may be of a request that runs again
    assert_int_equal(i, a->n_scores + 1);
    assert_true(a->scored.n_best == 1 && a->scored.best[0].logit >= a->scored.picked);
    a->scores[a->n_scores++] = a->scored.picked;
}

/* Every block is free or has one owner. */
static void check_blocks(const struct scheduler *s)
{
    const struct kv_cache *kv = &s->c->kv;
    int taken = 0, running = 0;
    for (int i = 0; i < kv->max_sequences; i++) {
        taken += kv->taken[i];
        running += kv->taken[i] > 0;
    }
    assert_int_equal(taken + kv->n_free, kv->n_blocks);
    assert_int_equal(running, s->n_running);
}

static int on_end(void *context, const struct request_result *r)
{
    struct answer *a = context;
    a->result = *r;
    a->ended++;
    if (a->s)
        check_blocks(a->s); // this one's are free already
    return 0;
}

static uint32_t next_random(uint32_t *x)
{
    *x = *x * 1664525u + 1013904223u;
    return *x >> 8;
}

/* Mixed: prompts of 1 to 150 tokens, 0 to 24 new ones, greedy or not, some that end early. */
static void fill(struct answer *answers, int n)
{
    uint32_t x = 1;
    memset(answers, 0, (size_t)n * sizeof *answers);
    for (int i = 0; i < n; i++) {
        struct answer *a = &answers[i];
        int length = i % 5 == 0 ? 1 + i % 3 : 1 + (int)(next_random(&x) % MAX_PROMPT);
        for (int k = 0; k < length; k++)
            a->prompt[k] = (int32_t)(next_random(&x) % 100);
        a->stop_at = i % 7 == 3 ? 1 + i % 4 : 0;
        a->request =
            (struct request){.tokens = a->prompt,
                             .n = length,
                             .n_predict = i == 11 ? 0 : 1 + (int)(next_random(&x) % MAX_NEW),
                             .ignore_eos = i % 2,
                             .sampler = {.temperature = i % 3 ? 0.4 * (i % 4) : 0,
                                         .top_p = i % 4 == 1 ? 0.7 : 1,
                                         .top_k = i % 5 == 2 ? 7 : 0,
                                         .repetition_penalty = i % 6 == 5 ? 1.3 : 1,
                                         .seed = (uint64_t)i / 2},
                             .on_token = on_token,
                             .on_scored = i % 3 == 2 ? NULL : on_scored,
                             .scored = &a->scored,
                             .on_end = on_end,
                             .context = a};
        a->scored.most = 1;
    }
}

/* The same for a vocabulary of fewer tokens. */
static void fill_below(struct answer *answers, int n, int tokens)
{
    fill(answers, n);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < answers[i].request.n; k++)
            answers[i].prompt[k] %= tokens;
}

struct setting {
    int sequences, chunk, ranks, blocks, overlap;
};

#define MODELS SOURCE_DIR "/tests/golden/models/"

/* context: of a sequence; 0: what the model knows. */
static void open_model(struct ranks *r, const struct setting *t, const char *model, int context)
{
    struct process p = {.local_size = 1};
    struct model_options o = model_options_default();
    struct session_needs needs = {t->sequences, 5, 0};
    o.model = model;
    o.context = context;
    o.threads = 1;
    o.ranks = t->ranks;
    o.chunk = t->chunk;
    o.kv_bytes = t->blocks * BLOCK_BYTES;
    o.overlap = t->overlap;
    unsetenv("EPMOE_ISA");
    assert_int_equal(ranks_open(r, &p, &o, &needs), 0);
    if (t->blocks)
        assert_int_equal(r->coordinator.kv.n_blocks, t->blocks);
}

static void open_tiny(struct ranks *r, const struct setting *t)
{
    open_model(r, t, MODELS "moe-60", 0);
}

/* All requests in order, each as soon as there is room; returns the steps it took. */
static int run_all(struct ranks *r, struct answer *answers, int n)
{
    struct scheduler s;
    scheduler_open(&s, &r->coordinator);
    for (int next = 0;;) {
        for (; next < n; next++) {
            struct answer *a = &answers[next];
            a->s = &s;
            assert_int_equal(request_check(s.c, a->prompt, a->request.n, a->request.n_predict), 0);
            if (!scheduler_admit(&s, &a->request))
                break;
        }
        check_blocks(&s);
        assert_true(s.n_running > 0 || next == n); // what is free admits whatever is legal
        if (s.n_running == 0)
            break;
        assert_int_equal(scheduler_step(&s), 0);
    }
    int steps = (int)s.steps;
    assert_int_equal(r->coordinator.kv.n_free, r->coordinator.kv.n_blocks);
    scheduler_close(&s);
    return steps;
}

static void answer_alone(struct answer *answers, int n, const char *model, int context)
{
    struct ranks r;
    open_model(&r, &(struct setting){1, 2048, 1, 0, 0}, model, context);
    for (int i = 0; i < n; i++)
        assert_int_equal(generate(&r.coordinator, &answers[i].request), 0);
    ranks_close(&r);
}

static void compare(const struct answer *found, const struct answer *expected, int n)
{
    for (int i = 0; i < n; i++) {
        assert_int_equal(found[i].ended, 1);
        assert_int_equal(found[i].n_ids, expected[i].n_ids);
        assert_memory_equal(found[i].ids, expected[i].ids, sizeof found[i].ids);
        assert_int_equal(found[i].n_scores, i % 3 == 2 ? 0 : found[i].request.n - 1);
        assert_memory_equal(found[i].scores, expected[i].scores, sizeof found[i].scores);
        assert_int_equal(found[i].result.finish, expected[i].result.finish);
        assert_int_equal(found[i].result.n_prompt, expected[i].request.n);
        assert_int_equal(found[i].result.n_new, expected[i].n_ids);
    }
}

static void each_gives_what_it_gives_alone(void **state)
{
    (void)state;
    // each value of each choice is in one of the first FEW, but for 70 ranks (test_bitwise) and 4
    // blocks
    enum { FEW = 6 };
    static const struct setting settings[] = {
        {30, 2048, 10, 0, 1}, {3, 64, 4, 0, 0}, {30, 7, 3, 9, 1}, {8, 1, 1, 0, 0},
        {1, 5, 4, 0, 0},      {8, 64, 2, 3, 1}, {1, 5, 1, 0, 0},  {3, 5, 1, 0, 0},
        {8, 5, 1, 0, 0},      {1, 64, 1, 0, 0}, {3, 64, 1, 0, 0}, {8, 64, 1, 0, 0},
        {3, 5, 4, 0, 0},      {8, 5, 4, 0, 0},  {1, 64, 4, 0, 0}, {3, 64, 70, 4, 0},
        {8, 64, 4, 0, 0},     {8, 64, 1, 3, 0}, {30, 7, 1, 9, 0}, {30, 2048, 2, 0, 0},
        {8, 5, 4, 0, 1},      {8, 64, 2, 0, 1}, {3, 1, 4, 0, 1}};
    size_t n_settings = pairs_only() ? FEW : sizeof settings / sizeof *settings;
    static struct answer alone[REQUESTS], together[REQUESTS];
    fill(alone, REQUESTS);
    answer_alone(alone, REQUESTS, MODELS "moe-60", 0);
    int stops = 0, lengths = 0;
    for (int i = 0; i < REQUESTS; i++) {
        stops += alone[i].result.finish == FINISH_STOP;
        lengths += alone[i].result.finish == FINISH_LENGTH;
    }
    assert_true(stops > 2 && lengths > 2);
    for (size_t i = 0; i < n_settings; i++) {
        struct ranks r;
        open_tiny(&r, &settings[i]);
        fill(together, REQUESTS);
        run_all(&r, together, REQUESTS);
        compare(together, alone, REQUESTS);
        ranks_close(&r);
    }
}

/* Of the last one each prompt turns positions as its own length says, so slots that sequences take
 * one after the other must turn as the present one does. */
static void so_do_models_of_other_families(void **state)
{
    static const char *const models[] = {MODELS "qwen3-moe-published", MODELS "qwen3-published",
                                         MODELS "olmoe-published", MODELS "mixtral-published",
                                         MODELS "dynamic-long"};
    static const struct setting setting = {3, 33, 3, 0, OVERLAP_ON};
    enum { FEW = 12, CONTEXT = MAX_PROMPT + MAX_NEW + 1, TOKENS = 90 };
    static struct answer alone[FEW], together[FEW];
    (void)state;
    for (int i = 0; i < 5; i++) {
        struct ranks r;
        fill_below(alone, FEW, TOKENS);
        answer_alone(alone, FEW, models[i], CONTEXT);
        open_model(&r, &setting, models[i], CONTEXT);
        fill_below(together, FEW, TOKENS);
        run_all(&r, together, FEW);
        compare(together, alone, FEW);
        ranks_close(&r);
    }
}

/* Eight requests of four tokens, four at a time: two waves of four steps, none in between. */
static void a_free_place_is_taken_at_once(void **state)
{
    (void)state;
    static struct answer answers[8];
    struct ranks r;
    open_tiny(&r, &(struct setting){4, 64, 1, 0, 0});
    fill(answers, 8);
    for (int i = 0; i < 8; i++) {
        answers[i].stop_at = 0;
        answers[i].request.n = 3;
        answers[i].request.n_predict = 4;
        answers[i].request.ignore_eos = true;
    }
    assert_int_equal(run_all(&r, answers, 8), 8);
    for (int i = 0; i < 8; i++) {
        answers[i].n_ids = 0;
        answers[i].request.n_predict = 1 + i % 4; // 1 2 3 4 1 2 3 4
    }
    // by place: 1 + 1 + 2, 2 + 3, 3 + 4 and 4 tokens
    assert_int_equal(run_all(&r, answers, 8), 7);
    ranks_close(&r);
}

static void memory_bounds_how_many_run(void **state)
{
    (void)state;
    static struct answer answers[6];
    struct ranks r;
    open_tiny(&r, &(struct setting){6, 64, 1, 4, 0}); // 4 blocks of 64
    struct scheduler s;
    fill(answers, 6);
    for (int i = 0; i < 6; i++) {
        answers[i].request.n = 60;
        answers[i].request.n_predict = 5; // 65 positions: two blocks
        answers[i].request.ignore_eos = true;
        answers[i].stop_at = 0;
    }
    scheduler_open(&s, &r.coordinator);
    assert_true(scheduler_admit(&s, &answers[0].request));
    assert_true(scheduler_admit(&s, &answers[1].request));
    assert_false(scheduler_admit(&s, &answers[2].request));
    assert_int_equal(s.n_running, 2);
    while (s.n_running)
        assert_int_equal(scheduler_step(&s), 0);
    assert_true(scheduler_admit(&s, &answers[2].request));
    scheduler_close(&s); // in the middle: all blocks come back
    assert_int_equal(r.coordinator.kv.n_free, 4);
    assert_int_equal(answers[2].ended, 0);
    ranks_close(&r);
}

static int refusal(const struct coordinator *c, int n, int n_predict, int32_t token,
                   const char *says)
{
    int32_t tokens[MAX_PROMPT] = {token};
    int status = request_check(c, tokens, n, n_predict);
    assert_non_null(strstr(error_text(), says));
    return status;
}

static void what_can_never_run_is_refused(void **state)
{
    (void)state;
    struct ranks r;
    open_tiny(&r, &(struct setting){2, 64, 1, 2, 0}); // 128 positions
    const struct coordinator *c = &r.coordinator;
    error_capture(true);
    assert_int_equal(refusal(c, 100, 28, 1, ""), 0);
    assert_int_equal(refusal(c, 100, 29, 1, "KV cache"), STATUS_USAGE);
    assert_int_equal(refusal(c, 100, 413, 1, "512 positions"), STATUS_USAGE);
    assert_int_equal(refusal(c, 100, INT32_MAX, 1, "512 positions"), STATUS_USAGE);
    assert_int_equal(refusal(c, 0, 1, 1, "empty"), STATUS_USAGE);
    assert_int_equal(refusal(c, 3, 1, 101, "token ids"), STATUS_USAGE);
    assert_int_equal(refusal(c, 3, 1, -1, "token ids"), STATUS_USAGE);
    error_capture(false);
    ranks_close(&r);
}

/* A callback's error ends the run, with its code. */
static int on_failed_end(void *context, const struct request_result *r)
{
    if (r->finish == FINISH_FAILED)
        snprintf(broken_words, sizeof broken_words, "%s", r->error);
    return on_end(context, r);
}

/* Run three requests of two new tokens each; says which of them failed, as bits. */
static int run_three(struct ranks *r, struct answer *answers)
{
    int failed = 0;
    broken_words[0] = 0;
    for (int i = 0; i < 3; i++) {
        answers[i].request.on_end = on_failed_end;
        answers[i].request.n_predict = 2;
        answers[i].n_ids = answers[i].ended = answers[i].stop_at = 0;
        answers[i].request.ignore_eos = true;
    }
    run_all(r, answers, 3);
    for (int i = 0; i < 3; i++) {
        bool is = answers[i].result.finish == FINISH_FAILED;
        assert_int_equal(answers[i].ended, 1);
        assert_int_equal(answers[i].n_ids, is ? 0 : 2);
        failed |= is << i;
    }
    return failed;
}

/* Where a request's logits are not finite, it fails and says where that began; the others that
 * share its steps have their results. */
static void broken_numbers_are_found(void **state)
{
    (void)state;
    static const struct setting settings[] = {
        {3, 64, 1, 0, 0}, {3, 5, 2, 0, OVERLAP_ON}, {2, 7, 3, 0, OVERLAP_OFF}};
    static struct answer answers[3], sound[3];
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        struct ranks r;
        open_tiny(&r, &settings[i]);
        struct coordinator *c = &r.coordinator;
        struct weights *w = &c->weights;
        size_t bytes = (size_t)c->config.vocab_size * (size_t)c->config.dim * 2;
        uint16_t *embed = malloc(bytes);
        const void *kept = w->embed;
        assert_int_equal(w->embed_type, DTYPE_BF16);
        memcpy(embed, kept, bytes);
        w->embed = embed;
        fill(answers, 3);
        for (int a = 0; a < 3; a++)
            for (int k = 0; k < answers[a].request.n; k++)
                answers[a].prompt[k] %= 98;
        assert_int_equal(run_three(&r, answers), 0);
        memcpy(sound, answers, sizeof sound);
        answers[1].prompt[answers[1].request.n / 2] = 99;
        embed[99 * c->config.dim + 3] = 0x7fc0; // NaN
        assert_int_equal(run_three(&r, answers), 2);
        assert_non_null(strstr(broken_words, "as has the embedding"));
        assert_memory_equal(answers[0].ids, sound[0].ids, 2 * sizeof(int32_t));
        assert_memory_equal(answers[2].ids, sound[2].ids, 2 * sizeof(int32_t));
        answers[1].prompt[answers[1].request.n / 2] = 0;
        float *norm = (float *)(uintptr_t)w->layers[1].attn_norm, value = norm[2];
        norm[2] = INFINITY;
        assert_int_equal(run_three(&r, answers), 7);
        assert_non_null(strstr(broken_words, "first in the output of layer 1 (of 0 to 1)"));
        norm[2] = value;
        norm = (float *)(uintptr_t)w->final_norm;
        value = norm[0];
        norm[0] = NAN;
        assert_int_equal(run_three(&r, answers), 7);
        assert_non_null(strstr(broken_words, "the last norm or the output matrix is broken"));
        norm[0] = value;
        assert_int_equal(run_three(&r, answers), 0);
        for (int a = 0; a < 3; a++)
            assert_int_equal(answers[a].n_ids, 2);
        w->embed = kept;
        free(embed);
        ranks_close(&r);
    }
}

/* Bans follow a sequence's own tokens: no token twice, and no end before the third. */
static void bans_know_what_was_said(void **state)
{
    (void)state;
    static struct answer answers[3];
    struct token_bans once = {.no_repeat_ngram = 1}, all = {.n_suppressed = 0};
    struct ranks r;
    open_tiny(&r, &(struct setting){3, 64, 2, 0, 0});
    fill(answers, 3);
    for (int i = 0; i < 3; i++) {
        answers[i].stop_at = 0;
        answers[i].request.n = 4;
        answers[i].request.n_predict = MAX_NEW;
        answers[i].request.sampler.bans = &once;
        answers[i].request.ignore_eos = true;
    }
    run_all(&r, answers, 3);
    for (int i = 0; i < 3; i++) {
        bool said[256] = {0};
        for (int k = 0; k < 4; k++)
            said[answers[i].prompt[k]] = true;
        assert_int_equal(answers[i].n_ids, MAX_NEW);
        for (int k = 0; k < MAX_NEW; k++) {
            assert_false(said[answers[i].ids[k]]);
            said[answers[i].ids[k]] = true;
        }
    }
    for (int t = 0; t < r.coordinator.config.vocab_size; t++)
        all.suppressed[all.n_suppressed++] = t;
    answers[0].n_ids = 0;
    answers[0].request.on_end = on_failed_end;
    answers[0].request.sampler.bans = &all;
    run_all(&r, answers, 1);
    assert_int_equal(answers[0].result.finish, FINISH_FAILED);
    assert_non_null(strstr(broken_words, "generation_config.json bans all"));
    ranks_close(&r);
}

static int end_badly(void *context, const struct request_result *r)
{
    (void)context;
    (void)r;
    return STATUS_FAILED;
}

static void an_error_at_the_end_of_a_request_ends_the_run(void **state)
{
    (void)state;
    static struct answer answers[3];
    struct ranks r;
    open_tiny(&r, &(struct setting){3, 64, 1, 0, 0});
    struct scheduler s;
    fill(answers, 3);
    scheduler_open(&s, &r.coordinator);
    for (int i = 0; i < 3; i++) {
        answers[i].request.on_end = end_badly;
        answers[i].request.n_predict = 1;
        assert_true(scheduler_admit(&s, &answers[i].request));
    }
    int status = 0;
    while (s.n_running && !status)
        status = scheduler_step(&s);
    assert_int_equal(status, STATUS_FAILED);
    scheduler_close(&s);
    ranks_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_gives_what_it_gives_alone),
        cmocka_unit_test(so_do_models_of_other_families),
        cmocka_unit_test(a_free_place_is_taken_at_once),
        cmocka_unit_test(memory_bounds_how_many_run),
        cmocka_unit_test(what_can_never_run_is_refused),
        cmocka_unit_test(broken_numbers_are_found),
        cmocka_unit_test(bans_know_what_was_said),
        cmocka_unit_test(an_error_at_the_end_of_a_request_ends_the_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
