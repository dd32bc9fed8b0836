#include "proto/control_read.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/log.h"
#include "kernels/kernels.h"
#include "proto/phase.h"

static int64_t read_int(struct reader *r, const char *field, int64_t v, int64_t least, int64_t most)
{
    if (v >= least && v <= most)
        return v;
    if (!r->status)
        r->status = fail(STATUS_FAILED,
                         "rank %d: %s.%s: expected %" PRId64 " to %" PRId64 ", found %" PRId64,
                         r->from, r->kind, field, least, most, v);
    return least;
}

/* Text of a length in [least, most] without NUL, copied to end with one. */
static const char *read_text(struct reader *r, const char *field, ProtobufCBinaryData v,
                             size_t least, size_t most)
{
    bool has_nul = v.len && memchr(v.data, 0, v.len);
    if (v.len < least || v.len > most || has_nul) {
        if (!r->status)
            r->status = fail(
                STATUS_FAILED, "rank %d: %s.%s: expected %zu to %zu bytes of text, found %zu%s",
                r->from, r->kind, field, least, most, v.len, has_nul ? " with a NUL" : "");
        return "";
    }
    char *copy = arena_alloc(r->arena, v.len + 1);
    if (v.len)
        memcpy(copy, v.data, v.len);
    return copy;
}

static void read_hello(struct reader *r, struct control *message, const Hello *in)
{
    struct hello *h = &message->hello;
    h->version = read_text(r, "version", in->version, 1, CONTROL_TEXT_BYTES);
    h->host = read_text(r, "host", in->host, 1, CONTROL_TEXT_BYTES);
    h->device = read_text(r, "device", in->device, 1, CONTROL_TEXT_BYTES);
    h->isas = (uint32_t)read_int(r, "isas", in->isas, 1, UINT32_MAX);
    h->digest = in->digest;
    message->host = h->host;
}

static uint32_t read_isa(struct reader *r, uint32_t bit)
{
    if (bit && !(bit & (bit - 1)))
        return (uint32_t)__builtin_ctz(bit);
    if (!r->status)
        r->status = fail(STATUS_FAILED, "rank %d: %s.isa: expected a single bit, found %#x",
                         r->from, r->kind, bit);
    return 0;
}

static enum dtype read_dtype(struct reader *r, NumberType type)
{
    return (enum dtype)(read_int(r, "dtype", (int32_t)type, NUMBER_TYPE__NUMBER_TYPE_F32,
                                 NUMBER_TYPE__NUMBER_TYPE_BF16) -
                        1);
}

static enum quant read_quant(struct reader *r, const char *field, Quantised q)
{
    return (enum quant)read_int(r, field, (int32_t)q, QUANT_NONE, QUANT_COUNT - 1);
}

static struct precision read_precision(struct reader *r, NumberType type, Quantised matrices,
                                       Quantised blocks)
{
    struct precision p = {.type = read_dtype(r, type)};
    p.matrices = read_quant(r, "matrices", matrices);
    p.blocks = read_quant(r, "blocks", blocks);
    return p;
}

static const int32_t *read_ranks(struct reader *r, const Setup *in)
{
    uint64_t cells = (uint64_t)in->n_layers * in->n_experts;
    if (r->status)
        return NULL;
    if (cells > CONTROL_MAX_CELLS || cells != in->n_rank_of) {
        r->status = fail(
            STATUS_FAILED, "rank %d: Setup.rank_of: expected %u x %u ranks, at most %d, found %zu",
            r->from, in->n_layers, in->n_experts, (int)CONTROL_MAX_CELLS, in->n_rank_of);
        return NULL;
    }
    for (size_t i = 0; i < in->n_rank_of; i++)
        read_int(r, "rank_of", in->rank_of[i], -1, CONTROL_MAX_RANKS - 1);
    return in->rank_of; // in the arena, like everything that unpacking allocates
}

/* Cells ascend. */
static void read_copies(struct reader *r, struct setup *s, const Setup *in)
{
    int64_t cells = (int64_t)s->n_layers * s->n_experts, least = 0;
    size_t n = in->n_copy_cell;
    s->n_copies = (int)n;
    s->copy_cell = (const int32_t *)in->copy_cell;
    s->copy_rank = (const int32_t *)in->copy_rank;
    if (!r->status && (n > CONTROL_MAX_CELLS || n != in->n_copy_rank))
        r->status = fail(STATUS_FAILED,
                         "rank %d: Setup.copy_cell: expected as many as copy_rank, at most %d, "
                         "found %zu and %zu",
                         r->from, (int)CONTROL_MAX_CELLS, n, in->n_copy_rank);
    for (size_t i = 0; i < n && !r->status; i++) {
        least = read_int(r, "copy_cell", in->copy_cell[i], least, cells - 1);
        read_int(r, "copy_rank", in->copy_rank[i], 0, CONTROL_MAX_RANKS - 1);
    }
}

