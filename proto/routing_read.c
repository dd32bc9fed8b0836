/* Reading files of recorded routing: every number is checked before it is used. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "proto/budget.h"
#include "proto/routing.h"
#include "routing.pb-c.h"

enum { FORMAT = 1, MAX_FILE_BYTES = 1 << 30 };

/* `value` if it is from least to most; else status is set, and least returned. */
static int read_int(const char *name, const char *field, uint64_t value, int least, int most,
                    int *status)
{
    if (value >= (uint64_t)least && value <= (uint64_t)most)
        return (int)value;
    if (!*status)
        *status = fail(STATUS_BAD_FILE, "%s: %s: expected %d to %d, found %" PRIu64, name, field,
                       least, most, value);
    return least;
}

static const char *read_text(const char *name, const char *field, ProtobufCBinaryData data,
                             struct arena *memory, int *status)
{
    bool good = data.len >= 1 && data.len <= ROUTING_TEXT_BYTES && !memchr(data.data, 0, data.len);
    char *text = arena_alloc(memory, good ? data.len + 1 : 1);
    if (good)
        memcpy(text, data.data, data.len);
    else if (!*status)
        *status = fail(STATUS_BAD_FILE, "%s: %s: expected a text of 1 to %d bytes, found %zu", name,
                       field, ROUTING_TEXT_BYTES, data.len);
    return text;
}

static enum dtype read_dtype(const char *name, const char *word, int *status)
{
    for (int t = DTYPE_F32; t <= DTYPE_BF16; t++)
        if (strcmp(word, dtype_name((enum dtype)t)) == 0)
            return (enum dtype)t;
    if (!*status)
        *status = fail(STATUS_BAD_FILE,
                       "%s: head.dtype: expected f32, f16 or bf16, found \"%.40s\"", name, word);
    return DTYPE_F32;
}

static void read_layers(struct routing_file *f, const char *name, ProtobufCBinaryData sparse,
                        int *status)
{
    f->head.n_layers = read_int(name, "head.sparse", sparse.len, 1, ROUTING_MAX_LAYERS, status);
    f->head.sparse = sparse.data;
    for (size_t l = 0; l < sparse.len && !*status; l++)
        f->n_sparse += read_int(name, "head.sparse", sparse.data[l], 0, 1, status);
    if (!*status && f->n_sparse == 0)
        *status = fail(STATUS_BAD_FILE,
                       "%s: head.sparse: expected a layer with experts, found none", name);
}

static int read_head(struct routing_file *f, const char *name, const RoutingHead *in,
                     struct arena *memory)
{
    int status = 0;
    if (!in)
        return fail(STATUS_BAD_FILE, "%s: expected recorded routing, found a file without a head",
                    name);
    read_int(name, "head.format", in->format, FORMAT, FORMAT, &status);
    f->head.version = read_text(name, "head.version", in->version, memory, &status);
    f->head.model = read_text(name, "head.model", in->model, memory, &status);
    f->head.digest = in->digest;
    f->head.n_experts =
        read_int(name, "head.n_experts", in->n_experts, 1, ROUTING_MAX_EXPERTS, &status);
    int most = f->head.n_experts < ROUTING_MAX_TOP_K ? f->head.n_experts : ROUTING_MAX_TOP_K;
    f->head.top_k = read_int(name, "head.top_k", in->top_k, 1, most, &status);
    f->head.hidden = read_int(name, "head.hidden", in->hidden, 1, ROUTING_MAX_HIDDEN, &status);
    f->head.dtype =
        read_dtype(name, read_text(name, "head.dtype", in->dtype, memory, &status), &status);
    read_layers(f, name, in->sparse, &status);
    return status;
}

/* ---- a step ---- */

static int refuse_step(const char *name, int step, const char *field, uint64_t expected,
                       uint64_t found)
{
    return fail(STATUS_BAD_FILE, "%s: step %d: %s: expected %" PRIu64 ", found %" PRIu64, name,
                step, field, expected, found);
}

static int refuse_number(const char *name, int step, const char *field, int least, int most,
                         uint32_t found)
{
    return fail(STATUS_BAD_FILE, "%s: step %d: %s: expected %d to %d, found %u", name, step, field,
                least, most, found);
}

static int read_runs(struct routing_file *f, const char *name, int i, const RoutingStep *in)
{
    struct routing_step *s = &f->steps[i];
    uint64_t rows = 0;
    s->n_runs = (int)(in->n_run / 3);
    s->runs = (const struct routing_run *)(const void *)in->run;
    for (size_t r = 0; r + 2 < in->n_run; r += 3) {
        const uint32_t *run = in->run + r;
        if (run[0] >= ROUTING_MAX_SEQUENCES)
            return refuse_number(name, i, "a run's sequence", 0, ROUTING_MAX_SEQUENCES - 1, run[0]);
        if (run[1] >= ROUTING_MAX_POSITIONS)
            return refuse_number(name, i, "a run's position", 0, ROUTING_MAX_POSITIONS - 1, run[1]);
        if (run[2] < 1 || run[2] > ROUTING_MAX_POSITIONS - run[1])
            return refuse_number(name, i, "a run's rows", 1, ROUTING_MAX_POSITIONS - (int)run[1],
                                 run[2]);
        rows += run[2];
        f->sequences = f->sequences > (int)run[0] ? f->sequences : (int)run[0] + 1;
        int end = (int)(run[1] + run[2]);
        f->positions = f->positions > end ? f->positions : end;
    }
    if (in->n_run % 3 || rows != (uint64_t)s->n_rows)
        return refuse_step(name, i, "rows of its runs", (uint64_t)s->n_rows, rows);
    return 0;
}

