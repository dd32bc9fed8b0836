/* A model's name becomes a directory: a path first, then the Hugging Face cache, wherever the
 * environment says it is. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "model/hub.h"
#include "tests/rig/cm.h"

#define COMMIT "ec052fda178e241c7c443468d2fa1db6618996be"

static char home[64]; // a fresh directory; the working directory while a test runs

static void shell(const char *format, ...)
{
    char command[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    assert_int_equal(system(command), 0);
}

static int begin(void **state)
{
    (void)state;
    static const char *const variables[] = {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME",
                                            "XDG_CACHE_HOME"};
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        unsetenv(variables[i]);
    strcpy(home, "/tmp/epmoe-hub-XXXXXX");
    if (!mkdtemp(home) || chdir(home) != 0)
        return -1;
    setenv("HOME", home, 1);
    return 0;
}

static int end(void **state)
{
    (void)state;
    if (chdir("/") != 0)
        return -1;
    shell("rm -rf '%s'", home);
    return 0;
}

/* A cache with one model: a snapshot that refs/main names, with a newline as git writes it. */
static void make_cache(const char *cache, const char *folder)
{
    shell("mkdir -p %s/%s/refs/pr %s/%s/snapshots/" COMMIT, cache, folder, cache, folder);
    shell("printf '" COMMIT "\\n' > %s/%s/refs/main", cache, folder);
    shell("printf '" COMMIT "' > %s/%s/refs/v1.0", cache, folder);
    shell("printf '" COMMIT "' > %s/%s/refs/pr/7", cache, folder);
}

static void expect_found(const char *model, const char *format, ...)
{
    char expected[512], *dir = NULL;
    va_list args;
    va_start(args, format);
    vsnprintf(expected, sizeof expected, format, args);
    va_end(args);
    int status = hub_resolve(&dir, model);
    if (status)
        print_error("%s: %s\n", model, error_text());
    assert_int_equal(status, 0);
    assert_string_equal(dir, expected);
    free(dir);
}

static void expect_error(const char *model, const char *part)
{
    char *dir = NULL;
    int status = hub_resolve(&dir, model);
    if (status != STATUS_BAD_FILE || !strstr(error_text(), part))
        print_error("%s: expected an error with: %s\nfound status %d: %s\n", model, part, status,
                    error_text());
    assert_int_equal(status, STATUS_BAD_FILE);
    assert_non_null(strstr(error_text(), part));
    assert_null(dir);
}

#define SNAPSHOT "models--Org--Model/snapshots/" COMMIT

static void directories_win_over_names(void **state)
{
    (void)state;
    make_cache(".cache/huggingface/hub", "models--Org--Model");
    shell("mkdir -p Org/Model odd@name");
    expect_found("Org/Model", "Org/Model");
    expect_found("odd@name", "odd@name");
    expect_found(".", ".");
    shell("rmdir Org/Model");
    expect_found("Org/Model", "%s/.cache/huggingface/hub/" SNAPSHOT, home);
}

static void environment_says_where_the_cache_is(void **state)
{
    (void)state;
    static const char *const places[][3] = {
        // from the weakest to the strongest
        {"XDG_CACHE_HOME", "xdg", "xdg/huggingface/hub"},
        {"HF_HOME", "hf", "hf/hub"},
        {"HUGGINGFACE_HUB_CACHE", "old", "old"},
        {"HF_HUB_CACHE", "new", "new"},
    };
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        make_cache(places[i][2], "models--Org--Model");
        setenv(places[i][0], places[i][1], 1);
        expect_found("Org/Model", "%s/" SNAPSHOT, places[i][2]);
    }
    setenv("HF_HUB_CACHE", "~/new", 1);
    expect_found("Org/Model", "%s/new/" SNAPSHOT, home);
    setenv("HF_HUB_CACHE", "", 1); // empty is unset
    expect_found("Org/Model", "old/" SNAPSHOT);
}