static void read_pieces(struct reader *r, struct setup *s, const Setup *in)
{
    s->n_pieces = (int)in->n_piece_rank_of;
    s->piece_rank_of = (const int32_t *)in->piece_rank_of;
    if (!r->status && in->n_piece_rank_of > CONTROL_MAX_CELLS)
        r->status = fail(STATUS_FAILED,
                         "rank %d: Setup.piece_rank_of: expected at most %d ranks, found %zu",
                         r->from, (int)CONTROL_MAX_CELLS, in->n_piece_rank_of);
    for (size_t i = 0; i < in->n_piece_rank_of && !r->status; i++)
        read_int(r, "piece_rank_of", in->piece_rank_of[i], 0, CONTROL_MAX_RANKS - 1);
}

/* They ascend. */
static void read_outputs(struct reader *r, struct setup *s, const Setup *in)
{
    int64_t least = 0;
    s->n_output_first = (int)in->n_output_first;
    s->output_first = (const int32_t *)in->output_first;
    if (!r->status && in->n_output_first > CONTROL_MAX_RANKS + 1)
        r->status =
            fail(STATUS_FAILED, "rank %d: Setup.output_first: expected at most %d, found %zu",
                 r->from, CONTROL_MAX_RANKS + 1, in->n_output_first);
    for (size_t i = 0; i < in->n_output_first && !r->status; i++)
        least = read_int(r, "output_first", in->output_first[i], least, INT32_MAX);
}

static void read_ids(struct reader *r, struct setup *s, ProtobufCBinaryData ids)
{
    s->nccl_ids = ids.len ? ids.data : NULL;
    s->n_nccl_ids = (int)(ids.len / CONTROL_NCCL_ID_BYTES);
    bool whole = ids.len % CONTROL_NCCL_ID_BYTES == 0;
    if (!r->status && (!whole || ids.len / CONTROL_NCCL_ID_BYTES > CONTROL_NCCL_MAX_IDS))
        r->status =
            fail(STATUS_FAILED, "rank %d: Setup.nccl_ids: expected up to %d of %d bytes, found %zu",
                 r->from, CONTROL_NCCL_MAX_IDS, CONTROL_NCCL_ID_BYTES, ids.len);
}

static void read_setup(struct reader *r, struct setup *s, const Setup *in)
{
    s->isa = read_isa(r, in->isa);
    s->precision = read_precision(r, in->dtype, in->matrices, in->blocks);
    s->n_layers = (int)read_int(r, "n_layers", in->n_layers, 1, CONTROL_MAX_LAYERS);
    s->n_experts = (int)read_int(r, "n_experts", in->n_experts, 0, CONTROL_MAX_EXPERTS);
    s->rank_of = read_ranks(r, in);
    read_copies(r, s, in);
    read_pieces(r, s, in);
    read_outputs(r, s, in);
    s->logit_rows = (int)read_int(r, "logit_rows", in->logit_rows, 0, CONTROL_MAX_ROWS);
    s->max_rows = (int)read_int(r, "max_rows", in->max_rows, 1, CONTROL_MAX_ROWS);
    s->strategy = read_text(r, "strategy", in->strategy, 1, CONTROL_TEXT_BYTES);
    s->combine = read_text(r, "combine", in->combine, 1, CONTROL_TEXT_BYTES);
    s->dedup = read_text(r, "dedup", in->dedup, 1, CONTROL_TEXT_BYTES);
    s->wire = read_text(r, "wire", in->wire, 1, CONTROL_TEXT_BYTES);
    s->overlap = read_text(r, "overlap", in->overlap, 1, CONTROL_TEXT_BYTES);
    s->profile = in->profile;
    read_ids(r, s, in->nccl_ids);
}

static double read_rate(struct reader *r, const char *field, double v)
{
    if (v >= 0 && isfinite(v))
        return v;
    if (!r->status)
        r->status = fail(STATUS_FAILED, "rank %d: %s.%s: expected 0 or more, found %g", r->from,
                         r->kind, field, v);
    return 0;
}

static void read_speed(struct reader *r, struct speed *s, const Speed *in)
{
    s->isa = read_isa(r, in->isa);
    s->precision = read_precision(r, in->dtype, in->matrices, in->blocks);
    s->flops = read_rate(r, "flops", in->flops);
    s->read_bytes_per_s = read_rate(r, "read_bytes_per_s", in->read_bytes_per_s);
    s->memory = in->memory;
}

