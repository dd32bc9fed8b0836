/* Any bytes as a control message: refused with words, or read with every value in its range. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "kernels/kernels.h"
#include "proto/control.h"
#include "proto/phase.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const char *text, size_t least, size_t most)
{
    size_t n = strlen(text);
    CHECK(n >= least && n <= most, "a text of %zu bytes", n);
}

static void check_precision(const struct precision *p)
{
    CHECK(p->type <= DTYPE_BF16, "dtype %d", (int)p->type);
    CHECK(p->matrices < QUANT_COUNT && p->blocks < QUANT_COUNT, "quantised as %d, %d",
          (int)p->matrices, (int)p->blocks);
}

static void check_setup(const struct setup *s)
{
    CHECK(s->isa < 32, "isa %u", s->isa);
    check_precision(&s->precision);
    CHECK(s->n_layers >= 1 && s->n_layers <= CONTROL_MAX_LAYERS, "%d layers", s->n_layers);
    CHECK(s->n_experts >= 0 && s->n_experts <= CONTROL_MAX_EXPERTS, "%d experts", s->n_experts);
    CHECK(s->max_rows >= 1 && s->max_rows <= CONTROL_MAX_ROWS, "%d rows", s->max_rows);
    for (int i = 0; i < s->n_layers * s->n_experts; i++)
        CHECK(s->rank_of[i] >= -1 && s->rank_of[i] < CONTROL_MAX_RANKS, "rank %d", s->rank_of[i]);
    for (int i = 0; i < s->n_copies; i++)
        CHECK(s->copy_cell[i] < s->n_layers * s->n_experts &&
                  s->copy_cell[i] >= (i ? s->copy_cell[i - 1] : 0) && s->copy_rank[i] >= 0 &&
                  s->copy_rank[i] < CONTROL_MAX_RANKS,
              "copy of cell %d on rank %d", s->copy_cell[i], s->copy_rank[i]);
    check_text(s->strategy, 1, CONTROL_TEXT_BYTES);
    check_text(s->combine, 1, CONTROL_TEXT_BYTES);
    check_text(s->dedup, 1, CONTROL_TEXT_BYTES);
    check_text(s->wire, 1, CONTROL_TEXT_BYTES);
}

static void check_records(const struct records *r)
{
    CHECK(r->n <= CONTROL_MAX_MARKS, "%zu marks", r->n);
    for (size_t i = 0; i < r->n; i++) {
        const struct trace_event *e = &r->events[i];
        CHECK(e->ns >= (i ? r->events[i - 1].ns : 0), "mark %zu is before the last", i);
        CHECK(e->layer >= -1 && e->layer < CONTROL_MAX_LAYERS, "layer %d", e->layer);
        CHECK(e->phase < PHASE_COUNT && e->part < 2, "phase %d, half %d", e->phase, e->part);
    }
}

static void check_values(const struct control *m)
{
    switch (m->kind) {
    case CONTROL_HELLO:
        check_text(m->hello.version, 1, CONTROL_TEXT_BYTES);
        check_text(m->hello.host, 1, CONTROL_TEXT_BYTES);
        check_text(m->hello.device, 1, CONTROL_TEXT_BYTES);
        CHECK(m->hello.isas, "no instruction set");
        break;
    case CONTROL_SETUP:
        check_setup(&m->setup);
        break;
    case CONTROL_READY:
        CHECK(m->ready.seconds >= 0, "%g seconds", m->ready.seconds);
        break;
    case CONTROL_STEP:
        CHECK(m->step.n_rows >= 1 && m->step.n_rows <= CONTROL_MAX_ROWS, "%d", m->step.n_rows);
        CHECK(m->step.second >= 0 && m->step.second < m->step.n_rows, "%d", m->step.second);
        break;
    case CONTROL_FAULT:
        CHECK(m->fault.code >= 1 && m->fault.code <= 4, "code %d", m->fault.code);
        check_text(m->fault.text, 0, CONTROL_FAULT_BYTES);
        check_text(m->host, 0, CONTROL_TEXT_BYTES);
        break;
    case CONTROL_CLOCK:
        CHECK(m->clock.heard_ns <= m->clock.said_ns && m->clock.said_ns <= INT64_MAX, "clock");
        break;
    case CONTROL_RECORDS:
        check_records(&m->records);
        break;
    case CONTROL_SPEED:
        CHECK(m->speed.isa < 32, "isa %u", m->speed.isa);
        check_precision(&m->speed.precision);
        CHECK(m->speed.flops >= 0 && m->speed.read_bytes_per_s >= 0, "a rate below 0");
        break;
    case CONTROL_LOGITS:
        CHECK(m->logits.n_rows >= 1 && m->logits.best <= TOP_MOST, "%d", m->logits.best);
        break;
    case CONTROL_STATS:
    case CONTROL_STOP:
        break;
    }
}

/* What was read packs, and reads the same again. */
static void check_round_trip(const struct control *m, struct arena *arena)
{
    struct control again;
    size_t n, n_again;
    void *bytes = control_pack(m, m->host, &n);
    CHECK(control_unpack(bytes, n, 1, &again, arena) == 0, "%s", error_text());
    void *bytes_again = control_pack(&again, again.host, &n_again);
    CHECK(n == n_again && memcmp(bytes, bytes_again, n) == 0, "packs to other bytes");
    free(bytes);
    free(bytes_again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct arena arena;
    struct control message;
    error_capture(true);
    int status = control_unpack(data, size, 1, &message, &arena);
    if (status == 0) {
        check_values(&message);
        check_round_trip(&message, &arena);
    } else {
        CHECK(status == STATUS_FAILED && *error_text(), "status %d", status);
    }
    arena_reset(&arena);
    return 0;
}
