#include <stdio.h>
#include <string.h>

#include "tests/gpu/bench/step.h"

static size_t pick(int i, size_t of)
{
    return (size_t)i % of;
}

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
    s.slot = (int32_t *)dev_alloc(d, pairs * sizeof *s.slot);
    s.source = (int32_t *)dev_alloc(d, pairs * sizeof *s.source);
    s.piece_at = (int32_t *)dev_alloc(d, sizeof *s.piece_at); // zeroed: the one piece is the first
    s.count = (int32_t *)dev_alloc(d, (size_t)of.experts * sizeof *s.count);
    s.best = (struct candidate *)dev_alloc(d, last * sizeof *s.best);
    size_t half = (size_t)(of.context * of.head_dim / 2);
    s.rope = {random_floats(s.r, half), random_floats(s.r, half), of.head_dim / 2, 0};
}

static void phase(step &s, const char *name, double bytes, double flops,
                  std::function<void(int)> call)
{
    s.layer.push_back({name, s.n, bytes, flops, s.variants, s.decode, std::move(call)});
}

/* What a phase calls must outlive the function that adds it: the step does. */
static void attention_phases(step &s)
{
    const shape &of = s.r.s;
    struct dev *d = &s.r.d;
    int heads = of.heads * of.head_dim, width = 3 * heads;
    double n = s.n, dim = of.dim, sequences = s.decode ? n : 1;
    double seen = s.decode ? n * s.context : n * (n + 1) / 2;
    phase(s, "combine, norm", n * of.top_k * dim * 2 + n * dim * 14, 0, [&s, &of, d](int i) {
        const struct pending_residual pending = {s.dense,
                                                 s.piece_at,
                                                 1,
                                                 of.dim,
                                                 s.scores + of.experts,
                                                 of.experts + 1,
                                                 s.y,
                                                 s.routes[(size_t)i].slot,
                                                 s.weight,
                                                 of.top_k};
        add_norm(d, s.x, s.h, DTYPE_BF16, &pending, s.norm, s.n, of.dim, 1e-6f);
    });
    phase(s, "q k v", width * dim * 2 + n * (dim * 2 + width * 4), 2 * n * width * dim,
          [&s, d](int i) {
              const struct matrix &w = s.r.qkv[pick(i, s.r.qkv.size())];
              matmul(d, s.qkv, w.n, s.h, &w, s.n);
          });
    phase(s, "rope, KV append", n * width * 6, 0, [&s, &of, d, width](int i) {
        rope_append(d, s.q, &s.kv, s.qkv, width, &s.head_norm, &s.rope, &s.at[(size_t)i], s.n,
                    of.heads);
    });
    phase(s, "attention", 4 * sequences * s.context * heads + 4 * n * heads, 4 * seen * heads,
          [&s, &of, d](int i) { attention(d, s.a, s.q, &s.kv, &s.at[(size_t)i], s.n, of.heads); });
    phase(s, "o", dim * heads * 2 + n * (heads * 2 + dim * 8), 2 * n * heads * dim,
          [&s, &of, d](int i) {
              matmul_add(d, s.x, of.dim, s.a, &s.r.o[pick(i, s.r.o.size())], s.n);
          });
}

static void router_phases(step &s)
{
    const shape &of = s.r.s;
    struct dev *d = &s.r.d;
    double n = s.n, dim = of.dim, experts = of.experts + 1, pairs = n * of.top_k;
    std::vector<int32_t> itself;
    for (int i = 0; i < of.experts; i++)
        itself.push_back(i);
    int32_t *group = to_device(s.r, itself);
    phase(s, "norm", n * dim * 6, 0,
          [&s, &of, d](int) { rmsnorm(d, s.h, DTYPE_BF16, s.x, s.norm, s.n, of.dim, 1e-6f); });
    phase(s, "router", experts * dim * 2 + n * (dim * 2 + experts * 4), 2 * n * experts * dim,
          [&s, d](int i) {
              const struct matrix &w = s.r.router[pick(i, s.r.router.size())];
              matmul(d, s.scores, w.n, s.h, &w, s.n);
          });
    phase(s, "route, sort", n * experts * 4 + pairs * 20, 0, [&s, &of, d, group](int) {
        const struct sorting sorting = {
            s.count, s.slot, s.source, NULL, {group, of.experts, of.experts, 1}};
        route_rows(d, s.expert, s.weight, &sorting, s.scores, of.experts + 1, s.n, of.experts,
                   of.top_k, false);
    });
}

static struct ffn_job shared_job(const step &s, int i)
{
    return {s.r.shared[pick(i, s.r.shared.size())], s.dense, DTYPE_F32, s.h, NULL, NULL, s.n};
}

static struct ffn_job routed_job(const step &s, int i)
{
    const routing &route = s.routes[(size_t)i];
    return {s.r.experts[pick(i, s.r.experts.size())],
            s.y,
            DTYPE_BF16,
            s.h,
            route.source,
            route.count,
            route.pairs};
}

static void expert_phases(step &s)
{
    const shape &of = s.r.s;
    struct dev *d = &s.r.d;
    double n = s.n, pairs = n * of.top_k, hit = 0;
    for (const routing &route : s.routes)
        hit += (double)route.hit / s.variants;
    double routed = ffn_bytes(of, pairs, hit, of.width), flops = ffn_flops(of, pairs, of.width);
    double shared = ffn_bytes(of, n, 1, of.shared), others = ffn_flops(of, n, of.shared);
    if (s.n <= d->joint_ffn_max_rows) {
        phase(s, "experts and shared", routed + shared, flops + others, [&s, d](int i) {
            struct ffn_job jobs[] = {shared_job(s, i), routed_job(s, i)};
            run_ffn(d, jobs, 2);
        });
        return;
    }
    phase(s, "shared", shared, others, [&s, d](int i) {
        struct ffn_job job = shared_job(s, i);
        run_ffn(d, &job, 1);
    });
    phase(s, "experts", routed, flops, [&s, d](int i) {
        struct ffn_job job = routed_job(s, i);
        run_ffn(d, &job, 1);
    });
}

