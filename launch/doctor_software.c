/* What epmoe doctor says about the software: this build, MPI, OpenMP, CUDA, NCCL, and the models
 * in the cache. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "kernels/device.h"
#include "launch/doctor.h"
#include "launch/launch.h"
#include "model/config.h"
#include "model/hub.h"
#include "transport/nccl.h"

static void look_at_build(struct findings *f)
{
    finding(f, FINDING_OK, "build", "epmoe %s, %s, %s", program_version(), EPMOE_COMPILER,
            EPMOE_BUILD);
    if (strcmp(EPMOE_BUILD, "Debug") == 0) {
        f->list[f->n - 1].verdict = FINDING_HINT;
        advice(f, "a Debug build is slow: cmake --preset release");
    }
    finding(f, FINDING_OK, "libraries", "%s", program_libraries());
}

static bool on_path(const char *program)
{
    const char *at = getenv("PATH");
    bool found = false;
    while (at && *at && !found) {
        char path[4096];
        size_t n = strcspn(at, ":");
        int length = snprintf(path, sizeof path, "%.*s/%s", (int)n, at, program);
        found = length < (int)sizeof path && access(path, X_OK) == 0;
        at += at[n] ? n + 1 : n;
    }
    return found;
}

/* The MPI library that this build calls, and the mpirun that is found first. */
static void look_at_mpi(struct findings *f)
{
    char version[128];
    finding(f, FINDING_OK, "MPI library", "%s", transport_mpi_version());
    if (!on_path("mpirun")) {
        finding(f, FINDING_MISSING, "mpirun", "not on PATH");
        advice(f, "apt-get install openmpi-bin; --ranks N needs no MPI");
        return;
    }
    first_line_of(version, sizeof version,
                  "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 "
                  "mpirun --version 2>/dev/null");
    bool open_mpi = strstr(transport_mpi_version(), "Open MPI") != NULL;
    bool same = open_mpi == (strstr(version, "Open MPI") != NULL);
    finding(f, same ? FINDING_OK : FINDING_HINT, "mpirun", "%s",
            version[0] ? version : "says nothing about its version");
    if (!same)
        advice(f, "it is of another MPI than the library: each rank would run alone");
}

/* Settings under which Open MPI refuses to start or is slow. launch/mpirun.sh avoids all of them.
 */
static void look_at_mpi_traps(struct findings *f)
{
    bool root = geteuid() == 0;
    bool allowed = getenv("OMPI_ALLOW_RUN_AS_ROOT") && getenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM");
    if (!on_path("mpirun"))
        return;
    if (root && !allowed) {
        finding(f, FINDING_HINT, "MPI as root", "mpirun refuses to run as root");
        advice(f, "launch/mpirun.sh instead of mpirun, or set OMPI_ALLOW_RUN_AS_ROOT=1 and "
                  "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1");
    }
    bool shell = on_path("ssh") || on_path("rsh");
    finding(f, shell ? FINDING_OK : FINDING_HINT, "MPI hosts", "%s",
            shell ? "ssh is there to reach other hosts" : "no ssh: plain mpirun does not start");
    if (!shell)
        advice(f, "on this host launch/mpirun.sh works without; for more hosts: apt-get install "
                  "openssh-client");
    finding(f, FINDING_OK, "MPI slots", "mpirun starts as many ranks as there are cores (%d)",
            usable_cores());
    advice(f, "more ranks than that: launch/mpirun.sh, which lets waiting ranks yield");
}

/* _OPENMP is the date of the standard that the compiler follows. */
static void look_at_openmp(struct findings *f)
{
    static const char *const variables[] = {"OMP_NUM_THREADS",  "OMP_WAIT_POLICY",
                                            "GOMP_SPINCOUNT",   "OMP_PROC_BIND",
                                            "OMP_THREAD_LIMIT", "GOMP_CPU_AFFINITY"};
    char set[160] = "";
    size_t n = 0;
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        if (getenv(variables[i]))
            n += (size_t)snprintf(set + n, sizeof set - n, " %s", variables[i]);
    finding(f, FINDING_OK, "OpenMP", "standard of %d%s%s", _OPENMP,
            n ? "; set in the environment:" : "", set);
    if (getenv("OMP_PROC_BIND") || getenv("GOMP_CPU_AFFINITY"))
        advice(f, "bound threads of several ranks land on the same cores: unset it for --ranks N");
    else if (getenv("OMP_NUM_THREADS"))
        advice(f, "epmoe goes by -t, not by OMP_NUM_THREADS");
}

