/* Whether a GPU computes the same bytes every time, with kernels that begin early and without.
 *
 *   gpu_same -m MODEL [--prompt 100] [--rows 48] [--batch 8] [--repeats 10] [--threads 0]
 *
 * Each repeat computes the logits of two things and compares them with the first repeat's, byte for
 * byte: --rows tokens row by row after a prompt, in decode steps that are recorded and played as a
 * run plays them; and --batch sequences of different lengths that share steps, prompts beside rows
 * that decode. Odd repeats let kernels begin early, even ones do not. Before each the same blocks
 * of keys and values hold another text, so that what is read too early is not what belongs there.
 *
 * At the end the sequences of the batch go alone, row by row. A batch of decode steps only must
 * give the same bytes, as long as each product's rows are few enough to be streamed (stream.cuh);
 * how far the mixed steps are from it is told, but it has no bound: prompts pass through other
 * kernels.
 *
 * Exit: 0 all the same, 1 not, or the device has failed; 2 bad usage, 77 no GPU. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "coordinator/forward.h"
#include "coordinator/unembed.h"
#include "kernels/cuda/cuda.h"
#include "kernels/ops.h"
#include "launch/ranks.h"

enum { MOST_SEQUENCES = 64, SKIPPED = 77, ARRIVAL = 2 /* steps between sequences */ };

struct options {
    const char *model;
    long prompt, rows, batch, repeats, threads;
};

/* Its logits are wanted from the prompt's last token on. */
struct sequence {
    int prompt, length;
    int first; // the place of its first row in a sheet
};

struct difference {
    uint64_t elements;
    int rows, row; // row, element: the first; found, wanted: there
    size_t element;
    float found, wanted;
};

/* The logits of some sequences: of a first run, with which later ones are compared. */
struct sheet {
    const char *name;
    float *logits; // [n][vocab]
    int n;
    bool filled;
    struct difference now; // of the run at hand
};

/* The rows of a step, and which of their logits go where in the sheet. */
struct step {
    int32_t *tokens, *seq, *pos; // [chunk]
    int32_t wanted[MOST_SEQUENCES + 1];
    int place[MOST_SEQUENCES + 1];
    int n, n_wanted;
};

struct lab {
    struct ranks ranks;
    struct coordinator *c;
    struct options o;
    size_t vocab;
    struct sequence of[MOST_SEQUENCES + 1]; // the batch, then the one that goes row by row
    struct step step;
};

/* ---- comparing ---- */

static void compare_row(struct difference *d, const float *found, const float *wanted, size_t vocab,
                        int row)
{
    if (memcmp(found, wanted, vocab * sizeof *found) == 0)
        return;
    for (size_t i = 0; i < vocab; i++)
        if (memcmp(found + i, wanted + i, sizeof *found) != 0 && d->elements++ == 0)
            *d = (struct difference){1, 0, row, i, found[i], wanted[i]};
    d->rows++;
}

static void take(struct lab *l, struct sheet *s, const float *logits)
{
    for (int i = 0; i < l->step.n_wanted; i++) {
        int row = l->step.place[i];
        float *kept = s->logits + (size_t)row * l->vocab;
        if (s->filled)
            compare_row(&s->now, logits + (size_t)i * l->vocab, kept, l->vocab, row);
        else
            memcpy(kept, logits + (size_t)i * l->vocab, l->vocab * sizeof *logits);
    }
}

/* Which sequence and position a row of a sheet is. */
static const struct sequence *owner(const struct lab *l, int first, int row, int *number)
{
    int s = first;
    while (row >= l->of[s].first + l->of[s].length - l->of[s].prompt + 1)
        s++;
    *number = s - first;
    return &l->of[s];
}

/* Prints what there was to find, and is true when that was nothing. first: its first sequence. */
static bool tell(const struct lab *l, struct sheet *s, int first, const char *when)
{
    struct difference d = s->now;
    int number;
    s->now = (struct difference){0};
    if (d.elements == 0)
        return true;
    const struct sequence *of = owner(l, first, d.row, &number);
    printf("%s: %s: %llu values in %d of %d rows differ; the first: row %d (sequence %d, position "
           "%d), value %zu: %.9g, expected %.9g\n",
           when, s->name, (unsigned long long)d.elements, d.rows, s->n, d.row, number,
           of->prompt - 1 + d.row - of->first, d.element, (double)d.found, (double)d.wanted);
    return false;
}

