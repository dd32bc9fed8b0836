/* Files of fits and topologies: what is written is read again, and every key that is missing,
 * unknown, of another kind or out of range is refused by its name. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "study/fit.h"
#include "study/topology.h"
#include "tests/rig/cm.h"

static struct fit example(bool has_model)
{
    struct fit f = {.version = "test",
                    .processor = "a processor",
                    .isa = "plain",
                    .transport = "local",
                    .cores = 2,
                    .hosts = 1,
                    .ranks = 5,
                    .threads = 1,
                    .ranks_at_once = 2,
                    .has_model = has_model,
                    .model = {.name = "a model",
                              .digest = 0x00ab00000000cdef,
                              .layers = 4,
                              .sparse_layers = 3,
                              .hidden = 192,
                              .experts = 60,
                              .top_k = 4,
                              .dtype = DTYPE_BF16,
                              .expert_parameters = 23040,
                              .home_parameters = 1e6,
                              .output_parameters = 786432},
                    .good = {.fitted = 5,
                             .held_out = 2,
                             .r2 = -0.25,
                             .fitted_median = 0.03,
                             .held_out_median = 0.04,
                             .held_out_most = 0.5,
                             .noise = 0.01}};
    for (int c = 0; c < (has_model ? COSTS : COSTS_OF_LAPS); c++)
        f.prices.of[c] = 1e-6 * (c + 1);
    return f;
}

/* A lap and a step. */
static const struct setting settings[] = {
    {.kind = SETTING_LAP,
     .rows = 64,
     .ranks = 3,
     .lap_bytes = 5000,
     .lap_messages = 4,
     .measured = 1e-3,
     .again = 2e-3,
     .predicted = 1.2e-3},
    {.kind = SETTING_STEP,
     .rows = 2,
     .position = 17,
     .ranks = 5,
     .held_out = true,
     .lap_bytes = 100,
     .lap_messages = 8,
     .measured = 1,
     .again = 1,
     .predicted = 1.5},
    {.kind = SETTING_ALONE, .rows = 128, .position = 3, .ranks = 1, .measured = 1, .again = 1}};

static char *written(struct fit *f)
{
    char path[64];
    size_t bytes;
    snprintf(path, sizeof path, "/tmp/fit-%ld", (long)getpid());
    f->spans = fit_spans_of(settings, 3);
    assert_int_equal(fit_write(f, settings, 3, path), 0);
    char *text = file_read(path, 1 << 20, &bytes);
    assert_non_null(text);
    unlink(path);
    return text;
}

static void is_read_as_written(void **state)
{
    struct arena memory = {0};
    (void)state;
    for (int has_model = 0; has_model < 2; has_model++) {
        struct fit f = example(has_model), again;
        char *text = written(&f);
        assert_int_equal(fit_parse(&again, text, strlen(text), "fit", &memory), 0);
        assert_string_equal(again.processor, f.processor);
        assert_int_equal(again.ranks_at_once, 2);
        assert_int_equal(again.has_model, has_model);
        for (int c = 0; c < COSTS; c++) // a file has 9 digits of a number
            assert_true(fabs(again.prices.of[c] - f.prices.of[c]) <= 1e-8 * f.prices.of[c]);
        assert_memory_equal(&again.good, &f.good, sizeof f.good);
        assert_memory_equal(&again.spans, &f.spans, sizeof f.spans);
        if (has_model) {
            assert_int_equal(again.model.digest, f.model.digest);
            assert_int_equal(again.model.dtype, DTYPE_BF16);
            assert_true(again.model.output_parameters == 786432);
        }
        free(text);
    }
    arena_free(&memory);
}

/* Files say where they are from, and need not. */
static void origin_may_be_missing(void **state)
{
    struct arena memory = {0};
    struct fit f = example(true), again;
    char *text = written(&f), *from = strstr(text, "\"origin\""), *machine;
    (void)state;
    assert_non_null(from);
    assert_non_null(strstr(from, "\"cpu\""));
    machine = strstr(from, "\"machine\"");
    assert_non_null(machine);
    memmove(from, machine, strlen(machine) + 1);
    assert_null(strstr(text, "\"cpu\""));
    assert_int_equal(fit_parse(&again, text, strlen(text), "fit", &memory), 0);
    assert_int_equal(again.ranks, f.ranks);
    free(text);
    arena_free(&memory);
}

static void spans_are_of_what_has_them(void **state)
{
    struct fit_spans s = fit_spans_of(settings, 3);
    (void)state;
    assert_true(s.ranks.least == 3 && s.ranks.most == 5); // alone is no number of ranks that travel
    assert_true(s.rows.least == 2 && s.rows.most == 128);
    assert_true(s.positions.least == 3 && s.positions.most == 17);
    assert_true(s.lap_bytes.least == 100 && s.lap_bytes.most == 5000);
    assert_true(s.lap_messages.least == 4 && s.lap_messages.most == 8);
}

