/* Bugs that are planted in a child process, and what the emulation of CUDA says about them. */
#pragma once

#include "kernels/cuda/launch.cuh"

#include <signal.h>
#include <stdio.h>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

extern "C" {
#include "tests/rig/cm.h"
}

/* In a child as in its parent: cmocka's way out of a test leads through the parent's stack. */
#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                \
            _exit(9);                                                                              \
        }                                                                                          \
    } while (0)
#define RETURNS(error, call) MUST((call) == (error))
#define OK(call)             RETURNS(cudaSuccess, call)

/* What a child that runs bug() prints, up to its end; *died: it did not come to the end of bug().
 */
static inline std::string child(void (*bug)(), bool *died)
{
    int ends[2];
    char text[4096];
    std::string said;
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], 2);
        close(ends[0]);
        signal(SIGSEGV, SIG_DFL); // not cmocka's
        bug();
        fflush(stderr);
        _exit(0);
    }
    close(ends[1]);
    for (ssize_t n; (n = read(ends[0], text, sizeof text)) > 0;)
        said.append(text, (size_t)n);
    close(ends[0]);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    *died = !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    return said;
}

static inline void expect(const std::string &said, const char *message, bool other = true)
{
    bool good = other && said.find(message) != std::string::npos;
    if (!good)
        print_error("expected '%s', found:\n%s\n", message, said.c_str());
    assert_true(good);
}

/* It ends the process. */
static inline void kills(void (*bug)(), const char *message, const char *where)
{
    bool died;
    std::string said = child(bug, &died);
    expect(said, message, died);
    expect(said, where);
}

/* It is an error that the program can see, and one line. */
static inline void warns(void (*bug)(), const char *message)
{
    bool died;
    std::string said = child(bug, &died);
    expect(said, message, !died);
}

static inline float *device_floats(int n)
{
    float *x;
    OK(cudaMalloc(&x, (size_t)n * sizeof *x));
    OK(cudaMemset(x, 0, (size_t)n * sizeof *x));
    return x;
}