/* Numbers, and not the same in each row: a device that does nothing would repeat itself, too. */
static bool makes_sense(const struct lab *l, const struct sheet *s)
{
    size_t all = (size_t)s->n * l->vocab;
    for (size_t i = 0; i < all; i++)
        if (!isfinite(s->logits[i])) {
            printf("%s: expected numbers, found %g in row %zu\n", s->name, (double)s->logits[i],
                   i / l->vocab);
            return false;
        }
    if (s->n > 1 && memcmp(s->logits, s->logits + l->vocab, l->vocab * sizeof *s->logits) == 0) {
        printf("%s: expected logits that depend on the row, found the same in the first two\n",
               s->name);
        return false;
    }
    return true;
}

/* ---- running ---- */

/* text 0 is what is computed; 1 is what stood in the cache before. */
static int32_t token_at(const struct lab *l, int s, int pos, int text)
{
    uint64_t place = (uint64_t)text << 48 | (uint64_t)s << 32 | (uint64_t)pos;
    return (int32_t)(hash_mix(place + 1) % l->vocab);
}

static void add_row(struct lab *l, int s, int pos, int text)
{
    struct step *step = &l->step;
    step->tokens[step->n] = token_at(l, s, pos, text);
    step->seq[step->n] = s;
    step->pos[step->n++] = pos;
}

static int run_step(struct lab *l)
{
    struct step *step = &l->step;
    return forward(l->c, &(struct batch){step->n, step->tokens, step->seq, step->pos});
}

/* Another text where the sequence will be. */
static int fill_cache(struct lab *l, int s)
{
    int status = 0;
    for (int done = 0; done < l->of[s].length && !status;) {
        l->step.n = 0;
        while (l->step.n < l->c->chunk && done < l->of[s].length)
            add_row(l, s, done++, 1);
        status = run_step(l);
    }
    return status;
}

/* The next rows of a sequence that has come to position *at. */
static void add_rows(struct lab *l, int s, int *at, int rows)
{
    const struct sequence *of = &l->of[s];
    struct step *step = &l->step;
    for (int i = 0; i < rows; i++)
        add_row(l, s, (*at)++, 0);
    if (rows > 0 && *at >= of->prompt) {
        step->wanted[step->n_wanted] = step->n - 1;
        step->place[step->n_wanted++] = of->first + *at - of->prompt;
    }
}

/* Step number `number` of sequences [first, first + n): those that decode, then prompts, of each
 * at most prompt_rows. True when some sequence is not at its end. */
static bool plan_step(struct lab *l, int first, int n, int *at, int number, int prompt_rows)
{
    bool more = false;
    l->step.n = l->step.n_wanted = 0;
    for (int s = first; s < first + n; s++) {
        more |= at[s] < l->of[s].length;
        if (at[s] >= l->of[s].prompt && at[s] < l->of[s].length)
            add_rows(l, s, &at[s], 1);
    }
    int decoding = l->step.n;
    for (int s = first; s < first + n; s++) {
        int room = l->c->chunk - l->step.n, left = l->of[s].prompt - at[s];
        bool is_in_step = false;
        for (int i = 0; i < decoding; i++)
            is_in_step |= l->step.seq[i] == s;
        int rows = left < prompt_rows ? left : prompt_rows;
        if (left > 0 && !is_in_step && number >= (s - first) * ARRIVAL)
            add_rows(l, s, &at[s], rows < room ? rows : room);
    }
    return more;
}

/* Sequences [first, first + n) together, from their first tokens to their last. */
static int run(struct lab *l, struct sheet *to, int first, int n, int prompt_rows)
{
    int at[MOST_SEQUENCES + 1] = {0}, status = 0;
    for (int s = first; s < first + n && !status; s++) {
        CHECK(kv_cache_extend(&l->c->kv, s, l->of[s].length), "no KV block for sequence %d", s);
        status = fill_cache(l, s);
    }
    for (int i = 0; !status && plan_step(l, first, n, at, i, prompt_rows); i++) {
        if (l->step.n == 0)
            continue; // the next has not arrived
        status = run_step(l);
        if (!status && l->step.n_wanted) {
            const float *logits = unembed_to_host(l->c, l->step.wanted, l->step.n_wanted);
            if (!logits)
                return STATUS_FAILED;
            take(l, to, logits);
        }
    }
    for (int s = first; s < first + n; s++)
        kv_cache_release(&l->c->kv, s);
    return status;
}

/* ---- the comparisons ---- */

static struct sheet new_sheet(const struct lab *l, const char *name, int n)
{
    struct sheet s = {.name = name, .n = n};
    s.logits = malloc((size_t)n * l->vocab * sizeof *s.logits);
    CHECK(s.logits, "no memory for %d rows of logits", n);
    return s;
}

