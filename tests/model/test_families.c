/* The table of families. What transformers takes where config.json is silent; and of every switch
 * that a family has, some golden case (tests/golden/models) has each position, so that parity with
 * transformers is shown for each. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/family.h"
#include "model/weights.h"
#include "tests/rig/cm.h"
#include "tests/rig/config_texts.h"
#include "tests/rig/logits.h"

/* ---- what config.json leaves out ---- */

static const struct {
    const char *type;
    int vocab, dim, layers, heads, kv_heads, head_dim, positions;
    int experts, top_k, expert_dim, shared_dim;
    enum qk_norm qk_norm;
    bool norm_topk, qkv_bias;
    double eps, theta;
} silent[ARCHITECTURES] = {
    {"qwen2_moe", 151936, 2048, 24, 16, 16, 128, 32768, 60, 4, 1408, 5632, QK_NORM_NONE, false,
     true, 1e-6, 1e4},
    {"qwen2", 151936, 4096, 32, 32, 32, 128, 32768, 0, 0, 0, 0, QK_NORM_NONE, false, true, 1e-6,
     1e4},
    {"qwen3_moe", 151936, 2048, 24, 32, 4, 64, 32768, 128, 8, 768, 0, QK_NORM_HEAD, false, false,
     1e-6, 1e4},
    {"qwen3", 151936, 4096, 32, 32, 32, 128, 32768, 0, 0, 0, 0, QK_NORM_HEAD, false, false, 1e-6,
     1e4},
    {"olmoe", 50304, 2048, 16, 16, 16, 128, 4096, 64, 8, 2048, 0, QK_NORM_ALL, false, false, 1e-5,
     1e4},
    {"mixtral", 32000, 4096, 32, 32, 8, 128, 131072, 8, 2, 14336, 0, QK_NORM_NONE, true, false,
     1e-5, 1e6},
};

static void absent_keys_have_the_family_s_defaults(void **state)
{
    (void)state;
    for (int i = 0; i < ARCHITECTURES; i++) {
        char text[64];
        snprintf(text, sizeof text, "{\"model_type\":\"%s\"}", silent[i].type);
        assert_int_equal(parse(text, NULL), 0);
        assert_string_equal(family_of(&parsed)->type, silent[i].type);
        assert_int_equal(parsed.vocab_size, silent[i].vocab);
        assert_int_equal(parsed.dim, silent[i].dim);
        assert_int_equal(parsed.n_layers, silent[i].layers);
        assert_int_equal(parsed.n_heads, silent[i].heads);
        assert_int_equal(parsed.n_kv_heads, silent[i].kv_heads);
        assert_int_equal(parsed.head_dim, silent[i].head_dim);
        assert_int_equal(parsed.max_positions, silent[i].positions);
        assert_int_equal(parsed.n_experts, silent[i].experts);
        assert_int_equal(parsed.top_k, silent[i].top_k);
        assert_int_equal(parsed.expert_dim, silent[i].expert_dim);
        assert_int_equal(parsed.shared_dim, silent[i].shared_dim);
        assert_int_equal(parsed.qk_norm, silent[i].qk_norm);
        assert_int_equal(parsed.norm_topk, silent[i].norm_topk);
        assert_int_equal(parsed.qkv_bias, silent[i].qkv_bias);
        assert_true(parsed.norm_eps == (float)silent[i].eps);
        assert_true(parsed.rope_theta == silent[i].theta);
        assert_int_equal(parsed.sparse[0], silent[i].experts > 0);
    }
}

/* Parse a model of this type with these keys. */
static int parse_keys(const char *type, const char *keys)
{
    char text[256];
    snprintf(text, sizeof text, "{\"model_type\":\"%s\",\"num_hidden_layers\":2,%s}", type, keys);
    return parse(text, NULL);
}

