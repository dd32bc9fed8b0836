/* Synthetic checkpoints: readable by our own reader, true to the published shapes, the same bytes
 * for the same seed, and never half there. */
#include <dirent.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/noise.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/synth.h"
#include "model/synth_plan.h"
#include "tests/rig/cm.h"

static char root[64]; // a fresh directory for each test

static int begin(void **state)
{
    (void)state;
    strcpy(root, "/tmp/epmoe-synth-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int end(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

static int write_tiny(const char *dir, uint64_t seed, int layers, uint64_t shard_bytes)
{
    struct synth_options o = {.preset = "tiny-moe",
                              .layers = layers,
                              .seed = seed,
                              .type = DTYPE_BF16,
                              .shard_bytes = shard_bytes,
                              .dir = dir};
    return synth_write(&o);
}

static int count_files(const char *dir)
{
    int n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void tiny_model_is_read_back(void **state)
{
    (void)state;
    struct config c;
    struct generation_defaults g;
    struct checkpoint *k;
    char *dir = path_join(root, "tiny");
    assert_int_equal(write_tiny(dir, 1, 0, 0), 0);
    assert_int_equal(count_files(dir), 3);
    assert_int_equal(config_load(&c, &g, dir), 0);
    assert_int_equal(c.n_experts, 6);
    assert_int_equal(c.dtype, DTYPE_BF16);
    assert_int_equal(checkpoint_open(&k, dir), 0);
    assert_int_equal(checkpoint_count(k), 3 + 2 * (7 + 2 + 1 + 6 * 3 + 3 + 1));
    assert_non_null(checkpoint_need(k, "model.layers.1.mlp.experts.5.down_proj.weight", 2,
                                    (int64_t[]){64, 32}));
    assert_non_null(checkpoint_need(k, "model.layers.0.self_attn.k_proj.bias", 1, (int64_t[]){32}));
    assert_non_null(
        checkpoint_need(k, "model.layers.0.mlp.shared_expert_gate.weight", 2, (int64_t[]){1, 64}));
    bf16 one;
    const struct tensor *norm = checkpoint_find(k, "model.norm.weight");
    assert_int_equal(checkpoint_read(k, norm, 126, 2, &one), 0);
    assert_true(bf16_to_float(one) == 1);
    assert_int_equal(checkpoint_find(k, "lm_head.weight")->offset % 2, 0);
    checkpoint_close(k);
    free(dir);
}

static uint64_t digest_of(const char *dir)
{
    struct checkpoint *k;
    uint64_t d = 0;
    assert_int_equal(checkpoint_open(&k, dir), 0);
    assert_int_equal(checkpoint_digest(k, &d), 0);
    checkpoint_close(k);
    return d;
}

static void bytes_depend_on_the_seed_alone(void **state)
{
    (void)state;
    char *a = path_join(root, "a"), *b = path_join(root, "b"), *other = path_join(root, "c"),
         *shards = path_join(root, "d");
    assert_int_equal(write_tiny(a, 7, 0, 0), 0);
    assert_int_equal(write_tiny(b, 7, 0, 0), 0);
    assert_int_equal(write_tiny(other, 8, 0, 0), 0);
    assert_int_equal(write_tiny(shards, 7, 0, 50000), 0);
    assert_true(digest_of(a) == digest_of(b));
    assert_true(digest_of(a) == digest_of(shards));
    assert_true(digest_of(a) != digest_of(other));
    assert_true(count_files(shards) > 5);
    free(a);
    free(b);
    free(other);
    free(shards);
}

static void read_tensor(const char *dir, const char *name, uint16_t *out, size_t count)
{
    struct checkpoint *k;
    assert_int_equal(checkpoint_open(&k, dir), 0);
    const struct tensor *t = checkpoint_find(k, name);
    assert_int_equal(t->bytes, count * 2);
    assert_int_equal(checkpoint_read(k, t, 0, count * 2, out), 0);
    checkpoint_close(k);
}

/* Byte for byte what would be in the files. */
static void one_is_made_without_files(void **state)
{
    (void)state;
    struct checkpoint *files, *made;
    struct config c;
    struct generation_defaults g;
    char *dir = path_join(root, "seed-0");
    assert_int_equal(write_tiny(dir, 0, 3, 50000), 0);
    assert_int_equal(config_load(&c, &g, "synth:tiny-moe:3"), 0);
    assert_int_equal(c.n_layers, 3);
    assert_int_equal(checkpoint_open(&files, dir), 0);
    assert_int_equal(checkpoint_open(&made, "synth:tiny-moe:3"), 0);
    assert_int_equal(checkpoint_count(made), checkpoint_count(files));
    for (size_t i = 0; i < checkpoint_count(files); i++) {
        const struct tensor *a = checkpoint_at(files, i), *b = checkpoint_at(made, i);
        struct mapping in_file, in_memory;
        assert_string_equal(a->name, b->name);
        assert_true(a->bytes == b->bytes && a->n_dims == b->n_dims && a->type == b->type);
        assert_memory_equal(a->shape, b->shape, sizeof a->shape);
        for (uint64_t first = 0; first < 12; first += 2) { // wherever it begins
            assert_int_equal(mapping_open(&in_file, files, a, first, a->bytes - first), 0);
            assert_int_equal(mapping_open(&in_memory, made, b, first, a->bytes - first), 0);
            assert_memory_equal(in_file.data, in_memory.data, a->bytes - first);
            mapping_close(&in_file);
            mapping_close(&in_memory);
        }
    }
    checkpoint_close(files);
    checkpoint_close(made);
    assert_true(digest_of("synth:tiny-moe") == digest_of("synth:tiny-moe:2"));
    assert_true(digest_of("synth:tiny-moe") != digest_of("synth:tiny-moe:3"));
    free(dir);
}

static void what_cannot_be_made_is_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {"synth:", "synth:huge", "synth:tiny-moe:0",
                                        "synth:tiny-moe:two", "synth:tiny-moe:"};
    struct checkpoint *k;
    struct config c;
    struct generation_defaults g;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(checkpoint_open(&k, wrong[i]), STATUS_USAGE);
        assert_int_not_equal(config_load(&c, &g, wrong[i]), 0);
    }
}

static void fewer_layers_are_the_same_first_layers(void **state)
{
    (void)state;
    enum { COUNT = 64 * 32 };
    uint16_t x[COUNT], y[COUNT];
    char *a = path_join(root, "a"), *b = path_join(root, "b");
    assert_int_equal(write_tiny(a, 7, 1, 0), 0);
    assert_int_equal(write_tiny(b, 7, 3, 40000), 0);
    read_tensor(a, "model.layers.0.mlp.experts.3.up_proj.weight", x, COUNT);
    read_tensor(b, "model.layers.0.mlp.experts.3.up_proj.weight", y, COUNT);
    assert_memory_equal(x, y, sizeof x);
    read_tensor(b, "model.layers.2.mlp.experts.3.up_proj.weight", y, COUNT);
    assert_memory_not_equal(x, y, sizeof x);
    free(a);
    free(b);
}

/* Parameters and bytes as published. */
static void presets_have_the_published_sizes(void **state)
{
    static const struct {
        const char *preset;
        uint64_t elements;
        size_t tensors;
        int files;
    } cases[] = {
        {"qwen1.5-moe-a2.7b", 14315784192, 3 + 24 * (7 + 2 + 1 + 180 + 3 + 1), 7},
        {"qwen1.5-7b", 7721324544, 3 + 32 * (7 + 2 + 3), 4},
        {"qwen2-57b-a14b", 57408658944, 3 + 28 * (7 + 2 + 1 + 192 + 3 + 1), 27},
        {"qwen3-30b-a3b", 30532122624, 3 + 48 * (4 + 2 + 2 + 1 + 384), 15},
        {"olmoe-1b-7b", 6919161856, 3 + 16 * (4 + 2 + 2 + 1 + 192), 4},
        {"mixtral-8x7b", 46702792704, 3 + 32 * (4 + 2 + 1 + 24), 23},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct synth_plan p;
        struct synth_options o = {.preset = cases[i].preset, .type = DTYPE_BF16};
        assert_int_equal(synth_plan_open(&p, &o), 0);
        assert_int_equal(p.elements, cases[i].elements);
        assert_int_equal(p.bytes, cases[i].elements * 2);
        assert_int_equal(p.count, cases[i].tensors);
        assert_int_equal(p.n_files, cases[i].files);
        assert_non_null(strstr(synth_presets(), cases[i].preset));
        synth_plan_close(&p);
    }
}

static void noise_is_normal_in_every_type(void **state)
{
    enum { COUNT = 1 << 18 };
    static struct noise n;
    float *out = malloc(COUNT * sizeof *out);
    (void)state;
    for (int type = DTYPE_F32; type <= DTYPE_BF16; type++) {
        double sum = 0, squares = 0, inside = 0;
        noise_build(&n, (enum dtype)type, 0.02);
        noise_fill(&n, 42, 0, COUNT, out);
        for (size_t i = 0; i < COUNT; i++) {
            double v = dtype_load((enum dtype)type, out, i);
            sum += v;
            squares += v * v;
            inside += fabs(v) < 0.02;
            assert_true(fabs(v) < 0.1);
        }
        assert_true(fabs(sum / COUNT) < 0.02 * 5 / 512);
        assert_true(fabs(sqrt(squares / COUNT) / 0.02 - 1) < 0.01);
        assert_true(fabs(inside / COUNT - 0.6827) < 0.01);
    }
    free(out);
}

static void noise_can_be_made_in_parts(void **state)
{
    enum { COUNT = 1003, PART = 100 };
    static struct noise n;
    uint16_t whole[COUNT], parts[COUNT];
    (void)state;
    noise_build(&n, DTYPE_F16, 0.02);
    noise_fill(&n, 5, 0, COUNT, whole);
    for (size_t first = 0; first < COUNT; first += PART)
        noise_fill(&n, 5, first, COUNT - first < PART ? COUNT - first : PART, parts + first);
    assert_memory_equal(whole, parts, sizeof whole);
    noise_fill(&n, 6, 0, COUNT, parts);
    assert_memory_not_equal(whole, parts, sizeof whole);
}

static void expect(int status, int expected, const char *part)
{
    if (status != expected || !strstr(error_text(), part))
        print_error("expected: %s\nfound status %d: %s\n", part, status, error_text());
    assert_int_equal(status, expected);
    assert_non_null(strstr(error_text(), part));
}

static void wrong_requests_are_refused(void **state)
{
    (void)state;
    struct synth_options o = {.preset = "gpt-5", .dir = root};
    expect(synth_write(&o), STATUS_USAGE, "synth: preset: expected qwen1.5-moe-a2.7b|");
    expect(write_tiny(root, 1, 257, 0), STATUS_USAGE, "layers: expected 1 to 256, found 257");
    expect(write_tiny(root, 1, -1, 0), STATUS_USAGE, "layers: expected 1 to 256, found -1");
    expect(write_tiny("/nowhere/at/all", 1, 0, 0), STATUS_FAILED,
           "/nowhere/at/all: cannot be made");
    assert_int_equal(count_files(root), 0);
    char *dir = path_join(root, "twice"), *file = path_join(root, "twice/config.json");
    assert_int_equal(write_tiny(dir, 1, 0, 0), 0);
    expect(write_tiny(dir, 1, 0, 0), STATUS_USAGE, "expected a directory without a checkpoint");
    expect(write_tiny(file, 1, 0, 0), STATUS_FAILED, "expected a directory: Not a directory");
    assert_int_equal(count_files(dir), 3);
    free(dir);
    free(file);
}

static void no_checkpoint_is_written_over(void **state)
{
    (void)state;
    static const char *const names[] = {"config.json", "x.safetensors",
                                        "model.safetensors.index.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = path_join(root, names[i]);
        fclose(fopen(path, "w"));
        expect(write_tiny(root, 1, 0, 0), STATUS_USAGE, names[i]);
        unlink(path);
        free(path);
    }
}

/* A file-size limit stands in for a full disk: writes fail with an error, half way. */
static void failure_leaves_nothing_behind(void **state)
{
    (void)state;
    struct rlimit all, little = {60000, 60000};
    char *dir = path_join(root, "full");
    getrlimit(RLIMIT_FSIZE, &all);
    little.rlim_max = all.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &little);
    int status = write_tiny(dir, 1, 0, 50000); // the embedding alone is 65536 bytes
    setrlimit(RLIMIT_FSIZE, &all);
    expect(status, STATUS_FAILED, "cannot be written: File too large");
    assert_false(file_exists(dir));
    mkdir(dir, 0700);
    setrlimit(RLIMIT_FSIZE, &little);
    status = write_tiny(dir, 1, 0, 0);
    setrlimit(RLIMIT_FSIZE, &all);
    expect(status, STATUS_FAILED, "cannot be written: File too large");
    assert_int_equal(count_files(dir), 0); // what was not ours stays
    free(dir);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(tiny_model_is_read_back),
        TEST(bytes_depend_on_the_seed_alone),
        TEST(one_is_made_without_files),
        TEST(what_cannot_be_made_is_refused),
        TEST(fewer_layers_are_the_same_first_layers),
        TEST(presets_have_the_published_sizes),
        TEST(noise_is_normal_in_every_type),
        TEST(noise_can_be_made_in_parts),
        TEST(wrong_requests_are_refused),
        TEST(no_checkpoint_is_written_over),
        TEST(failure_leaves_nothing_behind),
    };
    error_capture(true);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
