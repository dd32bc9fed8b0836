#include "proto/control.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "control.pb-c.h"
#include "proto/phase.h"

// The field number of a message in the oneof is its control_kind + 1.
_Static_assert(CONTROL__MESSAGE_HELLO == CONTROL_HELLO + 1, "control.proto");
_Static_assert(CONTROL__MESSAGE_SETUP == CONTROL_SETUP + 1, "control.proto");
_Static_assert(CONTROL__MESSAGE_READY == CONTROL_READY + 1, "control.proto");
_Static_assert(CONTROL__MESSAGE_STEP == CONTROL_STEP + 1, "control.proto");
_Static_assert(CONTROL__MESSAGE_STATS == CONTROL_STATS + 1, "control.proto");
_Static_assert(CONTROL__MESSAGE_FAULT == CONTROL_FAULT + 1, "control.proto");
_Static_assert(CONTROL__MESSAGE_STOP == CONTROL_STOP + 1, "control.proto");
_Static_assert(CONTROL__MESSAGE_CLOCK == CONTROL_CLOCK + 1, "control.proto");
_Static_assert(CONTROL__MESSAGE_RECORDS == CONTROL_RECORDS + 1, "control.proto");
_Static_assert(NUMBER_TYPE__NUMBER_TYPE_F32 == DTYPE_F32 + 1, "control.proto");
_Static_assert(NUMBER_TYPE__NUMBER_TYPE_F16 == DTYPE_F16 + 1, "control.proto");
_Static_assert(NUMBER_TYPE__NUMBER_TYPE_BF16 == DTYPE_BF16 + 1, "control.proto");

static const char *const kind_names[] = {"Hello", "Setup", "Ready", "Step",   "Stats",
                                         "Fault", "Stop",  "Clock", "Records"};

const char *control_name(enum control_kind kind)
{
    return kind <= CONTROL_RECORDS ? kind_names[kind] : "an unknown message";
}

/* ---- packing: a value out of range is this program's own mistake, so it is a CHECK ---- */

static ProtobufCBinaryData text(const char *s, size_t most)
{
    size_t n = strlen(s);
    CHECK(n >= 1 && n <= most, "a text of %zu bytes in a message", n);
    return (ProtobufCBinaryData){n, (uint8_t *)s};
}

static ProtobufCBinaryData cut_text(const char *s, size_t most)
{
    return (ProtobufCBinaryData){strnlen(s, most), (uint8_t *)s};
}

static void pack_hello(Hello *out, const struct hello *h)
{
    out->version = text(h->version, CONTROL_TEXT_BYTES);
    out->host = text(h->host, CONTROL_TEXT_BYTES);
    out->device = text(h->device, CONTROL_TEXT_BYTES);
    out->isas = h->isas;
    out->digest = h->digest;
}

static void pack_setup(Setup *out, const struct setup *s)
{
    out->isa = 1u << s->isa;
    out->dtype = (NumberType)(s->dtype + 1);
    out->n_layers = (uint32_t)s->n_layers;
    out->n_experts = (uint32_t)s->n_experts;
    out->n_rank_of = (size_t)s->n_layers * (size_t)s->n_experts;
    out->rank_of = (int32_t *)s->rank_of;
    out->max_rows = (uint32_t)s->max_rows;
    out->strategy = text(s->strategy, CONTROL_TEXT_BYTES);
    out->combine = text(s->combine, CONTROL_TEXT_BYTES);
    out->dedup = text(s->dedup, CONTROL_TEXT_BYTES);
    out->wire = text(s->wire, CONTROL_TEXT_BYTES);
    out->overlap = text(s->overlap, CONTROL_TEXT_BYTES);
    out->profile = s->profile;
    CHECK(s->n_nccl_ids >= 0 && s->n_nccl_ids <= CONTROL_NCCL_MAX_IDS, "%d ids", s->n_nccl_ids);
    out->nccl_ids = (ProtobufCBinaryData){(size_t)s->n_nccl_ids * CONTROL_NCCL_ID_BYTES,
                                          (uint8_t *)s->nccl_ids};
}

static void pack_ready(Ready *out, const struct ready *r)
{
    out->bytes = r->bytes;
    out->experts = r->experts;
    out->seconds = r->seconds;
}

static void pack_stats(Stats *out, const struct stats *s)
{
    out->steps = s->steps;
    out->rows = s->rows;
    out->compute_ns = s->compute_ns;
    out->peak_bytes = s->peak_bytes;
    out->squares = s->squares;
    out->errors = s->errors;
}

