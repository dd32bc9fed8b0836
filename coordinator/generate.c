#include "coordinator/generate.h"

#include "base/check.h"
#include "coordinator/forward.h"

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
    CHECK(kv_cache_extend(&c->kv, 0, n), "no KV block left for %d positions", n);
    rope_tables_begin(&c->rope, &c->dev, &c->config, 0, n);
    int status = forward_sequence(c, 0, tokens, n, on_chunk, context);
    kv_cache_release(&c->kv, 0);
    return status;
}