/* The text with one piece replaced; the caller frees it. */
static char *replaced(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    assert_non_null(at);
    char *out = malloc(strlen(text) + strlen(to) + 1);
    sprintf(out, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return out;
}

static void assert_refused(int status, const char *says)
{
    assert_int_equal(status, STATUS_BAD_FILE);
    if (!strstr(error_text(), says))
        fail_msg("expected an error with \"%s\", found \"%s\"", says, error_text());
}

static void bad_fits_are_refused_by_key(void **state)
{
    static const char *const wrong[][3] = {
        {"\"epmoe fit\"", "\"epmoe fat\"", "kind: expected \"epmoe fit\""},
        {"\"format\": 1", "\"format\": 2", "format: expected a whole number from 1 to 1, found 2"},
        {"\"threads\": 1,", "",
         "threads: expected a whole number from 1 to 1073741824, found none"},
        {"\"threads\"", "\"thread\"", "expected no key \"thread\"; did you mean threads?"},
        {"\"cpu\": ", "\"cup\": ", "expected no key \"origin.cup\""},
        {"\"cpu\": ", "\"cpu\": 3, \"command_line\": ", "origin.cpu: expected a text"},
        {"\"cores\": 2", "\"cores\": \"2\"", "machine.cores: expected a whole number"},
        {"\"isa\"", "\"isb\"", "expected no key \"machine.isb\""},
        {"00ab00000000cdef", "00ab00000000cde", "model.digest: expected 16 hexadecimal digits"},
        {"\"bf16\"", "\"bf17\"", "model.dtype: expected f32, f16 or bf16, found \"bf17\""},
        {"\"layers\": 4", "\"layers\": 0", "model.layers: expected a whole number from 1"},
        {"\"alpha_s_per_message\": ", "\"alpha_s_per_message\": -",
         "coefficients.alpha_s_per_message: expected a number from 0 to 1000000, found -1e-06"},
        {"\"gamma_s_per_row\": ", "\"gamma_s_per_row\": null, \"x\": ", "expected no key"},
        {"\"home_s_per_output\": ", "\"home_s_per_outputs\": ", "did you mean home_s_per_output?"},
        {"\"positions\": [", "\"positions\": [99, ", "measured.positions: expected the least and"},
        {"\"lap_bytes\": [", "\"lap_bytes\": {\"x\": [", "expected"},
        {"\"noise_floor\": ", "\"noise_floor\": -", "goodness.noise_floor: expected a number"},
        {"\"settings\": [", "\"settings\": 3, \"y\": [", "expected no key \"y\""},
    };
    struct arena memory = {0};
    struct fit f = example(true), read;
    char *text = written(&f);
    (void)state;
    error_capture(true);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char *bad = replaced(text, wrong[i][0], wrong[i][1]);
        assert_refused(fit_parse(&read, bad, strlen(bad), "fit", &memory), wrong[i][2]);
        free(bad);
    }
    for (size_t n = 0; n < strlen(text) - 2; n += 7) // cut off anywhere
        assert_int_equal(fit_parse(&read, text, n, "fit", &memory), STATUS_BAD_FILE);
    free(text);
    arena_free(&memory);
}

static const char sheet[] =
    "{\"name\": \"a machine\", \"source\": \"a sheet\", \"ranks_per_node\": 8,"
    " \"intra\": {\"latency_s\": 1e-6, \"bytes_per_s\": 4e11},"
    " \"inter\": {\"latency_s\": 5e-6, \"bytes_per_s\": 5e10, \"s_per_message\": 1e-7},"
    " \"device\": {\"flops\": 9e14, \"read_bytes_per_s\": 3e12}}";

static void topologies(void **state)
{
    static const char *const wrong[][3] = {
        {"\"name\": \"a machine\"", "\"name\": \"\"", "name: expected a text, found \"\""},
        {"\"source\": \"a sheet\",", "", "source: expected a text, found none"},
        {"\"ranks_per_node\": 8", "\"ranks_per_node\": 0.5", "ranks_per_node: expected a whole"},
        {"\"latency_s\": 1e-6", "\"latency_s\": NaN",
         "intra.latency_s: expected a number from 0 to 10, found NaN"},
        {"\"bytes_per_s\": 5e10", "\"bytes_per_s\": 0",
         "inter.bytes_per_s: expected a number from 1"},
        {"\"s_per_message\"", "\"s_per_byte\"", "expected no key \"inter.s_per_byte\""},
        {"\"flops\": 9e14,", "", "device.flops: expected a number from 1 to 1e+18, found none"},
        {"\"device\": {", "\"device\": 3, \"z\": {", "expected no key \"z\""},
    };
    struct arena memory = {0};
    struct topology t;
    (void)state;
    error_capture(true);
    assert_int_equal(topology_parse(&t, sheet, strlen(sheet), "sheet", &memory), 0);
    assert_int_equal(t.ranks_per_node, 8);
    assert_true(t.inter.latency == 5e-6 && t.inter.per_message == 1e-7 && t.intra.per_message == 0);
    assert_true(t.has_device && t.flops == 9e14 && t.read_bytes == 3e12);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char *bad = replaced(sheet, wrong[i][0], wrong[i][1]);
        assert_refused(topology_parse(&t, bad, strlen(bad), "sheet", &memory), wrong[i][2]);
        free(bad);
    }
    char *without =
        replaced(sheet, ", \"device\": {\"flops\": 9e14, \"read_bytes_per_s\": 3e12}", "");
    assert_int_equal(topology_parse(&t, without, strlen(without), "sheet", &memory), 0);
    assert_false(t.has_device);
    free(without);
    arena_free(&memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_read_as_written), cmocka_unit_test(origin_may_be_missing),
        cmocka_unit_test(spans_are_of_what_has_them), cmocka_unit_test(bad_fits_are_refused_by_key),
        cmocka_unit_test(topologies)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
