/* vocab.json and merges.txt in place of a tokenizer.json. The vocabularies are those of
 * golden/tokenizer/kinds, and the ids those that transformers 5.23.0 gives for such files
 * (tools/make_tokenizer_kinds.py, which asks it). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "model/place.h"
#include "model/tokenizer.h"
#include "tests/rig/cm.h"
#include "tests/rig/text_files.h"

#define KINDS SOURCE_DIR "/tests/golden/tokenizer/kinds/"

static const char *const names[] = {"vocab.json",        "merges.txt",
                                    "config.json",       "tokenizer_config.json",
                                    "added_tokens.json", "special_tokens_map.json",
                                    "tokenizer.model"};
enum { N_NAMES = sizeof names / sizeof *names };

static char dir[] = "/tmp/epmoe-tokenizer-files-XXXXXX";

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_files(void **state)
{
    (void)state;
    for (int i = 0; i < N_NAMES; i++) {
        char *path = path_join(dir, names[i]);
        unlink(path);
        free(path);
    }
    return 0;
}

static int tear_down(void **state)
{
    remove_files(state);
    return rmdir(dir);
}

static void write_json(const char *name, struct js *v)
{
    char *path = path_join(dir, name);
    FILE *file = fopen(path, "w");
    assert_true(file && js_print(v, file, 0));
    fclose(file);
    free(path);
    js_free(v);
}

/* A merge is "a b", or ["a", "b"]. */
static void write_merges(const struct js *merges)
{
    char *path = path_join(dir, "merges.txt");
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("#version: 0.2\n", file);
    for (size_t i = 0; i < js_count(merges); i++) {
        const struct js *v = js_item(merges, i);
        if (js_is_array(v))
            fprintf(file, "%s %s\n", js_string(js_item(v, 0), NULL),
                    js_string(js_item(v, 1), NULL));
        else
            fprintf(file, "%s\n", js_string(v, NULL));
    }
    fclose(file);
    free(path);
}

/* The last of them first, since what counts is the id. */
static struct js *decoder_of(const struct js *added)
{
    struct js *decoder = js_new_object();
    for (size_t i = js_count(added); i-- > 0;) {
        const struct js *token = js_item(added, i);
        struct js *copy = js_new_object();
        char id[24];
        for (struct js_entry e = js_first(token); e.key; e = js_next(token, e))
            if (strcmp(e.key, "id") != 0)
                js_set(copy, e.key, js_copy(e.value));
        snprintf(id, sizeof id, "%d", (int)js_int(js_member(token, "id")));
        js_set(decoder, id, copy);
    }
    return decoder;
}

static void write_older(const struct js *added)
{
    struct js *ids = js_new_object(), *map = js_new_object(), *special = js_new_array();
    for (size_t i = js_count(added); i-- > 0;) {
        const struct js *token = js_item(added, i);
        const char *content = js_string(js_member(token, "content"), NULL);
        js_set(ids, content, js_copy(js_member(token, "id")));
        if (js_bool(js_member(token, "special")))
            js_push(special, js_new_text(content));
    }
    js_set(map, "additional_special_tokens", special);
    write_json("added_tokens.json", ids);
    write_json("special_tokens_map.json", map);
}

/* The files of a kind's vocabulary; class NULL: the configuration does not name one. */
static void write_files(const char *kind, const char *class, bool older)
{
    char path[256];
    snprintf(path, sizeof path, KINDS "%s.json", kind);
    struct js *root = js_load(path, 1 << 20), *config = js_new_object();
    assert_non_null(root);
    const struct js *model = js_member(root, "model"), *added = js_member(root, "added_tokens");
    write_json("vocab.json", js_copy(js_member(model, "vocab")));
    write_merges(js_member(model, "merges"));
    if (class)
        js_set(config, "tokenizer_class", js_new_text(class));
    if (older)
        write_older(added);
    else
        js_set(config, "added_tokens_decoder", decoder_of(added));
    write_json("tokenizer_config.json", config);
    js_free(root);
}

static bool gives(const struct tokenizer *t, const struct js *line)
{
    size_t bytes, n;
    int32_t *ids;
    const char *text = js_string(js_item(line, 0), &bytes);
    const struct js *expected = js_item(line, 1);
    if (!text)
        return true;
    assert_int_equal(tokenizer_encode(t, text, bytes, &ids, &n), 0);
    bool same = n == js_count(expected);
    for (size_t i = 0; i < n && same; i++)
        same = ids[i] == js_int(js_item(expected, i));
    free(ids);
    return same;
}