static void the_number_of_experts_has_two_names(void **state)
{
    static const char *const types[] = {"qwen3_moe", "olmoe", "mixtral"};
    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(parse_keys(types[i], "\"num_experts\":9"), 0);
        assert_int_equal(parsed.n_experts, 9);
        assert_int_equal(parse_keys(types[i], "\"num_local_experts\":9"), 0);
        assert_int_equal(parsed.n_experts, 9);
        assert_int_equal(parse_keys(types[i], "\"num_experts\":9,\"num_local_experts\":9"), 0);
        expect_error(parse_keys(types[i], "\"num_experts\":9,\"num_local_experts\":8"),
                     "num_experts: expected num_local_experts = 8, found 9");
    }
    assert_int_equal(parse_keys("qwen2_moe", "\"num_local_experts\":9"), 0); // not one of its keys
    assert_int_equal(parsed.n_experts, 60);
    expect_error(parse_keys("mixtral", "\"num_experts\":0"),
                 "num_experts: expected a whole number");
    expect_error(parse_keys("olmoe", "\"num_local_experts\":0"), "num_local_experts: expected");
}

static void keys_of_other_families_say_nothing(void **state)
{
    (void)state;
    assert_int_equal(parse_keys("mixtral", "\"norm_topk_prob\":false,\"mlp_only_layers\":[0],"
                                           "\"moe_intermediate_size\":7,\"intermediate_size\":5"),
                     0);
    assert_true(parsed.norm_topk && parsed.sparse[0]);
    assert_int_equal(parsed.expert_dim, 5);
    assert_int_equal(parse_keys("olmoe", "\"decoder_sparse_step\":2,\"qkv_bias\":true,"
                                         "\"shared_expert_intermediate_size\":8"),
                     0);
    assert_true(parsed.sparse[0] && !parsed.qkv_bias && parsed.shared_dim == 0);
    assert_int_equal(parse_keys("qwen3", "\"num_experts\":8,\"qkv_bias\":true"), 0);
    assert_true(!parsed.sparse[0] && !parsed.qkv_bias && parsed.n_experts == 0);
    assert_int_equal(parse_keys("qwen3_moe", "\"mlp_only_layers\":[0]"), 0);
    assert_true(!parsed.sparse[0] && parsed.sparse[1]);
}

/* ---- switches ---- */

/* A golden case. */
struct model {
    struct config c;
    struct js *json;
    struct checkpoint *files;
};

enum { OFF = 1, ON = 2, BOTH = OFF | ON };

struct family_switch {
    const char *name;
    bool (*is_on)(const struct model *m);
    int (*may_be)(const struct family *f); // OFF, ON or BOTH; 0: the family knows no such thing
};

static bool has_key(const struct model *m, const char *key)
{
    return js_member(m->json, key) && !js_is_null(js_member(m->json, key));
}

static bool states_head_dim(const struct model *m)
{
    return has_key(m, "head_dim");
}

static int may_state_head_dim(const struct family *f)
{
    return f == family_at(ARCH_OLMOE) ? OFF : BOTH; // there, transformers' norms have hidden_size
}

static bool shares_keys(const struct model *m)
{
    return m->c.n_kv_heads < m->c.n_heads;
}

static bool is_tied(const struct model *m)
{
    return m->c.tied;
}

static bool has_other_eps(const struct model *m)
{
    return m->c.norm_eps != family_of(&m->c)->defaults.norm_eps;
}

static bool has_other_theta(const struct model *m)
{
    return m->c.rope_theta != family_of(&m->c)->defaults.rope_theta;
}

static bool is_form_5(const struct model *m)
{
    return has_key(m, "rope_parameters");
}

static int may_be_either(const struct family *f)
{
    (void)f;
    return BOTH;
}

static bool has_bias(const struct model *m)
{
    return m->c.qkv_bias;
}

static int may_have_bias(const struct family *f)
{
    return f->qkv_bias_required ? ON : f->defaults.qkv_bias ? BOTH : OFF;
}

static bool has_norms(const struct model *m)
{
    return m->c.qk_norm != QK_NORM_NONE;
}

static int may_have_norms(const struct family *f)
{
    return f->defaults.qk_norm == QK_NORM_NONE ? OFF : ON;
}

static bool renormalises(const struct model *m)
{
    return m->c.norm_topk;
}

static int may_renormalise(const struct family *f)
{
    return !f->has_experts ? 0 : f->defaults.norm_topk ? ON : BOTH;
}

static bool has_dense_layers(const struct model *m)
{
    for (int l = 0; l < m->c.n_layers; l++)
        if (!m->c.sparse[l])
            return true;
    return false;
}

static int may_have_dense_layers(const struct family *f)
{
    return f->has_dense_layers ? BOTH : f->has_experts ? OFF : ON;
}

