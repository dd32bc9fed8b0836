/* What is left of a row of logits after penalty, bans and cuts, against transformers' processors
 * and warpers in the order of its generate() (tests/golden/sampling.jsonl). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "coordinator/picker.h"
#include "kernels/ops.h"
#include "tests/rig/cm.h"

enum { VOCAB = 120, MOST_SAID = 16 };

struct line {
    struct config config;
    struct generation_defaults defaults;
    float logits[VOCAB];
    int32_t said[MOST_SAID];
    int n_said, n_prompt;
    bool kept[VOCAB];
};

static void read_line(struct line *l, const struct js *v)
{
    static const char config[] = "{\"model_type\":\"qwen2\",\"vocab_size\":120}";
    char *text = NULL;
    size_t bytes = 0;
    FILE *memory = open_memstream(&text, &bytes);
    assert_true(js_print(js_member(v, "generation"), memory, 0));
    fclose(memory);
    memset(l, 0, sizeof *l);
    assert_int_equal(config_parse(&l->config, &l->defaults, config, strlen(config), text, bytes),
                     0);
    free(text);
    assert_int_equal(js_count(js_member(v, "logits")), VOCAB);
    for (size_t i = 0; i < VOCAB; i++)
        l->logits[i] = (float)js_number(js_item(js_member(v, "logits"), i));
    l->n_said = (int)js_count(js_member(v, "said"));
    l->n_prompt = (int)js_int(js_member(v, "n_prompt"));
    assert_true(l->n_said <= MOST_SAID);
    for (int i = 0; i < l->n_said; i++)
        l->said[i] = (int32_t)js_int(js_item(js_member(v, "said"), (size_t)i));
    for (size_t i = 0; i < js_count(js_member(v, "kept")); i++)
        l->kept[js_int(js_item(js_member(v, "kept"), i))] = true;
}

static struct sampler sampler_of(const struct line *l)
{
    return (struct sampler){.options = sampler_defaults(&l->defaults),
                            .history = {.tokens = l->said,
                                        .n = l->n_said,
                                        .n_prompt = l->n_prompt,
                                        .eos = l->config.eos,
                                        .n_eos = l->config.n_eos}};
}

/* The row on the host, with the penalty for what was said. */
static void penalised(const struct line *l, float *row)
{
    float factor = (float)l->defaults.repetition_penalty;
    for (int t = 0; t < VOCAB; t++) {
        bool said = false;
        for (int i = 0; i < l->n_said; i++)
            said = said || l->said[i] == t;
        float z = l->logits[t];
        row[t] = !said ? z : z > 0 ? z / factor : z * factor;
    }
}

/* Of a row that is sampled: exactly the tokens that transformers keeps are kept. */
static void check_kept(const struct line *l, size_t number)
{
    struct sampler s = sampler_of(l);
    uint32_t banned[(VOCAB + 31) / 32] = {0};
    struct candidate all[2 * VOCAB];
    float row[VOCAB];
    int n = VOCAB, expected = 0;
    penalised(l, row);
    sampler_rank(all, row, VOCAB);
    if (s.options.bans) {
        int count = bans_mark(s.options.bans, &s.history, banned);
        n = bans_drop(banned, all, n);
        assert_int_equal(n, VOCAB - count);
    }
    n = sampler_keep(&s.options, all, n, all + VOCAB);
    for (int t = 0; t < VOCAB; t++)
        expected += l->kept[t];
    for (int i = 0; i < n; i++)
        if (!l->kept[all[i].token])
            fail_msg("line %zu: %d is kept, and should not be", number, all[i].token);
    if (n != expected)
        fail_msg("line %zu: expected %d tokens, found %d", number, expected, n);
}

/* The picker, from the device's few candidates or the whole row, takes one of them. */
static void check_picked(const struct line *l, size_t number, struct dev *d, struct picker *p,
                         float *logits)
{
    struct sampler s = sampler_of(l);
    int32_t seq[MOST_SAID] = {0};
    picker_begin(p, d, 0, NULL, 0);
    picker_see(p, d, l->said, seq, l->n_said);
    for (s.options.seed = 0; s.options.seed < 20; s.options.seed++) {
        memcpy(logits, l->logits, sizeof l->logits);
        p->seq[0] = 0;
        p->samplers[0] = &s;
        picker_needs(p, 1);
        assert_int_equal(picker_pick(p, d, logits, logits, 1), 0);
        if (p->picked[0] < 0 || !l->kept[p->picked[0]])
            fail_msg("line %zu: %d was picked", number, p->picked[0]);
    }
}

static void rows_are_left_as_transformers_leaves_them(void **state)
{
    (void)state;
    size_t bytes, number = 0;
    static struct line line;
    struct dev dev;
    struct picker picker;
    dev_open_cpu(&dev, ISA_PLAIN, 1);
    picker_open(&picker, &dev, VOCAB, 1, 1);
    float *logits = dev_alloc(&dev, VOCAB * sizeof *logits);
    char *text = file_read(SOURCE_DIR "/tests/golden/sampling.jsonl", 1 << 24, &bytes), *next;
    assert_non_null(text);
    text[bytes - 1] = 0;
    for (char *at = text; at; at = next, number++) {
        next = strchr(at, '\n');
        size_t length = next ? (size_t)(next++ - at) : strlen(at);
        struct js *v = js_parse(at, length, "sampling.jsonl");
        if (number > 0) { // the first says what made it
            read_line(&line, v);
            if (line.defaults.do_sample)
                check_kept(&line, number);
            check_picked(&line, number, &dev, &picker, logits);
        }
        js_free(v);
    }
    assert_true(number > 60);
    free(text);
    dev_close(&dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_left_as_transformers_leaves_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
