/* config.json: both forms of transformers read alike, its defaults, and every switch that is not
 * honoured refused by its name. Bad texts are a good one with one key changed. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "model/config.h"
#include "tests/rig/cm.h"
#include "tests/rig/config_texts.h"
#include "tests/rig/text_files.h"

static void published_form_is_read(void **state)
{
    (void)state;
    assert_int_equal(parse(moe4, NULL), 0);
    assert_int_equal(parsed.architecture, ARCH_QWEN2_MOE);
    assert_int_equal(parsed.dim, 64);
    assert_int_equal(parsed.n_layers, 6);
    assert_int_equal(parsed.n_heads, 4);
    assert_int_equal(parsed.n_kv_heads, 2);
    assert_int_equal(parsed.head_dim, 16);
    assert_int_equal(parsed.vocab_size, 1000);
    assert_int_equal(parsed.ffn_dim, 96);
    assert_int_equal(parsed.n_experts, 8);
    assert_int_equal(parsed.top_k, 4);
    assert_int_equal(parsed.expert_dim, 32);
    assert_int_equal(parsed.shared_dim, 48);
    assert_int_equal(parsed.max_positions, 8192);
    assert_false(parsed.norm_topk);
    assert_true(parsed.qkv_bias);
    assert_false(parsed.tied);
    assert_true(parsed.norm_eps == 1e-5f);
    assert_true(parsed.rope_theta == 1e6);
    assert_int_equal(parsed.dtype, DTYPE_BF16);
    assert_true(parsed.dtype_given);
    for (int l = 0; l < 6; l++)
        assert_true(parsed.sparse[l]);
    assert_int_equal(parsed.n_eos, 1);
    assert_int_equal(parsed.eos[0], 645);
}

static void both_forms_say_the_same(void **state)
{
    (void)state;
    assert_int_equal(parse(moe4, NULL), 0);
    struct config four = parsed;
    assert_int_equal(parse(moe5, NULL), 0);
    assert_memory_equal(&four, &parsed, sizeof four);
}

static void absent_keys_have_the_defaults_of_transformers(void **state)
{
    (void)state;
    assert_int_equal(parse("{\"model_type\":\"qwen2_moe\"}", NULL), 0);
    assert_int_equal(parsed.vocab_size, 151936);
    assert_int_equal(parsed.dim, 2048);
    assert_int_equal(parsed.ffn_dim, 5632);
    assert_int_equal(parsed.n_layers, 24);
    assert_int_equal(parsed.n_heads, 16);
    assert_int_equal(parsed.n_kv_heads, 16);
    assert_int_equal(parsed.head_dim, 128);
    assert_int_equal(parsed.n_experts, 60);
    assert_int_equal(parsed.top_k, 4);
    assert_int_equal(parsed.expert_dim, 1408);
    assert_int_equal(parsed.shared_dim, 5632);
    assert_int_equal(parsed.max_positions, 32768);
    assert_true(parsed.qkv_bias && !parsed.norm_topk && !parsed.tied);
    assert_true(parsed.norm_eps == 1e-6f && parsed.rope_theta == 10000);
    assert_int_equal(parsed.n_eos, 0);
    assert_false(parsed.dtype_given);
    assert_int_equal(parsed.dtype, DTYPE_F32);
    assert_int_equal(parse("{\"model_type\":\"qwen2\"}", NULL), 0);
    assert_int_equal(parsed.dim, 4096);
    assert_int_equal(parsed.ffn_dim, 22016);
    assert_int_equal(parsed.n_layers, 32);
    assert_int_equal(parsed.n_kv_heads, 32);
    assert_int_equal(parsed.n_experts, 0);
    assert_false(parsed.sparse[0]);
}

static void sparse_layers(const char *step, const char *dense, const char *expected)
{
    char *text = with(moe4, "decoder_sparse_step", step);
    char found[7] = {0};
    assert_int_equal(parse_with(text, "mlp_only_layers", dense), 0);
    for (int l = 0; l < 6; l++)
        found[l] = parsed.sparse[l] ? 'S' : 'd';
    assert_string_equal(found, expected);
    free(text);
}

static void sparse_layers_follow_step_and_list(void **state)
{
    (void)state;
    sparse_layers("1", "[]", "SSSSSS");
    sparse_layers("1", "null", "SSSSSS");
    sparse_layers("2", "[]", "dSdSdS");
    sparse_layers("3", "[5]", "ddSddd");
    sparse_layers("1", "[0,3,3,99]", "dSSdSS");
    sparse_layers("7", "[]", "dddddd");
    assert_int_equal(parse_with(moe4, "num_experts", "0"), 0);
    assert_false(parsed.sparse[0]);
}

static void switches_are_honoured(void **state)
{
    (void)state;
    assert_int_equal(parse_with(moe4, "norm_topk_prob", "true"), 0);
    assert_true(parsed.norm_topk);
    assert_int_equal(parse_with(moe4, "qkv_bias", "false"), 0);
    assert_false(parsed.qkv_bias);
    assert_int_equal(parse_with(moe4, "tie_word_embeddings", "true"), 0);
    assert_true(parsed.tied);
    assert_int_equal(parse_with(moe4, "head_dim", "32"), 0);
    assert_int_equal(parsed.head_dim, 32);
    assert_int_equal(parse_with(moe4, "head_dim", "null"), 0);
    assert_int_equal(parsed.head_dim, 16);
    assert_int_equal(parse_with(moe4, "num_key_value_heads", "1"), 0);
    assert_int_equal(parsed.n_kv_heads, 1);
    assert_int_equal(parse_with(moe4, "num_key_value_heads", "null"), 0);
    assert_int_equal(parsed.n_kv_heads, 4);
    assert_int_equal(parse_with(moe4, "rms_norm_eps", "0.001"), 0);
    assert_true(parsed.norm_eps == 0.001f);
    assert_int_equal(parse_with(moe4, "hidden_act", "\"swish\""), 0); // silu by another name
    assert_int_equal(parse_with(moe4, "quantization_config", "null"), 0);
    assert_int_equal(parse_with(moe4, "architectures", "null"), 0);
}

static void rope_is_read_as_transformers_reads_it(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value;
        double theta;
    } cases[] = {
        {"rope_theta", "500", 500},
        {"rope_theta", "5e5", 5e5},
        {"rope_scaling", "null", 1e6},
        {"rope_scaling", "{}", 1e6},
        {"rope_scaling", "{\"type\":\"default\"}", 1e6},
        {"rope_scaling", "{\"rope_type\":\"default\",\"rope_theta\":2000}", 2000},
        {"rope_parameters", "{\"rope_theta\":3000}", 3000},
        {"rope_parameters", "{\"rope_theta\":null,\"rope_type\":null}", 1e6},
        {"rope_parameters", "null", 1e6},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(parse_with(moe4, cases[i].key, cases[i].value), 0);
        assert_true(parsed.rope_theta == cases[i].theta);
    }
}

static void scaling_is_read_as_transformers_reads_it(void **state)
{
    (void)state;
    assert_int_equal(parse(moe4, NULL), 0);
    assert_int_equal(parsed.rope.type, ROPE_DEFAULT);
    assert_int_equal(parse_with(moe4, "rope_scaling", "{\"type\":\"linear\",\"factor\":2}"), 0);
    assert_int_equal(parsed.rope.type, ROPE_LINEAR);
    assert_true(parsed.rope.factor == 2);
    assert_int_equal(parse_with(moe5, "rope_parameters",
                                "{\"rope_type\":\"dynamic\",\"factor\":3.5,\"rope_theta\":5e4}"),
                     0);
    assert_int_equal(parsed.rope.type, ROPE_DYNAMIC);
    assert_true(parsed.rope.factor == 3.5 && parsed.rope.original == 8192);
    assert_true(parsed.rope_theta == 5e4);
    assert_int_equal(parse_with(moe4, "rope_scaling",
                                "{\"type\":\"yarn\",\"factor\":4.0,"
                                "\"original_max_position_embeddings\":2048}"),
                     0);
    assert_int_equal(parsed.rope.type, ROPE_YARN);
    assert_true(parsed.rope.original == 2048 && parsed.rope.truncate);
    assert_int_equal(parsed.max_positions, 8192);
    assert_true(parsed.rope.fast == 32 && parsed.rope.slow == 1);
    assert_true(fabs(parsed.rope.attention - (0.1 * log(4) + 1)) < 1e-12);
    assert_int_equal(parse_with(moe4, "rope_scaling",
                                "{\"type\":\"yarn\",\"factor\":null,\"mscale\":2,"
                                "\"mscale_all_dim\":1,\"original_max_position_embeddings\":1024}"),
                     0);
    assert_true(parsed.rope.factor == 8);
    assert_true(fabs(parsed.rope.attention - (0.2 * log(8) + 1) / (0.1 * log(8) + 1)) < 1e-12);
    char *outside = with(moe4, "original_max_position_embeddings", "512");
    assert_int_equal(parse_with(outside, "rope_scaling",
                                "{\"type\":\"yarn\",\"factor\":2,\"attention_factor\":0.5,"
                                "\"original_max_position_embeddings\":1024,\"truncate\":false}"),
                     0);
    assert_true(parsed.rope.original == 512 && parsed.rope.attention == 0.5);
    assert_false(parsed.rope.truncate);
    free(outside);
    assert_int_equal(parse_with(moe4, "rope_scaling", "{\"type\":\"yarn\",\"factor\":4}"), 0);
    assert_int_equal(parsed.max_positions, 4 * 8192);
}

static void types_of_weights_are_known(void **state)
{
    (void)state;
    assert_int_equal(parse_with(moe4, "torch_dtype", "\"float16\""), 0);
    assert_int_equal(parsed.dtype, DTYPE_F16);
    assert_int_equal(parse_with(moe4, "dtype", "\"float32\""), 0); // wins over torch_dtype
    assert_int_equal(parsed.dtype, DTYPE_F32);
    assert_int_equal(parse_with(moe4, "dtype", "null"), 0);
    assert_int_equal(parsed.dtype, DTYPE_BF16);
}

/* Parse a small model of this type, with these keys after it. */
static int parse_small(const char *type, const char *rest)
{
    char text[512];
    snprintf(text, sizeof text, "{\"model_type\":\"%s\",\"num_hidden_layers\":4%s}", type, rest);
    return parse(text, NULL);
}