static void revisions_are_refs_or_commits(void **state)
{
    (void)state;
    setenv("HF_HUB_CACHE", "hub", 1);
    make_cache("hub", "models--Org--Model");
    make_cache("hub", "models--gpt2");
    expect_found("gpt2", "hub/models--gpt2/snapshots/" COMMIT);
    expect_found("Org/Model@main", "hub/" SNAPSHOT);
    expect_found("Org/Model@v1.0", "hub/" SNAPSHOT);
    expect_found("Org/Model@pr/7", "hub/" SNAPSHOT);
    expect_found("Org/Model@" COMMIT, "hub/" SNAPSHOT);
}

static void what_is_missing_is_said(void **state)
{
    (void)state;
    setenv("HF_HUB_CACHE", "hub", 1);
    expect_error("Org/Model", "Org/Model: expected a directory, or a model in the Hugging Face "
                              "cache; found no hub/models--Org--Model: get it with: hf download "
                              "Org/Model");
    make_cache("hub", "models--Org--Model");
    expect_error("Org/Model@v2", "found no hub/models--Org--Model/snapshots/v2: get it with: hf "
                                 "download Org/Model --revision v2");
    shell("rmdir hub/" SNAPSHOT);
    expect_error("Org/Model", "found no hub/" SNAPSHOT);
    shell("touch file");
    expect_error("file", "file: expected a model's directory, found a file");
}

/* hf download is proposed for what can be its argument. */
static void only_names_are_to_be_downloaded(void **state)
{
    (void)state;
    setenv("HF_HUB_CACHE", "hub", 1);
    shell("mkdir models");
    expect_error("models/austin", "models/austin: expected a directory, or a Hugging Face name "
                                  "(Org/Model) in the local cache; found neither");
    expect_error("austin", "found neither");
    expect_error("other/austin", "hf download other/austin");
}

static void what_lies_there_instead_is_said(void **state)
{
    (void)state;
    shell("mkdir -p all/b all/a all/no gguf pickled one/sub && touch all/a/config.json "
          "all/b/config.json gguf/model-Q4.gguf pickled/pytorch_model.bin m.gguf m.safetensors "
          "one/config.json one/sub/config.json one/old.bin");
    expect_error("all",
                 "all: expected a model's directory, found one with 2 below it: all/a, all/b");
    expect_error("gguf", "found model-Q4.gguf, a GGUF file");
    expect_error("pickled", "found pytorch_model.bin, weights that PyTorch has pickled");
    expect_error("m.gguf", "m.gguf: expected a model's directory, found a GGUF file");
    expect_error("./m.safetensors", "found a file: give the directory it is in, .");
    expect_found("one", "one");
    expect_found("all/no", "all/no");
    for (int i = 0; i < 9; i++)
        shell("mkdir -p many/m%d && touch many/m%d/config.json", i, i);
    expect_error("many", "found one with 9 below it: many/m0, many/m1");
    expect_error("many", "many/m7, ...");
}

static void names_cannot_leave_the_cache(void **state)
{
    (void)state;
    static const char *const models[] = {
        "",
        "/nowhere/at/all",
        "./nowhere",
        "../nowhere",
        "a/b/c",
        "Org/..",
        "Org/",
        "/Model",
        "Org//Model",
        "Org/Mo del",
        "Org/Model@",
        "Org/Model@../x",
        "@main",
        "~/model",
        "Org/M\xc3\xb6",
        "-m",
        "Org/Model@a/b/c/d/e",
        "a\nb",
    };
    setenv("HF_HUB_CACHE", "hub", 1);
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        expect_error(models[i], "expected a directory or a Hugging Face name");
    make_cache("hub", "models--Org--Model");
    shell("printf '../../../..' > hub/models--Org--Model/refs/main");
    expect_error("Org/Model", "refs/main: expected a commit, found \"../../../..\"");
    shell(": > hub/models--Org--Model/refs/main");
    expect_error("Org/Model", "refs/main: expected a commit, found \"\"");
    shell("head -c 1000 /dev/zero > hub/models--Org--Model/refs/main");
    expect_error("Org/Model", "refs/main: expected at most 256 bytes");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(directories_win_over_names),      TEST(environment_says_where_the_cache_is),
        TEST(revisions_are_refs_or_commits),   TEST(what_is_missing_is_said),
        TEST(only_names_are_to_be_downloaded), TEST(what_lies_there_instead_is_said),
        TEST(names_cannot_leave_the_cache),
    };
    error_capture(true);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
