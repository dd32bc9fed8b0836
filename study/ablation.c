#include "study/ablation.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"

struct stage {
    enum ablation_load load;
    const char *change;
    enum eager eager; // of ABLATION_ROWS
    bool best_isa, all_threads, whole_prompt, batched;
};

static const struct stage stages[] = {
    {ABLATION_ROWS, "every row through every expert", EAGER_EVERY_EXPERT, 0, 0, 0, 0},
    {ABLATION_ROWS, "only the experts hit, row by row", EAGER_ROW_BY_ROW, 0, 0, 0, 0},
    {ABLATION_ROWS, "rows grouped by expert", EAGER_GROUPED, 0, 0, 0, 0},
    {ABLATION_PANELS, "weights packed in panels", EAGER_COUNT, 0, 0, 0, 0},
    {ABLATION_BF16, "bf16 in place of f32", EAGER_COUNT, 0, 0, 0, 0},
    {ABLATION_BF16, "vector instructions", EAGER_COUNT, 1, 0, 0, 0},
    {ABLATION_BF16, "all threads", EAGER_COUNT, 1, 1, 0, 0},
    {ABLATION_BF16, "the prompt in one step", EAGER_COUNT, 1, 1, 1, 0},
    {ABLATION_BF16, "8 sequences together", EAGER_COUNT, 1, 1, 1, 1},
    {ABLATION_DENSE, "a dense model", EAGER_COUNT, 1, 1, 1, 0},
};
_Static_assert(sizeof stages / sizeof *stages <= ABLATION_MOST_ROWS, "a row for each stage");
_Static_assert(ABLATION_BATCH == 8, "as the name of the stage says");

/* What a stage changes, and how it was before. */
struct settings {
    enum isa isa;
    int threads, chunk;
};

static void set(struct coordinator *c, const struct settings *s, const struct stage *stage)
{
    dev_use_cpu(&c->dev, stage->best_isa ? s->isa : ISA_PLAIN, stage->all_threads ? s->threads : 1);
    if (stage->load == ABLATION_ROWS)
        dev_make_eager(&c->dev, stage->eager);
    bool short_steps = !stage->whole_prompt && s->chunk > ABLATION_STEP_ROWS;
    c->chunk = short_steps ? ABLATION_STEP_ROWS : s->chunk;
}

static void restore(struct coordinator *c, const struct settings *s)
{
    dev_use_cpu(&c->dev, s->isa, s->threads);
    c->chunk = s->chunk;
}

/* The greatest difference of the last step's logits from the first row's, which this keeps. */
static double difference(struct ablation_report *r, const struct coordinator *c)
{
    const float *now = c->state.logits;
    size_t n = (size_t)c->config.vocab_size;
    double low = INFINITY, high = -INFINITY, most = 0;
    if (!r->first) {
        r->first = malloc(n * sizeof *r->first);
        CHECK_MEMORY(r->first, "no memory for %zu logits", n);
        memcpy(r->first, now, n * sizeof *now);
    }
    for (size_t i = 0; i < n; i++) {
        low = fmin(low, (double)r->first[i]);
        high = fmax(high, (double)r->first[i]);
        most = fmax(most, fabs((double)now[i] - (double)r->first[i]));
    }
    return high > low ? most / (high - low) : 0;
}

static int run_stage(struct ablation_report *r, struct coordinator *c,
                     const struct ablation_options *o, const struct stage *stage)
{
    static struct bench_report measured;
    bool slow = stage->load == ABLATION_ROWS, dense = stage->load == ABLATION_DENSE;
    int batch = stage->batched ? ABLATION_BATCH : 1;
    struct bench_options b = {.generate = o->generate,
                              .repeats = o->repeats,
                              .prompts = {o->prompt},
                              .n_prompts = 1,
                              .batches = {batch},
                              .n_batches = 1,
                              .model_name = o->model_name,
                              .without_roof = true,
                              .without_warm_up = slow};
    int status = bench_run(&measured, c, &b);
    if (status)
        return status;
    r->rows[r->n++] = (struct ablation_row){
        .change = stage->change,
        .isa = isa_name(c->dev.isa),
        .dtype = c->precision.type,
        .threads = c->dev.threads,
        .step_rows = c->chunk < o->prompt * batch ? c->chunk : o->prompt * batch,
        .batch = batch,
        .dense = dense,
        .prefill = measured.results[0].median,
        .decode = measured.results[1].median,
        .difference = dense || stage->batched ? -1 : difference(r, c)};
    return 0;
}

int ablation_run(struct ablation_report *r, struct coordinator *c, const struct ablation_options *o,
                 enum ablation_load load)
{
    struct settings usual = {c->dev.isa, c->dev.threads, c->chunk};
    int status = 0;
    CHECK(!c->transport && !c->dev.cuda, "the ablation is of one process on a CPU");
    cpu_name(r->cpu, sizeof r->cpu);
    for (size_t i = 0; i < sizeof stages / sizeof *stages && !status; i++)
        if (stages[i].load == load) {
            set(c, &usual, &stages[i]);
            status = run_stage(r, c, o, &stages[i]);
        }
    restore(c, &usual);
    return status;
}

void ablation_close(struct ablation_report *r)
{
    free(r->first);
    r->first = NULL;
}
