/* Checkpoints that others have quantised: fp8 with scales for blocks is multiplied out, and every
 * other way is refused by name before a tensor is asked for. What a whole model in fp8 computes is
 * compared with transformers by test_parity (golden/models/qwen3-moe-fp8). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "model/checkpoint_fp8.h"
#include "model/config.h"
#include "tests/rig/cm.h"
#include "tests/rig/config_texts.h"
#include "tests/rig/text_files.h"

static char dir[] = "/tmp/epmoe-fp8-XXXXXX";

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    static const char *const names[] = {"config.json", "model.safetensors"};
    for (int i = 0; i < 2; i++) {
        char *path = path_join(dir, names[i]);
        unlink(path);
        free(path);
    }
    return rmdir(dir);
}

/* OCP 8-bit Floating Point Specification, table 2: of E4M3 the largest, the smallest normal, the
 * largest and smallest subnormal, and what is no number. */
static void e4m3_is_as_specified(void **state)
{
    (void)state;
    assert_true(fp8_to_float(0x00) == 0 && !signbit(fp8_to_float(0x00)));
    assert_true(fp8_to_float(0x80) == 0 && signbit(fp8_to_float(0x80)));
    assert_true(fp8_to_float(0x38) == 1);
    assert_true(fp8_to_float(0xb9) == -1.125f);
    assert_true(fp8_to_float(0x7e) == 448);
    assert_true(fp8_to_float(0x08) == 0x1p-6f);
    assert_true(fp8_to_float(0x07) == 0.875f * 0x1p-6f);
    assert_true(fp8_to_float(0x01) == 0x1p-9f);
    assert_true(isnan(fp8_to_float(0x7f)) && isnan(fp8_to_float(0xff)));
}

/* A file of a 3 x 5 matrix w in fp8 and of its scales, as described by two entries of the header.
 */
static void write_checkpoint(const char *weight, const char *scales, const char *config)
{
    static const unsigned char values[15] = {0x38, 0x40, 0x44, 0x48, 0x4a, 0xb8, 0xc0, 0xc4,
                                             0xc8, 0xca, 0x30, 0x28, 0x20, 0x18, 0x10};
    static const float factors[6] = {1, 10, 100, 1000, 1e4f, 1e5f};
    char header[512];
    int n =
        snprintf(header, sizeof header, "{\"w\":{%s,\"data_offsets\":[0,15]}%s}", weight, scales);
    for (; n % 8; n++)
        header[n] = ' ';
    char *path = path_join(dir, "model.safetensors");
    FILE *file = fopen(path, "wb");
    uint64_t length = (uint64_t)n;
    assert_non_null(file);
    fwrite(&length, 8, 1, file);
    fwrite(header, 1, (size_t)n, file);
    fwrite(values, 1, sizeof values, file);
    if (*scales)
        fwrite(factors, 1, sizeof factors, file);
    fclose(file);
    free(path);
    write_text(dir, "config.json", config);
}

#define WEIGHT "\"dtype\":\"F8_E4M3\",\"shape\":[3,5]"
#define SCALES ",\"w_scale_inv\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[15,39]}"
/* Of the factors the last is taken for four values in fp8. */
#define SCALES_AND_FP8                                                                             \
    ",\"w_scale_inv\":{\"dtype\":\"F32\",\"shape\":[5],\"data_offsets\":[15,35]},"                 \
    "\"x\":{\"dtype\":\"F8_E4M3\",\"shape\":[4],\"data_offsets\":[35,39]}"
#define CONFIG "{\"quantization_config\":{\"quant_method\":\"fp8\",\"weight_block_size\":[2,2]}}"

/* Blocks of 2 x 2 in a matrix of 3 x 5: those at its edges are cut. Any part of it, too. */
static void a_weight_is_its_value_times_its_block_s_factor(void **state)
{
    (void)state;
    static const float expected[15] = {1,   2,    30,  40,  500,  -1,  -2,  -30,
                                       -40, -500, 500, 250, 1250, 625, 3125};
    struct checkpoint *c;
    write_checkpoint(WEIGHT, SCALES, CONFIG);
    assert_int_equal(checkpoint_open(&c, dir), 0);
    const struct tensor *t = checkpoint_need(c, "w", 2, (int64_t[]){3, 5});
    assert_non_null(t);
    assert_int_equal(t->type, DTYPE_F32);
    assert_int_equal(t->bytes, sizeof expected);
    for (size_t first = 0; first < 15; first++)
        for (size_t n = 1; first + n <= 15; n++) {
            struct mapping m;
            float read[15];
            assert_int_equal(mapping_open(&m, c, t, first * 4, n * 4), 0);
            assert_memory_equal(m.data, expected + first, n * 4);
            mapping_close(&m);
            assert_int_equal(checkpoint_read(c, t, first * 4, n * 4, read), 0);
            assert_memory_equal(read, expected + first, n * 4);
        }
    uint64_t digest;
    assert_int_equal(checkpoint_digest(c, &digest), 0);
    checkpoint_close(c);
}