static void keys_that_nobody_reads_may_hold_anything(void **state)
{
    (void)state;
    assert_int_equal(parse_small("qwen2", ",\"router_aux_loss_coef\":NaN,\"_x\":[-Infinity],"
                                          "\"pad_token_id\":1000000000000000019884624838656"),
                     0);
    expect_error(parse_small("qwen2", ",\"rms_norm_eps\":NaN"), "0.1, found NaN");
    expect_error(parse_small("qwen2", ",\"vocab_size\":1e400"), "found Infinity");
    expect_error(parse_small("qwen2", ",\"vocab_size\":99999999999999999999"), "found 1e+20");
}

static void torch_s_names_of_types_are_known(void **state)
{
    (void)state;
    assert_int_equal(parse_with(moe4, "dtype", "\"half\""), 0);
    assert_int_equal(parsed.dtype, DTYPE_F16);
    assert_int_equal(parse_with(moe4, "dtype", "\"float\""), 0);
    assert_int_equal(parsed.dtype, DTYPE_F32);
    expect_error(parse_with(moe4, "dtype", "\"double\""), "found \"double\"");
}

#define SLIDING ",\"use_sliding_window\":true,\"max_window_layers\":"

static void a_window_that_no_layer_has_is_none(void **state)
{
    (void)state;
    assert_int_equal(parse_small("qwen2", SLIDING "4"), 0); // layers from the fourth on
    expect_error(
        parse_small("qwen2", SLIDING "3"),
        "sliding_window: expected none, or one of max_position_embeddings = 32768 or more, "
        "which never slides; found 4096 (the default)");
    assert_int_equal(parse_small("qwen2", SLIDING "3,\"sliding_window\":null"), 0);
    assert_int_equal(parse_small("qwen2_moe", SLIDING "0"), 0); // every other one up to it
    expect_error(parse_small("qwen2_moe", SLIDING "1"), "sliding_window: expected none, or");
    expect_error(parse_small("qwen2_moe", ",\"use_sliding_window\":true"), "sliding_window");
    static const char full[] = SLIDING "1,\"layer_types\":[\"full_attention\",\"full_attention\","
                                       "\"full_attention\",\"full_attention\"]";
    assert_int_equal(parse_small("qwen2_moe", full), 0);
    expect_error(parse_small("qwen3_moe", full), "found 4096"); // its layers have no types
    assert_int_equal(parse_small("qwen3_moe", SLIDING "1,\"sliding_window\":null"), 0);
    expect_error(parse_small("qwen3", SLIDING "3"), "found 4096");
    expect_error(parse_small("mixtral", ",\"sliding_window\":4096"), "found 4096");
    expect_error(parse_small("olmoe", ",\"sliding_window\":4095"), "found 4095");
}

