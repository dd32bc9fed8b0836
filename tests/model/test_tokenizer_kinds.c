/* Small tokenizer.json files of each kind that models publish, against Hugging Face tokenizers
 * 0.23.3: golden/tokenizer/kinds was written by tools/make_tokenizer_kinds.py. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "model/tokenizer_parts.h"
#include "tests/rig/cm.h"

#define KINDS SOURCE_DIR "/tests/golden/tokenizer/kinds/"

enum { MAX_LINES = 1000 };

/* A golden file: lines of [text or null, ids, what they decode to]. */
struct golden {
    const char *name;
    struct js *lines[MAX_LINES];
    size_t n;
};

static void golden_open(struct golden *g, const char *name)
{
    char path[256];
    size_t bytes;
    snprintf(path, sizeof path, KINDS "%s.jsonl", name);
    char *text = file_read(path, 16 << 20, &bytes);
    assert_non_null(text);
    g->name = name;
    g->n = 0;
    for (char *save, *line = strtok_r(text, "\n", &save); line;
         line = strtok_r(NULL, "\n", &save)) {
        assert_true(g->n < MAX_LINES);
        g->lines[g->n] = js_parse(line, strlen(line), path);
        assert_non_null(g->lines[g->n++]);
    }
    free(text);
    assert_true(g->n > 300);
}

static void golden_close(struct golden *g)
{
    for (size_t i = 0; i < g->n; i++)
        js_free(g->lines[i]);
}

static struct tokenizer *open_kind(const char *name)
{
    char path[256];
    struct tokenizer *t;
    snprintf(path, sizeof path, KINDS "%s.json", name);
    if (tokenizer_open(&t, path) != 0)
        fail_msg("%s", error_text());
    return t;
}

static bool ids_are(const int32_t *ids, size_t count, const struct js *expected)
{
    bool same = count == js_count(expected);
    for (size_t i = 0; i < count && same; i++)
        same = ids[i] == js_int(js_item(expected, i));
    return same;
}

/* Encoding gives the golden ids, without those of the post-processor if not as a prompt. */
static bool encodes(const struct tokenizer *t, const struct js *line)
{
    size_t bytes, n, inner_n;
    int32_t *ids, *inner;
    const char *text = js_string(js_item(line, 0), &bytes);
    if (!text)
        return true;
    assert_int_equal(tokenizer_encode_prompt(t, text, bytes, &ids, &n), 0);
    assert_int_equal(tokenizer_encode(t, text, bytes, &inner, &inner_n), 0);
    bool same = ids_are(ids, n, js_item(line, 1)) &&
                n == inner_n + (size_t)(t->n_before + t->n_after) &&
                memcmp(ids + t->n_before, inner, inner_n * sizeof *ids) == 0;
    free(ids);
    free(inner);
    return same;
}

/* Pushed token by token into a stream: whole characters, and together the same text. */
static bool streams(const struct tokenizer *t, const int32_t *ids, size_t n, const char *text,
                    size_t bytes)
{
    struct text_stream s = {0};
    struct bytes all = {0};
    for (size_t i = 0; i <= n; i++) {
        size_t token_bytes;
        const char *token = i < n ? tokenizer_token_bytes(t, ids[i], &token_bytes) : NULL;
        if (token)
            text_stream_push(&s, token, token_bytes);
        else
            text_stream_end(&s);
        assert_true(utf8_valid(s.text, s.bytes));
        bytes_push(&all, s.text, s.bytes);
    }
    size_t out = tokenizer_left_out(t, all.at, all.count);
    bool same = all.count - out == bytes && (!bytes || memcmp(all.at + out, text, bytes) == 0);
    text_stream_free(&s);
    free(all.at);
    return same;
}

static bool decodes(const struct tokenizer *t, const struct js *line)
{
    const struct js *list = js_item(line, 1);
    size_t n = js_count(list), bytes, found_bytes;
    const char *text = js_string(js_item(line, 2), &bytes);
    int32_t *ids = malloc((n + 1) * sizeof *ids);
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)js_int(js_item(list, i));
    char *found = tokenizer_decode(t, ids, n, false, &found_bytes);
    bool same = found_bytes == bytes && memcmp(found, text, bytes) == 0 && found[bytes] == 0 &&
                streams(t, ids, n, text, bytes);
    free(found);
    free(ids);
    return same;
}

static void check_all(const struct tokenizer *t, const struct golden *g)
{
    size_t wrong = 0;
    for (size_t i = 0; i < g->n; i++) {
        bool ids = encodes(t, g->lines[i]), text = decodes(t, g->lines[i]);
        if (!ids || !text)
            print_message("%s.jsonl line %zu: other %s\n", g->name, i + 1, ids ? "text" : "ids");
        wrong += !ids || !text;
    }
    assert_int_equal(wrong, 0);
}

static const char *const kinds[] = {"mixtral", "llama-normalized", "mixtral-metaspace", "olmoe",
                                    "qwen3"};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

static void each_kind_gives_the_ids_and_texts_of_tokenizers(void **state)
{
    (void)state;
    for (size_t k = 0; k < N_KINDS; k++) {
        struct golden g;
        struct tokenizer *t = open_kind(kinds[k]);
        golden_open(&g, kinds[k]);
        check_all(t, &g);
        golden_close(&g);
        tokenizer_close(t);
    }
}

/* 1 MB of one character, which without a pre-tokenizer is one piece: quadratic, it would take
 * hours. */
static void long_runs_end(void **state)
{
    (void)state;
    static const char *const units[] = {"a", " ", "\n", "\xe4\xbd\xa0", "of the ", "<s>"};
    static const char *const some[] = {"mixtral", "mixtral-metaspace", "olmoe"};
    enum { RUN = 1 << 20 };
    for (size_t k = 0; k < sizeof some / sizeof *some; k++) {
        struct tokenizer *t = open_kind(some[k]);
        for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
            struct bytes text = {0};
            int32_t *ids;
            size_t n;
            while (text.count + strlen(units[u]) <= RUN)
                bytes_push(&text, units[u], strlen(units[u]));
            assert_int_equal(tokenizer_encode(t, text.at, text.count, &ids, &n), 0);
            assert_true(n > 0 && n <= text.count + 1);
            free(ids);
            free(text.at);
        }
        tokenizer_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_gives_the_ids_and_texts_of_tokenizers),
        cmocka_unit_test(long_runs_end),
    };
    return cmocka_run_group_tests_name("kinds of tokenizers", tests, NULL, NULL);
}