/* What draws the figures of epmoe report. */
static void look_at_gnuplot(struct findings *f)
{
    bool here = on_path("gnuplot");
    finding(f, here ? FINDING_OK : FINDING_HINT, "gnuplot", "%s",
            here ? "draws the figures of epmoe report" : "not on PATH: epmoe report needs it");
    if (!here)
        advice(f, "apt-get install gnuplot-nox");
}

static void look_at_nccl(struct findings *f)
{
    char text[128], sharing[128];
    bool can_share = nccl_can_share(sharing, sizeof sharing);
    nccl_describe(text, sizeof text);
    if (!nccl_built()) {
        finding(f, FINDING_MISSING, "NCCL", "%s", text);
        advice(f, "rows travel by shared memory (--ranks N) or MPI (mpirun)");
        return;
    }
    finding(f, FINDING_OK, "NCCL", "%s; ranks %s share a GPU", text, can_share ? "can" : "cannot");
    advice(f, "--transport nccl moves rows from GPU to GPU; to share one takes %s", sharing);
}

static void look_at_gpus(struct findings *f)
{
    char driver[160];
    first_line(driver, sizeof driver, "/proc/driver/nvidia/version");
    char cuda[512];
    cuda_describe(cuda, sizeof cuda);
    finding(f, cuda_count() > 0 ? FINDING_OK : FINDING_MISSING, "CUDA", "%s; %s", cuda,
            driver[0] ? driver : "no NVIDIA driver here");
    if (cuda_count() == 0)
        advice(f, "this machine and build run on the processor alone (--device cpu)");
    look_at_nccl(f);
}

/* A model in the cache: can this program run it? */
static bool can_run(const char *name)
{
    struct config config;
    struct generation_defaults defaults;
    char *dir;
    if (hub_resolve(&dir, name) != 0)
        return false;
    int status = config_load(&config, &defaults, dir);
    free(dir);
    return status == 0;
}

struct models {
    int here, runnable;
    char names[160]; // of models that can run, as many as fit
};

/* Count the model in a folder of the cache. The folder models--Org--Name holds model Org/Name. */
static void look_at_model(struct models *m, const char *folder)
{
    char name[256];
    const char *org = folder + strlen("models--"), *split = strstr(org, "--");
    if (split)
        snprintf(name, sizeof name, "%.*s/%s", (int)(split - org), org, split + 2);
    else
        snprintf(name, sizeof name, "%s", org);
    m->here++;
    if (!can_run(name))
        return;
    size_t used = strlen(m->names), need = strlen(name) + 2;
    if (used + need < sizeof m->names) {
        strcat(m->names, m->runnable ? ", " : "");
        strcat(m->names, name);
    }
    m->runnable++;
}

static void look_at_models(struct findings *f)
{
    struct models m = {0};
    char *cache = hub_cache();
    DIR *dir = opendir(cache);
    error_capture(true); // a model that cannot run is only counted
    for (struct dirent *e; dir && (e = readdir(dir));)
        if (strncmp(e->d_name, "models--", 8) == 0)
            look_at_model(&m, e->d_name);
    error_capture(false);
    if (dir)
        closedir(dir);
    finding(f, m.runnable ? FINDING_OK : FINDING_HINT, "model cache",
            "%.100s: %d model%s, %d of them can be run%s%s", cache, m.here, m.here == 1 ? "" : "s",
            m.runnable, m.runnable ? ": " : "", m.names);
    if (!m.runnable)
        advice(f, "hf download Qwen/Qwen1.5-MoE-A2.7B-Chat, or -m models/austen-moe");
    free(cache);
}

void look_at_software(struct findings *f)
{
    look_at_build(f);
    look_at_openmp(f);
    look_at_mpi(f);
    look_at_mpi_traps(f);
    look_at_gpus(f);
    look_at_gnuplot(f);
    look_at_models(f);
}
