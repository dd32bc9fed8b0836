#include "model/config_quantization.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "model/found.h"

enum { MAX_BLOCK = 1 << 20 };

/* What may be done about a method; of those that are not in the table, the last. */
static const struct advice {
    const char *method, *words;
} advices[] = {
    {"bitsandbytes", "take the model's own repository, in bf16, or let transformers' "
                     "model.dequantize() and save_pretrained(DIR) write it so"},
    {"compressed-tensors", "take the model's own repository, in bf16, or let transformers' "
                           "CompressedTensorsConfig(run_compressed=False) and save_pretrained(DIR) "
                           "write it so"},
    {NULL, "take the model's own repository, in bf16 (the name without GPTQ, AWQ or the like)"},
};

static int refuse_method(const struct config_source *s, const struct js *method)
{
    const struct advice *a = advices;
    while (a->method && !source_is_text(method, a->method))
        a++;
    return fail(STATUS_BAD_FILE,
                "%s: quantization_config.quant_method: expected none, or \"fp8\", found %s: %s",
                s->file, found(method).text, a->words);
}

/* A key of the fp8 method has one value that is read. */
static int check_value(const struct config_source *s, const char *key, const char *value)
{
    const struct js *v = source_value(s, key);
    char quoted[32], name[64];
    snprintf(quoted, sizeof quoted, "\"%s\"", value);
    snprintf(name, sizeof name, "quantization_config.%s", key);
    return v && !source_is_text(v, value) ? source_expected(s, name, quoted, v) : 0;
}

static int check_blocks(const struct config_source *s)
{
    const struct js *size = js_member(s->root, "weight_block_size");
    for (size_t i = 0; i < 2; i++) {
        const struct js *v = js_item(size, i);
        if (js_count(size) != 2 || !js_is_int(v) || js_int(v) < 1 || js_int(v) > MAX_BLOCK)
            return source_expected(s, "quantization_config.weight_block_size",
                                   "two whole numbers, such as [128, 128]", size);
    }
    return 0;
}

/* Which modules are in fp8 the tensors themselves say, and how activations would be is of no
 * consequence where weights are multiplied out. Every other key is one that nobody knows. */
static int check_keys(const struct config_source *s)
{
    static const char *const known[] = {"quant_method",
                                        "fmt",
                                        "activation_scheme",
                                        "weight_block_size",
                                        "scale_fmt",
                                        "expert_dtype",
                                        "modules_to_not_convert",
                                        "ignored_layers",
                                        "dequantize",
                                        "modules_to_convert"};
    for (struct js_entry e = js_first(s->root); e.key; e = js_next(s->root, e)) {
        bool is_known = js_is_null(e.value);
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            is_known = is_known || strcmp(e.key, known[i]) == 0;
        if (!is_known)
            return fail(STATUS_BAD_FILE,
                        "%s: quantization_config.%.40s: expected no such key, found %s", s->file,
                        e.key, found(e.value).text);
    }
    return 0;
}

int config_check_quantization(const struct config_source *s)
{
    const struct js *v = source_value(s, "quantization_config");
    if (!v)
        return 0;
    if (!js_is_object(v))
        return source_expected(s, "quantization_config", "an object", v);
    if (!source_is_text(js_member(v, "quant_method"), "fp8"))
        return refuse_method(s, js_member(v, "quant_method"));
    static const char *const values[][2] = {{"fmt", "e4m3"},
                                            {"activation_scheme", "dynamic"},
                                            {"scale_fmt", "float"},
                                            {"expert_dtype", "fp8"}};
    struct config_source fp8 = {v, s->file};
    int status = check_keys(&fp8);
    if (!status)
        status = check_blocks(&fp8);
    for (size_t i = 0; i < sizeof values / sizeof *values && !status; i++)
        status = check_value(&fp8, values[i][0], values[i][1]);
    return status;
}