static void a_window_as_long_as_the_model_s_context_never_slides(void **state)
{
    (void)state;
    assert_int_equal(parse_small("mixtral", ",\"sliding_window\":null"), 0);
    assert_int_equal(parsed.window, 0);
    assert_int_equal(parse_small("mixtral", ""), 0);
    assert_int_equal(parsed.window, 0);
    assert_int_equal(parse_small("mixtral", ",\"sliding_window\":131072"), 0);
    assert_int_equal(parsed.window, 131072);
    assert_int_equal(parse_with(moe4, "use_sliding_window", "true"), 0);
    assert_int_equal(parsed.window, 32768);
    assert_int_equal(parse(moe4, NULL), 0);
    assert_int_equal(parsed.window, 0);
}

static void a_theta_of_null_beside_another_is_none(void **state)
{
    (void)state;
    assert_int_equal(parse_small("qwen2", ",\"rope_theta\":null,\"rope_parameters\":"
                                          "{\"rope_type\":\"default\",\"rope_theta\":5000.0}"),
                     0);
    assert_true(parsed.rope_theta == 5000);
    expect_error(parse_small("qwen2", ",\"rope_theta\":null"), "found null");
    expect_error(parse_small("qwen2", ",\"rope_theta\":null,\"rope_parameters\":{}"), "found null");
}