/* Once a step, of the rows whose logits are wanted. */
static void ending_phases(step &s)
{
    const shape &of = s.r.s;
    struct dev *d = &s.r.d;
    int rows = s.decode ? s.n : 1;
    double n = rows, vocab = of.vocab, dim = of.dim;
    s.ending.push_back(
        {"logits", rows, vocab * dim * 2 + n * vocab * 4, 2 * n * vocab * dim, 1, s.decode,
         [&s, &of, d, rows](int) { matmul(d, s.logits, of.vocab, s.h, &s.r.unembed, rows); }});
    s.ending.push_back({"best token", rows, n * vocab * 4, 0, 1, s.decode, [&s, &of, d, rows](int) {
                            top_tokens(d, s.best, s.logits, rows, of.vocab, 1);
                        }});
}

step::step(rig &of, int batch)
    : r(of), n(batch > 0 ? batch : of.s.prompt), context(batch > 0 ? of.s.context : of.s.prompt),
      variants(batch > 0 ? of.s.copies : of.s.layers), decode(batch > 0)
{
    open_cache(*this);
    open_rows(*this);
    place_rows(*this);
    attention_phases(*this);
    router_phases(*this);
    expert_phases(*this);
    ending_phases(*this);
}

const work &step::phase(const char *name) const
{
    const work *found = NULL;
    for (const std::vector<work> *phases : {&layer, &ending})
        for (const work &w : *phases)
            if (w.name == name)
                found = &w;
    CHECK(found, "no phase \"%s\"", name);
    return *found;
}

work step::whole_layer() const
{
    work all = {"all of these, in order", n, 0, 0, variants, decode, [this](int i) {
                    for (const work &w : layer)
                        w.call(i);
                }};
    for (const work &w : layer) {
        all.bytes += w.bytes;
        all.flops += w.flops;
    }
    return all;
}

/* Rows have no padding: see random_rows. */
void step::refill()
{
    const shape &of = r.s;
    size_t rows = (size_t)n, dim = (size_t)of.dim;
    const struct {
        void *to;
        const struct noise *noise;
        size_t values;
    } all[] = {{x, r.floats, rows * dim},
               {dense, r.floats, rows * dim},
               {scores, r.floats, rows * (size_t)(of.experts + 1)},
               {weight, r.floats, rows * (size_t)of.top_k},
               {y, r.activations, rows * (size_t)of.top_k * dim}};
    uint64_t key = (uint64_t)1 << 63; // of nobody else's noise
    for (const auto &each : all) {
        struct values from = {each.noise->type, NULL, each.noise, key++, 0, 0, 0};
        fill_values(&r.d, each.to, &from, each.values);
    }
}

std::vector<float> step::result()
{
    size_t each = (size_t)n * (size_t)r.s.dim, pairs = each * (size_t)r.s.top_k;
    std::vector<float> all(2 * each + pairs);
    std::vector<bf16> rows(pairs);
    dev_download(&r.d, all.data(), x, each * sizeof(float));
    dev_download(&r.d, all.data() + each, dense, each * sizeof(float));
    dev_download(&r.d, rows.data(), y, pairs * sizeof(bf16));
    dev_wait(&r.d);
    for (size_t i = 0; i < pairs; i++)
        all[2 * each + i] = bf16_to_float(rows[i]);
    return all;
}

/* ---- the tables ---- */

/* What a step is beyond its phases one by one: the order they come in, and starting it. */
static void tell_step(const step &s, double layer_s, double order_s, double ending_s)
{
    enum { MODEL_LAYERS = 24 };
    double all = MODEL_LAYERS * layer_s + ending_s;
    printf("\nA layer: %.1f us; %d layers and the ending: %.3f ms, %.0f tokens/s\n", layer_s * 1e6,
           MODEL_LAYERS, all * 1e3, all > 0 ? s.n / all : 0.0);
    all = MODEL_LAYERS * order_s + ending_s;
    printf("What the phases cannot add up to: in order, one after the other, a layer takes %.1f us "
           "(%+.1f: what begins early, and gaps between kernels that differ); with that %.3f ms, "
           "%.0f tokens/s",
           order_s * 1e6, (order_s - layer_s) * 1e6, all * 1e3, all > 0 ? s.n / all : 0.0);
    if (s.decode)
        printf("; and each step's graph is started and waited for, %.1f us", s.r.round_trip * 1e6);
    printf("\n");
}

void measure_step(rig &r, int batch)
{
    char title[96];
    step s(r, batch);
    double layer = 0, ending = 0;
    if (s.decode)
        snprintf(title, sizeof title, "A layer of decode, batch %d at position %d", batch,
                 s.context);
    else
        snprintf(title, sizeof title, "A layer of prefill, %d tokens in one step", s.n);
    table_head(title);
    for (const work &w : s.layer)
        layer += measure(r, w).seconds;
    double order = measure(r, s.whole_layer()).seconds;
    for (const work &w : s.ending)
        ending += measure(r, w).seconds;
    tell_step(s, layer, order, ending);
}
