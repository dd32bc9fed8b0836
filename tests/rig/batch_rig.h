/* epmoe batch in this process, on a tiny model with a vocabulary of single bytes. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "launch/launch.h"
#include "tests/rig/cm.h"
#include "tests/rig/text_files.h"

#define complain(...)                                                                              \
    do {                                                                                           \
        print_error(__VA_ARGS__);                                                                  \
        _fail(__FILE__, __LINE__);                                                                 \
    } while (0)

enum { MAX_LINES = 512, MAX_ARGUMENTS = 32 };

static char dir[64], input[96], output[96], model[96];

static int shell(const char *format, const char *a, const char *b)
{
    char command[512];
    snprintf(command, sizeof command, format, a, b);
    return system(command);
}

/* A model directory: the checkpoint of the tiny model, the vocabulary and a template. */
static int begin(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/epmoe-batch-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(input, sizeof input, "%s/in.jsonl", dir);
    snprintf(output, sizeof output, "%s/out.jsonl", dir);
    snprintf(model, sizeof model, "%s/model", dir);
    return shell("cp -r '%s' '%s'", SOURCE_DIR "/tests/golden/models/moe-60", model) ||
           shell("cp '%s' '%s'", SOURCE_DIR "/tests/golden/chat/tokenizer.json", model) ||
           shell("head -n 1 '%s' | sed 's/\"template\"/\"chat_template\"/' "
                 ">'%s/tokenizer_config.json'",
                 SOURCE_DIR "/tests/golden/chat/known.jsonl", model);
}

static int end(void **state)
{
    (void)state;
    return shell("rm -rf '%s'%s", dir, "");
}

static char *read_text(const char *path, size_t *bytes)
{
    char *text = file_read(path, 1 << 28, bytes);
    assert_non_null(text);
    return text;
}

/* Run epmoe batch on `input`; returns its exit code. `options` are separated by spaces. */
static int batch(const char *options)
{
    char words[512], *argv[MAX_ARGUMENTS] = {"batch", "-m", model, "-i", input, "-t", "1", "-q"};
    int argc = 8;
    struct process p = {.local_size = 1};
    snprintf(words, sizeof words, "%s", options);
    if (!strstr(options, "-o")) {
        argv[argc++] = "-o";
        argv[argc++] = output;
    }
    for (char *save, *w = strtok_r(words, " ", &save); w; w = strtok_r(NULL, " ", &save))
        argv[argc++] = w;
    return command_batch(&p, argc, argv);
}

/* Run epmoe batch on this text; returns what it writes to a new output. */
static char *batch_text(const char *in, const char *options)
{
    size_t bytes;
    unlink(output);
    write_file(input, in, strlen(in));
    assert_int_equal(batch(options), 0);
    return read_text(output, &bytes);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Cut a text into sorted lines; returns how many. */
static int sorted_lines(char *text, char **lines)
{
    int n = 0;
    for (char *save, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        lines[n++] = line;
    assert_true(n <= MAX_LINES);
    qsort(lines, (size_t)n, sizeof *lines, by_text);
    return n;
}

static void expect_same_lines(const char *found, const char *expected, const char *what)
{
    char *a = strdup(found), *b = strdup(expected), *la[MAX_LINES], *lb[MAX_LINES];
    int n = sorted_lines(a, la), m = sorted_lines(b, lb);
    if (n != m)
        complain("%s: expected %d lines, found %d:\n%s", what, m, n, found);
    for (int i = 0; i < n; i++)
        if (strcmp(la[i], lb[i]) != 0)
            complain("%s: expected %s\nfound %s", what, lb[i], la[i]);
    free(a);
    free(b);
}

#define GOOD "{\"id\": \"good\", \"prompt\": \"Hello\", \"max_tokens\": 3, \"ignore_eos\": true}"

/* n lines of input: prompts and messages, sampled and greedy, with stop strings, some with an
 * unknown field, which is an error. */
static char *mixed_input(int n)
{
    char *in = NULL;
    size_t bytes;
    FILE *f = open_memstream(&in, &bytes);
    for (int i = 0; i < n; i++) {
        fprintf(f, "{\"id\": \"r%d\", ", i);
        if (i % 3 == 1)
            fprintf(f, "\"messages\": [{\"role\": \"user\", \"content\": \"m%d\"}], ", i);
        else
            fprintf(f, "\"prompt\": \"text number %d\", ", i);
        fprintf(f, "\"max_tokens\": %d, \"temperature\": %g, \"seed\": %d, \"stop\": [\"%c\"], ",
                i % 6, i % 4 * 0.5, i, 'a' + i);
        fprintf(f, "\"%s\": %s}\n", i % 7 == 6 ? "oops" : "ignore_eos", i % 2 ? "true" : "false");
    }
    fclose(f);
    return in;
}

/* Each test has a fresh directory. */
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
