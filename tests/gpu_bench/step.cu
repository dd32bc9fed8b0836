/* The phases of a layer as coordinator/forward.c calls them, one after the other. Calls of a phase
 * differ in their weights, experts and sequences, so that no cache answers for the memory. */
#include <algorithm>
#include <stdio.h>

#include "tests/gpu_bench/bench.h"

struct step {
    explicit step(rig &of) : r(of)
    {
    }

    rig &r;
    int n, context, variants;
    bool decode;
    float *x, *qkv, *scores, *dense, *logits, *norm, *weight;
    void *h, *q, *a, *y;
    int32_t *expert, *place, *source, *count;
    struct candidate *best;
    struct kv_layer kv;
    struct rope_table rope;
    std::vector<struct positions> at;
    std::vector<routing> routes;
    double layer_s = 0; // of the phases so far

    size_t pick(int i, size_t of) const
    {
        return (size_t)i % of;
    }
};

static void open_cache(step &s)
{
    const shape &of = s.r.s;
    struct dev *d = &s.r.d;
    int blocks = (of.context + KV_BLOCK - 1) / KV_BLOCK, all = of.sequences * blocks;
    size_t bytes = kv_block_bytes(d, DTYPE_BF16, of.heads, of.head_dim) * (size_t)all;
    std::vector<int32_t> table((size_t)all);
    for (int i = 0; i < all; i++)
        table[(size_t)i] = i;
    int width = (int)(bytes / sizeof(bf16) / (size_t)all);
    s.kv = {DTYPE_BF16,
            of.heads,
            of.head_dim,
            random_rows(s.r, all, width),
            random_rows(s.r, all, width),
            to_device(s.r, table),
            blocks};
}

/* Variant i has other sequences than its neighbours; a prompt is sequence 0's. */
static void place_rows(step &s)
{
    const shape &of = s.r.s;
    for (int i = 0; i < s.variants; i++) {
        std::vector<int32_t> seq, pos;
        for (int j = 0; j < s.n; j++) {
            seq.push_back(s.decode ? (i * s.n + j) % of.sequences : 0);
            pos.push_back(s.decode ? s.context - 1 : j);
        }
        int longest = (s.context + KV_BLOCK - 1) / KV_BLOCK * KV_BLOCK;
        s.at.push_back({to_device(s.r, seq), to_device(s.r, pos), s.decode ? s.n : 0, longest});
        s.routes.push_back(random_routing(s.r, s.n, false));
    }
}

static void open_rows(step &s)
{
    const shape &of = s.r.s;
    struct dev *d = &s.r.d;
    size_t n = (size_t)s.n, pairs = n * (size_t)of.top_k, heads = (size_t)(of.heads * of.head_dim);
    size_t last = s.decode ? n : 1;
    s.x = random_floats(s.r, n * (size_t)of.dim);
    s.qkv = random_floats(s.r, n * 3 * heads);
    s.scores = random_floats(s.r, n * (size_t)(of.experts + 1));
    s.dense = random_floats(s.r, n * (size_t)of.dim);
    s.logits = random_floats(s.r, last * (size_t)of.vocab);
    s.norm = random_floats(s.r, (size_t)of.dim);
    s.weight = random_floats(s.r, pairs);
    s.h = random_rows(s.r, s.n, of.dim);
    s.q = random_rows(s.r, s.n, (int)heads);
    s.a = random_rows(s.r, s.n, (int)heads);
    s.y = random_rows(s.r, (int)pairs, of.dim);
    s.expert = (int32_t *)dev_alloc(d, pairs * sizeof *s.expert);
    s.place = (int32_t *)dev_alloc(d, pairs * sizeof *s.place);
    s.source = (int32_t *)dev_alloc(d, pairs * sizeof *s.source);
    s.count = (int32_t *)dev_alloc(d, (size_t)of.experts * sizeof *s.count);
    s.best = (struct candidate *)dev_alloc(d, last * sizeof *s.best);
    size_t half = (size_t)(of.context * of.head_dim / 2);
    s.rope = {random_floats(s.r, half), random_floats(s.r, half), of.head_dim / 2};
}

static double phase(step &s, const char *name, double bytes, double flops,
                    std::function<void(int)> call)
{
    double seconds = measure(s.r, {name, s.n, bytes, flops, s.variants, s.decode, std::move(call)});
    s.layer_s += seconds;
    return seconds;
}

static void attention_phases(step &s)
{
    rig &r = s.r;
    const shape &of = r.s;
    struct dev *d = &r.d;
    double n = s.n, dim = of.dim, heads = of.heads * of.head_dim, width = 3 * heads;
    double seen = s.decode ? n * s.context : n * (n + 1) / 2, sequences = s.decode ? n : 1;
    phase(s, "combine, norm", n * of.top_k * dim * 2 + n * dim * 14, 0, [&](int i) {
        const struct addends addends = {
            s.dense, s.scores + of.experts,     of.dim,   of.experts + 1,
            s.y,     s.routes[(size_t)i].place, s.weight, of.top_k};
        add_norm(d, s.x, s.h, DTYPE_BF16, &addends, s.norm, s.n, of.dim, 1e-6f);
    });
    phase(s, "q k v", width * dim * 2 + n * (dim * 2 + width * 4), 2 * n * width * dim, [&](int i) {
        const struct matrix &w = r.qkv[s.pick(i, r.qkv.size())];
        matmul(d, s.qkv, w.n, s.h, &w, s.n);
    });
    phase(s, "rope, KV append", n * width * 6, 0, [&](int i) {
        rope_append(d, s.q, &s.kv, s.qkv, (int)width, &s.rope, &s.at[(size_t)i], s.n, of.heads);
    });
    phase(s, "attention", 4 * sequences * s.context * heads + 4 * n * heads, 4 * seen * heads,
          [&](int i) { attention(d, s.a, s.q, &s.kv, &s.at[(size_t)i], s.n, of.heads); });
    phase(s, "o", dim * heads * 2 + n * (heads * 2 + dim * 8), 2 * n * heads * dim,
          [&](int i) { matmul_add(d, s.x, of.dim, s.a, &r.o[s.pick(i, r.o.size())], s.n); });
}