static const struct {
    const char *key, *value, *error;
} bad_keys[] = {
    {"model_type", "\"llama\"",
     "config.json: model_type: expected \"qwen2_moe\", \"qwen2\", \"qwen3_moe\", \"qwen3\", "
     "\"olmoe\" or \"mixtral\", found \"llama\""},
    {"model_type", "null", "\"olmoe\" or \"mixtral\", found null"},
    {"model_type", "\"deepseek_v3\"",
     "found \"deepseek_v3\", which needs multi-head latent attention: not implemented"},
    {"model_type", "\"gpt_oss\"",
     "found \"gpt_oss\", which needs attention sinks and sliding windows: not implemented"},
    {"model_type", "7", "found 7"},
    {"model_type", "\"qwen2\\u0000\"", "model_type: expected"},
    {"architectures", "[\"Qwen2MoeForSequenceClassification\"]",
     "architectures: expected Qwen2MoeForCausalLM, found \"Qwen2MoeForSequenceClassification\""},
    {"architectures", "\"Qwen2MoeForCausalLM\"", "architectures: expected a list"},
    {"vocab_size", "0", "vocab_size: expected a whole number from 1 to 16777216, found 0"},
    {"vocab_size", "1000.0",
     "vocab_size: expected a whole number from 1 to 16777216, found 1000.0"},
    {"vocab_size", "null", "vocab_size: expected a whole number from 1 to 16777216, found null"},
    {"vocab_size", "99999999999", "found 99999999999"},
    {"hidden_size", "-64", "hidden_size: expected a whole number from 1 to 65536, found -64"},
    {"hidden_size", "\"64\"", "hidden_size: expected a whole number from 1 to 65536, found \"64\""},
    {"hidden_size", "66", "hidden_size: expected a multiple of num_attention_heads = 4, found 66"},
    {"hidden_size", "4294967360", "hidden_size: expected"},
    {"hidden_size", "[64]", "hidden_size: expected a whole number from 1 to 65536, found an array"},
    {"intermediate_size", "0", "intermediate_size: expected"},
    {"num_hidden_layers", "257", "num_hidden_layers: expected a whole number from 1 to 256"},
    {"num_hidden_layers", "true",
     "num_hidden_layers: expected a whole number from 1 to 256, found true"},
    {"num_attention_heads", "0", "num_attention_heads: expected"},
    {"num_key_value_heads", "3",
     "num_key_value_heads: expected a divisor of num_attention_heads = 4, found 3"},
    {"num_key_value_heads", "8",
     "num_key_value_heads: expected a whole number from 1 to 4, found 8"},
    {"num_key_value_heads", "\"2\"", "num_key_value_heads: expected a whole number"},
    {"head_dim", "15", "head_dim: expected an even number up to 1024, found 15"},
    {"head_dim", "0", "head_dim: expected a whole number from 2 to 1024, found 0"},
    {"head_dim", "2048", "head_dim: expected a whole number from 2 to 1024, found 2048"},
    {"max_position_embeddings", "0", "max_position_embeddings: expected"},
    {"rms_norm_eps", "0", "rms_norm_eps: expected a number from 1e-15 to 0.1, found 0"},
    {"rms_norm_eps", "-1e-6", "rms_norm_eps: expected"},
    {"rms_norm_eps", "null", "rms_norm_eps: expected a number from 1e-15 to 0.1, found null"},
    {"hidden_act", "\"gelu\"", "hidden_act: expected \"silu\", found \"gelu\""},
    {"hidden_act", "null", "hidden_act: expected \"silu\", found null"},
    {"tie_word_embeddings", "1", "tie_word_embeddings: expected true or false, found 1"},
    {"qkv_bias", "null", "qkv_bias: expected true or false, found null"},
    {"norm_topk_prob", "\"true\"", "norm_topk_prob: expected true or false, found \"true\""},
    {"is_causal", "false", "is_causal: expected true, found false"},
    {"quantization_config", "{\"quant_method\":\"gptq\"}",
     "quantization_config.quant_method: expected none"},
    {"per_layer_config", "{}", "per_layer_config: expected none"},
    {"rope_theta", "0", "rope_theta: expected a number from 1 to 1e+12, found 0"},
    {"rope_theta", "\"1e6\"", "rope_theta: expected a number"},
    {"rope_scaling", "{\"type\":\"longrope\",\"factor\":4.0}",
     "rope_scaling.type: expected \"default\", \"linear\", \"dynamic\" or \"yarn\", found "
     "\"longrope\""},
    {"rope_scaling", "{\"rope_type\":\"linear\"}",
     "rope_scaling.factor: expected a number for type \"linear\", found none"},
    {"rope_scaling", "{\"rope_type\":\"dynamic\",\"factor\":null}",
     "rope_scaling.factor: expected a number for type \"dynamic\", found null"},
    {"rope_scaling", "{\"type\":\"yarn\",\"factor\":2,\"rope_theta\":1}",
     "rope_theta: expected more than 1 for yarn, found 1"},
    {"rope_scaling", "{\"type\":\"yarn\",\"factor\":0.5}",
     "rope_scaling.factor: expected a number from 1 to 1e+06, found 0.5"},
    {"rope_scaling", "{\"type\":\"yarn\",\"factor\":2,\"beta_slow\":0}",
     "rope_scaling.beta_slow: expected a number from 0.001 to 1e+06, found 0"},
    {"rope_scaling", "{\"type\":\"yarn\",\"factor\":2,\"attention_factor\":-1}",
     "rope_scaling.attention_factor: expected a number from 0"},
    {"rope_scaling", "{\"type\":\"yarn\",\"factor\":2,\"truncate\":0}",
     "truncate: expected true or false"},
    {"rope_parameters",
     "{\"rope_type\":\"yarn\",\"factor\":2,\"original_max_position_embeddings\":0}",
     "rope_parameters.original_max_position_embeddings: expected a whole number from 1"},
    {"rope_parameters",
     "{\"rope_type\":\"dynamic\",\"factor\":2,\"original_max_position_embeddings\":100}",
     "rope_parameters.original_max_position_embeddings: expected none, or max_position_embeddings "
     "= "
     "8192, in dynamic scaling, found 100"},
    {"rope_scaling", "4", "rope_scaling: expected an object, found 4"},
    {"rope_parameters", "{\"rope_type\":\"llama3\"}",
     "rope_parameters.rope_type: expected \"default\", \"linear\", \"dynamic\" or \"yarn\", found "
     "\"llama3\""},
    {"rope_parameters", "{\"rope_theta\":-1}", "rope_parameters.rope_theta: expected a number"},
    {"rope_parameters", "{\"full_attention\":{\"rope_theta\":1e4}}",
     "rope_parameters.full_attention: expected none"},
    {"rope_parameters", "{\"partial_rotary_factor\":0.5}",
     "rope_parameters.partial_rotary_factor: expected a number from 1 to 1, found 0.5"},
    {"partial_rotary_factor", "0.25", "partial_rotary_factor: expected"},
    {"rope_parameters", "[]", "rope_parameters: expected an object, found an array"},
    {"layer_types", "[\"full_attention\"]",
     "layer_types: expected num_hidden_layers = 6 entries, found 1"},
    {"layer_types",
     "[\"full_attention\",\"sliding_attention\",\"full_attention\","
     "\"full_attention\",\"full_attention\",\"full_attention\"]",
     "layer_types: expected \"full_attention\", found \"sliding_attention\""},
    {"layer_types", "\"full_attention\"", "layer_types: expected a list"},
    {"decoder_sparse_step", "0", "decoder_sparse_step: expected a whole number from 1"},
    {"mlp_only_layers", "[-1]", "mlp_only_layers: expected a whole number from 0"},
    {"mlp_only_layers", "[\"0\"]", "mlp_only_layers: expected a whole number from 0"},
    {"mlp_only_layers", "{}", "mlp_only_layers: expected a list, found an object"},
    {"num_experts", "1025", "num_experts: expected a whole number from 0 to 1024, found 1025"},
    {"num_experts", "3", "num_experts_per_tok: expected at most num_experts = 3, found 4"},
    {"num_experts_per_tok", "0", "num_experts_per_tok: expected a whole number from 1"},
    {"num_experts_per_tok", "9", "num_experts_per_tok: expected at most num_experts = 8, found 9"},
    {"moe_intermediate_size", "0", "moe_intermediate_size: expected"},
    {"shared_expert_intermediate_size", "-1", "shared_expert_intermediate_size: expected"},
    {"torch_dtype", "\"int8\"",
     "torch_dtype: expected \"float32\", \"float16\" or \"bfloat16\", found \"int8\""},
    {"dtype", "\"float64\"", "config.json: dtype: expected"},
    {"dtype", "2", "config.json: dtype: expected"},
    {"eos_token_id", "\"</s>\"", "eos_token_id: expected an id, a list of ids or null"},
    {"eos_token_id", "[645, null]", "eos_token_id: expected whole numbers, found null"},
    {"eos_token_id", "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]",
     "eos_token_id: expected at most 16 ids, found more"},
};

