/* The table of tensors against checkpoints that transformers has written: each of their tensors is
 * in it, it has no others, and what is counted from it is what is there. */
#include <stdio.h>

#include "base/log.h"
#include "model/sizes.h"
#include "model/tensors.h"
#include "model/weights.h"
#include "tests/rig/cm.h"

static const char *const models[] = {
    "dense-gqa",           "dense-tied",          "moe-60",
    "moe-fused",           "moe-head-dim",        "moe-long",
    "moe-sharded",         "moe-renormalised",    "moe-published",
    "moe-mlp-only-layers", "moe-top-1",           "moe-60-short",
    "moe-sparse-step-2",   "qwen3-moe-published", "qwen3-moe-fused",
    "qwen3-published",     "olmoe-gqa",           "mixtral-published",
    "mixtral-head-dim"};

static uint64_t elements_of(int n_dims, const int64_t *shape)
{
    uint64_t n = 1;
    for (int i = 0; i < n_dims; i++)
        n *= (uint64_t)shape[i];
    return n;
}

struct count {
    const struct checkpoint *checkpoint;
    const struct config *config;
    bool fused; // the file has one tensor for all experts of a layer
    size_t tensors;
};

static bool is_of_expert(enum tensor_kind kind)
{
    return kind >= TENSOR_EXPERT_GATE && kind <= TENSOR_EXPERT_DOWN;
}

static void count_one(void *context, const struct tensor_spec *t)
{
    struct count *n = context;
    assert_int_equal(elements_of(t->n_dims, t->shape), tensor_elements(n->config, t->kind));
    if (n->fused && is_of_expert(t->kind))
        return;
    assert_non_null(checkpoint_need(n->checkpoint, t->name, t->n_dims, t->shape));
    n->tensors++;
}

/* The tensors that the table says, of which all must be there. */
static size_t count_table(const struct checkpoint *c, const struct config *m)
{
    struct count n = {c, m, false, m->tied ? 2 : 3};
    for (int l = 0; l < m->n_layers; l++) {
        struct tensor_spec fused = tensor_spec(m, TENSOR_FUSED_DOWN, l, 0);
        n.fused = checkpoint_find(c, fused.name) != NULL;
        n.tensors += n.fused ? 2 : 0;
        tensors_each(m, l, count_one, &n);
    }
    return n.tensors;
}

static void the_table_is_what_files_hold(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char dir[256];
        struct config m;
        struct generation_defaults unused;
        struct checkpoint *c;
        uint64_t elements = 0;
        snprintf(dir, sizeof dir, SOURCE_DIR "/tests/golden/models/%s", models[i]);
        assert_int_equal(config_load(&m, &unused, dir), 0);
        assert_int_equal(checkpoint_open(&c, dir), 0);
        assert_int_equal(weights_check(&m, c), 0);
        assert_int_equal(count_table(c, &m), checkpoint_count(c));
        for (size_t t = 0; t < checkpoint_count(c); t++)
            elements += elements_of(checkpoint_at(c, t)->n_dims, checkpoint_at(c, t)->shape);
        assert_int_equal(sizes_of(&m).total, elements);
        checkpoint_close(c);
    }
}

/* What a layer has follows from the config: sizes of its parts, and names. */
static void parts_follow_the_config(void **state)
{
    (void)state;
    struct config m = {.architecture = ARCH_QWEN2_MOE, .dim = 64, .n_layers = 2, .n_heads = 4};
    m.n_kv_heads = 2, m.head_dim = 16, m.vocab_size = 100, m.ffn_dim = 96;
    m.n_experts = 6, m.top_k = 2, m.expert_dim = 32, m.shared_dim = 48;
    m.sparse[1] = m.qkv_bias = true;
    assert_int_equal(part_size(&m, PART_QKV, 0).n, 64 + 2 * 32);
    assert_int_equal(part_size(&m, PART_QKV_BIAS, 0).n, 64 + 2 * 32);
    assert_int_equal(part_size(&m, PART_ROUTER, 0).n, 0);
    assert_int_equal(part_size(&m, PART_ROUTER, 1).n, 6 + 1);
    assert_int_equal(part_size(&m, PART_DENSE, 0).n, 96);
    assert_int_equal(part_size(&m, PART_DENSE, 1).n, 48);
    m.qkv_bias = false;
    m.shared_dim = 0;
    assert_int_equal(part_size(&m, PART_QKV_BIAS, 0).n, 0);
    assert_int_equal(part_size(&m, PART_ROUTER, 1).n, 6);
    assert_int_equal(part_size(&m, PART_DENSE, 1).n, 0);
    assert_string_equal(tensor_spec(&m, TENSOR_EXPERT_UP, 1, 5).name,
                        "model.layers.1.mlp.experts.5.up_proj.weight");
    m.tied = true;
    assert_string_equal(tensor_spec(&m, TENSOR_UNEMBED, 0, 0).name, "model.embed_tokens.weight");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_is_what_files_hold),
        cmocka_unit_test(parts_follow_the_config),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
