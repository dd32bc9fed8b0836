#include "study/roof.h"

#include <stdio.h>
#include <string.h>

#include "kernels/ops.h"

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

static struct roof_look measure(struct dev *d, int threads, struct precision p, bool quick)
{
    struct dev cpu, *of = d;
    if (!d->cuda) {
        dev_open_cpu(&cpu, d->isa, threads);
        of = &cpu;
    }
    struct roof_look look = {dev_peak_flops(of, p.type, p.blocks, quick),
                             of->kernels->read_bandwidth(of, quick)};
    if (!d->cuda)
        dev_close(&cpu);
    return look;
}

void roof_measure(struct roof *r, struct dev *d, int threads, struct precision p)
{
    *r = (struct roof){.isa = d->isa, .threads = threads};
    cpu_name(r->cpu, sizeof r->cpu);
    if (d->cuda)
        cuda_describe(r->gpu, sizeof r->gpu);
    struct roof_look look = measure(d, threads, p, false);
    r->flops = look.flops;
    r->read_bytes_per_s = look.read_bytes_per_s;
}

struct roof_look roof_look(const struct roof *r, struct dev *d, struct precision p)
{
    struct roof_look look = measure(d, r->threads, p, true);
    if (look.flops <= 0 || look.read_bytes_per_s <= 0)
        look = (struct roof_look){r->flops, r->read_bytes_per_s};
    return look;
}
