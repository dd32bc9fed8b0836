/* config.json, and after the first zero byte generation_config.json. What is accepted must be a
 * model that can be computed: the loaders rely on it. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "model/config.h"
#include "model/rope.h"

static void check_model(const struct config *c)
{
    CHECK(c->dim > 0 && c->vocab_size > 0 && c->max_positions > 0, "sizes");
    CHECK(c->n_layers > 0 && c->n_layers <= MAX_LAYERS, "%d layers", c->n_layers);
    CHECK(c->n_kv_heads > 0 && c->n_heads % c->n_kv_heads == 0, "heads");
    CHECK(c->head_dim > 0 && c->head_dim % 2 == 0, "head_dim %d", c->head_dim);
    CHECK(c->n_experts >= 0 && c->n_experts <= MAX_EXPERTS, "%d experts", c->n_experts);
    CHECK(c->n_experts == 0 || (c->top_k > 0 && c->top_k <= c->n_experts), "top_k %d", c->top_k);
    CHECK(c->n_experts == 0 || c->expert_dim > 0, "expert_dim");
    CHECK(c->norm_eps > 0 && c->rope_theta >= 1, "reals");
    CHECK(c->n_eos >= 0 && c->n_eos <= MAX_EOS, "%d eos", c->n_eos);
    for (int i = 0; i < c->n_eos; i++)
        CHECK(c->eos[i] >= 0 && c->eos[i] < c->vocab_size, "eos %d", c->eos[i]);
    for (int l = 0; l < c->n_layers; l++)
        CHECK(c->sparse[l] ? c->n_experts > 0 : c->ffn_dim > 0, "layer %d has no block", l);
}

/* Of a short text, and of the longest. */
static void check_rope(const struct config *c)
{
    float frequency[MAX_HEAD_DIM / 2];
    for (int i = 0; i < 2; i++) {
        float scale = rope_frequencies(c, i ? MAX_POSITIONS : 1, frequency);
        CHECK(isfinite(scale), "a scale that is not finite");
        for (int k = 0; k < c->head_dim / 2; k++)
            CHECK(isfinite(frequency[k]), "frequency %d", k);
    }
}

static void check_defaults(const struct generation_defaults *g)
{
    CHECK(g->temperature >= 0 && g->top_p >= 0 && g->top_p <= 1, "temperature or top_p");
    CHECK(g->repetition_penalty > 0 && g->top_k >= 0, "penalty or top_k");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config c;
    struct generation_defaults g;
    const char *text = (const char *)data;
    const char *zero = size ? memchr(data, 0, size) : NULL;
    size_t first = zero ? (size_t)(zero - text) : size;
    error_capture(true);
    int status =
        config_parse(&c, &g, text, first, zero ? zero + 1 : NULL, zero ? size - first - 1 : 0);
    if (status == 0) {
        check_model(&c);
        check_rope(&c);
        check_defaults(&g);
    }
    return 0;
}