static void bad_keys_are_refused_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_keys / sizeof *bad_keys; i++)
        expect_error(parse_with(moe4, bad_keys[i].key, bad_keys[i].value), bad_keys[i].error);
}

static void bad_texts_are_refused(void **state)
{
    (void)state;
    expect_error(parse("", NULL), "config.json: expected JSON");
    expect_error(parse("[]", NULL), "config.json: expected an object, found an array");
    expect_error(parse("{", NULL), "config.json: expected JSON, found at byte");
    expect_error(parse("{}", NULL), "found nothing");
    expect_error(parse("{\"model_type\":\"qwen2\",\"model_type\":\"qwen2\"}", NULL), "duplicate");
    expect_error(parse("{\"model_type\":\"qwen2\"} x", NULL), "config.json: expected JSON");
    expect_error(parse("{\"model_type\":\"\xff\"}", NULL), "config.json: expected JSON");
    expect_error(parse("{\"model_type\":\"qwen2\",\"rope_theta\":1e999}", NULL),
                 "rope_theta: expected a number from 1 to 1e+12, found Infinity");
    expect_error(parse("{\"model_type\":\"qwen2\",\"qkv_bias\":false}", NULL),
                 "qkv_bias: expected true in a qwen2 model, found false");
    expect_error(parse("{\"model_type\":\"qwen2_moe\",\"num_attention_heads\":8}", NULL),
                 "num_key_value_heads: expected a divisor of num_attention_heads = 8, found 16 "
                 "(the default)");
}

