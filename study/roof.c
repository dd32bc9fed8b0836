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

static void measure(struct roof *r, struct dev *d, enum dtype type)
{
    r->flops = d->kernels->peak_flops(d, type, false);
    r->read_bytes_per_s = d->kernels->read_bandwidth(d, false);
}

void roof_measure(struct roof *r, struct dev *d, enum dtype type)
{
    struct dev cpu;
    *r = (struct roof){.isa = d->isa, .threads = usable_cores()};
    cpu_name(r->cpu, sizeof r->cpu);
    if (d->cuda) {
        cuda_describe(r->gpu, sizeof r->gpu);
        measure(r, d, type);
        return;
    }
    dev_open_cpu(&cpu, d->isa, r->threads);
    measure(r, &cpu, type);
    dev_close(&cpu);
}