static void router_phases(step &s)
{
    rig &r = s.r;
    const shape &of = r.s;
    struct dev *d = &r.d;
    double n = s.n, dim = of.dim, experts = of.experts + 1, pairs = n * of.top_k;
    std::vector<int32_t> itself;
    for (int i = 0; i < of.experts; i++)
        itself.push_back(i);
    int32_t *group = to_device(r, itself);
    phase(s, "norm", n * dim * 6, 0,
          [&](int) { rmsnorm(d, s.h, DTYPE_BF16, s.x, s.norm, s.n, of.dim, 1e-6f); });
    phase(s, "router", experts * dim * 2 + n * (dim * 2 + experts * 4), 2 * n * experts * dim,
          [&](int i) {
              const struct matrix &w = r.router[s.pick(i, r.router.size())];
              matmul(d, s.scores, w.n, s.h, &w, s.n);
          });
    phase(s, "route, sort", n * experts * 4 + pairs * 20, 0, [&](int) {
        const struct sorting sorting = {s.count, s.place, s.source, NULL, group, of.experts};
        route_rows(d, s.expert, s.weight, &sorting, s.scores, of.experts + 1, s.n, of.experts,
                   of.top_k, false);
    });
}

static struct ffn_job shared_job(const step &s, int i)
{
    return {s.r.shared[s.pick(i, s.r.shared.size())], s.dense, DTYPE_F32, s.h, NULL, NULL, s.n};
}

static struct ffn_job routed_job(const step &s, int i)
{
    const routing &route = s.routes[(size_t)i];
    return {s.r.experts[s.pick(i, s.r.experts.size())],
            s.y,
            DTYPE_BF16,
            s.h,
            route.source,
            route.count,
            route.pairs};
}

static void expert_phases(step &s)
{
    rig &r = s.r;
    const shape &of = r.s;
    struct dev *d = &r.d;
    double n = s.n, pairs = n * of.top_k, hit = 0;
    for (const routing &route : s.routes)
        hit += (double)route.hit / s.variants;
    double routed = ffn_bytes(of, pairs, hit, of.width), flops = ffn_flops(of, pairs, of.width);
    double shared = ffn_bytes(of, n, 1, of.shared), others = ffn_flops(of, n, of.shared);
    auto both = [&](int i) {
        struct ffn_job jobs[] = {shared_job(s, i), routed_job(s, i)};
        run_ffn(d, jobs, 2);
    };
    auto one = [&](struct ffn_job job) { run_ffn(d, &job, 1); };
    if (s.n <= d->joint_rows) {
        phase(s, "experts and shared", routed + shared, flops + others, both);
    } else {
        phase(s, "shared", shared, others, [&](int i) { one(shared_job(s, i)); });
        phase(s, "experts", routed, flops, [&](int i) { one(routed_job(s, i)); });
    }
}

/* Once a step, of the rows whose logits are wanted. */
static double ending_phases(step &s)
{
    rig &r = s.r;
    const shape &of = r.s;
    int rows = s.decode ? s.n : 1;
    double n = rows, vocab = of.vocab, dim = of.dim;
    double logits = measure(
        r, {"logits", rows, vocab * dim * 2 + n * vocab * 4, 2 * n * vocab * dim, 1, s.decode,
            [&](int) { matmul(&r.d, s.logits, of.vocab, s.h, &r.unembed, rows); }});
    double best = measure(r, {"best token", rows, n * vocab * 4, 0, 1, s.decode,
                              [&](int) { top_tokens(&r.d, s.best, s.logits, rows, of.vocab, 1); }});
    return logits + best;
}

void measure_step(rig &r, int batch)
{
    enum { MODEL_LAYERS = 24 };
    char title[96];
    bool decode = batch > 0;
    step s(r);
    s.n = decode ? batch : r.s.prompt;
    s.decode = decode;
    s.context = decode ? r.s.context : r.s.prompt;
    s.variants = decode ? r.s.copies : r.s.layers;
    open_cache(s);
    open_rows(s);
    place_rows(s);
    if (decode)
        snprintf(title, sizeof title, "A layer of decode, batch %d at position %d", batch,
                 s.context);
    else
        snprintf(title, sizeof title, "A layer of prefill, %d tokens in one step", s.n);
    table_head(title);
    attention_phases(s);
    router_phases(s);
    expert_phases(s);
    double ending = ending_phases(s), all = MODEL_LAYERS * s.layer_s + ending;
    printf("\nA layer: %.1f us; %d layers and the ending: %.3f ms, %.0f tokens/s\n",
           s.layer_s * 1e6, MODEL_LAYERS, all * 1e3, all > 0 ? s.n / all : 0.0);
}