/* What a run adds to the exit code: 1 when it failed or differs. */
static int check(struct lab *l, struct sheet *s, int first, int n, int prompt_rows,
                 const char *when)
{
    if (run(l, s, first, n, prompt_rows) != 0)
        return 1;
    if (s->filled)
        return !tell(l, s, first, when);
    s->filled = true;
    return !makes_sense(l, s);
}

/* Whether a sequence of calls that nobody else makes is played, as it is once it has been recorded.
 */
static bool plays(struct lab *l)
{
    enum { OWN_KEY = 1 };
    const struct coordinator *c = l->c;
    if (!dev_graph_begin(&l->c->dev, OWN_KEY))
        return true;
    rmsnorm(&l->c->dev, c->state.h, c->precision.type, c->state.x, c->weights.final_norm, 1,
            c->config.dim, c->config.norm_eps);
    dev_graph_end(&l->c->dev);
    return false;
}

/* *can: whether the GPU does as was wished. False when it would go on with graphs from before. */
static bool switch_early(struct lab *l, bool wish, bool *can)
{
    *can = cuda_set_early(&l->c->dev, wish);
    bool anew = !plays(l);
    plays(l); // is recorded now, so that the next switch has something to forget
    if (!anew)
        printf("expected graphs to be recorded anew, found one from before the switch played\n");
    return anew;
}

static int repeat_all(struct lab *l, struct sheet *rows, struct sheet *batch)
{
    int n = (int)l->o.batch, bad = 0;
    for (int i = 0; i < l->o.repeats && !dev_wait(&l->c->dev); i++) {
        char when[64];
        bool wish = i % 2 == 0, can, anew = switch_early(l, wish, &can);
        snprintf(when, sizeof when, "repeat %d, early launch %s", i + 1,
                 wish && can ? "on" : "off");
        int differs = check(l, rows, n, 1, l->of[n].prompt, when);
        differs |= check(l, batch, 0, n, l->c->chunk / 2, when);
        printf("%s: %s\n", when, differs ? "NOT the same" : i ? "the same" : "the first");
        if (wish && !can)
            printf("(this GPU has no early launch, or EPMOE_EARLY=0 forbids it)\n");
        fflush(stdout);
        bad |= differs || !anew;
    }
    return bad || dev_wait(&l->c->dev);
}

static size_t best_of(const float *row, size_t vocab)
{
    size_t best = 0;
    for (size_t i = 1; i < vocab; i++)
        best = row[i] > row[best] ? i : best;
    return best;
}

static void tell_distance(const struct lab *l, const struct sheet *batch, const struct sheet *alone)
{
    double squares = 0, largest = 0, low = INFINITY, high = -INFINITY;
    size_t all = (size_t)alone->n * l->vocab;
    int others = 0;
    for (size_t i = 0; i < all; i++) {
        double wanted = (double)alone->logits[i], delta = fabs((double)batch->logits[i] - wanted);
        squares += delta * delta;
        largest = fmax(largest, delta);
        low = fmin(low, wanted);
        high = fmax(high, wanted);
    }
    for (int i = 0; i < alone->n; i++) {
        size_t at = (size_t)i * l->vocab;
        others += best_of(batch->logits + at, l->vocab) != best_of(alone->logits + at, l->vocab);
    }
    printf("%s, beside the same rows alone: RMS %.3g, largest %.3g of the logits' range; another "
           "best token in %d of %d rows (no bound)\n",
           batch->name, sqrt(squares / (double)all) / (high - low), largest / (high - low), others,
           alone->n);
}

/* The batch's sequences alone; together in steps of one row each; and in mixed steps, as before. */
static int compare_with_alone(struct lab *l, const struct sheet *batch)
{
    int n = (int)l->o.batch, status = 0;
    int most = n * (l->c->config.n_experts ? l->c->config.top_k : 1);
    struct sheet alone =
        new_sheet(l, "decode steps of the batch, beside the same rows alone", batch->n);
    for (int s = 0; s < n && !status; s++)
        status = run(l, &alone, s, 1, 1);
    alone.filled = true;
    if (!status)
        status = run(l, &alone, 0, n, 1);
    if (!status) {
        bool same = tell(l, &alone, 0, "at the end"), must = most <= CUDA_JOINT_FFN_MAX_ROWS;
        if (same)
            printf("%s: the same\n", alone.name);
        status = must && !same;
        tell_distance(l, batch, &alone);
    }
    free(alone.logits);
    return status != 0;
}

/* ---- the program ---- */

