#include "study/origin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "commit.h"
#include "study/roof.h"

static char *command_line; // of the process; NULL: not known

/* An argument in single quotes if a shell would see anything special in it. */
static void write_argument(FILE *out, const char *text)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "%+,-./:=@_";
    if (text[0] && text[strspn(text, plain)] == 0) {
        fputs(text, out);
        return;
    }
    fputc('\'', out);
    for (; *text; text++)
        fputs(*text == '\'' ? "'\\''" : (char[]){*text, 0}, out);
    fputc('\'', out);
}

void origin_set(int argc, char **argv)
{
    const char *ranks = getenv("OMPI_COMM_WORLD_SIZE"); // mpirun has started the process
    size_t bytes;
    free(command_line);
    FILE *out = open_memstream(&command_line, &bytes);
    CHECK_MEMORY(out, "no memory for the command line");
    if (ranks)
        fprintf(out, "launch/mpirun.sh -n %s ", ranks);
    for (int i = 0; i < argc; i++) {
        fputs(i ? " " : "", out);
        write_argument(out, argv[i]);
    }
    fclose(out);
}

struct js *origin_json(void)
{
    char cpu[96];
    struct js *v = js_new_object();
    cpu_name(cpu, sizeof cpu);
    if (command_line)
        js_set(v, "command_line", js_new_text(command_line));
    js_set(v, "version", js_new_text(EPMOE_VERSION " (" EPMOE_COMMIT ")"));
    js_set(v, "cpu", js_new_text(cpu));
    return v;
}