/* The directory's tokenizer gives the ids of a golden file. */
static void expect_golden(const char *golden)
{
    char path[256];
    struct tokenizer *t;
    size_t bytes, n = 0;
    snprintf(path, sizeof path, KINDS "%s.jsonl", golden);
    char *text = file_read(path, 1 << 20, &bytes), *save;
    assert_non_null(text);
    if (tokenizer_open_model(&t, dir) != 0)
        fail_msg("%s", error_text());
    for (char *row = strtok_r(text, "\n", &save); row; row = strtok_r(NULL, "\n", &save)) {
        struct js *line = js_parse(row, strlen(row), path);
        n++;
        if (!gives(t, line))
            fail_msg("%s.jsonl line %zu: other ids", golden, n);
        js_free(line);
    }
    assert_true(n > 300);
    free(text);
    tokenizer_close(t);
}

static void each_class_gives_transformers_ids(void **state)
{
    (void)state;
    write_files("qwen3", "Qwen2Tokenizer", false);
    expect_golden("qwen3");
    write_files("qwen3", "Qwen2TokenizerFast", false);
    expect_golden("qwen3");
    write_files("olmoe", "GPTNeoXTokenizer", false);
    expect_golden("olmoe");
    write_files("olmoe", "GPT2Tokenizer", false);
    expect_golden("gpt2");
}

static void older_files_name_the_added_tokens(void **state)
{
    (void)state;
    write_files("qwen3", "Qwen2Tokenizer", true);
    expect_golden("qwen3");
    struct tokenizer *t;
    assert_int_equal(tokenizer_open_model(&t, dir), 0);
    static const char text[] = "<|im_end|><think>";
    int32_t *ids;
    size_t n;
    assert_int_equal(tokenizer_encode(t, text, sizeof text - 1, &ids, &n), 0);
    assert_int_equal(n, 2);
    assert_true(tokenizer_is_special(t, ids[0]) && !tokenizer_is_special(t, ids[1]));
    free(ids);
    tokenizer_close(t);
}

static void without_a_class_the_model_s_counts(void **state)
{
    (void)state;
    write_files("qwen3", NULL, false);
    write_text(dir, "config.json", "{\"model_type\":\"qwen3_moe\"}");
    expect_golden("qwen3");
    write_files("olmoe", NULL, false);
    write_text(dir, "config.json", "{\"model_type\":\"olmoe\"}");
    expect_golden("olmoe");
}

static void lines_may_end_as_on_windows(void **state)
{
    (void)state;
    static const char text[] = "abc";
    struct tokenizer *t;
    int32_t *ids;
    size_t n;
    write_text(dir, "vocab.json", "{\"a\":0,\"b\":1,\"c\":2,\"ab\":3,\"abc\":4}");
    write_text(dir, "merges.txt", "#version: 0.2\r\na b\r\nab c");
    write_text(dir, "tokenizer_config.json", "{\"tokenizer_class\":\"GPT2Tokenizer\"}");
    assert_int_equal(tokenizer_open_model(&t, dir), 0);
    assert_int_equal(tokenizer_encode(t, text, 3, &ids, &n), 0);
    assert_int_equal(n, 1);
    assert_int_equal(ids[0], 4);
    free(ids);
    tokenizer_close(t);
}

