/* The CPU device as a straightforward program would have it, for `bench --ablation`: weights in
 * rows, as checkpoints have them, and a sum at a time on one thread. Attention and what works row
 * by row are the usual ones.
 *
 * Each sum has the same terms in the same order as isa_plain's, so results are the same bits. */
#include "base/check.h"
#include "kernels/cpu/cpu.h"

enum { BLOCK = 32 };

/* Rows that go through a block of an ffn together. */
struct rows {
    const char *x[BLOCK];
    char *y[BLOCK];
    int n;
};

static const char *weight_row(const struct matrix *w, int output)
{
    return (const char *)w->data + (size_t)output * row_bytes(w->type, w->k);
}

/* ---- Packing: row after row ---- */

static void copy_rows(struct matrix *w, int first, const struct values *source, int rows)
{
    size_t columns = values_columns(source, w), stride = values_stride(source, w);
    size_t width = (size_t)dtype_bytes(w->type);
    CHECK(!w->quant, "%s in rows", quant_name(w->quant));
    for (int r = 0; r < rows; r++)
        for (size_t i = 0; i < columns; i += VALUES_AT_ONCE) {
            size_t left = columns - i, n = left < VALUES_AT_ONCE ? left : VALUES_AT_ONCE;
            values_take((char *)weight_row(w, first + r) + i * width, w->type, source,
                        (size_t)r * stride + i, n);
        }
}

static void eager_pack(struct dev *d, struct matrix *w, int first, const struct values *source,
                       int rows)
{
    (void)d;
    copy_rows(w, first, source, rows);
}

/* All rows of gate, then all rows of up, from the middle of the matrix on. */
static void eager_pack_pair(struct dev *d, struct matrix *gate_up, const struct values *gate,
                            const struct values *up, int width)
{
    (void)d;
    copy_rows(gate_up, 0, gate, width);
    copy_rows(gate_up, gate_up->n / 2, up, width);
}

/* ---- Products ---- */

static inline __attribute__((always_inline)) float dot_as(enum dtype type, const char *x,
                                                          const char *w, int k)
{
    float sum = 0;
    for (size_t i = 0; i < (size_t)k; i++)
        sum += dtype_load(type, x, i) * dtype_load(type, w, i);
    return sum;
}

static float dot(enum dtype type, const char *x, const char *w, int k)
{
    if (type == DTYPE_F32)
        return dot_as(DTYPE_F32, x, w, k);
    return type == DTYPE_BF16 ? dot_as(DTYPE_BF16, x, w, k) : dot_as(DTYPE_F16, x, w, k);
}

static void product(float *y, int ldy, const char *x, const struct matrix *w, int n, bool add)
{
    for (int o = 0; o < w->n; o++)
        for (int r = 0; r < n; r++) {
            float *at = y + (size_t)r * (size_t)ldy + o;
            const char *row = x + (size_t)r * row_bytes(w->type, w->k);
            float sum = dot(w->type, row, weight_row(w, o), w->k);
            sum = w->bias ? sum + w->bias[o] : sum;
            *at = add ? *at + sum : sum;
        }
}

static void eager_matmul(struct dev *d, float *y, int ldy, const void *x, const struct matrix *w,
                         int n)
{
    (void)d;
    product(y, ldy, x, w, n, false);
}

static void eager_matmul_add(struct dev *d, float *y, int ldy, const void *x,
                             const struct matrix *w, int n)
{
    (void)d;
    product(y, ldy, x, w, n, true);
}

/* ---- Blocks of an ffn ---- */

static void hidden_values(const struct dev *d, const struct ffn *f, char *hidden,
                          const struct rows *rows)
{
    const struct matrix *m = &f->gate_up;
    size_t stride = row_bytes(m->type, f->down.k), size = (size_t)dtype_bytes(m->type);
    for (int j = 0; j < f->down.k; j++)
        for (int r = 0; r < rows->n; r++) {
            float gate = dot(m->type, rows->x[r], weight_row(m, j), m->k);
            float up = dot(m->type, rows->x[r], weight_row(m, m->n / 2 + j), m->k);
            char *to = hidden + (size_t)r * stride + (size_t)j * size;
            d->cpu->swiglu(to, m->type, &gate, &up, 1);
        }
}

static void outputs(const struct ffn *f, const char *hidden, enum dtype y_type,
                    const struct rows *rows)
{
    const struct matrix *m = &f->down;
    size_t stride = row_bytes(m->type, m->k);
    for (int o = 0; o < row_stride(m->n); o++)
        for (int r = 0; r < rows->n; r++) {
            const char *row = hidden + (size_t)r * stride;
            float sum = o < m->n ? dot(m->type, row, weight_row(m, o), m->k) : 0;
            dtype_store(y_type, rows->y[r], (size_t)o, sum);
        }
}

/* Send the rows that have been gathered through f, and begin anew. */
static void flush(const struct dev *d, const struct ffn *f, enum dtype y_type, struct rows *rows)
{
    if (rows->n == 0)
        return;
    CHECK((size_t)rows->n * row_bytes(f->down.type, f->down.k) <= d->scratch_bytes,
          "%d rows of %d in %zu bytes", rows->n, f->down.k, d->scratch_bytes);
    hidden_values(d, f, d->scratch, rows);
    outputs(f, d->scratch, y_type, rows);
    rows->n = 0;
}

