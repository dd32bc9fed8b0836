/* Numbers as people read them, in decimal units: bytes_text 28.6 GB, 17.3 MB, 512 B;
 * count_text 14.32 billion, 7.33 million, 512; seconds_text 1.23 s, 12.3 ms, 4.56 us. Use them
 * inside the call that prints: bytes_text(n).text. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct unit_text {
    char text[24];
};

static inline struct unit_text bytes_text(double bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    struct unit_text t;
    int i = 0;
    for (; bytes >= 999.5 && i < 5; i++)
        bytes /= 1000;
    int digits = i == 0 || bytes >= 99.95 ? 0 : bytes >= 9.995 ? 1 : 2;
    snprintf(t.text, sizeof t.text, "%.*f %s", digits, bytes, units[i]);
    return t;
}

static inline struct unit_text count_text(double n)
{
    struct unit_text t;
    if (n >= 999.5e6)
        snprintf(t.text, sizeof t.text, "%.2f billion", n * 1e-9);
    else if (n >= 999.5e3)
        snprintf(t.text, sizeof t.text, "%.2f million", n * 1e-6);
    else
        snprintf(t.text, sizeof t.text, "%.0f", n);
    return t;
}

static inline struct unit_text seconds_text(double seconds)
{
    struct unit_text t;
    bool long_enough = seconds >= 0.9995, milli = seconds >= 0.9995e-3;
    double n = long_enough ? seconds : milli ? seconds * 1e3 : seconds * 1e6;
    int digits = n >= 99.95 ? 0 : n >= 9.995 ? 1 : 2;
    snprintf(t.text, sizeof t.text, "%.*f %s", digits, n, long_enough ? "s" : milli ? "ms" : "us");
    return t;
}
