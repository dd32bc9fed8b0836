/* What epmoe doctor finds: a list of findings, each with a verdict, and what to do about it. */
#pragma once

#include <stddef.h>

enum verdict {
    FINDING_OK,
    FINDING_HINT,    // it works, and could be better
    FINDING_MISSING, // something does not work until it is there
};

struct finding {
    enum verdict verdict;
    char name[24], text[256], advice[256]; // advice "" where nothing is to be done
};

enum { MAX_FINDINGS = 48 };

struct findings {
    struct finding list[MAX_FINDINGS];
    int n;
};

void finding(struct findings *f, enum verdict v, const char *name, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* What to do about the last finding. */
void advice(struct findings *f, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The first line of a file or of a command's output, without its newline; "" when there is none. */
void first_line(char *line, size_t size, const char *path);
void first_line_of(char *line, size_t size, const char *command);

void look_at_machine(struct findings *f);  // processor, cores, memory
void look_at_software(struct findings *f); // build, MPI, OpenMP, CUDA, NCCL, models