static void pack_fault(Fault *out, const struct fault *f, const char *host)
{
    out->code = (uint32_t)f->code;
    out->text = cut_text(f->text, CONTROL_FAULT_BYTES);
    out->host = cut_text(host, CONTROL_TEXT_BYTES);
}

/* Turn the marks into the lists that protobuf packs. They are one piece of memory, which the caller
 * frees by free(out->after_ns). */
static void pack_records(Records *out, const struct records *r)
{
    size_t n = r->n;
    CHECK(n <= CONTROL_MAX_MARKS, "%zu marks in a message", n);
    out->after_ns = malloc(n * (sizeof(uint64_t) + 3 * sizeof(uint32_t)) + 1);
    CHECK(out->after_ns, "no memory for %zu marks", n);
    out->phase = (uint32_t *)(out->after_ns + n);
    out->place = out->phase + n;
    out->detail = (int32_t *)(out->place + n);
    out->n_after_ns = out->n_phase = out->n_place = out->n_detail = n;
    out->start_ns = n ? (uint64_t)r->events[0].ns : 0;
    out->left = r->left;
    out->dropped = r->dropped;
    for (size_t i = 0; i < n; i++) {
        const struct trace_event *e = &r->events[i];
        out->after_ns[i] = i ? (uint64_t)(e->ns - r->events[i - 1].ns) : 0;
        out->phase[i] = e->phase;
        out->place[i] = e->layer < 0 ? 0 : 1 + 2 * (uint32_t)e->layer + e->part;
        out->detail[i] = e->detail;
    }
}

static void *pack_envelope(enum control_kind kind, void *body, size_t *n)
{
    Control envelope = CONTROL__INIT;
    envelope.message_case = (Control__MessageCase)(kind + 1);
    envelope.stop = body; // sets the right member too, as all members of the union are pointers
    *n = control__get_packed_size(&envelope);
    CHECK(*n <= CONTROL_MAX_BYTES, "a message of %zu bytes", *n);
    void *bytes = malloc(*n);
    CHECK(bytes, "no memory for a message of %zu bytes", *n);
    control__pack(&envelope, bytes);
    return bytes;
}

void *control_pack(const struct control *message, const char *host, size_t *n)
{
    Hello hello = HELLO__INIT;
    Setup setup = SETUP__INIT;
    Ready ready = READY__INIT;
    Step step = STEP__INIT;
    Stats stats = STATS__INIT;
    Fault fault = FAULT__INIT;
    Stop stop = STOP__INIT;
    Clock clock = CLOCK__INIT;
    Records records = RECORDS__INIT;
    void *bytes;
    switch (message->kind) {
    case CONTROL_HELLO:
        pack_hello(&hello, &message->hello);
        return pack_envelope(message->kind, &hello, n);
    case CONTROL_SETUP:
        pack_setup(&setup, &message->setup);
        return pack_envelope(message->kind, &setup, n);
    case CONTROL_READY:
        pack_ready(&ready, &message->ready);
        return pack_envelope(message->kind, &ready, n);
    case CONTROL_STEP:
        step.n_rows = (uint32_t)message->step.n_rows;
        step.second = (uint32_t)message->step.second;
        return pack_envelope(message->kind, &step, n);
    case CONTROL_STATS:
        pack_stats(&stats, &message->stats);
        return pack_envelope(message->kind, &stats, n);
    case CONTROL_FAULT:
        pack_fault(&fault, &message->fault, host);
        return pack_envelope(message->kind, &fault, n);
    case CONTROL_STOP:
        break;
    case CONTROL_CLOCK:
        clock.heard_ns = message->clock.heard_ns;
        clock.said_ns = message->clock.said_ns;
        return pack_envelope(message->kind, &clock, n);
    case CONTROL_RECORDS:
        pack_records(&records, &message->records);
        bytes = pack_envelope(message->kind, &records, n);
        free(records.after_ns);
        return bytes;
    }
    CHECK(message->kind == CONTROL_STOP, "message kind %d", (int)message->kind);
    return pack_envelope(message->kind, &stop, n);
}

/* ---- unpacking: every field that a peer sends is checked ---- */

struct message_reader {
    struct arena *arena;
    int from;
    const char *kind; // "Setup"
    int status;       // 0, or STATUS_FAILED after the first field that was wrong
};

static int64_t read_int(struct message_reader *r, const char *field, int64_t v, int64_t least,
                        int64_t most)
{
    if (v >= least && v <= most)
        return v;
    if (!r->status)
        r->status = fail(STATUS_FAILED,
                         "rank %d: %s.%s: expected %" PRId64 " to %" PRId64 ", found %" PRId64,
                         r->from, r->kind, field, least, most, v);
    return least;
}

