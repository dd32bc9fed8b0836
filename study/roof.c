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

void roof_measure(struct roof *r, enum isa isa, enum dtype type)
{
    struct dev d;
    *r = (struct roof){.isa = isa, .threads = usable_cores()};
    cpu_name(r->cpu, sizeof r->cpu);
    dev_open_cpu(&d, isa, r->threads);
    r->flops = d.kernels->peak_flops(&d, type);
    r->read_bytes_per_s = d.kernels->read_bandwidth(&d);
    dev_close(&d);
}
