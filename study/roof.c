#include "study/roof.h"

#include <stdio.h>
#include <string.h>

void cpu_name(char *name, size_t size)
{
    char line[256];
    snprintf(name, size, "unknown");
    FILE *f = fopen("/proc/cpuinfo", "r");
    while (f && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon)
            continue;
        line[strcspn(line, "\n")] = 0;
        snprintf(name, size, "%s", colon + 2);
        break;
    }
    if (f)
        fclose(f);
}

static struct roof_look measure(struct dev *d, int threads, enum dtype type, bool quick)
{
    struct dev cpu, *of = d;
    if (!d->cuda) {
        dev_open_cpu(&cpu, d->isa, threads);
        of = &cpu;
    }
    struct roof_look look = {of->kernels->peak_flops(of, type, quick),
                             of->kernels->read_bandwidth(of, quick)};
    if (!d->cuda)
        dev_close(&cpu);
    return look;
}

void roof_measure(struct roof *r, struct dev *d, int threads, enum dtype type)
{
    *r = (struct roof){.isa = d->isa, .threads = threads};
    cpu_name(r->cpu, sizeof r->cpu);
    if (d->cuda)
        cuda_describe(r->gpu, sizeof r->gpu);
    struct roof_look look = measure(d, threads, type, false);
    r->flops = look.flops;
    r->read_bytes_per_s = look.read_bytes_per_s;
}

struct roof_look roof_look(const struct roof *r, struct dev *d, enum dtype type)
{
    struct roof_look look = measure(d, r->threads, type, true);
    if (look.flops <= 0 || look.read_bytes_per_s <= 0)
        look = (struct roof_look){r->flops, r->read_bytes_per_s};
    return look;
}
