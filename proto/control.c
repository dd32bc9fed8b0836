#include "proto/control.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/check.h"
#include "base/log.h"
#include "proto/budget.h"
#include "proto/control_read.h"

// The field number of a message in the oneof is its control_kind + 1.
_Static_assert(CONTROL__MESSAGE_HELLO == CONTROL_HELLO + 1, "control.proto");
_Static_assert(CONTROL__MESSAGE_SETUP == CONTROL_SETUP + 1, "control.proto");
_Static_assert(CONTROL__MESSAGE_READY == CONTROL_READY + 1, "control.proto");
_Static_assert(CONTROL__MESSAGE_STEP == CONTROL_STEP + 1, "control.proto");
_Static_assert(CONTROL__MESSAGE_STATS == CONTROL_STATS + 1, "control.proto");
_Static_assert(CONTROL__MESSAGE_FAULT == CONTROL_FAULT + 1, "control.proto");
_Static_assert(CONTROL__MESSAGE_STOP == CONTROL_STOP + 1, "control.proto");
_Static_assert(CONTROL__MESSAGE_CLOCK == CONTROL_CLOCK + 1, "control.proto");
_Static_assert(CONTROL__MESSAGE_LOGITS == CONTROL_LOGITS + 1, "control.proto");
_Static_assert(CONTROL__MESSAGE_RECORDS == CONTROL_RECORDS + 1, "control.proto");
_Static_assert(NUMBER_TYPE__NUMBER_TYPE_F32 == DTYPE_F32 + 1, "control.proto");
_Static_assert(NUMBER_TYPE__NUMBER_TYPE_F16 == DTYPE_F16 + 1, "control.proto");
_Static_assert(NUMBER_TYPE__NUMBER_TYPE_BF16 == DTYPE_BF16 + 1, "control.proto");
_Static_assert((int)QUANTISED__QUANTISED_NOT == (int)QUANT_NONE, "control.proto");
_Static_assert((int)QUANTISED__QUANTISED_Q8 == (int)QUANT_Q8, "control.proto");
_Static_assert((int)QUANTISED__QUANTISED_Q4 == (int)QUANT_Q4, "control.proto");

static const char *const kind_names[] = {"Hello", "Setup", "Ready",   "Step",  "Stats", "Fault",
                                         "Stop",  "Clock", "Records", "Speed", "Logits"};

const char *control_name(enum control_kind kind)
{
    return kind <= CONTROL_LOGITS ? kind_names[kind] : "an unknown message";
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
    out->dtype = (NumberType)(s->precision.type + 1);
    out->matrices = (Quantised)s->precision.matrices;
    out->blocks = (Quantised)s->precision.blocks;
    out->n_layers = (uint32_t)s->n_layers;
    out->n_experts = (uint32_t)s->n_experts;
    out->n_rank_of = (size_t)s->n_layers * (size_t)s->n_experts;
    out->rank_of = (int32_t *)s->rank_of;
    out->n_copy_cell = out->n_copy_rank = (size_t)s->n_copies;
    out->copy_cell = (uint32_t *)(uintptr_t)s->copy_cell;
    out->copy_rank = (uint32_t *)(uintptr_t)s->copy_rank;
    out->n_piece_rank_of = (size_t)s->n_pieces;
    out->piece_rank_of = (uint32_t *)(uintptr_t)s->piece_rank_of;
    out->n_output_first = (size_t)s->n_output_first;
    out->output_first = (uint32_t *)(uintptr_t)s->output_first;
    out->logit_rows = (uint32_t)s->logit_rows;
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
    CHECK_MEMORY(out->after_ns, "no memory for %zu marks", n);
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
    CHECK_MEMORY(bytes, "no memory for a message of %zu bytes", *n);
    control__pack(&envelope, bytes);
    return bytes;
}

static void pack_speed(Speed *out, const struct speed *s)
{
    out->isa = 1u << s->isa;
    out->dtype = (NumberType)(s->precision.type + 1);
    out->matrices = (Quantised)s->precision.matrices;
    out->blocks = (Quantised)s->precision.blocks;
    out->flops = s->flops;
    out->read_bytes_per_s = s->read_bytes_per_s;
    out->memory = s->memory;
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
    Speed speed = SPEED__INIT;
    Logits logits = LOGITS__INIT;
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
    case CONTROL_SPEED:
        pack_speed(&speed, &message->speed);
        return pack_envelope(message->kind, &speed, n);
    case CONTROL_LOGITS:
        logits.n_rows = (uint32_t)message->logits.n_rows;
        logits.best = (uint32_t)message->logits.best;
        return pack_envelope(message->kind, &logits, n);
    }
    CHECK(message->kind == CONTROL_STOP, "message kind %d", (int)message->kind);
    return pack_envelope(message->kind, &stop, n);
}

/* ---- unpacking (control_read.h checks what was unpacked) ---- */

/* Unpacking allocates in the caller's arena, but at most BUDGET_BYTES, more than any message within
 * the limits needs. */
enum { BUDGET_BYTES = 8 * CONTROL_MAX_BYTES };

int control_unpack(const void *bytes, size_t n, int from, struct control *message,
                   struct arena *arena)
{
    struct budget budget = {arena, BUDGET_BYTES};
    ProtobufCAllocator allocator = budget_allocator(&budget);
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
    struct reader r = {arena, from, control_name(message->kind), 0};
    return control_read(&r, message, in);
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

/* A copy of just the bytes that came, so that reading beyond them is found under a sanitizer. */
static int unpack_copy(const void *bytes, size_t n, int from, struct control *message,
                       struct arena *arena)
{
    void *own = malloc(n ? n : 1);
    CHECK_MEMORY(own, "no memory for a message of %zu bytes", n);
    memcpy(own, bytes, n);
    int status = control_unpack(own, n, from, message, arena);
    free(own);
    return status;
}

/* The room for a message takes memory only for the bytes that arrive. It is not malloc's, which
 * under a sanitizer would write to an eighth of it. */
int control_recv(struct transport *t, int from, struct control *message, struct arena *arena)
{
    size_t n;
    void *room = mmap(NULL, CONTROL_MAX_BYTES, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK_MEMORY(room != MAP_FAILED, "no memory for a message");
    int status = transport_recv(t, &from, room, CONTROL_MAX_BYTES, &n);
    if (!status)
        status = unpack_copy(room, n, from, message, arena);
    munmap(room, CONTROL_MAX_BYTES);
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
