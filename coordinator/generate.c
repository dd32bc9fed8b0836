#include "coordinator/generate.h"

#include <stdlib.h>

#include "base/check.h"

int generate(struct coordinator *c, const struct request *r)
{
    struct scheduler s;
    int status = 0;
    scheduler_open(&s, c);
    CHECK(scheduler_admit(&s, r), "no room for a request of %d tokens", r->n);
    while (s.n_running && !status)
        status = scheduler_step(&s);
    scheduler_close(&s);
    return status;
}

int prefill(struct coordinator *c, const int32_t *tokens, int n,
            int (*on_chunk)(void *context, struct coordinator *c, int first, int n), void *context)
{
    int status = 0;
    int32_t *seq = calloc((size_t)c->chunk, sizeof *seq);
    int32_t *pos = calloc((size_t)c->chunk, sizeof *pos);
    CHECK_MEMORY(seq && pos, "no memory for a chunk of %d rows", c->chunk);
    CHECK(kv_cache_extend(&c->kv, 0, n), "no KV block left for %d positions", n);
    for (int done = 0; done < n && !status; done += c->chunk) {
        int rows = n - done < c->chunk ? n - done : c->chunk;
        for (int i = 0; i < rows; i++)
            pos[i] = done + i;
        status = forward(c, &(struct batch){rows, tokens + done, seq, pos});
        if (!status)
            status = on_chunk(context, c, done, rows);
    }
    kv_cache_release(&c->kv, 0);
    free(seq);
    free(pos);
    return status;
}
