/* safetensors files, shards and their index: good ones are read to the byte, and whatever is wrong
 * with a file is said before any tensor is used. */
#include <sys/stat.h>

#include "tests/rig/checkpoint_files.h"

static int try_open(void)
{
    struct checkpoint *c = NULL;
    int status = checkpoint_open(&c, dir);
    if (status)
        assert_null(c);
    checkpoint_close(c);
    return status;
}

#define A_HEADER                                                                                   \
    "{\"__metadata__\":{\"format\":\"pt\"},"                                                       \
    "\"b\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[4,28]},"                           \
    "\"a\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]},"                             \
    "\"none\":{\"dtype\":\"F16\",\"shape\":[0,7],\"data_offsets\":[28,28]},"                       \
    "\"scalar\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[28,36]}}   "

static void a_single_file_is_read(void **state)
{
    (void)state;
    struct checkpoint *c;
    write_tensors("model.safetensors", A_HEADER, 36, 0);
    assert_int_equal(checkpoint_open(&c, dir), 0);
    assert_int_equal(checkpoint_count(c), 4);
    assert_string_equal(checkpoint_at(c, 0)->name, "a");
    assert_string_equal(checkpoint_at(c, 3)->name, "scalar");
    assert_null(checkpoint_find(c, "ab"));
    const struct tensor *b = checkpoint_find(c, "b"), *s = checkpoint_find(c, "scalar");
    assert_int_equal(b->type, DTYPE_F32);
    assert_true(b->is_float && !s->is_float);
    assert_string_equal(s->type_name, "I64");
    assert_int_equal(b->n_dims, 2);
    assert_int_equal(s->n_dims, 0);
    assert_int_equal(b->shape[1], 3);
    assert_int_equal(b->bytes, 24);
    assert_int_equal(b->offset, 8 + strlen(A_HEADER) + 4);
    assert_int_equal(b->file, 0);
    assert_non_null(strstr(checkpoint_file(c, 0), "/model.safetensors"));
    assert_string_equal(checkpoint_dir(c), dir);
    checkpoint_close(c);
}

static void metadata_may_be_null(void **state)
{
    (void)state;
    struct checkpoint *c;
    write_tensors("model.safetensors",
                  "{\"__metadata__\":null,\"a\":{\"dtype\":\"BF16\",\"shape\":[2],"
                  "\"data_offsets\":[0,4]}}",
                  4, 0);
    assert_int_equal(checkpoint_open(&c, dir), 0);
    assert_int_equal(checkpoint_count(c), 1);
    checkpoint_close(c);
}

static void ranges_are_mapped_and_copied(void **state)
{
    (void)state;
    struct checkpoint *c;
    struct mapping m;
    unsigned char copy[5];
    write_tensors("model.safetensors", A_HEADER, 36, 0);
    assert_int_equal(checkpoint_open(&c, dir), 0);
    const struct tensor *b = checkpoint_find(c, "b");
    for (uint64_t first = 0; first < b->bytes; first++) {
        assert_int_equal(mapping_open(&m, c, b, first, b->bytes - first), 0);
        for (uint64_t i = 0; i < b->bytes - first; i++)
            assert_int_equal(((const unsigned char *)m.data)[i], 4 + first + i);
        mapping_close(&m);
    }
    assert_int_equal(mapping_open(&m, c, checkpoint_find(c, "none"), 0, 0), 0);
    assert_non_null(m.data);
    mapping_close(&m);
    assert_int_equal(checkpoint_read(c, b, 7, sizeof copy, copy), 0);
    assert_int_equal(copy[0], 11);
    assert_int_equal(copy[4], 15);
    // the file shrinks under our feet: said before a page is touched
    char *path = path_join(dir, "model.safetensors");
    assert_int_equal(truncate(path, 100), 0);
    free(path);
    expect_error(mapping_open(&m, c, b, 0, b->bytes), "bytes as before, found 100");
    expect_error(checkpoint_read(c, checkpoint_find(c, "scalar"), 0, 4, copy), "it ends early");
    checkpoint_close(c);
}