static void read_ready(struct reader *r, struct ready *out, const Ready *in)
{
    *out = (struct ready){in->bytes, in->experts, read_rate(r, "seconds", in->seconds)};
}

/* A Fault is heard whatever it looks like: an odd code becomes a plain failure. */
static void read_fault(struct reader *r, struct control *message, const Fault *in)
{
    bool known = in->code >= STATUS_FAILED && in->code <= STATUS_LOST_RANK;
    message->fault.code = known ? (int)in->code : STATUS_FAILED;
    message->fault.text = read_text(r, "text", in->text, 0, CONTROL_FAULT_BYTES);
    message->host = read_text(r, "host", in->host, 0, CONTROL_TEXT_BYTES);
}

static void read_clock(struct reader *r, struct clock_answer *out, const Clock *in)
{
    bool in_range = in->said_ns <= INT64_MAX && in->heard_ns <= in->said_ns;
    *out = (struct clock_answer){in->heard_ns, in->said_ns};
    if (!in_range && !r->status)
        r->status =
            fail(STATUS_FAILED,
                 "rank %d: Clock: expected to be heard before said, found %" PRIu64 " and %" PRIu64,
                 r->from, in->heard_ns, in->said_ns);
}

/* Time never runs backwards, and stays below 2^63. */
static int64_t read_time(struct reader *r, int64_t before, uint64_t after)
{
    if (after <= (uint64_t)(INT64_MAX - before))
        return before + (int64_t)after;
    if (!r->status)
        r->status = fail(STATUS_FAILED,
                         "rank %d: Records.after_ns: expected at most %" PRId64 ", found %" PRIu64,
                         r->from, INT64_MAX - before, after);
    return before;
}

static void read_records(struct reader *r, struct records *out, const Records *in)
{
    size_t n = in->n_after_ns;
    if (n > CONTROL_MAX_MARKS || n != in->n_phase || n != in->n_place || n != in->n_detail) {
        r->status =
            fail(STATUS_FAILED,
                 "rank %d: Records: expected lists of one length up to %d, found %zu, %zu, "
                 "%zu and %zu",
                 r->from, (int)CONTROL_MAX_MARKS, n, in->n_phase, in->n_place, in->n_detail);
        return;
    }
    struct trace_event *events = arena_alloc(r->arena, n * sizeof *events);
    int64_t at = read_time(r, 0, in->start_ns);
    for (size_t i = 0; i < n; i++) {
        int64_t place = read_int(r, "place", in->place[i], 0, 2 * (int64_t)CONTROL_MAX_LAYERS);
        at = read_time(r, at, in->after_ns[i]);
        events[i] = (struct trace_event){
            .ns = at,
            .detail = in->detail[i],
            .layer = (int16_t)((place + 1) / 2 - 1),
            .phase = (uint8_t)read_int(r, "phase", in->phase[i], 0, PHASE_COUNT - 1),
            .part = place > 0 ? (uint8_t)((place - 1) % 2) : 0,
        };
    }
    *out = (struct records){events, n, in->left, in->dropped};
}

int control_read(struct reader *r, struct control *out, const Control *in)
{
    switch (out->kind) {
    case CONTROL_HELLO:
        read_hello(r, out, in->hello);
        break;
    case CONTROL_SETUP:
        read_setup(r, &out->setup, in->setup);
        break;
    case CONTROL_READY:
        read_ready(r, &out->ready, in->ready);
        break;
    case CONTROL_STEP:
        out->step.n_rows = (int)read_int(r, "n_rows", in->step->n_rows, 1, CONTROL_MAX_ROWS);
        out->step.second = (int)read_int(r, "second", in->step->second, 0, out->step.n_rows - 1);
        break;
    case CONTROL_STATS:
        out->stats =
            (struct stats){in->stats->steps,      in->stats->rows,    in->stats->compute_ns,
                           in->stats->peak_bytes, in->stats->squares, in->stats->errors};
        break;
    case CONTROL_FAULT:
        read_fault(r, out, in->fault);
        break;
    case CONTROL_STOP:
        break;
    case CONTROL_CLOCK:
        read_clock(r, &out->clock, in->clock);
        break;
    case CONTROL_RECORDS:
        read_records(r, &out->records, in->records);
        break;
    case CONTROL_SPEED:
        read_speed(r, &out->speed, in->speed);
        break;
    case CONTROL_LOGITS:
        out->logits.n_rows = (int)read_int(r, "n_rows", in->logits->n_rows, 1, CONTROL_MAX_ROWS);
        out->logits.best = (int)read_int(r, "best", in->logits->best, 0, TOP_MOST);
        break;
    }
    return r->status;
}
