#include "study/quantile.h"

#include <math.h>
#include <stdlib.h>

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void sort_ascending(double *values, int n)
{
    qsort(values, (size_t)n, sizeof *values, ascending);
}

double median(double *values, int n)
{
    sort_ascending(values, n);
    return (values[(n - 1) / 2] + values[n / 2]) / 2;
}

double quantile(const double *sorted, int n, double q)
{
    int rank = (int)ceil(q * n);
    return sorted[rank > 0 ? rank - 1 : 0];
}