static void tensors_of_another_kind_are_refused(void **state)
{
    (void)state;
    struct checkpoint *c;
    write_tensors("model.safetensors", A_HEADER, 36, 0);
    assert_int_equal(checkpoint_open(&c, dir), 0);
    assert_ptr_equal(checkpoint_need(c, "b", 2, (int64_t[]){2, 3}), checkpoint_find(c, "b"));
    assert_null(checkpoint_need(c, "b", 2, (int64_t[]){3, 2}));
    assert_non_null(strstr(error_text(), "tensor \"b\": expected shape [3, 2], found [2, 3]"));
    assert_null(checkpoint_need(c, "b", 1, (int64_t[]){6}));
    assert_non_null(strstr(error_text(), "expected shape [6], found [2, 3]"));
    assert_null(checkpoint_need(c, "c", 2, (int64_t[]){2, 3}));
    assert_non_null(strstr(error_text(), "tensor \"c\": expected shape [2, 3], found no such"));
    assert_null(checkpoint_need(c, "scalar", 0, NULL));
    assert_non_null(strstr(error_text(), "expected type F32, F16 or BF16, found I64"));
    checkpoint_close(c);
}

static const struct {
    const char *header;
    size_t data_bytes;
    const char *error;
} bad_headers[] = {
    {"", 0, "expected a header that begins with {, found an empty header"},
    {" {}", 0, "byte 8: expected a header that begins with {"},
    {"[]", 0, "byte 8: expected a header that begins with {"},
    {"{", 0, "expected JSON, found at byte"},
    {"{}x", 0, "expected JSON"},
    {"{\"a\xff\":1}", 0, "expected JSON"},
    {"{\"a\\u0000\":1}", 0, "expected JSON"},
    {"{\"a\":NaN}", 0, "expected an object, found NaN"},
    {"{" T("a", "F32", "[1]", "[0,4]") "," T("a", "F32", "[1]", "[4,8]") "}", 8, "duplicate"},
    {"{\"a\":1}", 0, "tensor \"a\": expected an object, found 1"},
    {"{\"a\":{}}", 0,
     "tensor \"a\": dtype: expected a safetensors type such as \"BF16\", found nothing"},
    {"{" T("a", "Q4_K", "[1]", "[0,4]") "}", 4, "tensor \"a\": dtype: expected a safetensors type"},
    {"{" T("a", "f32", "[1]", "[0,4]") "}", 4, "found \"f32\""},
    {"{\"a\":{\"dtype\":5,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "found 5"},
    {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4,
     "tensor \"a\": shape: expected an array, found nothing"},
    {"{" T("a", "F32", "4", "[0,4]") "}", 4, "tensor \"a\": shape: expected an array, found 4"},
    {"{" T("a", "F32", "[-1]", "[0,4]") "}", 4,
     "shape[0]: expected a whole number from 0, found -1"},
    {"{" T("a", "F32", "[1.0]", "[0,4]") "}", 4, "shape[0]: expected a whole number"},
    {"{" T("a", "F32", "[1,\"1\"]", "[0,4]") "}", 4, "shape[1]: expected a whole number"},
    {"{" T("a", "F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", 4,
     "shape: expected at most 8 dimensions, found 9"},
    {"{" T("a", "F32", "[4611686018427387904,8]", "[0,4]") "}", 4,
     "shape: expected a size below 2^64"},
    {"{" T("a", "F32", "[4294967296,4294967296,0]", "[0,0]") "}", 0,
     "shape: expected a size below"},
    {"{" T("a", "F32", "[9223372036854775808]", "[0,4]") "}", 4,
     "shape[0]: expected a whole number from 0, found 9.22337204e+18"},
    {"{" T("a", "F32", "[2]", "[0,4]") "}", 4,
     "tensor \"a\": data_offsets: expected 8 bytes for its shape in F32, found 4"},
    {"{" T("a", "F4", "[3]", "[0,1]") "}", 1, "shape: expected whole bytes in F4, found 12 bits"},
    {"{" T("a", "F32", "[1]", "[0]") "}", 4,
     "data_offsets: expected [begin, end], found another array"},
    {"{" T("a", "F32", "[1]", "[0,4,8]") "}", 4, "data_offsets: expected [begin, end]"},
    {"{" T("a", "F32", "[1]", "[0,4.0]") "}", 4, "data_offsets: expected [begin, end]"},
    {"{" T("a", "F32", "[1]", "{\"0\":0,\"1\":4}") "}", 4,
     "data_offsets: expected [begin, end], found an object"},
    {"{" T("a", "F32", "[1]", "null") "}", 4, "data_offsets: expected [begin, end], found null"},
    {"{" T("a", "F32", "[1]", "[-4,0]") "}", 4, "expected 0 <= begin <= end, found [-4, 0]"},
    {"{" T("a", "F32", "[1]", "[4,0]") "}", 4, "expected 0 <= begin <= end, found [4, 0]"},
    {"{" T("a", "F32", "[2]", "[0,8]") "}", 4,
     "expected an end within the file's 4 bytes of data, found 8: the file is cut short"},
    {"{" T("a", "F32", "[1]", "[9223372036854775803,9223372036854775807]") "}", 4, "cut short"},
    {"{" T("a", "F32", "[1]", "[4,8]") "}", 8,
     "tensor \"a\": expected its data to begin at byte 62 (where the header ends), found byte 66: "
     "a hole"},
    {"{" T("a", "F32", "[1]", "[0,4]") "," T("b", "F32", "[1]", "[8,12]") "}", 12,
     "(where \"a\" ends), found byte"},
    {"{" T("a", "F32", "[2]", "[0,8]") "," T("b", "F32", "[1]", "[4,8]") "}", 8, "an overlap"},
    {"{" T("a", "F32", "[1]", "[0,4]") "," T("b", "F32", "[1]", "[0,4]") "}", 4, "an overlap"},
    {"{" T("a", "F32", "[1]", "[0,4]") "}", 5,
     "with its last tensor at byte 66, found 1 more bytes"},
    {"{}", 16, "found 16 more bytes"},
    {"{\"__metadata__\":[]}", 0, "__metadata__: expected an object, found an array"},
    {"{\"__metadata__\":{\"format\":1}}", 0, "__metadata__: format: expected a string, found 1"},
};

static void bad_headers_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_headers / sizeof *bad_headers; i++) {
        write_tensors("model.safetensors", bad_headers[i].header, bad_headers[i].data_bytes, 0);
        expect_error(try_open(), bad_headers[i].error);
        assert_non_null(strstr(error_text(), "/model.safetensors: "));
    }
}