static bool has_shared_expert(const struct model *m)
{
    return m->c.shared_dim > 0;
}

static int may_have_shared_expert(const struct family *f)
{
    return f->defaults.shared_dim ? ON : OFF;
}

/* One tensor holds all experts of a layer. */
static bool is_fused(const struct model *m)
{
    for (int l = 0; l < m->c.n_layers; l++)
        if (checkpoint_find(m->files, tensor_spec(&m->c, TENSOR_FUSED_DOWN, l, 0).name))
            return true;
    return false;
}

static int may_be_fused(const struct family *f)
{
    return !f->has_experts ? 0 : f->renames[0].name ? OFF : BOTH;
}

static const struct family_switch switches[] = {
    {"a stated head_dim", states_head_dim, may_state_head_dim},
    {"keys that queries share", shares_keys, may_be_either},
    {"a tied output matrix", is_tied, may_be_either},
    {"an epsilon that is not the default", has_other_eps, may_be_either},
    {"a theta that is not the default", has_other_theta, may_be_either},
    {"the form of transformers 5", is_form_5, may_be_either},
    {"biases of q, k and v", has_bias, may_have_bias},
    {"norms of q and k", has_norms, may_have_norms},
    {"renormalised weights", renormalises, may_renormalise},
    {"dense layers", has_dense_layers, may_have_dense_layers},
    {"a shared expert", has_shared_expert, may_have_shared_expert},
    {"fused experts", is_fused, may_be_fused},
};

enum { SWITCHES = sizeof switches / sizeof *switches };

static int seen[ARCHITECTURES][SWITCHES];
static bool scaled[ROPE_YARN + 1], beyond[ROPE_YARN + 1];

/* Is the prompt of a case longer than the texts of training? */
static bool is_longer(const struct model *m, const char *dir)
{
    struct golden g;
    size_t n;
    char *path = path_join(dir, "golden.safetensors");
    assert_true(golden_open(&g, path));
    assert_non_null(golden_tensor(&g, "tokens", &n));
    golden_close(&g);
    free(path);
    return (int)n > (m->c.rope.original ? m->c.rope.original : m->c.max_positions);
}

static void look_at(const char *dir)
{
    struct model m;
    struct generation_defaults unused;
    char *path = path_join(dir, "config.json");
    m.json = js_load(path, 1 << 20);
    assert_non_null(m.json);
    assert_int_equal(config_load(&m.c, &unused, dir), 0);
    assert_int_equal(checkpoint_open(&m.files, dir), 0);
    for (int s = 0; s < SWITCHES; s++)
        seen[m.c.architecture][s] |= switches[s].is_on(&m) ? ON : OFF;
    scaled[m.c.rope.type] = true;
    beyond[m.c.rope.type] |= is_longer(&m, dir);
    checkpoint_close(m.files);
    js_free(m.json);
    free(path);
}

static void golden_cases_cover_every_switch_of_every_family(void **state)
{
    static const char root[] = SOURCE_DIR "/tests/golden/models";
    int missing = 0;
    DIR *dir = opendir(root);
    (void)state;
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", root, e->d_name);
        if (e->d_name[0] != '.')
            look_at(path);
    }
    closedir(dir);
    for (int a = 0; a < ARCHITECTURES; a++)
        for (int s = 0; s < SWITCHES; s++) {
            const struct family *f = family_at((enum architecture)a);
            int lacks = switches[s].may_be(f) & ~seen[a][s];
            if (lacks)
                print_error("no golden case of %s is one with%s %s\n", f->type,
                            lacks & OFF ? "out" : "", switches[s].name);
            missing += lacks != 0;
        }
    assert_int_equal(missing, 0);
    for (int t = ROPE_DEFAULT; t <= ROPE_YARN; t++)
        assert_true(scaled[t]);
    assert_true(beyond[ROPE_DYNAMIC] && beyond[ROPE_YARN]); // linear scaling has no such length
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(absent_keys_have_the_family_s_defaults),
        cmocka_unit_test(the_number_of_experts_has_two_names),
        cmocka_unit_test(keys_of_other_families_say_nothing),
        cmocka_unit_test(golden_cases_cover_every_switch_of_every_family),
    };
    error_capture(true);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
