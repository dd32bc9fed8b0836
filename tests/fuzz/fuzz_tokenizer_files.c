/* The files of a tokenizer without a tokenizer.json, one after the other with a zero byte between,
 * in the order of `names`. An empty one is left out. */
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "tests/fuzz/fuzz_text.h"

static const char *const names[] = {
    "tokenizer_config.json",   "merges.txt", "vocab.json", "added_tokens.json",
    "special_tokens_map.json", "config.json"};
enum { N_NAMES = sizeof names / sizeof *names };

static char dir[] = "/tmp/epmoe-fuzz-XXXXXX";

static void remove_dir(void)
{
    rmdir(dir);
}

/* Write the next file, and move *data past it and its zero byte. */
static void write_next(const char *path, const char **data, size_t *size)
{
    const char *zero = *size ? memchr(*data, 0, *size) : NULL;
    size_t bytes = zero ? (size_t)(zero - *data) : *size;
    if (bytes) {
        FILE *file = fopen(path, "wb");
        CHECK(file && fwrite(*data, 1, bytes, file) == bytes && fclose(file) == 0, "%s", path);
    }
    *data += bytes + (zero != NULL);
    *size -= bytes + (zero != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool made;
    char *paths[N_NAMES];
    const char *rest = (const char *)data;
    struct tokenizer *t;
    if (!made) {
        CHECK(mkdtemp(dir) && atexit(remove_dir) == 0, "no folder");
        made = true;
    }
    for (int i = 0; i < N_NAMES; i++) {
        paths[i] = path_join(dir, names[i]);
        write_next(paths[i], &rest, &size);
    }
    error_capture(true);
    if (tokenizer_open_model(&t, dir) == 0) {
        check_text(t, sample_text, sizeof sample_text);
        tokenizer_close(t);
    }
    for (int i = 0; i < N_NAMES; i++) {
        unlink(paths[i]);
        free(paths[i]);
    }
    return 0;
}