static void bad_files_are_refused(void **state)
{
    (void)state;
    write_bytes(dir, "model.safetensors", "", 0);
    expect_error(try_open(), "expected a safetensors file, found an empty file");
    write_bytes(dir, "model.safetensors", "\2\0\0", 3);
    expect_error(try_open(), "expected 8 bytes of header length, found a file of 3 bytes");
    write_bytes(dir, "model.safetensors", "\3\0\0\0\0\0\0\0{}", 10);
    expect_error(try_open(), "expected a header length of at most 2 (what follows it), found 3");
    write_bytes(dir, "model.safetensors", "\377\377\377\377\377\377\377\377{}", 10);
    expect_error(try_open(), "expected a header length of at most 100000000");
    write_bytes(dir, "model.safetensors", "\x01\xe1\xf5\x05\0\0\0\0{}", 10);
    expect_error(try_open(), "found 100000001");
    write_text(dir, "model.safetensors",
               "version https://git-lfs.github.com/spec/v1\noid sha256:0\n");
    expect_error(try_open(), "found a Git LFS pointer to one: fetch the file itself");
    char *path = path_join(dir, "model.safetensors");
    unlink(path);
    mkdir(path, 0700);
    expect_error(try_open(), "expected a plain file, found a directory");
    rmdir(path);
    mkfifo(path, 0600);
    expect_error(try_open(), "expected a plain file, found a device or pipe");
    free(path);
}