/* A text whose length must be in [least, most] and that may not hold a NUL; the copy ends with one.
 */
static const char *read_text(struct message_reader *r, const char *field, ProtobufCBinaryData v,
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

static void read_hello(struct message_reader *r, struct control *message, const Hello *in)
{
    struct hello *h = &message->hello;
    h->version = read_text(r, "version", in->version, 1, CONTROL_TEXT_BYTES);
    h->host = read_text(r, "host", in->host, 1, CONTROL_TEXT_BYTES);
    h->device = read_text(r, "device", in->device, 1, CONTROL_TEXT_BYTES);
    h->isas = (uint32_t)read_int(r, "isas", in->isas, 1, UINT32_MAX);
    h->digest = in->digest;
    message->host = h->host;
}

static uint32_t read_isa(struct message_reader *r, uint32_t bit)
{
    if (bit && !(bit & (bit - 1)))
        return (uint32_t)__builtin_ctz(bit);
    if (!r->status)
        r->status = fail(STATUS_FAILED, "rank %d: %s.isa: expected a single bit, found %#x",
                         r->from, r->kind, bit);
    return 0;
}

static const int32_t *read_ranks(struct message_reader *r, const Setup *in)
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
    return in->rank_of; // unpacking has allocated it in the arena
}

static void read_ids(struct message_reader *r, struct setup *s, ProtobufCBinaryData ids)
{
    s->nccl_ids = ids.len ? ids.data : NULL;
    s->n_nccl_ids = (int)(ids.len / CONTROL_NCCL_ID_BYTES);
    bool whole = ids.len % CONTROL_NCCL_ID_BYTES == 0;
    if (!r->status && (!whole || ids.len / CONTROL_NCCL_ID_BYTES > CONTROL_NCCL_MAX_IDS))
        r->status =
            fail(STATUS_FAILED, "rank %d: Setup.nccl_ids: expected up to %d of %d bytes, found %zu",
                 r->from, CONTROL_NCCL_MAX_IDS, CONTROL_NCCL_ID_BYTES, ids.len);
}

static void read_setup(struct message_reader *r, struct setup *s, const Setup *in)
{
    s->isa = read_isa(r, in->isa);
    s->dtype = (enum dtype)(read_int(r, "dtype", (int32_t)in->dtype, NUMBER_TYPE__NUMBER_TYPE_F32,
                                     NUMBER_TYPE__NUMBER_TYPE_BF16) -
                            1);
    s->n_layers = (int)read_int(r, "n_layers", in->n_layers, 1, CONTROL_MAX_LAYERS);
    s->n_experts = (int)read_int(r, "n_experts", in->n_experts, 0, CONTROL_MAX_EXPERTS);
    s->rank_of = read_ranks(r, in);
    s->max_rows = (int)read_int(r, "max_rows", in->max_rows, 1, CONTROL_MAX_ROWS);
    s->strategy = read_text(r, "strategy", in->strategy, 1, CONTROL_TEXT_BYTES);
    s->combine = read_text(r, "combine", in->combine, 1, CONTROL_TEXT_BYTES);
    s->dedup = read_text(r, "dedup", in->dedup, 1, CONTROL_TEXT_BYTES);
    s->wire = read_text(r, "wire", in->wire, 1, CONTROL_TEXT_BYTES);
    s->overlap = read_text(r, "overlap", in->overlap, 1, CONTROL_TEXT_BYTES);
    s->profile = in->profile;
    read_ids(r, s, in->nccl_ids);
}

static void read_ready(struct message_reader *r, struct ready *out, const Ready *in)
{
    *out = (struct ready){in->bytes, in->experts, in->seconds};
    if (!(in->seconds >= 0 && isfinite(in->seconds)) && !r->status)
        r->status = fail(STATUS_FAILED, "rank %d: Ready.seconds: expected 0 or more, found %g",
                         r->from, in->seconds);
}

/* A Fault is never refused: a code that is no status becomes STATUS_FAILED. */
static void read_fault(struct message_reader *r, struct control *message, const Fault *in)
{
    bool known = in->code >= STATUS_FAILED && in->code <= STATUS_LOST_RANK;
    message->fault.code = known ? (int)in->code : STATUS_FAILED;
    message->fault.text = read_text(r, "text", in->text, 0, CONTROL_FAULT_BYTES);
    message->host = read_text(r, "host", in->host, 0, CONTROL_TEXT_BYTES);
}