static const struct bad {
    const char *weight, *scales, *config, *says;
} bad_files[] = {
    {WEIGHT, "", CONFIG,
     "tensor \"w\": expected a tensor \"w_scale_inv\" of BF16 or F32 beside one of F8_E4M3, found "
     "none"},
    {WEIGHT, ",\"w_scale_inv\":{\"dtype\":\"I8\",\"shape\":[24],\"data_offsets\":[15,39]}", CONFIG,
     "of BF16 or F32 beside one of F8_E4M3, found I8"},
    {WEIGHT, ",\"w_scale_inv\":{\"dtype\":\"F32\",\"shape\":[3,2],\"data_offsets\":[15,39]}",
     CONFIG, "tensor \"w_scale_inv\": expected shape [2, 3], blocks of 2 x 2, found"},
    {WEIGHT, ",\"w_scale_inv\":{\"dtype\":\"F32\",\"shape\":[6],\"data_offsets\":[15,39]}", CONFIG,
     "tensor \"w_scale_inv\": expected shape [2, 3]"},
    {WEIGHT, SCALES, "{", "config.json"},
    {"\"dtype\":\"I8\",\"shape\":[15]", SCALES_AND_FP8, CONFIG,
     "tensor \"w\": expected F8_E4M3 beside \"w_scale_inv\", found I8"},
};

static void what_does_not_fit_together_is_refused(void **state)
{
    (void)state;
    error_capture(true);
    for (size_t i = 0; i < sizeof bad_files / sizeof *bad_files; i++) {
        struct checkpoint *c = NULL;
        write_checkpoint(bad_files[i].weight, bad_files[i].scales, bad_files[i].config);
        int status = checkpoint_open(&c, dir);
        if (status != STATUS_BAD_FILE || c || !strstr(error_text(), bad_files[i].says))
            fail_msg("expected \"%s\", found \"%s\"", bad_files[i].says, error_text());
    }
    error_capture(false);
}

/* Without the configuration nobody knows the blocks, and who needs the matrix refuses it. */
static void fp8_without_a_quantization_config_is_refused(void **state)
{
    (void)state;
    struct checkpoint *c;
    write_checkpoint(WEIGHT, SCALES, "{}");
    assert_int_equal(checkpoint_open(&c, dir), 0);
    error_capture(true);
    assert_null(checkpoint_need(c, "w", 2, (int64_t[]){3, 5}));
    assert_non_null(strstr(error_text(), "expected type F32, F16 or BF16, found F8_E4M3"));
    error_capture(false);
    checkpoint_close(c);
}

#define FP8 "\"quant_method\":\"fp8\",\"weight_block_size\":[128,128]"

static const char *const refused[][2] = {
    {"{\"quant_method\":\"gptq\",\"bits\":4}",
     "quantization_config.quant_method: expected none, or \"fp8\", found \"gptq\": take the "
     "model's own repository, in bf16 (the name without GPTQ, AWQ or the like)"},
    {"{\"quant_method\":\"awq\"}",
     "expected none, or \"fp8\", found \"awq\": take the model's own"},
    {"{\"quant_method\":\"bitsandbytes\",\"load_in_4bit\":true}",
     "found \"bitsandbytes\": take the model's own repository, in bf16, or let transformers' "
     "model.dequantize()"},
    {"{\"quant_method\":\"compressed-tensors\"}", "CompressedTensorsConfig(run_compressed=False)"},
    {"{\"quant_method\":\"mxfp4\"}", "found \"mxfp4\": take the model's own repository"},
    {"{\"load_in_8bit\":true}", "quant_method: expected none, or \"fp8\", found nothing"},
    {"7", "quantization_config: expected an object, found 7"},
    {"{\"quant_method\":\"fp8\"}",
     "quantization_config.weight_block_size: expected two whole numbers, such as [128, 128], found "
     "nothing"},
    {"{\"quant_method\":\"fp8\",\"weight_block_size\":[128]}", "expected two whole numbers"},
    {"{\"quant_method\":\"fp8\",\"weight_block_size\":[0,128]}", "expected two whole numbers"},
    {"{" FP8 ",\"fmt\":\"e5m2\"}", "quantization_config.fmt: expected \"e4m3\", found \"e5m2\""},
    {"{" FP8 ",\"activation_scheme\":\"static\"}",
     "quantization_config.activation_scheme: expected \"dynamic\", found \"static\""},
    {"{" FP8 ",\"scale_fmt\":\"ue8m0\"}", "scale_fmt: expected \"float\", found \"ue8m0\""},
    {"{" FP8 ",\"expert_dtype\":\"fp4\"}", "expert_dtype: expected \"fp8\", found \"fp4\""},
    {"{" FP8 ",\"zero_point\":true}",
     "quantization_config.zero_point: expected no such key, found true"},
};

static void other_ways_to_quantise_are_refused_by_name(void **state)
{
    (void)state;
    error_capture(true);
    assert_int_equal(parse_with(moe4, "quantization_config",
                                "{" FP8 ",\"fmt\":\"e4m3\",\"activation_scheme\":\"dynamic\","
                                "\"modules_to_not_convert\":[\"lm_head\"],\"x\":null}"),
                     0);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        int status = parse_with(moe4, "quantization_config", refused[i][0]);
        if (status != STATUS_BAD_FILE || !strstr(error_text(), refused[i][1]))
            fail_msg("expected \"%s\", found \"%s\"", refused[i][1], error_text());
    }
    error_capture(false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(e4m3_is_as_specified),
        cmocka_unit_test(a_weight_is_its_value_times_its_block_s_factor),
        cmocka_unit_test(what_does_not_fit_together_is_refused),
        cmocka_unit_test(fp8_without_a_quantization_config_is_refused),
        cmocka_unit_test(other_ways_to_quantise_are_refused_by_name),
    };
    return cmocka_run_group_tests_name("checkpoints that others quantised", tests, set_up,
                                       tear_down);
}