static void directories_of_something_else_are_named(void **state)
{
    (void)state;
    struct checkpoint *c;
    expect_error(try_open(), "expected model.safetensors or model.safetensors.index.json, found "
                             "neither");
    write_text(dir, "model-q4_k.gguf", "GGUF");
    expect_error(try_open(), "found model-q4_k.gguf, a GGUF file, which epmoe does not read: take");
    expect_error(checkpoint_open(&c, "/nowhere/at/all"),
                 "expected a model's directory, found none");
    char *path = path_join(dir, "model-q4_k.gguf");
    expect_error(checkpoint_open(&c, path), "expected a model's directory, found a file");
    unlink(path);
    free(path);
    write_text(dir, "pytorch_model.bin", "PK");
    expect_error(try_open(), "found pytorch_model.bin, weights that PyTorch has pickled");
}

static void shards_are_read_as_one(void **state)
{
    (void)state;
    struct checkpoint *c;
    struct mapping m;
    write_tensors("model-2.safetensors", ONE("a"), 4, 20);
    write_tensors("model-1.safetensors", ONE("b"), 4, 10);
    write_text(dir, INDEX,
               "{\"metadata\":{\"total_size\":8},\"weight_map\":{\"a\":\"model-2.safetensors\","
               "\"b\":\"model-1.safetensors\"}}");
    assert_int_equal(checkpoint_open(&c, dir), 0);
    assert_int_equal(checkpoint_count(c), 2);
    const struct tensor *a = checkpoint_find(c, "a");
    assert_non_null(strstr(checkpoint_file(c, a->file), "/model-2.safetensors"));
    assert_int_equal(mapping_open(&m, c, a, 0, 4), 0);
    assert_int_equal(*(const unsigned char *)m.data, 20);
    mapping_close(&m);
    checkpoint_close(c);
}

static const char *const bad_indexes[][2] = {
    {"", "index.json: expected JSON"},
    {"[]", "index.json: expected an object, found an array"},
    {"{}", "weight_map: expected an object of tensors, found nothing"},
    {"{\"weight_map\":[]}", "weight_map: expected an object of tensors, found an array"},
    {"{\"weight_map\":{}}", "weight_map: expected an object of tensors, found an empty one"},
    {"{\"weight_map\":{\"a\":1}}", "tensor \"a\": expected the name of a .safetensors file"},
    {"{\"weight_map\":{\"a\":\"../x.safetensors\"}}", "found \"../x.safetensors\""},
    {"{\"weight_map\":{\"a\":\"/etc/x.safetensors\"}}", "expected the name of a .safetensors file"},
    {"{\"weight_map\":{\"a\":\"sub/x.safetensors\"}}", "expected the name of a .safetensors file"},
    {"{\"weight_map\":{\"a\":\"..\\\\x.safetensors\"}}",
     "expected the name of a .safetensors file"},
    {"{\"weight_map\":{\"a\":\".safetensors\"}}", "expected the name of a .safetensors file"},
    {"{\"weight_map\":{\"a\":\"x.safetensors\\u0000\"}}",
     "expected the name of a .safetensors file"},
    {"{\"weight_map\":{\"a\":\"model.bin\"}}", "found \"model.bin\""},
    {"{\"weight_map\":{\"a\":\"\"}}", "found \"\""},
    {"{\"weight_map\":{\"a\":\"1.safetensors\",\"a\":\"1.safetensors\"}}", "duplicate"},
    {"{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"9.safetensors\"}}",
     "9.safetensors: expected a file (model.safetensors.index.json names it), found none"},
    {"{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"again.safetensors\"}}",
     "tensor \"a\": expected in one file, found in 1.safetensors too"},
    {"{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"pointer.safetensors\"}}",
     "pointer.safetensors: expected a safetensors file, found a Git LFS pointer"},
};

