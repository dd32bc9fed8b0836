#include "tests/rig/logits.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "coordinator/generate.h"
#include "coordinator/unembed.h"
#include "worker/serve.h"

enum { ROWS_AT_ONCE = 7 }; // an odd number, as no result may depend on it

static struct transport *joined; // NULL: not under mpirun

void logits_join(struct transport *mpi)
{
    joined = mpi;
}

static bool is_joined(const struct logits_case *t)
{
    return joined && t->ranks == joined->size;
}

struct collect {
    float *logits;
    int done;
};

static int collect_chunk(void *context, struct coordinator *c, int first, int n)
{
    struct collect *to = context;
    size_t vocab = (size_t)c->config.vocab_size;
    (void)first;
    for (int i = 0; i < n; i += ROWS_AT_ONCE) {
        int32_t rows[ROWS_AT_ONCE];
        int count = n - i < ROWS_AT_ONCE ? n - i : ROWS_AT_ONCE;
        for (int j = 0; j < count; j++)
            rows[j] = i + j;
        memcpy(to->logits + (size_t)to->done * vocab, unembed_to_host(c, rows, count),
               (size_t)count * vocab * sizeof(float));
        to->done += count;
    }
    return 0;
}

static int open_case(struct ranks *r, const struct logits_case *t, const struct exchange_options *x,
                     int positions)
{
    static const int choice[] = {[DTYPE_F32] = 1, [DTYPE_F16] = 2, [DTYPE_BF16] = 3};
    struct process p = {.mpi = is_joined(t) ? joined : NULL, .local_size = 1};
    struct model_options o = model_options_default();
    struct session_needs needs = {1, ROWS_AT_ONCE, positions};
    o.model = t->dir;
    o.dtype = t->quant ? 3 + (int)t->quant : choice[t->dtype];
    o.expert_dtype = (int)t->expert_quant;
    o.threads = t->threads;
    o.chunk = t->chunk;
    o.ranks = p.mpi ? 0 : t->ranks;
    o.context = positions; // may be more than the model's own context
    o.placement = t->placement;
    o.device = (int)t->device;
    o.worker_device = t->worker_device;
    o.transport = t->transport;
    o.timeout_s = t->timeout_s > 0 ? t->timeout_s : o.timeout_s;
    o.strategy = (int)x->strategy;
    o.combine = (int)x->combine;
    o.dedup = (int)x->dedup;
    o.wire = (int)x->wire;
    o.overlap = (int)x->overlap;
    if (t->isa)
        setenv("EPMOE_ISA", t->isa, 1);
    else
        unsetenv("EPMOE_ISA");
    return ranks_open(r, &p, &o, &needs);
}

float *logits_of(const struct logits_case *t, int *vocab)
{
    return logits_over(t, &(struct exchange_options){0}, vocab);
}

static void serve(const struct logits_case *t)
{
    struct worker_options w = {
        .model = t->dir, .threads = t->threads, .version = program_version()};
    worker_serve(joined, &w);
}

float *logits_over(const struct logits_case *t, const struct exchange_options *x, int *vocab)
{
    struct ranks r;
    if (joined && joined->rank > 0) {
        if (is_joined(t))
            serve(t);
        return NULL;
    }
    if (open_case(&r, t, x, t->n) != 0)
        return NULL;
    *vocab = r.coordinator.config.vocab_size;
    struct collect to = {malloc((size_t)t->n * (size_t)*vocab * sizeof(float)), 0};
    if (prefill(&r.coordinator, t->tokens, t->n, collect_chunk, &to) != 0) {
        free(to.logits);
        to.logits = NULL;
    }
    ranks_close(&r);
    return to.logits;
}

struct ids {
    int32_t *out;
    int n;
};

static bool keep(void *context, int32_t token)
{
    struct ids *ids = context;
    ids->out[ids->n++] = token;
    return false;
}

bool greedy_of(const struct logits_case *t, int n_new, int32_t *out)
{
    struct ranks r;
    struct ids ids = {out, 0};
    if (open_case(&r, t, &(struct exchange_options){0}, t->n + n_new) != 0)
        return false;
    struct request request = {.tokens = t->tokens,
                              .n = t->n,
                              .n_predict = n_new,
                              .ignore_eos = true,
                              .sampler = {.top_p = 1, .repetition_penalty = 1},
                              .on_token = keep,
                              .context = &ids};
    int status = request_check(&r.coordinator, t->tokens, t->n, n_new);
    if (!status)
        status = generate(&r.coordinator, &request);
    ranks_close(&r);
    return status == 0 && ids.n == n_new;
}

bool golden_open(struct golden *g, const char *path)
{
    size_t bytes;
    uint64_t header;
    g->bytes = file_read(path, 64 << 20, &bytes);
    if (!g->bytes)
        return false;
    memcpy(&header, g->bytes, 8);
    g->header = js_parse(g->bytes + 8, (size_t)header, path);
    g->data = g->bytes + 8 + header;
    return g->header != NULL;
}

void golden_close(struct golden *g)
{
    js_free(g->header);
    free(g->bytes);
}

const void *golden_tensor(const struct golden *g, const char *name, size_t *count)
{
    const struct js *offsets = js_member(js_member(g->header, name), "data_offsets");
    if (!offsets)
        return NULL;
    int64_t begin = js_int(js_item(offsets, 0)), end = js_int(js_item(offsets, 1));
    *count = (size_t)(end - begin) / 4; // I32 and F32 alike
    return g->data + begin;
}
