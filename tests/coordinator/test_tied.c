/* A config.json that ties the output matrix to the embedding, beside a file that has one: the
 * file's counts, as in transformers 5, on whichever rank it lies. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "tests/rig/cm.h"
#include "tests/rig/logits.h"

#define UNTIED SOURCE_DIR "/tests/golden/models/dense-gqa"

static char dir[] = "/tmp/epmoe-tied-XXXXXX";
static char *config, *weights;

/* The untied model, with another config.json. */
static int set_up(void **state)
{
    (void)state;
    char *absolute = realpath(UNTIED "/model.safetensors", NULL);
    struct js *said = js_load(UNTIED "/config.json", 1 << 20);
    if (!mkdtemp(dir) || !absolute || !said)
        return -1;
    config = path_join(dir, "config.json");
    weights = path_join(dir, "model.safetensors");
    js_set(said, "tie_word_embeddings", js_new_bool(true));
    FILE *f = fopen(config, "wb");
    int status = f && js_print(said, f, 0) && fclose(f) == 0 ? symlink(absolute, weights) : -1;
    js_free(said);
    free(absolute);
    return status;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(config);
    unlink(weights);
    free(config);
    free(weights);
    return rmdir(dir);
}

static void the_file_s_output_matrix_counts(void **state)
{
    (void)state;
    static const int32_t tokens[] = {3, 1, 4, 1, 5, 92, 65};
    enum { N = sizeof tokens / sizeof *tokens };
    for (int ranks = 1; ranks <= 3; ranks += 2) {
        int vocab = 0;
        struct logits_case t = {.dir = UNTIED,
                                .dtype = DTYPE_F32,
                                .threads = 1,
                                .chunk = 4,
                                .ranks = ranks,
                                .tokens = tokens,
                                .n = N};
        float *expected = logits_of(&t, &vocab);
        t.dir = dir;
        float *found = logits_of(&t, &vocab);
        assert_true(expected && found);
        assert_memory_equal(found, expected, (size_t)(N * vocab) * sizeof *found);
        free(expected);
        free(found);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_file_s_output_matrix_counts),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
