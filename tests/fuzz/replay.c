/* Replays a fuzz corpus: every file named, and every file in every directory named, goes through
 * the target's LLVMFuzzerTestOneInput once. So each input that ever mattered runs in every build,
 * with or without libFuzzer. An input is copied to memory of just its size: a sanitizer then sees
 * a read past its end. */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/check.h"
#include "base/file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_BYTES = 64 << 20 };

static int replay_file(const char *path)
{
    size_t bytes;
    char *text = file_read(path, MAX_BYTES, &bytes);
    if (!text)
        return -1;
    uint8_t *exact = malloc(bytes ? bytes : 1);
    CHECK(exact, "no memory for %zu bytes", bytes);
    memcpy(exact, text, bytes);
    free(text);
    LLVMFuzzerTestOneInput(exact, bytes);
    free(exact);
    return 1;
}

static int replay_folder(const char *folder)
{
    struct dirent **entries;
    int n = scandir(folder, &entries, NULL, alphasort), done = 0;
    if (n < 0) {
        fprintf(stderr, "replay: %s: %s\n", folder, strerror(errno));
        return -1;
    }
    for (int i = 0; i < n; i++) {
        if (entries[i]->d_name[0] != '.' && done >= 0) {
            char *path = path_join(folder, entries[i]->d_name);
            done = replay_file(path) < 0 ? -1 : done + 1;
            free(path);
        }
        free(entries[i]);
    }
    free(entries);
    return done;
}

int main(int argc, char **argv)
{
    int total = 0;
    for (int i = 1; i < argc; i++) {
        struct stat st;
        bool folder = stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode);
        int done = folder ? replay_folder(argv[i]) : replay_file(argv[i]);
        if (done < 0)
            return 1;
        total += done;
    }
    printf("%d inputs replayed\n", total);
    return total > 0 ? 0 : 1; // an empty corpus is a mistake in the paths
}