/* Each is an expert, and those of a row are different ones. */
static int check_experts(const struct routing_file *f, const char *name, int i,
                         const struct routing_step *s)
{
    int32_t row[ROUTING_MAX_TOP_K];
    size_t k = (size_t)f->head.top_k, width = routing_expert_bytes(&f->head);
    size_t rows = (size_t)f->n_sparse * (size_t)s->n_rows;
    for (size_t at = 0; at < rows; at++)
        for (size_t j = 0; j < k; j++) {
            const uint8_t *e = s->experts + (at * k + j) * width;
            row[j] = width == 2 ? e[0] | e[1] << 8 : e[0];
            if (row[j] >= f->head.n_experts)
                return refuse_number(name, i, "experts", 0, f->head.n_experts - 1,
                                     (uint32_t)row[j]);
            for (size_t before = 0; before < j; before++)
                if (row[before] == row[j])
                    return fail(STATUS_BAD_FILE,
                                "%s: step %d: experts: expected different ones in each row, found "
                                "%d twice",
                                name, i, row[j]);
        }
    return 0;
}

static int read_step(struct routing_file *f, const char *name, int i, const RoutingStep *in)
{
    struct routing_step *s = &f->steps[i];
    if (in->n_rows < 1 || in->n_rows > ROUTING_MAX_ROWS)
        return refuse_number(name, i, "n_rows", 1, ROUTING_MAX_ROWS, in->n_rows);
    size_t pairs = (size_t)in->n_rows * (size_t)f->head.top_k;
    size_t bytes = (size_t)f->n_sparse * pairs * routing_expert_bytes(&f->head);
    *s = (struct routing_step){.n_rows = (int)in->n_rows,
                               .token = (const int32_t *)in->token,
                               .experts = in->experts.data};
    if (in->experts.len != bytes)
        return refuse_step(name, i, "bytes of experts", bytes, in->experts.len);
    if (in->n_token != in->n_rows)
        return refuse_step(name, i, "tokens", in->n_rows, in->n_token);
    for (size_t t = 0; t < in->n_token; t++)
        if (in->token[t] > INT32_MAX)
            return refuse_number(name, i, "token", 0, INT32_MAX, in->token[t]);
    int status = read_runs(f, name, i, in);
    f->rows += in->n_rows;
    f->most_rows = f->most_rows > s->n_rows ? f->most_rows : s->n_rows;
    return status ? status : check_experts(f, name, i, s);
}

int routing_parse(struct routing_file *f, const void *bytes, size_t n, const char *name,
                  struct arena *memory)
{
    // an empty message of two bytes takes some hundred of memory
    struct budget budget = {memory, 100 * n + 4096};
    ProtobufCAllocator allocator = budget_allocator(&budget);
    *f = (struct routing_file){0};
    const Routing *in = routing__unpack(&allocator, n, bytes);
    if (!in)
        return fail(STATUS_BAD_FILE, "%s: expected recorded routing, found %zu other bytes", name,
                    n);
    int status = read_head(f, name, in->head, memory);
    if (status)
        return status;
    if (in->n_step > INT32_MAX / 2)
        return fail(STATUS_BAD_FILE, "%s: expected up to %d steps, found %zu", name, INT32_MAX / 2,
                    in->n_step);
    f->steps = arena_alloc(memory, in->n_step * sizeof *f->steps);
    for (size_t i = 0; i < in->n_step && !status; i++)
        status = read_step(f, name, (int)i, in->step[i]);
    f->n_steps = (int)in->n_step;
    if (!status && (!in->end || in->end->steps != in->n_step || in->end->rows != f->rows))
        status = fail(STATUS_BAD_FILE,
                      "%s: expected an end after %zu steps of %" PRIu64 " rows, found %" PRIu64
                      " of %" PRIu64 ": the file is not whole",
                      name, in->n_step, f->rows, in->end ? in->end->steps : 0,
                      in->end ? in->end->rows : 0);
    return status;
}

int routing_read(struct routing_file *f, const char *path, struct arena *memory)
{
    size_t n;
    char *bytes = file_read(path, MAX_FILE_BYTES, &n);
    if (!bytes)
        return STATUS_BAD_FILE;
    int status = routing_parse(f, bytes, n, path, memory);
    free(bytes);
    return status;
}

void routing_experts(const struct routing_file *f, const struct routing_step *step, int i,
                     int32_t *expert)
{
    size_t pairs = (size_t)step->n_rows * (size_t)f->head.top_k;
    size_t width = routing_expert_bytes(&f->head);
    const uint8_t *at = step->experts + (size_t)i * pairs * width;
    for (size_t p = 0; p < pairs; p++, at += width)
        expert[p] = width == 2 ? at[0] | at[1] << 8 : at[0];
}
