#include "coordinator/cluster.h"

#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "base/units.h"
#include "kernels/device.h"
#include "model/pieces.h"

static int check_hello(const struct hello *h, int rank, const struct cluster_terms *terms)
{
    if (strcmp(h->version, terms->version) != 0)
        return fail(STATUS_FAILED, "rank %d on %s: expected version %s, found %s", rank, h->host,
                    terms->version, h->version);
    if (h->digest != terms->digest)
        return fail(STATUS_BAD_FILE,
                    "rank %d on %s: expected the coordinator's checkpoint (digest %016" PRIx64
                    "), found other weights (%016" PRIx64 ")",
                    rank, h->host, terms->digest, h->digest);
    return 0;
}

int cluster_greet(struct transport *t, const struct cluster_terms *terms, unsigned *common)
{
    *common = isa_available();
    struct arena memory = {0};
    int status = 0;
    for (int rank = 1; rank < t->size && !status; rank++) {
        struct control message;
        status = control_expect(t, rank, CONTROL_HELLO, &message, &memory);
        if (!status)
            status = check_hello(&message.hello, rank, terms);
        if (status)
            break;
        *common &= message.hello.isas;
    }
    arena_free(&memory);
    return status;
}

int cluster_measure(struct transport *t, const struct cluster_terms *terms, enum isa isa,
                    struct dev *own, struct rank_speed *speeds)
{
    struct control ask = {.kind = CONTROL_SPEED,
                          .speed = {.isa = isa, .precision = terms->precision}};
    struct arena memory = {0};
    int status = 0;
    for (int rank = 1; rank < t->size && !status; rank++)
        status = control_send(t, rank, &ask);
    speeds[0] = rank_speed_measure(own, terms->precision, 1);
    for (int rank = 1; rank < t->size && !status; rank++) {
        struct control answer;
        status = control_expect(t, rank, CONTROL_SPEED, &answer, &memory);
        if (!status)
            speeds[rank] = (struct rank_speed){answer.speed.flops, answer.speed.read_bytes_per_s,
                                               answer.speed.memory};
    }
    arena_free(&memory);
    return status;
}

int cluster_set_up(struct transport *t, const struct cluster_terms *terms, enum isa isa,
                   const struct config *m, const struct placement *p)
{
    struct arena memory = {0};
    size_t cells = (size_t)m->n_layers * (size_t)m->n_experts;
    int32_t *rank_of = arena_alloc(&memory, cells * sizeof *rank_of);
    for (int l = 0; l < m->n_layers; l++)
        for (int e = 0; e < m->n_experts; e++)
            rank_of[l * m->n_experts + e] = m->sparse[l] ? p->layers[l].rank_of[e] : -1;
    int n_pieces = pieces_total(m);
    int32_t *piece_rank_of = arena_alloc(&memory, (size_t)n_pieces * sizeof *piece_rank_of);
    for (int l = 0, at = 0; l < m->n_layers; at += p->pieces[l++].n)
        if (p->pieces[l].n)
            memcpy(piece_rank_of + at, p->pieces[l].rank_of,
                   (size_t)p->pieces[l].n * sizeof *piece_rank_of);
    struct expert_copies copies = placement_copies(p, &memory);
    struct exchange_words words = exchange_words(&terms->exchange);
    struct control message = {.kind = CONTROL_SETUP,
                              .setup = {.isa = isa,
                                        .precision = terms->precision,
                                        .n_layers = m->n_layers,
                                        .n_experts = m->n_experts,
                                        .rank_of = rank_of,
                                        .n_copies = copies.n,
                                        .copy_cell = copies.cell,
                                        .copy_rank = copies.rank,
                                        .n_pieces = n_pieces,
                                        .piece_rank_of = piece_rank_of,
                                        .n_output_first = p->n_ranks + 1,
                                        .output_first = p->output_first,
                                        .max_rows = terms->max_rows,
                                        .logit_rows = terms->logit_rows,
                                        .strategy = words.strategy,
                                        .combine = words.combine,
                                        .dedup = words.dedup,
                                        .wire = words.wire,
                                        .overlap = words.overlap,
                                        .profile = terms->profile,
                                        .nccl_ids = terms->nccl_ids,
                                        .n_nccl_ids = terms->n_nccl_ids}};
    int status = 0;
    for (int rank = 1; rank < t->size && !status; rank++)
        status = control_send(t, rank, &message);
    arena_free(&memory);
    return status;
}

void cluster_note_loaded(const char *host, int rank, const struct ready *ready)
{
    double speed = ready->seconds > 0 ? (double)ready->bytes / ready->seconds : 0;
    note("rank %d on %s: %s%u experts, %s in %.2f s, %s/s", rank, host,
         rank ? "" : "attention, routers, shared experts, output matrix and ", ready->experts,
         bytes_text((double)ready->bytes).text, ready->seconds, bytes_text(speed).text);
}

int cluster_await(struct transport *t, uint64_t *worker_bytes)
{
    struct arena memory = {0};
    int status = 0;
    *worker_bytes = 0;
    for (int n = 1; n < t->size && !status; n++) {
        struct control message;
        status = control_expect(t, ANY_RANK, CONTROL_READY, &message, &memory);
        if (!status) {
            *worker_bytes += message.ready.bytes;
            cluster_note_loaded(t->hosts[message.from], message.from, &message.ready);
        }
    }
    arena_free(&memory);
    return status;
}

int cluster_stats(struct transport *t, struct stats *stats)
{
    struct control question = {.kind = CONTROL_STATS}, answer;
    struct arena memory = {0};
    int status = 0;
    for (int rank = 1; rank < t->size && !status; rank++) {
        status = control_send(t, rank, &question);
        if (!status)
            status = control_expect(t, rank, CONTROL_STATS, &answer, &memory);
        if (!status)
            stats[rank] = answer.stats;
    }
    arena_free(&memory);
    return status;
}

int cluster_wire_error(struct transport *t, struct wire_error *error)
{
    struct arena memory = {0};
    struct stats *stats = arena_alloc(&memory, (size_t)t->size * sizeof *stats);
    int status = cluster_stats(t, stats);
    for (int rank = 1; rank < t->size && !status; rank++) {
        error->squares += stats[rank].squares;
        error->errors += stats[rank].errors;
    }
    arena_free(&memory);
    return status;
}

int cluster_fault(struct transport *t)
{
    struct arena memory = {0};
    struct control message;
    int status = control_expect(t, ANY_RANK, CONTROL_FAULT, &message, &memory);
    arena_free(&memory);
    return status;
}

int cluster_look(struct transport *t, bool begins)
{
    int status = transport_look(t, begins);
    return status == TRANSPORT_INTERRUPTED ? cluster_fault(t) : status;
}

void cluster_stop(struct transport *t)
{
    struct control stop = {.kind = CONTROL_STOP};
    for (int rank = 1; rank < t->size; rank++)
        control_send(t, rank, &stop);
}
