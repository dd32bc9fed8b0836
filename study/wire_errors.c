#include "study/wire_errors.h"

#include <math.h>
#include <string.h>

#include "base/log.h"
#include "coordinator/distribution.h"
#include "coordinator/forward.h"
#include "coordinator/unembed.h"
#include "study/kept.h"

struct measuring {
    struct coordinator *c;
    const struct routing_file *f;
    const char *path;
    struct arena memory;
    struct batch batch;
    int32_t *seq, *pos; // [most rows] of a step
    int32_t *last;      // [sequences] rows whose logits are wanted
    int *length;        // [sequences] positions that a sequence has so far
    int64_t all, kept;  // rows whose logits are wanted, of all steps; and that are looked at
    int64_t seen;       // so far in this pass
    float *logits;      // [kept][vocab_size] by rows on the model's own wire
    struct wire_errors_way *way; // NULL: this pass keeps the logits
};

/* ---- a step ---- */

/* A sequence begins at position 0, or goes on where it has come to. */
static int take_run(struct measuring *m, int step, const struct routing_run *run, int first)
{
    int *length = &m->length[run->sequence];
    if (run->position == 0) {
        kv_cache_release(&m->c->kv, run->sequence);
        *length = 0;
    }
    if (run->position != *length)
        return fail(STATUS_BAD_FILE,
                    "%s: step %d: sequence %d: expected position %d or 0, found %d", m->path, step,
                    run->sequence, *length, run->position);
    *length += run->rows;
    if (!kv_cache_extend(&m->c->kv, run->sequence, *length))
        return fail(STATUS_FAILED, "no room for %d positions of sequence %d", *length,
                    run->sequence);
    for (int i = 0; i < run->rows; i++) {
        m->seq[first + i] = run->sequence;
        m->pos[first + i] = run->position + i;
    }
    return 0;
}

static int check_tokens(const struct measuring *m, int step, const struct routing_step *s)
{
    for (int i = 0; i < s->n_rows; i++)
        if (s->token[i] >= m->c->config.vocab_size)
            return fail(STATUS_BAD_FILE, "%s: step %d: expected tokens below %d, found %d", m->path,
                        step, m->c->config.vocab_size, s->token[i]);
    return 0;
}

/* The rows of a step, and the last one of each run. */
static int take_step(struct measuring *m, int step, int *wanted)
{
    const struct routing_step *s = &m->f->steps[step];
    int status = check_tokens(m, step, s), row = 0;
    *wanted = 0;
    for (int r = 0; r < s->n_runs && !status; r++) {
        status = take_run(m, step, &s->runs[r], row);
        row += s->runs[r].rows;
        m->last[(*wanted)++] = row - 1;
    }
    m->batch = (struct batch){s->n_rows, s->token, m->seq, m->pos};
    return status;
}

/* ---- logits ---- */

static void compare(struct wire_errors_way *w, const float *p, const float *q, int n)
{
    double kl = divergence(p, q, n);
    for (int i = 0; i < n; i++) {
        double delta = fabs((double)p[i] - (double)q[i]);
        w->delta_most = delta > w->delta_most ? delta : w->delta_most;
    }
    w->kl_mean += kl;
    w->kl_most = kl > w->kl_most ? kl : w->kl_most;
    w->same_best += best_token(p, n) == best_token(q, n);
}

/* Of all wanted rows, `kept` at even distances. */
static void take_logits(struct measuring *m, const float *logits, int n)
{
    size_t vocab = (size_t)m->c->config.vocab_size;
    for (int i = 0; i < n; i++, m->seen++) {
        int64_t at;
        if (!is_kept(m->seen, m->kept, m->all, &at))
            continue;
        float *own = m->logits + (size_t)at * vocab;
        if (m->way)
            compare(m->way, own, logits + (size_t)i * vocab, (int)vocab);
        else
            memcpy(own, logits + (size_t)i * vocab, vocab * sizeof *own);
    }
}

/* ---- a pass ---- */

static int run_step(struct measuring *m, int step)
{
    int wanted, status = take_step(m, step, &wanted);
    if (!status)
        status = forward(m->c, &m->batch);
    for (int at = 0; at < wanted && !status;) {
        int n = wanted - at < m->c->logit_rows ? wanted - at : m->c->logit_rows;
        const float *logits = unembed_to_host(m->c, m->last + at, n);
        if (!logits)
            return STATUS_FAILED;
        take_logits(m, logits, n);
        at += n;
    }
    return status;
}

static int run_pass(struct measuring *m)
{
    int status = 0;
    m->seen = 0;
    memset(m->length, 0, (size_t)m->f->sequences * sizeof *m->length);
    for (int s = 0; s < m->f->sequences; s++)
        kv_cache_release(&m->c->kv, s);
    for (int i = 0; i < m->f->n_steps && !status; i++)
        status = run_step(m, i);
    return status;
}

static int run_way(struct measuring *m, const struct coordinator_options *o,
                   struct wire_errors_way *way)
{
    struct coordinator_options other = *o;
    other.exchange.combine = way->combine;
    other.exchange.wire = way->wire;
    m->way = way;
    int status = coordinator_change_exchange(m->c, &other);
    if (!status)
        status = run_pass(m);
    if (!status)
        status = coordinator_wire_error(m->c, &way->rows_rms);
    way->kl_mean /= (double)m->kept;
    return status;
}

static void open_measuring(struct measuring *m)
{
    size_t rows = (size_t)m->f->most_rows, sequences = (size_t)m->f->sequences;
    size_t vocab = (size_t)m->c->config.vocab_size, most_runs = 0;
    for (int i = 0; i < m->f->n_steps; i++) {
        size_t runs = (size_t)m->f->steps[i].n_runs;
        m->all += (int64_t)runs;
        most_runs = runs > most_runs ? runs : most_runs;
    }
    int64_t room = (int64_t)((size_t)WIRE_ERRORS_BYTES / (vocab * sizeof *m->logits));
    m->kept = m->all < room ? m->all : room;
    m->seq = arena_alloc(&m->memory, rows * sizeof *m->seq);
    m->pos = arena_alloc(&m->memory, rows * sizeof *m->pos);
    m->last = arena_alloc(&m->memory, most_runs * sizeof *m->last);
    m->length = arena_alloc(&m->memory, sequences * sizeof *m->length);
    m->logits = arena_alloc(&m->memory, (size_t)m->kept * vocab * sizeof *m->logits);
}

int wire_errors_measure(struct wire_errors *e, struct coordinator *c,
                        const struct coordinator_options *o, const struct routing_file *f,
                        const char *path)
{
    struct measuring m = {.c = c, .f = f, .path = path};
    *e = (struct wire_errors){0};
    open_measuring(&m);
    int status = run_pass(&m);
    for (int i = 1; i < WIRE_ERRORS_MOST && !status; i++) {
        enum wire wire = (enum wire)(i % WIRE_COUNT);
        if (wire == WIRE_BF16 && c->precision.type != DTYPE_F32)
            continue;
        struct wire_errors_way *way = &e->ways[e->n_ways++];
        *way = (struct wire_errors_way){.combine = (enum combine)(i / WIRE_COUNT), .wire = wire};
        status = run_way(&m, o, way);
    }
    e->rows = (int)m.kept;
    arena_free(&m.memory);
    return status;
}
