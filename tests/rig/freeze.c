/* freeze PID NAME: stops the first thread of that name in a process until this program ends, as if
 * the thread hung. Prints "frozen" when it has; exits with 77 if ptrace is not allowed. */
#include <dirent.h>
#include <errno.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ATTEMPTS = 400 };

/* The thread of that name with the lowest number, as threads inherit the name of the one that
 * starts them; 0 if there is none. */
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

/* Whether the thread, which is stopped, waits for a condition (a futex with a bitset). Then it
 * holds no lock that other threads need, and waits for none, so none is handed to it. */
static int is_asleep(pid_t thread)
{
    char path[64];
    long number = -1, operation = -1;
    snprintf(path, sizeof path, "/proc/%d/syscall", thread);
    FILE *f = fopen(path, "r");
    if (f && fscanf(f, "%ld %*x %lx", &number, &operation) != 2)
        number = -1;
    if (f)
        fclose(f);
    return number == SYS_futex && (operation & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET;
}

/* Stop the thread at a moment at which it waits for a condition, or at any moment after ATTEMPTS
 * tries. */
static int stop(pid_t thread)
{
    for (int attempt = 0;; attempt++) {
        if (ptrace(PTRACE_INTERRUPT, thread, NULL, NULL) != 0 || waitpid(thread, NULL, __WALL) < 0)
            return -1;
        if (is_asleep(thread) || attempt == ATTEMPTS)
            return 0;
        if (ptrace(PTRACE_CONT, thread, NULL, NULL) != 0)
            return -1;
        usleep(500);
    }
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
    if (stop(thread) != 0) {
        perror("ptrace");
        return 1;
    }
    printf("frozen\n");
    fflush(stdout);
    waitpid(thread, NULL, __WALL); // returns when the thread has ended
    return 0;
}