/* Lengths that differ, within the prompt that the largest step has room for. */
static int plan_sequences(struct lab *l)
{
    int n = (int)l->o.batch, prompt = (int)l->o.prompt, rows = (int)l->o.rows, first = 0;
    for (int s = 0; s < n; s++) {
        struct sequence *of = &l->of[s];
        of->prompt = 1 + (s * 23 + 5) % prompt;
        of->length = of->prompt + (rows + 3) / 4 + s;
        of->first = first;
        first += of->length - of->prompt + 1;
    }
    l->of[n] = (struct sequence){prompt, prompt + rows, 0};
    return first;
}

static int open_lab(struct lab *l)
{
    struct process p = {.local_size = 1};
    struct model_options o = model_options_default();
    int longest = l->of[l->o.batch].length, n = (int)l->o.batch;
    for (int s = 0; s < n; s++)
        longest = l->of[s].length > longest ? l->of[s].length : longest;
    struct session_needs needs = {n + 1, n + 1, longest};
    o.model = l->o.model;
    o.threads = l->o.threads;
    o.chunk = l->o.prompt > n ? l->o.prompt : n;
    o.device = DEVICE_CUDA;
    int status = ranks_open(&l->ranks, &p, &o, &needs);
    if (status)
        return status;
    l->c = &l->ranks.coordinator;
    l->vocab = (size_t)l->c->config.vocab_size;
    int32_t **arrays[] = {&l->step.tokens, &l->step.seq, &l->step.pos};
    for (int i = 0; i < 3; i++) {
        *arrays[i] = calloc((size_t)l->c->chunk, sizeof(int32_t));
        CHECK(*arrays[i], "no memory for %d rows", l->c->chunk);
    }
    return 0;
}

static void close_lab(struct lab *l)
{
    free(l->step.tokens);
    free(l->step.seq);
    free(l->step.pos);
    ranks_close(&l->ranks);
}

static int compare_all(struct lab *l, int batch_rows)
{
    char gpu[256];
    struct sheet rows = new_sheet(l, "row by row", (int)l->o.rows + 1);
    struct sheet batch = new_sheet(l, "the batch in mixed steps", batch_rows);
    cuda_describe(gpu, sizeof gpu);
    printf(
        "%s, %s, CUDA %s\n%ld rows after a prompt of %ld, then a batch of %ld sequences, %d rows "
        "of logits; %ld times\n",
        l->o.model, dtype_name(l->c->precision.type), gpu, l->o.rows, l->o.prompt, l->o.batch,
        batch_rows, l->o.repeats);
    int bad = repeat_all(l, &rows, &batch);
    if (!dev_wait(&l->c->dev))
        bad |= compare_with_alone(l, &batch);
    free(rows.logits);
    free(batch.logits);
    printf("gpu_same: %s\n", bad ? "NOT the same" : "all the same");
    return bad;
}

static int usage(void)
{
    fprintf(stderr, "usage: gpu_same -m MODEL [--prompt 100] [--rows 48] [--batch 8] "
                    "[--repeats 10] [--threads 0]\n");
    return STATUS_USAGE;
}

static bool parse(struct options *o, int argc, char **argv)
{
    const struct {
        const char *name;
        long *value, least, most;
    } known[] = {{"--prompt", &o->prompt, 2, 65536},
                 {"--rows", &o->rows, 1, 65536},
                 {"--batch", &o->batch, 1, MOST_SEQUENCES},
                 {"--repeats", &o->repeats, 2, 1000},
                 {"--threads", &o->threads, 0, 1024}};
    for (int i = 1; i < argc; i += 2) {
        bool good = i + 1 < argc && strcmp(argv[i], "-m") == 0;
        if (good)
            o->model = argv[i + 1];
        for (size_t k = 0; k < sizeof known / sizeof *known && i + 1 < argc; k++)
            if (strcmp(argv[i], known[k].name) == 0) {
                char *end;
                *known[k].value = strtol(argv[i + 1], &end, 10);
                good = end > argv[i + 1] && !*end && *known[k].value >= known[k].least &&
                       *known[k].value <= known[k].most;
            }
        if (!good)
            return false;
    }
    return o->model != NULL;
}

int main(int argc, char **argv)
{
    static struct lab l = {.o = {NULL, 100, 48, 8, 10, 0}};
    if (!parse(&l.o, argc, argv))
        return usage();
    if (cuda_count() == 0) {
        printf("skipped: no GPU found\n");
        return SKIPPED;
    }
    int batch_rows = plan_sequences(&l), status = open_lab(&l);
    if (status)
        return status;
    int bad = compare_all(&l, batch_rows);
    close_lab(&l);
    return bad;
}
