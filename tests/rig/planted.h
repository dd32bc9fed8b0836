/* Runs code with a bug in a child process, and checks what the emulation of CUDA says about it. */
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

/* An assertion that works in a child, too. cmocka's would jump back to its runner, of which the
 * child has a copy, and go on with the tests there. */
#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                \
            _exit(9);                                                                              \
        }                                                                                          \
    } while (0)
#define RETURNS(error, call) MUST((call) == (error))
#define OK(call)             RETURNS(cudaSuccess, call)

/* Run bug() in a child; returns all that it prints on stderr. *died := the child ended before
 * bug() returned. */
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
        signal(SIGSEGV, SIG_DFL); // cmocka has set a handler
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

/* The bug must end the process, and the message name the place `where`. */
static inline void kills(void (*bug)(), const char *message, const char *where)
{
    bool died;
    std::string said = child(bug, &died);
    expect(said, message, died);
    expect(said, where);
}

/* The bug must print the message and let the process go on: the call returns an error. */
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