static void read_clock(struct message_reader *r, struct clock_answer *out, const Clock *in)
{
    bool in_range = in->said_ns <= INT64_MAX && in->heard_ns <= in->said_ns;
    *out = (struct clock_answer){in->heard_ns, in->said_ns};
    if (!in_range && !r->status)
        r->status =
            fail(STATUS_FAILED,
                 "rank %d: Clock: expected to be heard before said, found %" PRIu64 " and %" PRIu64,
                 r->from, in->heard_ns, in->said_ns);
}

/* The time `after` ns later than `before`; it must stay below 2^63. */
static int64_t read_time(struct message_reader *r, int64_t before, uint64_t after)
{
    if (after <= (uint64_t)(INT64_MAX - before))
        return before + (int64_t)after;
    if (!r->status)
        r->status = fail(STATUS_FAILED,
                         "rank %d: Records.after_ns: expected at most %" PRId64 ", found %" PRIu64,
                         r->from, INT64_MAX - before, after);
    return before;
}

static void read_records(struct message_reader *r, struct records *out, const Records *in)
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

static int read_message(struct message_reader *r, struct control *out, const Control *in)
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
    }
    return r->status;
}

/* Unpacking allocates in the caller's arena, but at most BUDGET_BYTES, more than any message within
 * the limits needs. */
enum { BUDGET_BYTES = 8 * CONTROL_MAX_BYTES };

struct budget {
    struct arena *arena;
    size_t left;
};

static void *budget_alloc(void *user, size_t bytes)
{
    struct budget *b = user;
    if (bytes > b->left)
        return NULL;
    b->left -= bytes;
    return arena_alloc(b->arena, bytes);
}

static void budget_free(void *user, void *piece)
{
    (void)user;
    (void)piece;
}

int control_unpack(const void *bytes, size_t n, int from, struct control *message,
                   struct arena *arena)
{
    struct budget budget = {arena, BUDGET_BYTES};
    ProtobufCAllocator allocator = {budget_alloc, budget_free, &budget};
    *message = (struct control){.from = from, .host = ""};
    if (n > CONTROL_MAX_BYTES)
        return fail(STATUS_FAILED, "rank %d: expected a message of at most %d bytes, found %zu",
                    from, (int)CONTROL_MAX_BYTES, n);
    const Control *in = control__unpack(&allocator, n, bytes);
    if (!in)
        return fail(STATUS_FAILED, "rank %d: expected a control message, found %zu other bytes",
                    from, n);
    if (in->message_case == CONTROL__MESSAGE__NOT_SET)
        return fail(STATUS_FAILED, "rank %d: expected a control message, found one of no kind",
                    from);
    message->kind = (enum control_kind)(in->message_case - 1);
    struct message_reader r = {arena, from, control_name(message->kind), 0};
    return read_message(&r, message, in);
}

/* ---- over a transport ---- */

int control_send(struct transport *t, int to, const struct control *message)
{
    size_t n;
    void *bytes = control_pack(message, t->hosts[t->rank], &n);
    int status = transport_send(t, to, bytes, n);
    free(bytes);
    return status;
}

int control_recv(struct transport *t, int from, struct control *message, struct arena *arena)
{
    size_t n;
    void *bytes = malloc(CONTROL_MAX_BYTES); // takes memory only for the bytes that arrive
    CHECK(bytes, "no memory for a message");
    int status = transport_recv(t, &from, bytes, CONTROL_MAX_BYTES, &n);
    if (!status)
        status = control_unpack(bytes, n, from, message, arena);
    free(bytes);
    return status;
}

static int report_fault(const struct control *message)
{
    const struct fault *f = &message->fault;
    return fail((enum status)f->code, "rank %d%s%s: %s", message->from,
                message->host[0] ? " on " : "", message->host,
                f->text[0] ? f->text : "it gave up without a reason");
}

int control_expect(struct transport *t, int from, enum control_kind kind, struct control *message,
                   struct arena *arena)
{
    int status = control_recv(t, from, message, arena);
    if (status)
        return status;
    if (message->kind == CONTROL_FAULT)
        return report_fault(message);
    if (message->kind != kind)
        return fail(STATUS_FAILED, "rank %d: expected %s, found %s", message->from,
                    control_name(kind), control_name(message->kind));
    return 0;
}

const char *control_library(void)
{
    static _Thread_local char text[64];
    snprintf(text, sizeof text, "protobuf-c %s", protobuf_c_version());
    return text;
}
