/* Freeze one thread of a process as a hung one is, until this program ends: freeze PID NAME, the
 * first thread of that name. Says "frozen"; exits with 77 where ptrace is not allowed. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

/* The lowest of that name, for threads that a thread starts inherit it; or 0. */
static pid_t find(const char *pid, const char *name)
{
    char path[320], comm[64];
    pid_t found = 0;
    snprintf(path, sizeof path, "/proc/%s/task", pid);
    DIR *tasks = opendir(path);
    for (struct dirent *d; tasks && (d = readdir(tasks));) {
        snprintf(path, sizeof path, "/proc/%s/task/%s/comm", pid, d->d_name);
        FILE *f = fopen(path, "r");
        if (f && fgets(comm, sizeof comm, f) && strncmp(comm, name, strlen(name)) == 0 &&
            comm[strlen(name)] == '\n' && (!found || atoi(d->d_name) < found))
            found = atoi(d->d_name);
        if (f)
            fclose(f);
    }
    if (tasks)
        closedir(tasks);
    return found;
}

int main(int argc, char **argv)
{
    pid_t thread = argc == 3 ? find(argv[1], argv[2]) : 0;
    if (!thread) {
        fprintf(stderr, "expected PID and a thread's name, found no such thread\n");
        return 2;
    }
    if (ptrace(PTRACE_SEIZE, thread, NULL, NULL) != 0 && errno == EPERM) {
        printf("skipped: ptrace is not allowed here\n");
        return 77;
    }
    if (ptrace(PTRACE_INTERRUPT, thread, NULL, NULL) != 0 || waitpid(thread, NULL, __WALL) < 0) {
        perror("ptrace");
        return 1;
    }
    printf("frozen\n");
    fflush(stdout);
    waitpid(thread, NULL, __WALL); // its end
    return 0;
}