static void add(const struct dev *d, const struct ffn_job *job, int block, struct rows *rows,
                const char *x, char *y)
{
    rows->x[rows->n] = x;
    rows->y[rows->n++] = y;
    if (rows->n == BLOCK)
        flush(d, &job->list->ffns[block], job->y_type, rows);
}

static int source_row(const struct ffn_job *job, int i)
{
    return job->source ? job->source[i] : i;
}

static const char *input(const struct ffn_job *job, int row)
{
    const struct matrix *m = &job->list->ffns[0].gate_up;
    return (const char *)job->x + (size_t)row * row_bytes(m->type, m->k);
}

static char *output(const struct ffn_job *job, int i)
{
    return (char *)job->y + (size_t)i * row_bytes(job->y_type, job->list->ffns[0].down.n);
}

/* Each block once, for all its rows. */
static void grouped(const struct dev *d, const struct ffn_job *job)
{
    struct rows rows = {.n = 0};
    for (int b = 0, at = 0; b < job->list->n; b++) {
        int n = job->count ? job->count[b] : job->n;
        for (int i = 0; i < n; i++)
            add(d, job, b, &rows, input(job, source_row(job, job->count ? at + i : i)),
                output(job, at + i));
        flush(d, &job->list->ffns[b], job->y_type, &rows);
        at += n;
    }
}

/* How many rows of x the job reads. */
static int rows_read(const struct ffn_job *job)
{
    int n = 0, most = 0;
    for (int b = 0; b < job->list->n; b++)
        n += job->count[b];
    for (int i = 0; i < n; i++)
        most = source_row(job, i) >= most ? source_row(job, i) + 1 : most;
    return most;
}

/* The place in the sorted order of row `row` among the n from `at` on that go through a block; -1:
 * it does not go through it. */
static int place_of(const struct ffn_job *job, int at, int n, int row)
{
    for (int i = at; i < at + n; i++)
        if (source_row(job, i) == row)
            return i;
    return -1;
}

/* Row after row through its experts, one at a time: an expert is read again for every row. */
static void row_by_row(const struct dev *d, const struct ffn_job *job)
{
    struct rows rows = {.n = 0};
    for (int row = 0, n = rows_read(job); row < n; row++)
        for (int b = 0, at = 0; b < job->list->n; at += job->count[b++]) {
            int place = place_of(job, at, job->count[b], row);
            if (place >= 0)
                add(d, job, b, &rows, input(job, row), output(job, place));
            flush(d, &job->list->ffns[b], job->y_type, &rows);
        }
}

/* Every row through every expert; what the router did not choose is computed and not used. */
static void every_expert(const struct dev *d, const struct ffn_job *job)
{
    struct rows rows = {.n = 0};
    const struct matrix *down = &job->list->ffns[0].down;
    int n = rows_read(job), together = n < BLOCK ? n : BLOCK;
    char *unused = (char *)d->scratch + (size_t)together * row_bytes(down->type, down->k);
    CHECK(unused + row_bytes(job->y_type, down->n) <= (char *)d->scratch + d->scratch_bytes,
          "%d rows of %d in %zu bytes", together, down->k, d->scratch_bytes);
    for (int b = 0, at = 0; b < job->list->n; at += job->count[b++]) {
        for (int row = 0; row < n; row++) {
            int place = place_of(job, at, job->count[b], row);
            add(d, job, b, &rows, input(job, row), place >= 0 ? output(job, place) : unused);
        }
        flush(d, &job->list->ffns[b], job->y_type, &rows);
    }
}

/* Blocks that every row goes through have no choice of rows. */
static void run_jobs(struct dev *d, const struct ffn_job *jobs, int n_jobs,
                     void (*choice)(const struct dev *d, const struct ffn_job *job))
{
    for (int i = 0; i < n_jobs; i++)
        (jobs[i].count ? choice : grouped)(d, &jobs[i]);
}

static void ffn_every_expert(struct dev *d, const struct ffn_job *jobs, int n_jobs)
{
    run_jobs(d, jobs, n_jobs, every_expert);
}

static void ffn_row_by_row(struct dev *d, const struct ffn_job *jobs, int n_jobs)
{
    run_jobs(d, jobs, n_jobs, row_by_row);
}

static void ffn_grouped(struct dev *d, const struct ffn_job *jobs, int n_jobs)
{
    run_jobs(d, jobs, n_jobs, grouped);
}

void dev_make_eager(struct dev *d, enum eager how)
{
    static void (*const ffns[EAGER_COUNT])(struct dev * d, const struct ffn_job *jobs,
                                           int n_jobs) = {[EAGER_EVERY_EXPERT] = ffn_every_expert,
                                                          [EAGER_ROW_BY_ROW] = ffn_row_by_row,
                                                          [EAGER_GROUPED] = ffn_grouped};
    static struct kernels tables[EAGER_COUNT];
    struct kernels *table = &tables[how];
    *table = *d->kernels;
    table->ffn = ffns[how];
    table->matmul = eager_matmul;
    table->matmul_add = eager_matmul_add;
    table->matrix_pack = eager_pack;
    table->matrix_pack_pair = eager_pack_pair;
    d->kernels = table;
    dev_use_cpu(d, ISA_PLAIN, 1);
}
