/* Order statistics of measured values. */
#pragma once

void sort_ascending(double *values, int n);
double median(double *values, int n); // n >= 1; sorts them

/* The least of n >= 1 sorted values that at least the share q of them does not exceed. */
double quantile(const double *sorted, int n, double q);