static void failure_leaves_outputs_alone(void **state)
{
    (void)state;
    struct config before;
    assert_int_equal(parse(moe4, NULL), 0);
    before = parsed;
    const char *late = "{\"eos_token_id\":\"x\"}";
    assert_int_equal(config_parse(&parsed, &defaults, moe4, strlen(moe4), late, strlen(late)),
                     STATUS_BAD_FILE);
    assert_memory_equal(&before, &parsed, sizeof before);
}

static void directories_are_loaded(void **state)
{
    (void)state;
    char dir[] = "/tmp/epmoe-config-XXXXXX";
    assert_non_null(mkdtemp(dir));
    expect_error(config_load(&parsed, &defaults, dir), "config.json: cannot be read");
    write_text(dir, "config.json", moe5);
    assert_int_equal(config_load(&parsed, &defaults, dir), 0);
    assert_int_equal(defaults.top_k, 50);
    write_text(dir, "generation_config.json", "{\"top_k\":20,\"eos_token_id\":3}");
    assert_int_equal(config_load(&parsed, &defaults, dir), 0);
    assert_int_equal(defaults.top_k, 20);
    assert_int_equal(parsed.n_eos, 1);
    write_text(dir, "generation_config.json", "nonsense");
    expect_error(config_load(&parsed, &defaults, dir), "/generation_config.json: expected JSON");
    char *path = path_join(dir, "generation_config.json");
    unlink(path);
    free(path);
    path = path_join(dir, "config.json");
    unlink(path);
    mkdir(path, 0700);
    expect_error(config_load(&parsed, &defaults, dir), "config.json: expected a plain file");
    rmdir(path);
    free(path);
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_form_is_read),
        cmocka_unit_test(both_forms_say_the_same),
        cmocka_unit_test(absent_keys_have_the_defaults_of_transformers),
        cmocka_unit_test(sparse_layers_follow_step_and_list),
        cmocka_unit_test(switches_are_honoured),
        cmocka_unit_test(rope_is_read_as_transformers_reads_it),
        cmocka_unit_test(scaling_is_read_as_transformers_reads_it),
        cmocka_unit_test(types_of_weights_are_known),
        cmocka_unit_test(keys_that_nobody_reads_may_hold_anything),
        cmocka_unit_test(torch_s_names_of_types_are_known),
        cmocka_unit_test(a_window_that_no_layer_has_is_none),
        cmocka_unit_test(a_window_as_long_as_the_model_s_context_never_slides),
        cmocka_unit_test(a_theta_of_null_beside_another_is_none),
        cmocka_unit_test(bad_keys_are_refused_by_name),
        cmocka_unit_test(bad_texts_are_refused),
        cmocka_unit_test(failure_leaves_outputs_alone),
        cmocka_unit_test(directories_are_loaded),
    };
    error_capture(true);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