static const struct bad {
    const char *file, *content, *says;
} bad_files[] = {
    {"tokenizer_config.json", "{\"tokenizer_class\":\"BertTokenizer\"}",
     "tokenizer_class: expected Qwen2Tokenizer, GPT2Tokenizer or GPTNeoXTokenizer, which are read "
     "from vocab.json and merges.txt, or beside another class a tokenizer.json: transformers' "
     "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR) writes one, found "
     "\"BertTokenizer\""},
    {"tokenizer_config.json", "{}", "tokenizer_class: expected Qwen2Tokenizer"},
    {"tokenizer_config.json", "[]", "tokenizer_config.json: expected an object, found an array"},
    {"tokenizer_config.json", "{\"tokenizer_class\":\"GPT2Tokenizer\",\"add_bos_token\":true}",
     "add_bos_token: expected false"},
    {"tokenizer_config.json", "{\"tokenizer_class\":\"GPT2Tokenizer\",\"added_tokens_decoder\":[]}",
     "added_tokens_decoder: expected an object, found an array"},
    {"tokenizer_config.json",
     "{\"tokenizer_class\":\"GPT2Tokenizer\",\"added_tokens_decoder\":{\"4x\":{}}}",
     "added_tokens_decoder.4x: expected an id as the key"},
    {"tokenizer_config.json",
     "{\"tokenizer_class\":\"GPT2Tokenizer\",\"added_tokens_decoder\":{\"4\":\"<s>\"}}",
     "added_tokens_decoder.4: expected an object, found \"<s>\""},
    {"tokenizer_config.json",
     "{\"tokenizer_class\":\"GPT2Tokenizer\",\"added_tokens_decoder\":{\"5\":{\"content\":\"<s>\","
     "\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,"
     "\"special\":true}}}",
     "added_tokens[0].id: expected 4 (the next after the vocabulary), found 5"},
    {"added_tokens.json", "{\"<s>\":\"4\"}", "added_tokens.json: <s>: expected an id, found a str"},
    {"added_tokens.json", "{\"<s>\":7}", "added_tokens[0].id: expected 4"},
    {"added_tokens.json", "[]", "added_tokens.json: expected an object, found an array"},
    {"special_tokens_map.json", "7", "special_tokens_map.json: expected an object"},
    {"special_tokens_map.json", "{\"eos_token\":7}", "eos_token: expected a token"},
    {"config.json", "{\"model_type\":\"qwen2_moe\"}",
     "tokenizer_class: expected Qwen2Tokenizer, found \"GPT2Tokenizer\""},
    {"merges.txt", "#version: 0.2\na b\n\n",
     "merges.txt: line 3: expected two tokens with a space between, found an empty line"},
    {"merges.txt", "ab\n",
     "merges.txt: line 1: expected two tokens with a space between, found no"},
    {"merges.txt", "a b c\n", "vocab.json with merges.txt: model.merges[0]: expected two tokens"},
    {"merges.txt", "a x\n", "model.merges[0]: expected both sides and their sum in model.vocab"},
    {"vocab.json", "[]", "vocab.json with merges.txt: model.vocab: expected an object"},
    {"vocab.json", "{\"a\":", "vocab.json: expected JSON"},
};

static void other_files_are_refused_by_name(void **state)
{
    (void)state;
    error_capture(true);
    for (size_t i = 0; i < sizeof bad_files / sizeof *bad_files; i++) {
        struct tokenizer *t = NULL;
        remove_files(NULL);
        write_text(dir, "vocab.json", "{\"a\":0,\"b\":1,\"c\":2,\"ab\":3}");
        write_text(dir, "merges.txt", "a b\n");
        write_text(dir, "tokenizer_config.json", "{\"tokenizer_class\":\"GPT2Tokenizer\"}");
        write_text(dir, bad_files[i].file, bad_files[i].content);
        int status = tokenizer_open_model(&t, dir);
        if (status != STATUS_BAD_FILE || t || !strstr(error_text(), bad_files[i].says))
            fail_msg("expected \"%s\", found \"%s\"", bad_files[i].says, error_text());
    }
    error_capture(false);
}

static void a_sentencepiece_model_alone_is_refused(void **state)
{
    (void)state;
    struct tokenizer *t = NULL;
    write_text(dir, "tokenizer.model", "x");
    error_capture(true);
    assert_int_equal(tokenizer_open_model(&t, dir), STATUS_BAD_FILE);
    assert_non_null(strstr(error_text(), "expected a tokenizer.json, found tokenizer.model alone"));
    remove_files(NULL);
    write_text(dir, "vocab.json", "{\"a\":0}"); // without merges.txt
    assert_int_equal(tokenizer_open_model(&t, dir), STATUS_BAD_FILE);
    assert_non_null(strstr(error_text(), "tokenizer.json: cannot be read"));
    assert_int_equal(place_check(dir), 0);
    error_capture(false);
}

#define CASE(name) cmocka_unit_test_teardown(name, remove_files)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(each_class_gives_transformers_ids),  CASE(older_files_name_the_added_tokens),
        CASE(without_a_class_the_model_s_counts), CASE(lines_may_end_as_on_windows),
        CASE(other_files_are_refused_by_name),    CASE(a_sentencepiece_model_alone_is_refused),
    };
    return cmocka_run_group_tests_name("vocab.json and merges.txt", tests, set_up, tear_down);
}
