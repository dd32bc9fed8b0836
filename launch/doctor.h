/* The findings of epmoe doctor: a list, each with a verdict and advice. */
#pragma once

#include <stddef.h>

enum verdict {
    FINDING_OK,
    FINDING_HINT,    // it works, but could be better
    FINDING_MISSING, // some command does not work without it
};

struct finding {
    enum verdict verdict;
    char name[24], text[256], advice[256]; // advice "": there is nothing to do
};

enum { MAX_FINDINGS = 48 };

struct findings {
    struct finding list[MAX_FINDINGS];
    int n;
};

/* Add a finding (a CHECK fails beyond MAX_FINDINGS). */
void finding(struct findings *f, enum verdict v, const char *name, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Give the last finding its advice. */
void advice(struct findings *f, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* line [size] := the first line of a file, or of a command's output, without its newline; "" when
 * there is none. */
void first_line(char *line, size_t size, const char *path);
void first_line_of(char *line, size_t size, const char *command);

void look_at_machine(struct findings *f);  // processor, cores, memory
void look_at_software(struct findings *f); // build, MPI, OpenMP, CUDA, NCCL, models
