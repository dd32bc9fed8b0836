#include "model/model_out.h"

#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/check.h"
#include "base/log.h"

enum { LENGTH_BYTES = 8, DATA_ALIGN = 64 };

static bool is_model_file(const char *name)
{
    static const char *const ends[] = {"config.json", ".safetensors", ".safetensors.index.json"};
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (n >= strlen(ends[i]) && strcmp(name + n - strlen(ends[i]), ends[i]) == 0)
            return true;
    return false;
}

/* Refuse a directory that holds files of a model: they would be overwritten. */
static int check_empty(const char *path)
{
    DIR *d = opendir(path);
    int status = 0;
    if (!d)
        return fail(STATUS_FAILED, "%s: expected a directory: %s", path, strerror(errno));
    for (struct dirent *e; !status && (e = readdir(d));)
        if (is_model_file(e->d_name))
            status = fail(STATUS_USAGE,
                          "%s: expected a directory without a checkpoint, found one with %s", path,
                          e->d_name);
    closedir(d);
    return status;
}

int model_directory_open(const char *dir, double bytes, bool *made)
{
    struct statvfs disk;
    *made = mkdir(dir, 0777) == 0;
    if (!*made && errno != EEXIST)
        return fail(STATUS_FAILED, "%s: cannot be made: %s", dir, strerror(errno));
    int status = *made ? 0 : check_empty(dir);
    if (status || statvfs(dir, &disk) != 0)
        return status;
    double room = (double)disk.f_bavail * (double)disk.f_frsize;
    if (bytes <= room)
        return 0;
    return fail(STATUS_FAILED, "%s: expected room for %.1f GB, found %.1f GB", dir, bytes * 1e-9,
                room * 1e-9);
}

void model_write_header(FILE *to, const struct js *header)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *memory = open_memstream(&text, &bytes);
    bool printed = memory && js_print(header, memory, 0);
    CHECK_MEMORY(printed && fclose(memory) == 0, "no memory for a header");
    bytes--; // leave out the newline at the end
    uint64_t all = (LENGTH_BYTES + bytes + DATA_ALIGN - 1) / DATA_ALIGN * DATA_ALIGN;
    uint64_t padded = all - LENGTH_BYTES;
    for (int i = 0; i < LENGTH_BYTES; i++)
        fputc((int)(padded >> 8 * i & 0xff), to);
    fwrite(text, 1, bytes, to);
    for (; bytes < padded; bytes++)
        fputc(' ', to);
    free(text);
}
