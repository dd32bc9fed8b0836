/* The digest by which ranks know that they read the same checkpoint. */
#include <inttypes.h>

#include "tests/rig/checkpoint_files.h"

static uint64_t digest(void)
{
    struct checkpoint *c;
    uint64_t d = 0;
    assert_int_equal(checkpoint_open(&c, dir), 0);
    assert_int_equal(checkpoint_digest(c, &d), 0);
    checkpoint_close(c);
    return d;
}

/* Nothing but the sharding may change without the digest. */
static void digests_tell_checkpoints_apart(void **state)
{
    (void)state;
    struct checkpoint *c;
    uint64_t d;
    write_tensors("model.safetensors", ONE("a"), 4, 0);
    assert_int_equal(checkpoint_open(&c, dir), 0);
    expect_error(checkpoint_digest(c, &d), "config.json: cannot be read");
    checkpoint_close(c);
    write_text(dir, "config.json", "{}");
    uint64_t first = digest();
    assert_true(first == digest());
    write_text(dir, "config.json", "{ }");
    assert_true(first != digest());
    write_text(dir, "config.json", "{}");
    write_tensors("model.safetensors", ONE("a"), 4, 1);
    assert_true(first != digest());
    write_tensors("model.safetensors", ONE("b"), 4, 0);
    assert_true(first != digest());
    write_tensors("model.safetensors", "{" T("a", "I32", "[1]", "[0,4]") "}", 4, 0);
    assert_true(first != digest());
    write_tensors("model.safetensors", "{" T("a", "F32", "[1,1]", "[0,4]") "}", 4, 0);
    assert_true(first != digest());
    write_tensors("model-1.safetensors", ONE("a"), 4, 0);
    write_text(dir, INDEX, "{\"weight_map\":{\"a\":\"model-1.safetensors\"}}");
    char *path = path_join(dir, "model.safetensors");
    unlink(path);
    free(path);
    assert_true(first == digest());
}

/* Of a fused tensor every expert's first bytes count, and nothing after them. */
static void digests_see_every_fused_expert(void **state)
{
    (void)state;
    static const char header[] = "{" T("e", "U8", "[3,100,100]", "[0,30000]") "}";
    size_t n = sizeof header - 1;
    unsigned char *file = calloc(1, 8 + n + 30000);
    file[0] = (unsigned char)n;
    memcpy(file + 8, header, n);
    write_text(dir, "config.json", "{}");
    write_bytes(dir, "model.safetensors", file, 8 + n + 30000);
    uint64_t first = digest();
    static const struct {
        size_t place;
        int seen;
    } cases[] = {{0, 1}, {4095, 1}, {4096, 0}, {10000, 1}, {14095, 1}, {20001, 1}, {29999, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        file[8 + n + cases[i].place] = 1;
        write_bytes(dir, "model.safetensors", file, 8 + n + 30000);
        assert_int_equal(digest() != first, cases[i].seen);
        file[8 + n + cases[i].place] = 0;
    }
    free(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(digests_tell_checkpoints_apart),
        TEST(digests_see_every_fused_expert),
    };
    error_capture(true);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
