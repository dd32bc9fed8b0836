/* Biases, penalties that count and log probabilities, against their definitions written out again
 * in double (transformers' SequenceBiasLogitsProcessor of single tokens and RepetitionPenalty,
 * OpenAI's frequency and presence penalties, log_softmax of the model's own logits); and through
 * the picker. */
#include <math.h>
#include <string.h>

#include "coordinator/adjust.h"
#include "coordinator/picker.h"
#include "tests/rig/kernel_rig.h"

enum { VOCAB = 300, N_SAID = 40, N_PROMPT = 12, TOP = 5 };

static int32_t said[N_SAID];
static const struct candidate biases[] = {{30, 3}, {-100, 11}, {0.25f, 40}};

static struct sampler sampler_for(int top)
{
    static struct token_logprobs logprobs;
    logprobs = (struct token_logprobs){.most = top};
    for (int i = 0; i < N_SAID; i++)
        said[i] = i < N_PROMPT ? i : i * i % 30; // some come often, some are of the prompt only
    return (struct sampler){
        .options = {.top_p = 1,
                    .typical_p = 1,
                    .repetition_penalty = 1.5,
                    .frequency_penalty = 0.75,
                    .presence_penalty = -0.5,
                    .biases = biases,
                    .n_biases = 3,
                    .logprobs = &logprobs},
        .history = {.tokens = said, .n = N_SAID, .n_prompt = N_PROMPT},
    };
}

static void make_row(float *row)
{
    for (int t = 0; t < VOCAB; t++)
        row[t] = (float)(8 * sin(t * 1.7));
    row[5] = row[6]; // a tie
}

static int times(int32_t token, int from)
{
    int n = 0;
    for (int i = from; i < N_SAID; i++)
        n += said[i] == token;
    return n;
}

/* The definition: one token's logit after all. */
static double expected(const float *row, int32_t token)
{
    double z = row[token];
    for (int i = 0; i < 3; i++)
        z += biases[i].token == token ? (double)biases[i].logit : 0;
    if (times(token, 0))
        z = z > 0 ? z / 1.5 : z * 1.5;
    return z - 0.75 * times(token, N_PROMPT) + (times(token, N_PROMPT) ? 0.5 : 0);
}

static double log_softmax(const float *row, int32_t token)
{
    double sum = 0;
    for (int t = 0; t < VOCAB; t++)
        sum += exp((double)row[t]);
    return row[token] - log(sum);
}

static void test_row(void **state)
{
    float row[VOCAB], found[VOCAB];
    int32_t counts[VOCAB];
    struct sampler s = sampler_for(0);
    (void)state;
    make_row(row);
    memcpy(found, row, sizeof row);
    adjust_row(&s, found, counts, VOCAB);
    for (int t = 0; t < VOCAB; t++)
        assert_true(fabs(found[t] - expected(row, t)) <= 1e-5 * (1 + fabs(expected(row, t))));
}

static void test_logprobs(void **state)
{
    float row[VOCAB];
    struct token_logprobs l = {.most = MAX_LOGPROBS};
    (void)state;
    make_row(row);
    logprobs_of_best(&l, row, VOCAB);
    logprobs_of_picked(&l, row, 77);
    assert_int_equal(l.n_best, MAX_LOGPROBS);
    assert_true(fabs(l.picked - log_softmax(row, 77)) < 1e-5);
    for (int i = 0; i < l.n_best; i++) {
        int better = 0;
        int32_t token = l.best[i].token;
        for (int t = 0; t < VOCAB; t++)
            better += row[t] > row[token] || (row[t] == row[token] && t < token);
        assert_int_equal(better, i);
        assert_true(fabs(l.best[i].logit - log_softmax(row, token)) < 1e-5);
    }
}

/* Of two rows of a step one is adjusted, and the other is what it is alone. */
static void test_picker(void **state)
{
    struct picker p;
    float host[2 * VOCAB];
    struct sampler adjusted = sampler_for(TOP), plain = sampler_for(0);
    enum isa isa;
    (void)state;
    start_over();
    assert_int_equal(isa_choose(&isa, isa_available()), STATUS_OK);
    open_dev(isa, 1);
    float *logits = dev_alloc(&dev, sizeof host);
    plain.options = (struct sampler_options){.top_p = 1, .typical_p = 1, .repetition_penalty = 1};
    make_row(logits);
    make_row(logits + VOCAB);
    int32_t best = 0, own = 0;
    for (int t = 1; t < VOCAB; t++) {
        best = expected(logits, t) > expected(logits, best) ? t : best;
        own = logits[t] > logits[own] ? t : own;
    }
    assert_int_not_equal(best, own);
    double wanted = log_softmax(logits, best);
    picker_open(&p, &dev, VOCAB, 2, 2);
    p.seq[0] = 0, p.seq[1] = 1;
    p.samplers[0] = &adjusted, p.samplers[1] = &plain;
    assert_int_equal(picker_needs(&p, 2), 0);
    assert_int_equal(picker_pick(&p, &dev, logits, host, 2), 0);
    assert_int_equal(p.picked[0], best);
    assert_int_equal(p.picked[1], own);
    assert_true(fabs(adjusted.options.logprobs->picked - wanted) < 1e-5);
    close_dev();
    drain();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_row), cmocka_unit_test(test_logprobs),
                                       cmocka_unit_test(test_picker)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