static void bad_indexes_are_refused(void **state)
{
    (void)state;
    write_tensors("1.safetensors", ONE("a"), 4, 0);
    write_tensors("2.safetensors", ONE("b"), 4, 0);
    write_tensors("again.safetensors", ONE("a"), 4, 0);
    write_text(dir, "pointer.safetensors", "version https://git-lfs.github.com/spec/v1\n");
    for (size_t i = 0; i < sizeof bad_indexes / sizeof *bad_indexes; i++) {
        write_text(dir, INDEX, bad_indexes[i][0]);
        expect_error(try_open(), bad_indexes[i][1]);
    }
}

/* As in transformers, the files' headers say what there is; the index only says which files. */
static void an_index_may_name_what_is_not_there(void **state)
{
    (void)state;
    static const char *const maps[] = {
        "{\"weight_map\":{\"a\":\"1.safetensors\",\"z\":\"1.safetensors\"}}",
        "{\"metadata\":{\"total_size\":100000000000000000000},"
        "\"weight_map\":{\"z\":\"1.safetensors\",\"a\":\"2.safetensors\"}}",
    };
    write_tensors("1.safetensors", ONE("a"), 4, 0);
    write_tensors("2.safetensors", ONE("b"), 4, 0);
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++) {
        struct checkpoint *c = NULL;
        write_text(dir, INDEX, maps[i]);
        assert_int_equal(checkpoint_open(&c, dir), 0);
        assert_int_equal(checkpoint_count(c), i + 1);
        assert_non_null(checkpoint_find(c, "a"));
        assert_null(checkpoint_find(c, "z"));
        checkpoint_close(c);
    }
}

static void too_many_shards_are_refused(void **state)
{
    (void)state;
    char *text = NULL;
    size_t bytes = 0;
    FILE *memory = open_memstream(&text, &bytes);
    fputs("{\"weight_map\":{", memory);
    for (int i = 0; i < 513; i++)
        fprintf(memory, "%s\"t%d\":\"%d.safetensors\"", i ? "," : "", i, i);
    fputs("}}", memory);
    fclose(memory);
    write_text(dir, INDEX, text);
    free(text);
    expect_error(try_open(), "weight_map: expected at most 512 files, found more");
}

/* As many tensors as a model of 24 layers and 60 experts has. */
static void thousands_of_tensors_are_found(void **state)
{
    (void)state;
    enum { TENSORS = 5000 };
    char *text = NULL, name[64];
    size_t bytes = 0;
    struct checkpoint *c;
    FILE *memory = open_memstream(&text, &bytes);
    for (int i = 0; i < TENSORS; i++)
        fprintf(memory,
                "%s\"model.layers.%d.weight\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%d,"
                "%d]}",
                i ? "," : "{", i * 7919 % TENSORS, i, i + 1);
    fputs("}", memory);
    fclose(memory);
    write_tensors("model.safetensors", text, TENSORS, 0);
    free(text);
    assert_int_equal(checkpoint_open(&c, dir), 0);
    assert_int_equal(checkpoint_count(c), TENSORS);
    for (int i = 0; i < TENSORS; i++) {
        snprintf(name, sizeof name, "model.layers.%d.weight", i);
        assert_string_equal(checkpoint_find(c, name)->name, name);
    }
    checkpoint_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_single_file_is_read),
        TEST(metadata_may_be_null),
        TEST(ranges_are_mapped_and_copied),
        TEST(tensors_of_another_kind_are_refused),
        TEST(bad_headers_are_refused),
        TEST(bad_files_are_refused),
        TEST(directories_of_something_else_are_named),
        TEST(shards_are_read_as_one),
        TEST(bad_indexes_are_refused),
        TEST(an_index_may_name_what_is_not_there),
        TEST(too_many_shards_are_refused),
        TEST(thousands_of_tensors_are_found),
    };
    error_capture(true);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
