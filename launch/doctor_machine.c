/* What epmoe doctor says about the machine. It reads /proc and /sys; what they do not tell is left
 * out. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/log.h"
#include "base/units.h"
#include "kernels/device.h"
#include "launch/doctor.h"
#include "study/roof.h"

struct isa_list {
    char text[64];
};

static struct isa_list isas(unsigned mask)
{
    struct isa_list list = {""};
    size_t n = 0;
    for (int i = 0; i < ISA_COUNT; i++)
        if (mask >> i & 1)
            n += (size_t)snprintf(list.text + n, sizeof list.text - n, "%s%s", n ? " " : "",
                                  isa_name((enum isa)i));
    return list;
}

static void look_at_cpu(struct findings *f)
{
    char name[96];
    cpu_name(name, sizeof name);
    finding(f, FINDING_OK, "processor", "%s", name);
}

/* Which instruction sets are built in, which can run here, and which one a run would use. bf16
 * weights are fast from AVX-512-BF16 on. */
static void look_at_isas(struct findings *f)
{
    enum isa isa;
    unsigned usable = isa_available();
    error_capture(true); // isa_choose fails if EPMOE_ISA names a set that is not there
    int status = isa_choose(&isa, usable);
    if (status) {
        finding(f, FINDING_MISSING, "instructions", "%s", error_text());
        advice(f, "unset EPMOE_ISA: the best is chosen");
    } else {
        bool fast = isa >= ISA_AVX512;
        finding(f, fast ? FINDING_OK : FINDING_HINT, "instructions",
                "%s would be used; usable here: %s; built: %s", isa_name(isa), isas(usable).text,
                isas(isa_built()).text);
        if (!fast)
            advice(f, "correct but slower: processors with AVX-512-BF16 (Cooper Lake, Sapphire "
                      "Rapids, Zen 4 and later) multiply bf16 directly");
    }
    error_capture(false);
}

/* The processor time that a container may use, in cores; 0: no limit is known. */
static double quota_cores(void)
{
    char line[64];
    double quota, period;
    first_line(line, sizeof line, "/sys/fs/cgroup/cpu.max"); // "200000 100000" or "max 100000"
    return sscanf(line, "%lf %lf", &quota, &period) == 2 && period > 0 ? quota / period : 0;
}

static void look_at_cores(struct findings *f)
{
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    int usable = usable_cores();
    double quota = quota_cores();
    bool short_of = usable < online || (quota > 0 && quota < usable);
    finding(f, short_of ? FINDING_HINT : FINDING_OK, "cores",
            "%ld online, %d usable by this process", online, usable);
    if (usable < online)
        advice(f, "this shell is bound (taskset, cgroup or mpirun): under mpirun, --bind-to none "
                  "lifts it");
    else if (short_of)
        advice(f, "this container may use %.1f cores: give -t %d", quota,
               quota < 1 ? 1 : (int)quota);
}

/* How many nodes there are in a list such as "0-1,4". */
static int count_list(const char *text)
{
    int n = 0;
    while (isdigit((unsigned char)*text)) {
        char *end;
        long first = strtol(text, &end, 10), last = first;
        if (*end == '-')
            last = strtol(end + 1, &end, 10);
        n += (int)(last - first + 1);
        text = *end == ',' ? end + 1 : end;
    }
    return n;
}

static void look_at_numa(struct findings *f)
{
    char line[256];
    first_line(line, sizeof line, "/sys/devices/system/node/online");
    int nodes = count_list(line);
    finding(f, nodes > 1 ? FINDING_HINT : FINDING_OK, "NUMA", "%d node%s", nodes ? nodes : 1,
            nodes > 1 ? "s" : "");
    if (nodes > 1)
        advice(f, "a worker per node keeps its experts in near memory: mpirun --map-by numa "
                  "--bind-to numa");
}

static void look_at_huge_pages(struct findings *f)
{
    char line[128], mode[32] = "";
    first_line(line, sizeof line, "/sys/kernel/mm/transparent_hugepage/enabled");
    const char *open = strchr(line, '['); // "always [madvise] never"
    if (open)
        sscanf(open + 1, "%31[a-z]", mode);
    bool good = strcmp(mode, "always") == 0 || strcmp(mode, "madvise") == 0;
    finding(f, good ? FINDING_OK : FINDING_HINT, "huge pages", "transparent huge pages: %s",
            mode[0] ? mode : "unknown to this kernel");
    if (!good && mode[0])
        advice(f, "weights stream faster from huge pages; as root: echo madvise > "
                  "/sys/kernel/mm/transparent_hugepage/enabled");
}

/* A line such as "MemTotal:       24567 kB" of /proc/meminfo, in bytes. */
static double meminfo(const char *key)
{
    char line[128];
    double kib = 0;
    size_t n = strlen(key);
    FILE *stream = fopen("/proc/meminfo", "r");
    while (stream && fgets(line, sizeof line, stream))
        if (strncmp(line, key, n) == 0 && line[n] == ':')
            kib = strtod(line + n + 1, NULL);
    if (stream)
        fclose(stream);
    return kib * 1024;
}

static void look_at_memory(struct findings *f)
{
    char line[64];
    double total = meminfo("MemTotal"), available = meminfo("MemAvailable");
    first_line(line, sizeof line, "/sys/fs/cgroup/memory.max");
    double limit = strtod(line, NULL); // 0: the line is "max" or empty, so there is no limit
    if (limit > 0 && limit < available)
        available = limit;
    finding(f, FINDING_OK, "memory", "%s, %s available: room for %.1f billion bf16 parameters",
            bytes_text(total).text, bytes_text(available).text, available / 2e9);
    if (limit > 0 && limit < total)
        advice(f, "this container may use %s", bytes_text(limit).text);
    else
        advice(f, "epmoe inspect MODEL --ranks N tells what each rank needs");
}

/* /dev/shm, through which Open MPI's ranks on one host exchange messages. */
static void look_at_shared_memory(struct findings *f)
{
    struct statvfs s;
    if (statvfs("/dev/shm", &s) != 0)
        return;
    double bytes = (double)s.f_blocks * (double)s.f_frsize;
    bool enough = bytes >= 256e6;
    finding(f, enough ? FINDING_OK : FINDING_HINT, "shared memory", "%s in /dev/shm",
            bytes_text(bytes).text);
    if (!enough)
        advice(f, "many ranks on this host may need more: docker run --shm-size 1g");
}

void look_at_machine(struct findings *f)
{
    look_at_cpu(f);
    look_at_isas(f);
    look_at_cores(f);
    look_at_numa(f);
    look_at_huge_pages(f);
    look_at_memory(f);
    look_at_shared_memory(f);
}
