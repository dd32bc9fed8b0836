/* How much memory there is, as files of the system say it; and what a failed allocation does. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/memory.h"
#include "tests/rig/cm.h"

static char root[] = "/tmp/epmoe-memory-XXXXXX";

/* Write a file of the made-up system, with the folders above it. */
static void put(const char *path, const char *text)
{
    char full[512];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *at = full + strlen(root) + 1; (at = strchr(at, '/')); at++) {
        *at = 0;
        mkdir(full, 0700);
        *at = '/';
    }
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void expect(uint64_t mib, const char *limit)
{
    struct memory_room room = memory_room_here(root);
    assert_int_equal(room.bytes, mib << 20);
    assert_string_equal(room.limit, limit);
}

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(root))
        return -1;
    put("/proc/meminfo", "MemTotal:       9000 kB\nMemAvailable:    8192000 kB\n");
    put("/proc/self/cgroup", "0::/\n");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", root);
    return system(command);
}

#define GROUP2 "/sys/fs/cgroup"
#define GROUP1 "/sys/fs/cgroup/memory"

static void without_groups_there_is_ram(void **state)
{
    (void)state;
    expect(8000, "RAM");
    put(GROUP2 "/job/memory.max", "1048576\n"); // of a group that we are not in
    put(GROUP2 "/job/memory.current", "0\n");
    expect(8000, "RAM");
}

/* A group's cached files are not counted as used; "max" is no limit; the least above us counts. */
static void groups_of_version_2_count(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "0::/job/step\n");
    put(GROUP2 "/job/memory.max", "3145728000\n");              // 3000 MiB
    put(GROUP2 "/job/memory.current", "1048576000\n");          // 1000 MiB
    put(GROUP2 "/job/memory.stat", "anon 1\nfile 104857600\n"); // 100 MiB
    put(GROUP2 "/job/step/memory.max", "max\n");
    put(GROUP2 "/job/step/memory.current", "5\n");
    expect(2100, "the control group's limit");
    put(GROUP2 "/job/step/memory.max", "1048576000\n");
    put(GROUP2 "/job/step/memory.current", "524288000\n");
    expect(500, "the control group's limit");
    put(GROUP2 "/job/step/memory.current", "2097152000\n"); // over its limit
    expect(0, "the control group's limit");
    put(GROUP2 "/job/step/memory.max", "max\n");
    put(GROUP2 "/job/memory.max", "max\n");
    expect(8000, "RAM");
}

static void groups_of_version_1_count(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "5:cpuset:/elsewhere\n4:hugetlb,memory:/docker/abc\n1:name=x:/\n");
    put(GROUP1 "/docker/abc/memory.limit_in_bytes", "2097152000\n");
    put(GROUP1 "/docker/abc/memory.usage_in_bytes", "1048576000\n");
    put(GROUP1 "/docker/abc/memory.stat", "cache 0\ntotal_cache 524288000\n");
    expect(1500, "the control group's limit");
    put(GROUP1 "/memory.limit_in_bytes", "209715200\n"); // a group above it
    put(GROUP1 "/memory.usage_in_bytes", "104857600\n");
    expect(100, "the control group's limit");
    put("/proc/self/cgroup", "4:memory:/a/path/of/the/host\n"); // seen from a container
    expect(100, "the control group's limit");
}

/* One line and exit code 1, no abort, and no file that is not complete. */
static void a_failed_allocation_ends_the_process(void **state)
{
    (void)state;
    int ends[2], code;
    char line[256] = "", dir[] = "/tmp/epmoe-test-XXXXXX";
    assert_non_null(mkdtemp(dir));
    char *path = path_join(dir, "file");
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        struct arena a = {0};
        struct outfile f;
        outfile_open(&f, path);
        dup2(ends[1], STDERR_FILENO);
        arena_alloc(&a, (size_t)1 << 60);
        _exit(0);
    }
    close(ends[1]);
    for (ssize_t n = 0, got; (got = read(ends[0], line + n, sizeof line - 1 - (size_t)n)) > 0;)
        n += got;
    assert_int_equal(waitpid(child, &code, 0), child);
    assert_true(WIFEXITED(code));
    assert_int_equal(WEXITSTATUS(code), 1);
    assert_ptr_equal(strstr(line, "epmoe: no memory for 11529215"), line);
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
    close(ends[0]);
    assert_int_equal(rmdir(dir), 0); // it is empty
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_groups_there_is_ram),
        cmocka_unit_test(groups_of_version_2_count),
        cmocka_unit_test(groups_of_version_1_count),
        cmocka_unit_test(a_failed_allocation_ends_the_process),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
