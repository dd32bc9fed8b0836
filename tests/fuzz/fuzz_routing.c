/* Any bytes as a file of recorded routing: refused with words, or read with every value in its
 * range. */
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "proto/routing.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_head(const struct routing_file *f)
{
    const struct routing_head *h = &f->head;
    int sparse = 0;
    CHECK(h->n_layers >= 1 && h->n_layers <= ROUTING_MAX_LAYERS, "%d layers", h->n_layers);
    CHECK(h->n_experts >= 1 && h->n_experts <= ROUTING_MAX_EXPERTS, "%d experts", h->n_experts);
    CHECK(h->top_k >= 1 && h->top_k <= h->n_experts && h->top_k <= ROUTING_MAX_TOP_K, "top %d",
          h->top_k);
    CHECK(h->hidden >= 1 && h->hidden <= ROUTING_MAX_HIDDEN, "%d values", h->hidden);
    CHECK(*h->version && *h->model, "an empty text");
    for (int l = 0; l < h->n_layers; l++)
        sparse += h->sparse[l];
    CHECK(sparse == f->n_sparse && sparse >= 1, "%d layers with experts", sparse);
}

static void check_step(const struct routing_file *f, const struct routing_step *s)
{
    static int32_t expert[1 << 16];
    int rows = 0, k = f->head.top_k;
    for (int r = 0; r < s->n_runs; r++) {
        CHECK(s->runs[r].sequence >= 0 && s->runs[r].sequence < f->sequences, "a sequence");
        CHECK(s->runs[r].position >= 0 && s->runs[r].rows >= 1, "a run");
        CHECK(s->runs[r].position + s->runs[r].rows <= f->positions, "positions");
        rows += s->runs[r].rows;
    }
    CHECK(rows == s->n_rows && rows >= 1 && rows <= f->most_rows, "%d rows", rows);
    for (int i = 0; i < rows; i++)
        CHECK(s->token[i] >= 0, "a token below 0");
    for (int l = 0; l < f->n_sparse && rows * k <= 1 << 16; l++) {
        routing_experts(f, s, l, expert);
        for (int i = 0; i < rows * k; i++)
            CHECK(expert[i] >= 0 && expert[i] < f->head.n_experts, "expert %d", expert[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct arena arena;
    struct routing_file f;
    uint64_t rows = 0;
    error_capture(true);
    int status = routing_parse(&f, data, size, "routing", &arena);
    if (status == 0) {
        check_head(&f);
        for (int i = 0; i < f.n_steps; i++) {
            check_step(&f, &f.steps[i]);
            rows += (uint64_t)f.steps[i].n_rows;
        }
        CHECK(rows == f.rows, "rows of the file");
    } else {
        CHECK(status == STATUS_BAD_FILE && *error_text(), "status %d", status);
    }
    arena_reset(&arena);
    return 0;
}
